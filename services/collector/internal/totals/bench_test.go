package totals_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
)

// BenchmarkAdvance is what an hour costs a leader that has 100,000 series: 300 zones, each
// with a bucket of 333 rows every five minutes.
//
//	go test -run '^$' -bench Advance -benchtime 3x -benchmem ./services/collector/internal/totals
func BenchmarkAdvance(b *testing.B) {
	const zones, rows = 300, 333
	path := filepath.Join(b.TempDir(), "weir.db")
	if err := sqlite.Migrate(b.Context(), path); err != nil {
		b.Fatal(err)
	}
	s, err := sqlite.Open(b.Context(), sqlite.Options{Path: path, Settings: store.Settings{SampleTimestamp: "end"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	won, err := s.Acquire(b.Context(), "bench", time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	at := won.Head.Position
	write := func(batch store.Batch) {
		b.Helper()
		if at, err = s.Append(b.Context(), won.Term, at, batch); err != nil {
			b.Fatal(err)
		}
	}
	write(store.Batch{CommittedAt: noon, Entries: []store.NewEntry{{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: http5m.Dataset}, Payload: wire.EncodeDefinition(http5m)}}})
	begun, err := totals.Begin(b.Context(), s, "bench", totals.First, at, noon)
	if err != nil {
		b.Fatal(err)
	}
	for _, records := range begun.Batches {
		write(store.Batch{CommittedAt: noon, Records: records})
	}
	labels, values := make([]string, rows), make([]float64, rows)
	for i := range rows {
		labels[i], values[i] = fmt.Sprintf("METHOD-%03d", i), float64(i)
	}
	hour := func(h int) {
		for n := 12 * h; n < 12*h+12; n++ {
			start := noon.Add(time.Duration(n) * http5m.Size)
			batch := store.Batch{CommittedAt: start.Add(11 * time.Minute)}
			for zone := range zones {
				x := &bucket.Bucket{
					Key:  bucket.Key{Dataset: http5m.Dataset, Scope: bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", zone)}, Start: bucket.TimeOf(start)},
					Size: http5m.Size, Version: 1, Zone: fmt.Sprintf("zone-%d.example", zone), Account: "Acme", Variant: "rollup",
					Finality: bucket.Confirmed, Origin: bucket.Live, SampleInterval: 1,
					Families: []bucket.Rows{{Family: http5m.Families[0].Name, Labels: labels, Values: values}},
				}
				batch.Entries = append(batch.Entries, store.NewEntry{
					Kind: bucket.KindBucket, Key: x.Key, End: x.Window().End, Finality: x.Finality, Origin: x.Origin, Variant: x.Variant,
					Rows: rows, SampleInterval: 1, Payload: wire.EncodeBucket(x),
				})
			}
			write(batch)
		}
	}
	hour(0)
	h, size := 0, 0
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		h++
		hour(h)
		b.StartTimer()
		a, err := totals.Advance(b.Context(), s, at, noon.Add(time.Duration(h+1)*time.Hour), func() error { return nil })
		if err != nil {
			b.Fatal(err)
		}
		size = 0
		for _, records := range a.Batches {
			for _, r := range records {
				size += len(r.Value)
			}
			write(store.Batch{CommittedAt: noon.Add(time.Duration(h+1) * time.Hour), Records: records})
		}
		b.ReportMetric(float64(a.Entries), "entries")
		b.ReportMetric(float64(a.Series), "series")
		b.ReportMetric(float64(size), "stored-bytes")
	}
}
