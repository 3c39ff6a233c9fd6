package poll_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// A first start with a day of history, and what is possible: each window of a sampled node is a
// selection, a day of a roll-up is one, a request has fifty of them, and what collecting needs of the
// share is not there. More is taken since a sampled window younger than six hours is asked with the two after it,
// since a tenth more than the need is left to collecting, and since zones do not always fill a request; less,
// since the share of the first five minutes is free at once. docs/operations.md has the
// figures. 60 zones with a fifth of the default share take as long as 300 with all of it.
//
// Meanwhile what falls due is read when it falls due: it does not wait for the permits of the catch-up.
func TestADayIsCaughtUpNearlyAsFastAsPossible(t *testing.T) {
	for _, story := range []struct {
		name  string
		plans []cfsim.Plan
		lasts time.Duration
	}{
		{"mixed", cfsim.Plans(), time.Hour},
		{"free", []cfsim.Plan{cfsim.Free}, 140 * time.Minute},
	} {
		t.Run(story.name, func(t *testing.T) {
			if story.name == "free" {
				testkit.InAll(t)
			}
			t.Parallel()
			zones, share := 60, .1
			if testkit.All() {
				zones, share = 300, .5
			}
			w := newWorld(t, many(zones, story.plans...))
			w.config.Lookback = 24 * time.Hour
			heard := w.give(share)
			w.run(story.lasts)
			requests, took, late := 0., time.Duration(0), time.Duration(0)
			days, five := map[string]bool{}, map[string]int{}
			for key, b := range w.stored() {
				switch end := key.Start.Add(b.Size); {
				case end > bucket.TimeOf(began.Add(5*time.Minute)) && key.Dataset == "http_5m": // the first ones wait for settings
					late = max(late, b.ReadAt.Sub(end))
					continue
				case end > bucket.TimeOf(began.Add(-5*time.Minute)):
					continue
				}
				if key.Dataset == "http_5m" {
					five[key.Scope.ID]++
				}
				took = max(took, b.ReadAt.Std().Sub(began))
				if day := fmt.Sprint(key.Dataset, key.Scope); b.Variant == "adaptive" || !days[day] {
					days[day] = true
					requests += 1. / float64(plan.DefaultCeilings.Selections)
				}
			}
			for _, z := range w.sim.Zones() {
				if n := five[z.ID]; n < 23*12 {
					t.Errorf("%d windows of %s are stored, want those of a day", n, z.Name)
				}
			}
			possible := time.Duration(requests / (300*share - heard.need) * float64(5*time.Minute))
			t.Logf("%d zones at %.0f requests in five minutes, of which %.1f collect: the day is %.0f requests, possible in %.0f minutes, and took %.0f; meanwhile windows came at most %s after their end",
				zones, 300*share, heard.need, requests, possible.Minutes(), took.Minutes(), late)
			if late > 11*time.Minute { // five to be due, one to the second reading, and the share may be used up
				t.Errorf("a window that ended during the catch-up came %s after its end", late)
			}
			if took.Minutes() > 1.3*possible.Minutes() {
				t.Errorf("the day took %s, %s is possible", took, possible)
			}
		})
	}
}
