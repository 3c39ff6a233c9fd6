package poll_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// narrow adds a token of the same user that may list the zones, but not ask these.
func narrow(conf *cfsim.Config, denied ...string) {
	narrow := conf.Tokens[0]
	narrow.Secret, narrow.ID = "narrow-token", cfsim.Tag("token:narrow")
	for _, name := range denied {
		narrow.Denied = append(narrow.Denied, cfsim.Tag("zone:"+name))
	}
	conf.Tokens = append(conf.Tokens, narrow)
}

// What a token may not ask is the token's matter and not the plan's: soon after
// it may, everything is there, asked in the way that the plan allows (G2).
// Meanwhile the zone says why, costs little, and its neighbours lack nothing.
func TestAZoneThatTheTokenMayNotAskIsAskedSoonAfterItMay(t *testing.T) {
	media := cfsim.Tag("zone:media.example")
	w := newWorld(t, func(c *cfsim.Config) { narrow(c, "media.example") })
	b := &between{}
	w.stand(b)
	w.run(20 * time.Minute)
	asked := 0
	b.query = func(q cloudflare.Query) error {
		if slices.Contains(q.Zones, media) {
			asked++
		}
		return nil
	}
	w.token = "narrow-token"
	w.run(20 * time.Minute)
	w.run(15 * time.Minute) // another leader
	if asked != 1 {
		t.Errorf("the zone was asked for %d times in 35 minutes, want once", asked)
	}
	if sc := w.scope(media); sc.Checked != 0 || sc.Denied == "" || len(sc.Refusals) != 0 {
		t.Errorf("denied zone: entitlements read at %d, %q, refused variants %v", sc.Checked, sc.Denied, sc.Refusals)
	}
	b.query = nil
	at := w.clock.Now()
	b.settings = func(zone, _ string, _ *cloudflare.Settings) {
		if zone == media && !at.IsZero() {
			if waited := w.clock.Now().Sub(at); waited > 17*time.Minute {
				t.Errorf("after it may be asked again its settings were read %s later", waited)
			}
			at = time.Time{}
		}
	}
	w.token = cfsim.DemoToken
	w.run(80 * time.Minute)
	for _, z := range []string{media, cfsim.Tag("zone:shop.example")} {
		if n := w.missing(z, began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%d windows of zone %s are missing", n, z)
		}
	}
	if sc := w.scope(media); sc.Checked == 0 || sc.Denied != "" {
		t.Errorf("in the end: entitlements read at %d, %q", sc.Checked, sc.Denied)
	}
	for key, b := range w.stored() {
		if key.Dataset == "http_5m" && key.Scope.ID == media && b.Variant != "rollup_1m" {
			t.Fatalf("%s is of variant %s", key, b.Variant)
		}
	}
	if w.checkTruth() == 0 {
		t.Error("nothing was compared")
	}
}

// Each zone that may not be asked voids a request. However many there are, the
// others get what they need.
func TestDeniedZonesDoNotUseUpTheBudget(t *testing.T) {
	const denied = 1000
	w := newWorld(t, func(c *cfsim.Config) {
		var names []string
		shop := c.Zones[slices.IndexFunc(c.Zones, func(z cfsim.Zone) bool { return z.Name == "shop.example" })]
		c.Zones = []cfsim.Zone{shop}
		for i := range denied {
			z := shop
			z.Name = fmt.Sprintf("denied-%d.example", i)
			z.ID = cfsim.Tag("zone:" + z.Name)
			c.Zones, names = append(c.Zones, z), append(names, z.Name)
		}
		narrow(c, names...)
	})
	w.token = "narrow-token"
	budget := w.budget()
	w.run(time.Hour)
	first := budget.taken
	w.run(3 * time.Hour)
	if n := w.missing(cfsim.Tag("zone:shop.example"), began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows of the zone that may be asked are missing", n)
	}
	perHour := (budget.taken - first) / 3
	if most := 60*10 + 12*20; perHour > most { // ten a minute, and those of one zone
		t.Errorf("%d requests an hour, want at most %d", perHour, most)
	}
	t.Logf("%d requests an hour", perHour)
	if budget.taken-first < denied {
		t.Errorf("%d requests in three hours: the denied zones are not looked at again", budget.taken-first)
	}
}

// scope reads a zone's record.
func (w *world) scope(zone string) *roster.Scope {
	w.t.Helper()
	records, err := w.store.Records(w.t.Context(), roster.KindScope)
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := roster.Read(records)
	if err != nil {
		w.t.Fatal(err)
	}
	return all[bucket.Scope{Kind: bucket.Zone, ID: zone}]
}
