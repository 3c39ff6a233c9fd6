package web_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

// BenchmarkParts sets the scrapes of teams beside that of all, after each change of the log, when
// bodies are built: 100 zones of 40 series, 24 windows each, divided into so many teams. A
// further operation is one bucket that arrives, and one gzip scrape of each team.
func BenchmarkParts(b *testing.B) {
	for _, teams := range []int{0, 1, 10, 50} { // 0: one scrape of all
		b.Run(fmt.Sprintf("teams=%d", teams), func(b *testing.B) {
			const zones = 100
			r, now := filled(b, zones)
			board := view.NewBoard(clock.NewManual(now), recent.Limits{MaxAge: 48 * time.Hour, Soft: 10_000_000, Hard: 10_000_000}, nil)
			queries := []view.Query{view.Default}
			if teams > 0 {
				queries = nil
			}
			for team := range teams {
				var set selection.Set
				for z := team; z < zones; z += teams {
					set.Zones = append(set.Zones, fmt.Sprintf("zone-%05d.example", z))
				}
				if teams == 1 {
					set.Zones = set.Zones[1:] // all but one
				}
				q := view.Default
				q.Only = selection.Of(set)
				queries = append(queries, q)
			}
			revision := bucket.Revision(1)
			scrape := func() {
				for _, q := range queries {
					v, err := board.View(q)
					if err != nil {
						b.Fatal(err)
					}
					if v.Body(expo.Text, expo.Gzip).Len == 0 {
						b.Fatal("there is nothing")
					}
				}
			}
			board.Publish(r.State(bucket.Position{Revision: revision}))
			heap := func() int64 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return int64(m.HeapAlloc)
			}
			before := heap()
			scrape()
			held := heap() - before
			d, zone := definition(), zones
			b.ReportAllocs()
			for b.Loop() {
				zone++
				if _, err := r.Add(countries(depth-1, zone), d, now); err != nil {
					b.Fatal(err)
				}
				revision++
				board.Publish(r.State(bucket.Position{Revision: revision}))
				scrape()
			}
			b.ReportMetric(float64(held)/(1<<20), "MiB-held")
			runtime.KeepAlive(board)
		})
	}
}
