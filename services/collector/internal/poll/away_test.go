package poll_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
)

// Cloudflare fails from before a zone is paused until after it is back. What had
// happened before the pause is stored in the end, what passed in it is not asked
// for: incident "A pause drops what was still open before it".
func TestAPauseDropsNothingThatWasOpenBeforeIt(t *testing.T) {
	zone := cfsim.Tag("zone:shop.example")
	paused, resumed := began.Add(2*time.Hour+3*time.Minute), began.Add(5*time.Hour+7*time.Minute)
	w := newWorld(t, func(c *cfsim.Config) {
		zones("shop.example", "api.example")(c)
		for i := range c.Zones {
			if c.Zones[i].ID == zone {
				c.Zones[i].Events = []cfsim.ZoneEvent{{At: paused, Pause: true}, {At: resumed, Resume: true}}
			}
		}
		c.Faults = append(c.Faults, cfsim.Fault{
			Kind: cfsim.FaultHTML, Status: 503, Path: "/graphql", From: began.Add(90 * time.Minute), To: began.Add(7 * time.Hour),
		})
	})
	w.run(11 * time.Hour)
	w.checkTruth()
	stored := w.stored()
	count := func(from, to time.Time) (have, all int) {
		for start := bucket.TimeOf(from).Ceil(5 * time.Minute); start.Add(5*time.Minute) <= bucket.TimeOf(to); start = start.Add(5 * time.Minute) {
			all++
			if stored[bucket.Key{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: zone}, Start: start}] != nil {
				have++
			}
		}
		return have, all
	}
	if have, all := count(began.Add(-3*time.Hour), paused); have != all {
		t.Errorf("%d of %d windows from before the pause are stored", have, all)
	}
	// Zones are listed once an hour: that much later it is known to be back.
	if have, all := count(resumed.Add(time.Hour), began.Add(10*time.Hour)); have != all {
		t.Errorf("%d of %d windows from after the pause are stored", have, all)
	}
	if have, _ := count(paused.Add(time.Hour), resumed); have != 0 {
		t.Errorf("%d windows of the pause were stored", have)
	}
}

// Half of the zones were paused before they were first seen. Their last windows are
// silent, and no reason to take the dataset for late: the others have their data at
// once.
func TestZonesThatWerePausedDelayNobody(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		zones("shop.example", "blog.example", "media.example", "api.example")(c)
		for i := range c.Zones {
			if name := c.Zones[i].Name; name == "media.example" || name == "api.example" {
				c.Zones[i].Events = []cfsim.ZoneEvent{{At: began.Add(-time.Hour), Pause: true}}
			}
		}
	})
	w.only("http_5m")
	w.run(3 * time.Hour)
	for _, zone := range []string{"shop.example", "blog.example"} {
		if n := w.missing(cfsim.Tag("zone:"+zone), began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%s: %d windows are missing, %v", zone, n, w.gaps("http_5m", cfsim.Tag("zone:"+zone)))
		}
	}
	w.checkTruth()
}
