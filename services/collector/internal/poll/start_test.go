package poll_test

import (
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
)

// Whatever the clock says when a collector is started for the first time, all
// that is past its deadline is final at once: what fell due lately shows that
// the older windows are whole, so it must be read before they are judged.
func TestAFirstStartAtAnyMinuteHasWhatIsOld(t *testing.T) {
	for i := range 60 {
		lookback := time.Duration(2+i%4*2) * time.Hour
		at := began.Add(time.Duration(i) * 37 * time.Minute) // every minute of the hour, in every part of a day
		t.Run(at.Format("15:04"), func(t *testing.T) {
			t.Parallel()
			w := newWorldAt(t, at, func(c *cfsim.Config) {
				c.Zones = slices.DeleteFunc(c.Zones, func(z cfsim.Zone) bool { return z.Traffic.RequestsPerMinute < 1 })
			})
			w.config.Lookback = lookback
			w.run(5 * time.Second)
			stored, from := w.stored(), bucket.TimeOf(at.Add(-lookback))
			for _, z := range w.sim.Zones() {
				for _, d := range w.catalogue.Datasets {
					for start := from.Ceil(d.Size); bucket.TimeOf(at).Sub(start.Add(d.Size)) > d.Deadline; start = start.Add(d.Size) {
						key := bucket.Key{Dataset: d.Dataset, Scope: bucket.Scope{Kind: bucket.Zone, ID: z.ID}, Start: start}
						if stored[key] == nil {
							t.Errorf("%s of %s is not final %s after its end", key, z.Name, bucket.TimeOf(at).Sub(start.Add(d.Size)))
						}
					}
				}
			}
		})
	}
}
