package jobs

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
)

// BenchmarkScale is what a pass and an estimate cost for thirty days of a thousand zones and
// five datasets, half of which is there.
//
//	go test -run '^$' -bench Scale -benchtime 1x ./services/collector/internal/jobs
func BenchmarkScale(b *testing.B) {
	month := bucket.Window{Start: noon.Floor(day).Add(-30 * day), End: noon.Floor(day)}
	j := job(month)
	j.Datasets = nil
	var all []Series
	for n, size := range []time.Duration{5 * time.Minute, time.Hour, time.Hour, time.Hour, day} {
		d := dataset("d"+string(rune('0'+n)), size)
		d.Variants = []catalogue.Variant{{Name: "rollup", Node: "n", Step: size, Rows: 1}}
		j.Datasets = append(j.Datasets, d.Dataset)
		for i := range 1000 {
			all = append(all, Series{
				Dataset: d, Scope: zone(i), Variant: &d.Variants[0], Final: bucket.Spans{{Start: month.Start.Add(5 * day), End: month.Start.Add(20 * day)}},
			})
		}
	}
	b.Run("evaluate", func(b *testing.B) {
		for b.Loop() {
			Evaluate(j, noon, all).Count()
		}
	})
	w := Evaluate(j, noon, all)
	b.Run("page", func(b *testing.B) {
		for b.Loop() {
			w.Page(untouched{})
		}
	})
	b.Run("requests", func(b *testing.B) {
		for b.Loop() {
			n := Evaluate(j, noon, all).Requests()[0]
			b.ReportMetric(float64(n), "requests")
		}
	})
}
