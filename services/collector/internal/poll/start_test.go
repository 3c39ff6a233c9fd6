package poll_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

// Whatever the clock says when a collector is started for the first time, all
// that is past its deadline is final at once: what fell due lately shows that
// the older windows are whole, so it must be read before they are judged. The last
// hour, after which there is only the beginning of another, needs a second reading.
func TestAFirstStartAtAnyMinuteHasWhatIsOld(t *testing.T) {
	const firstRows = 3 * time.Minute // of a window, after its start
	for _, after := range []time.Duration{5 * time.Second, 75 * time.Second} {
		for i := range 60 {
			lookback := time.Duration(2+i%4*2) * time.Hour
			at := began.Add(time.Duration(i) * 37 * time.Minute) // every minute of the hour, in every part of a day
			t.Run(fmt.Sprint(after, " after ", at.Format("15:04")), func(t *testing.T) {
				t.Parallel()
				w := newWorldAt(t, at, func(c *cfsim.Config) {
					c.Zones = slices.DeleteFunc(c.Zones, func(z cfsim.Zone) bool { return z.Traffic.RequestsPerMinute < 1 })
				})
				w.config.Lookback = lookback
				w.run(after)
				stored, from := w.stored(), bucket.TimeOf(at.Add(-lookback))
				for _, z := range w.sim.Zones() {
					for _, d := range w.catalogue.Datasets {
						old := d.Deadline
						if after < settle.Spacing {
							old = max(old, d.Size+firstRows)
						}
						for start := from.Ceil(d.Size); bucket.TimeOf(at).Sub(start.Add(d.Size)) > old; start = start.Add(d.Size) {
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
}
