package recent

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// bench holds 300 zones of two 5-minute and six hourly datasets: two families of
// each dataset's own, and one that all of them share, told apart by a label.
func bench(b *testing.B) *State {
	b.Helper()
	r := New(sample.Store{ID: "bench", Stamp: sample.End}, 48*time.Hour)
	for i := range 8 {
		d := &bucket.Definition{Dataset: fmt.Sprintf("d%d", i), Version: 1, ScopeKind: bucket.Zone, Size: time.Hour, Depth: 24}
		if i < 2 {
			d.Size, d.Depth = 5*time.Minute, 30
		}
		d.Families = []bucket.Family{
			{Name: "cloudflare_sample_interval", Help: "Shared.", Role: bucket.Breakdown, Labels: []string{"dataset"}},
			{Name: "cloudflare_zone_" + d.Dataset, Help: "Own.", Role: bucket.Total},
			{Name: "cloudflare_zone_" + d.Dataset + "_by_status", Help: "Own.", Role: bucket.Breakdown, Labels: []string{"status"}},
		}
		if err := r.Define(d); err != nil {
			b.Fatal(err)
		}
		rows := []bucket.Rows{
			{Family: d.Families[0].Name, Labels: []string{d.Dataset}, Values: []float64{10}},
			{Family: d.Families[1].Name, Values: []float64{1}},
			{Family: d.Families[2].Name, Labels: []string{"2xx", "3xx", "4xx", "5xx"}, Values: []float64{4, 3, 2, 1}},
		}
		for n := d.Depth; n > 0; n-- {
			for zone := range 300 {
				one := &bucket.Bucket{
					Key:  bucket.Key{Dataset: d.Dataset, Scope: bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", zone)}, Start: bucket.TimeOf(noon).Add(-time.Duration(n) * d.Size)},
					Size: d.Size, Version: 1, Zone: fmt.Sprintf("zone-%05d.example", zone), Account: "Acme", Families: rows,
				}
				if held, err := r.Add(one, d, noon); err != nil || !held {
					b.Fatalf("%s is not held: %v", one.Key, err)
				}
			}
		}
	}
	return r.State(bucket.Position{})
}

// BenchmarkChoose is what each view pays before its first body is made.
func BenchmarkChoose(b *testing.B) {
	s := bench(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Choose(noon, Limits{MaxAge: 48 * time.Hour, Soft: 100_000, Hard: 250_000}); err != nil {
			b.Fatal(err)
		}
	}
}
