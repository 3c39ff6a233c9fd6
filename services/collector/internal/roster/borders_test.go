package roster_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// entitled is zone A with everything that http_5m needs and a long memory.
func entitled(t *testing.T) (roster.Roster, *roster.Scope) {
	t.Helper()
	r := roster.Roster{}
	discover(t, r, noon, zoneA())
	s := r[scope(idA)]
	s.Entitle(noon, allowing(map[string]roster.Node{"httpRequests1mGroups": {Enabled: true, NotOlderThan: 30 * 24 * time.Hour}}))
	return r, s
}

func claimUnder(t *testing.T, r roster.Roster, now bucket.Time, terms roster.Terms) roster.Claim {
	t.Helper()
	c, err := catalogue.Load(nil, catalogue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, claim := range r.Claims(now, c.Datasets, terms) {
		if claim.Dataset.Dataset == "http_5m" {
			return claim
		}
	}
	t.Fatal("no claim for http_5m")
	return roster.Claim{}
}

// Nothing is wanted that the store's retention would drop again, nor what
// another bucket size covers; neither counts as lost.
func TestTheHorizonKeepsToTheStore(t *testing.T) {
	r, _ := entitled(t)
	keep := noon.Add(-3*time.Hour + time.Minute)
	border := noon.Add(-3*time.Hour + 5*time.Minute) // the first whole window
	got := claimUnder(t, r, noon, roster.Terms{Keep: keep})
	if got.Window.Start != border || got.Wanted != border {
		t.Errorf("with retention from %s the window is %s, wanted from %s", keep, got.Window, got.Wanted)
	}
	begin := noon.Add(-time.Hour)
	got = claimUnder(t, r, noon, roster.Terms{Keep: keep, Begin: func(string, bucket.Scope) bucket.Time { return begin }})
	if got.Window.Start != begin || got.Wanted != begin {
		t.Errorf("behind another bucket size the window is %s, wanted from %s", got.Window, got.Wanted)
	}
}

// A paused zone is wanted up to its end and not beyond: the window in which it
// was paused will never be whole.
func TestAPausedZoneIsWantedUpToItsEnd(t *testing.T) {
	r, _ := entitled(t)
	paused := zoneA()
	paused.State = roster.Paused
	discover(t, r, noon.Add(7*time.Minute), paused)
	got := claimUnder(t, r, noon.Add(2*time.Hour), roster.Terms{})
	if want := noon.Add(5 * time.Minute); got.Window.End != want || got.Variant == nil {
		t.Errorf("an hour after the end the window is %s (%s), want it to end at %s", got.Window, got.Refused, want)
	}
}

// Another plan, another answer to what may be asked.
func TestAnotherPlanIsAskedForItsEntitlements(t *testing.T) {
	r, s := entitled(t)
	if s.Stale(noon.Add(time.Minute), time.Hour) {
		t.Fatal("entitlements of a minute ago are stale")
	}
	upgraded := zoneA()
	upgraded.Plan = "Enterprise Website"
	if n := discover(t, r, noon.Add(time.Minute), upgraded); n != 1 {
		t.Fatalf("%d scopes changed, want the one with another plan", n)
	}
	if !r[scope(idA)].Stale(noon.Add(time.Minute), time.Hour) {
		t.Error("the entitlements of the old plan are still believed")
	}
}
