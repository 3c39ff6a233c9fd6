package roster_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// What was open when a zone was paused is wanted after it is resumed, as it was
// while it was paused: a pause is no reason to lose what Cloudflare still has
// (G2).
func TestWhatWasOpenBeforeAPauseIsStillWantedAfterIt(t *testing.T) {
	r, _ := entitled(t)
	paused := zoneA()
	paused.State = roster.Paused
	discover(t, r, noon.Add(7*time.Minute), paused)
	before := claimUnder(t, r, noon.Add(8*time.Minute), roster.Terms{})
	discover(t, r, noon.Add(50*time.Minute), zoneA())
	after := claimUnder(t, r, noon.Add(51*time.Minute), roster.Terms{})
	if open := noon; before.Window.Start > open || after.Window.Start > open {
		t.Errorf("the window of %s is wanted while the zone is paused (from %s) and not after it is resumed (from %s)", open, before.Window.Start, after.Window.Start)
	}
}
