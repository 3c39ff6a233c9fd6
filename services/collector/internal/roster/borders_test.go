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
	s.Entitle(noon, map[string]roster.Node{"httpRequests1mGroups": {Enabled: true, NotOlderThan: 30 * 24 * time.Hour}})
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
	paused.Active = false
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

// A name is free again for what begins after its owner's end: the two never
// have a sample at the same time.
func TestANameIsFreeAfterItsOwnersEnd(t *testing.T) {
	r := roster.Roster{}
	discover(t, r, noon, zoneA())
	twin := zoneA()
	twin.ID = idB
	twin.Created = noon.Add(10 * time.Minute)
	discover(t, r, noon.Add(5*time.Minute))        // the owner is deleted
	discover(t, r, noon.Add(15*time.Minute), twin) // and comes back with another id
	if got := r[scope(idB)].ZoneLabel; got != "a.example" {
		t.Errorf("the label of a zone that begins after the owner's end is %q", got)
	}
	// One that began while the owner was still there has to step aside.
	r = roster.Roster{}
	discover(t, r, noon, zoneA())
	twin.Created = noon.Add(-time.Hour)
	discover(t, r, noon.Add(5*time.Minute))
	discover(t, r, noon.Add(15*time.Minute), twin)
	if got := r[scope(idB)].ZoneLabel; got != "a.example#b0000000" {
		t.Errorf("the label of a zone that overlaps the owner's time is %q", got)
	}
}

// A name that its owner gave up is not free for the time before: what is stored
// of the owner carries it.
func TestAGivenUpNameIsNotFreeForThePast(t *testing.T) {
	r, renamed := roster.Roster{}, zoneA()
	discover(t, r, noon, zoneA())
	renamed.Name = "z.example"
	discover(t, r, noon.Add(time.Hour), renamed)
	heir := zoneA()
	heir.ID, heir.Created = idB, noon.Add(-time.Hour)
	discover(t, r, noon.Add(2*time.Hour), renamed, heir)
	if got := r[scope(idB)].ZoneLabel; got != "a.example#b0000000" {
		t.Errorf("the heir's label is %q, though a day of its history overlaps the time before the rename", got)
	}
	// One that did not exist then may have it.
	r = roster.Roster{}
	discover(t, r, noon, zoneA())
	discover(t, r, noon.Add(time.Hour), renamed)
	heir.Created = noon.Add(90 * time.Minute)
	discover(t, r, noon.Add(2*time.Hour), renamed, heir)
	if got := r[scope(idB)].ZoneLabel; got != "a.example" {
		t.Errorf("the label of a zone that began after the rename is %q", got)
	}
	// And the owner that comes back to it has not lost it to itself.
	r = roster.Roster{}
	discover(t, r, noon, zoneA())
	discover(t, r, noon.Add(time.Hour), renamed)
	discover(t, r, noon.Add(2*time.Hour), zoneA())
	if got := r[scope(idA)].ZoneLabel; got != "a.example" {
		t.Errorf("the label of a zone that got its old name back is %q", got)
	}
}

// A newcomer that had to step aside keeps its label when it is paused: what is
// still stored of it belongs to the same series.
func TestALabelStaysWithItsName(t *testing.T) {
	r, twin := roster.Roster{}, zoneA()
	twin.ID = idB
	discover(t, r, noon, zoneA())
	discover(t, r, noon.Add(time.Minute), zoneA(), twin)
	twin.Active = false
	discover(t, r, noon.Add(time.Hour), zoneA(), twin)
	if got := r[scope(idB)].ZoneLabel; got != "a.example#b0000000" {
		t.Errorf("the label of a paused zone became %q", got)
	}
}
