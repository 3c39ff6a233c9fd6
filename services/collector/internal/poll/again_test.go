package poll_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// A zone that is deleted and added again under its name goes on with its series:
// the new one has the name from the first window after the old one's end, and no
// series has two samples of one time.
func TestAZoneThatIsAddedAgainGoesOnWithItsSeries(t *testing.T) {
	shop, again := cfsim.Tag("zone:shop.example"), cfsim.Tag("zone:shop.example, the second")
	deleted, created := began.Add(72*time.Minute), began.Add(81*time.Minute)
	w := newWorld(t, func(c *cfsim.Config) {
		zones("shop.example", "blog.example")(c)
		for i := range c.Zones {
			if c.Zones[i].ID == shop {
				z := c.Zones[i]
				c.Zones[i].Events = []cfsim.ZoneEvent{{At: deleted, Delete: true}}
				z.ID, z.Created, z.Activated = again, created, created.Add(4*time.Minute)
				c.Zones = append(c.Zones, z)
			}
		}
	})
	w.run(6 * time.Hour)
	old, new := w.scope(shop), w.scope(again)
	if old.State != roster.Gone || old.End != bucket.TimeOf(created) {
		t.Errorf("the old zone is %s since %s, want when the new one was created, %s", old.State, old.End, created)
	}
	if old.ZoneLabel != "shop.example" || new.ZoneLabel != "shop.example" {
		t.Errorf("the labels are %q and %q", old.ZoneLabel, new.ZoneLabel)
	}
	type sample struct {
		dataset, zone, account string
		start                  bucket.Time
	}
	owner, named := map[sample]string{}, 0
	for key, b := range w.stored() {
		at := sample{key.Dataset, b.Zone, b.Account, key.Start}
		if other := owner[at]; other != "" {
			t.Errorf("%s: two zones, %s and %s, have the label %q in the window of %s", key.Dataset, other, key.Scope.ID, b.Zone, key.Start)
		}
		owner[at] = key.Scope.ID
		if key.Scope.ID != again {
			continue
		}
		if want := "shop.example"; key.Start >= old.End && b.Zone != want {
			t.Errorf("%s of the new zone carries %q, want %q", key, b.Zone, want)
		} else if key.Start >= old.End {
			named++
		}
	}
	if named < 50 {
		t.Errorf("the new zone has %d windows under its name", named)
	}
	if n := w.missing(again, created); n != 0 {
		t.Errorf("%d windows of the new zone are missing", n)
	}
	w.checkTruth()
}

// Added and not activated is not paused, and neither is moved away.
func TestAPendingZoneIsNoPausedOne(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		zones("shop.example", "blog.example", "api.example", "media.example")(c)
		for i := range c.Zones {
			switch c.Zones[i].Name {
			case "blog.example":
				c.Zones[i].Created, c.Zones[i].Activated = began.Add(-time.Hour), began.Add(90*time.Minute)
			case "api.example":
				c.Zones[i].Events = []cfsim.ZoneEvent{{At: began.Add(-5 * time.Hour), Pause: true}}
			case "media.example":
				c.Zones[i].Events = []cfsim.ZoneEvent{{At: began.Add(-5 * time.Hour), Leave: true}}
			}
		}
	})
	w.only("http_5m")
	seen, _ := w.watch(unaltered)
	w.run(4 * time.Hour)
	for name, want := range map[string]float64{
		"weir_collector_scopes default active": 1, "weir_collector_scopes default pending": 1, "weir_collector_scopes default paused": 1, "weir_collector_scopes default inactive": 1,
		"weir_collector_scope_state  http_5m  pending blog.example": 1, "weir_collector_scope_state  http_5m  paused api.example": 1, "weir_collector_scope_state  http_5m  inactive media.example": 1,
	} {
		if got := seen.metrics[1][name]; got != want {
			t.Errorf("%s is %v, want %v; there are %q", name, got, want, slices.Sorted(maps.Keys(seen.metrics[1])))
		}
	}
	if got := w.scope(cfsim.Tag("zone:blog.example")); got.State != roster.Active {
		t.Errorf("after its activation the zone is %s", got.State)
	}
	if n := w.missing(cfsim.Tag("zone:blog.example"), began.Add(150*time.Minute)); n != 0 {
		t.Errorf("of a zone that was activated %d windows are missing", n)
	}
}

// One value of one zone that cannot be read costs that value, and is told.
func TestAMalformedValueCostsItself(t *testing.T) {
	shop, blog := cfsim.Tag("zone:shop.example"), cfsim.Tag("zone:blog.example")
	w := newWorld(t, func(c *cfsim.Config) {
		zones("shop.example", "blog.example", "api.example")(c)
		for i := range c.Zones { // one that does not begin with its own past
			if c.Zones[i].ID == shop {
				c.Zones[i].Created = began.Add(-time.Hour)
			}
		}
		c.Faults = []cfsim.Fault{
			{Kind: cfsim.FaultZoneCreated, Zone: shop, To: began.Add(90 * time.Minute)},
			{Kind: cfsim.FaultZonePaused, Zone: blog},
		}
	})
	w.only("http_5m")
	seen, _ := w.watch(unaltered)
	w.run(3 * time.Hour)
	told := seen.problems[1][trouble.InvalidValue]
	for _, want := range []string{"zone " + shop + ": the zone's created_on is ", "zone " + blog + ": the zone's paused is ", "the zone is treated as not paused"} {
		if !strings.Contains(told, want) {
			t.Errorf("told is %q; want %q in it", told, want)
		}
	}
	if got := w.problems(trouble.InvalidValue); !slices.Equal(got, []string{"zone " + blog}) {
		t.Errorf("at the end the problem is told of %q", got)
	}
	for _, zone := range []string{shop, blog, cfsim.Tag("zone:api.example")} {
		if n := w.missing(zone, began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%s: %d windows are missing", zone, n)
		}
	}
	if got := w.scope(shop).Start; got != bucket.TimeOf(began.Add(-w.config.Lookback)) {
		t.Errorf("a zone of unknown age begins at %s", got)
	}
}
