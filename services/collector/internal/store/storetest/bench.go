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
