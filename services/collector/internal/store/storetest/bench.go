package storetest

import (
	"math/rand/v2"
	"testing"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// A bucket of the benchmark is like one of http_5m for an ordinary zone: this
// many rows, in a payload of this many bytes, as the contract's encoding makes
// of them.
const (
	benchRows    = 20
	benchPayload = 360
	benchBatch   = 200 // zones × datasets that fall due at once
)

// Benchmark measures appends in samples a second, and what a sample takes on
// disk, indexes and all.
func Benchmark(b *testing.B, s store.Store) {
	lease, err := s.Acquire(b.Context(), "benchmark", long)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	before, err := s.Size(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	at, n := lease.Head.Position, 0
	for b.Loop() {
		entries := make([]store.NewEntry, benchBatch)
		for z := range entries {
			entries[z] = five(z, n)
			entries[z].Rows, entries[z].Payload = benchRows, payload(r, benchPayload)
		}
		n++
		if at, err = s.Append(b.Context(), lease.Term, at, store.Batch{CommittedAt: commitTime(n), Entries: entries}); err != nil {
			b.Fatal(err)
		}
	}
	after, err := s.Size(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	samples := float64(n * benchBatch * benchRows)
	b.ReportMetric(samples/b.Elapsed().Seconds(), "samples/s")
	b.ReportMetric(float64(n*benchBatch)/b.Elapsed().Seconds(), "buckets/s")
	b.ReportMetric(float64(after-before)/samples, "B/sample")
}

// BenchmarkRead measures a snapshot of a day of one dataset and 50 zones, and
// the coverage of it.
func BenchmarkRead(b *testing.B, s store.Store) {
	lease, err := s.Acquire(b.Context(), "benchmark", long)
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	at := lease.Head.Position
	const zones, windows = 50, 288
	for n := range windows {
		entries := make([]store.NewEntry, zones)
		for z := range entries {
			entries[z] = five(z, n)
			entries[z].Payload = payload(r, benchPayload)
		}
		if at, err = s.Append(b.Context(), lease.Term, at, store.Batch{CommittedAt: commitTime(n), Entries: entries}); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("Snapshot", func(b *testing.B) {
		for b.Loop() {
			n := 0
			if _, err := s.Snapshot(b.Context(), store.SnapshotQuery{}, func(store.Entry) error { n++; return nil }); err != nil || n != zones*windows {
				b.Fatalf("snapshot of %d buckets, %v", n, err)
			}
		}
		b.ReportMetric(float64(b.N)*zones*windows/b.Elapsed().Seconds(), "buckets/s")
	})
	b.Run("SnapshotOfNewest30", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Snapshot(b.Context(), store.SnapshotQuery{MaxWindows: 30}, func(store.Entry) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Coverage", func(b *testing.B) {
		for b.Loop() {
			if runs, err := s.Coverage(b.Context(), store.Filter{}, 0); err != nil || len(runs) != zones {
				b.Fatalf("coverage of %d ranges, %v", len(runs), err)
			}
		}
		b.ReportMetric(float64(b.N)*zones*windows/b.Elapsed().Seconds(), "buckets/s")
	})
	b.Run("ReadLog", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.ReadLog(b.Context(), at.Revision-500, 500); err != nil {
				b.Fatal(err)
			}
		}
	})
}
