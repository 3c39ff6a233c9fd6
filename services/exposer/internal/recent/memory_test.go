package recent

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/gzpart"
)

// A snapshot is never held twice, as buckets and as columns: of all windows but the newest one
// there are columns before it is complete.
func TestASnapshotIsSettledWindowByWindow(t *testing.T) {
	d := feedtest.Definition("http_5m", 1)
	r := New(sample.Store{Stamp: sample.End}, 24*time.Hour)
	if err := r.Define(d); err != nil {
		t.Fatal(err)
	}
	for window := range 3 {
		for zone := range 4 {
			b := feedtest.Bucket(d.Dataset, feedtest.Zone(zone), window)
			if _, err := r.Add(b, d, b.Window().End.Std()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, s := range r.datasets[0].slots {
		if want := 4 * (i / 2); len(s.arrived) != want || len(s.scopes) != 4-want {
			t.Errorf("window %d has %d buckets in columns and %d beside them, want %d beside them", i, len(s.scopes), len(s.arrived), want)
		}
	}
}

// OpenMetrics is compressed without being made as a whole, and to the same bytes.
func TestPackedHoldsNoOtherFormat(t *testing.T) {
	c := newColumn("cloudflare_zone_requests", bucket.Total)
	line := []byte("cloudflare_zone_requests{zone=\"shop.example\"} 1234567 1795341599999\n")
	for range 100_000 {
		line[len(line)-17] ^= byte(c.Samples&1) + 2
		c.Lines, c.Samples = append(c.Lines, line...), c.Samples+1
	}
	pack := func(write func(emit func([]byte))) (p gzpart.Part, allocated uint64) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		p = gzpart.New(write)
		runtime.ReadMemStats(&after)
		return p, after.TotalAlloc - before.TotalAlloc
	}
	whole := expo.AppendLines(nil, expo.OpenMetrics, c.Lines)
	want, _ := pack(func(emit func([]byte)) { emit(whole) })
	got, allocated := pack(c.emit(expo.OpenMetrics))
	if !bytes.Equal(got.Deflated, want.Deflated) {
		t.Errorf("%d bytes differ from the %d of the lines made at once", len(got.Deflated), len(want.Deflated))
	}
	if allocated > uint64(len(whole)/2) {
		t.Errorf("%d bytes are allocated to compress %d", allocated, len(whole))
	}
}
