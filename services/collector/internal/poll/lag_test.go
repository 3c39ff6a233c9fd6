package poll_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
)

// Zones of all plans with the default datasets fit into the default share: in no hour is a bucket
// later than in the first, and nothing of what fell due is missing. 300 zones for a week; make test tells
// 60 zones with a fifth of the share, for some hours.
func TestNoLagGrows(t *testing.T) {
	t.Parallel()
	zones, share, hours := 60, .1, 5
	if testkit.All() {
		zones, share, hours = 300, .5, 7*24
	}
	w := newWorld(t, func(c *cfsim.Config) {
		many(zones, cfsim.Plans()...)(c)
		c.LogSize = 1
	})
	w.only("http_5m", "uniques_1h", "countries_1h", "content_types_1h")
	w.config.Lookback = 5 * time.Minute
	w.give(share)
	began := bucket.TimeOf(w.clock.Now())
	w.run(time.Duration(hours) * time.Hour)
	if peak := w.sim.Counters().PeakQueries; float64(peak) > 300*share {
		t.Errorf("%d requests in five minutes, the share is %.0f", peak, 300*share)
	}
	worst, n := make([]time.Duration, hours), 0 // by hour in which the window ended
	for key, b := range w.stored() {
		end := key.Start.Add(b.Size)
		if hour := int(end.Sub(began) / time.Hour); end > began && hour < hours {
			worst[hour] = max(worst[hour], b.ReadAt.Sub(end))
		}
		if key.Dataset == "http_5m" && end > began {
			n++
		}
	}
	due := int((time.Duration(hours)*time.Hour - 25*time.Minute) / (5 * time.Minute))
	if n < zones*due {
		t.Errorf("%d windows of five minutes are stored, at least %d fell due", n, zones*due)
	}
	for hour, late := range worst {
		if late > 25*time.Minute {
			t.Errorf("in hour %d a bucket came %s after its window", hour, late)
		}
	}
	t.Logf("%d zones, %d hours: buckets came at most %s after their windows in the first hours, %s in the last", zones, hours, worst[1], worst[hours-2])
}
