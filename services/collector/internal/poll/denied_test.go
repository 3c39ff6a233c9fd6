package poll_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/upstream"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// narrow is a token of the same user that may list the zones, but not ask these.
const narrow = "narrow-token"

func deny(conf *cfsim.Config, zones ...string) {
	t := conf.Tokens[0]
	t.Secret, t.ID, t.Denied = narrow, cfsim.Tag("token:narrow"), zones
	conf.Tokens = append(conf.Tokens, t)
}

// turning gives the loop other tokens as time goes on, and notes what it asks.
type turning struct {
	upstream.Client
	w      *world
	tokens map[time.Duration]string // from a time after the beginning on
	asked  map[string][]time.Time   // by zone, settings too
	lists  int
	open   bool // settings are shown to any token
}

func (u *turning) turn(zones ...string) {
	now := u.w.clock.Now()
	for _, after := range slices.Sorted(maps.Keys(u.tokens)) {
		if !now.Before(began.Add(after)) {
			u.w.token = u.tokens[after]
		}
	}
	for _, z := range zones {
		u.asked[z] = append(u.asked[z], now)
	}
}

func (u *turning) Query(ctx context.Context, q cloudflare.Query) (*cloudflare.Response, error) {
	u.turn(q.Zones...)
	return u.Client.Query(ctx, q)
}

func (u *turning) Settings(ctx context.Context, account string, zones, nodes []string) (map[string]map[string]cloudflare.Settings, error) {
	u.turn(zones...)
	if u.open {
		defer func(t string) { u.w.token = t }(u.w.token)
		u.w.token = cfsim.DemoToken
	}
	return u.Client.Settings(ctx, account, zones, nodes)
}

func (u *turning) Zones(ctx context.Context) ([]cloudflare.Zone, error) {
	u.turn()
	u.lists++
	return u.Client.Zones(ctx)
}

func (w *world) turn(tokens map[time.Duration]string) *turning {
	u := &turning{Client: w.config.Credentials[0].Client, w: w, tokens: tokens, asked: map[string][]time.Time{}}
	w.config.Credentials[0].Client = u
	return u
}

// What a token may not ask is the token's matter and not the plan's: meanwhile
// it is missing, with a reason, and costs little; soon after a token may, it is
// there, asked in the way that the plan allows. Neighbours lack nothing (G2).
func TestAZoneThatTheTokenMayNotAskIsAskedSoonAfterItMay(t *testing.T) {
	media := cfsim.Tag("zone:media.example")
	w := newWorld(t, func(c *cfsim.Config) { deny(c, media) })
	mended := 4*time.Hour + 20*time.Minute
	u := w.turn(map[time.Duration]string{0: cfsim.DemoToken, 20 * time.Minute: narrow, mended: cfsim.DemoToken})
	w.run(mended)
	if gaps := w.gaps("http_5m", media); gaps[ledger.Unauthorized] < 40 {
		t.Errorf("windows of a zone that is denied for four hours: %v", gaps)
	}
	tries := slices.DeleteFunc(slices.Clone(u.asked[media]), func(at time.Time) bool { return at.Before(began.Add(20 * time.Minute)) })
	if n := len(w.catalogue.Datasets); len(tries) < 4 || len(tries) > 12*n {
		t.Errorf("the zone was asked for %d times in four hours, want pauses that double to an hour for each of %d datasets", len(tries), n)
	}
	w.run(2*time.Hour + 10*time.Minute)
	for _, z := range []string{media, cfsim.Tag("zone:shop.example")} {
		if n := w.missing(z, began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%d windows of zone %s are missing", n, z)
		}
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

// Each zone that may not be asked voids a request that others are part of.
// However many there are, and whatever of them is denied, the others get what they
// need, new zones are noticed, and each is tried again in its turn.
func TestDeniedZonesDoNotUseUpTheBudget(t *testing.T) {
	for _, story := range []struct {
		name     string
		denied   int
		share    float64
		tokens   map[time.Duration]string
		open     bool
		datasets []string
		all      bool
	}{
		{"never allowed", 150, .5, map[time.Duration]string{0: narrow}, false, []string{"http_5m"}, true},
		{"never allowed, small share", 150, .12, map[time.Duration]string{0: narrow}, false, []string{"http_5m"}, false},
		{"narrowed", 150, .2, map[time.Duration]string{0: cfsim.DemoToken, time.Hour: narrow}, false, []string{"http_5m"}, true},
		{"narrowed, several datasets", 50, .1, map[time.Duration]string{0: cfsim.DemoToken, time.Hour: narrow}, false, []string{"http_5m", "uniques_1h", "countries_1h"}, false},
		{"settings are shown", 150, .5, map[time.Duration]string{0: narrow}, true, []string{"http_5m"}, false},
	} {
		t.Run(story.name, func(t *testing.T) {
			if story.all {
				testkit.InAll(t)
			}
			t.Parallel()
			var shop string
			w := newWorld(t, func(c *cfsim.Config) {
				one := c.Zones[slices.IndexFunc(c.Zones, func(z cfsim.Zone) bool { return z.Name == "shop.example" })]
				var tags []string
				for i := range story.denied + 1 {
					tags = append(tags, cfsim.Tag(fmt.Sprintf("zone:zone-%d.example", i)))
				}
				slices.Sort(tags)
				shop = tags[story.denied] // whatever goes by tags, it comes last
				c.Zones = nil
				for i, tag := range tags {
					one.ID, one.Name = tag, fmt.Sprintf("zone-%d.example", i)
					c.Zones = append(c.Zones, one)
				}
				deny(c, tags[:story.denied]...)
			})
			w.only(story.datasets...)
			w.config.Lookback = time.Hour
			var err error
			if w.config.Credentials[0].Budget, err = quota.New(quota.Config{User: "u", Reserver: w.store, Clock: w.clock, Holder: "test", Share: story.share}); err != nil {
				t.Fatal(err)
			}
			u, budget := w.turn(story.tokens), w.budget()
			u.open = story.open
			w.run(2 * time.Hour)
			w.run(time.Hour) // another leader knows as much
			before := budget.taken
			w.run(3 * time.Hour)
			if n := w.missing(shop, began.Add(-time.Hour)); n != 0 {
				t.Errorf("%d windows of the zone that may be asked are missing", n)
			}
			late, worst := 0, time.Duration(0)
			for key, b := range w.stored() {
				if came := b.ReadAt.Sub(b.Window().End); key.Scope.ID == shop && key.Dataset == "http_5m" && key.Start > bucket.TimeOf(began.Add(20*time.Minute)) && came > 20*time.Minute {
					late, worst = late+1, max(worst, came)
				}
			}
			if late > 16 || worst > 45*time.Minute { // each denied zone has to be found, by each leader
				t.Errorf("%d of its windows came more than 20 minutes late, the last of them by %s", late, worst)
			}
			// A few tries in a leader's first hour, one or two in each that follows.
			if perHour := (budget.taken - before) / 3; perHour > 4*len(story.datasets)*story.denied {
				t.Errorf("%d requests an hour for %d zones", perHour, story.denied+1)
			}
			if u.lists < 6 || u.lists > 12 {
				t.Errorf("zones were listed %d times in six hours by three leaders", u.lists)
			}
			old := 0
			for zone, tries := range u.asked {
				if zone != shop && w.clock.Now().Sub(tries[len(tries)-1]) > 2*time.Hour {
					old++
				}
			}
			if old > 0 || len(u.asked) != story.denied+1 {
				t.Errorf("of %d zones %d were not tried in the last two hours", len(u.asked), old)
			}
			t.Logf("%d requests in three hours, %d late, worst %s, asked first after %s", budget.taken-before, late, worst, u.asked[shop][0].Sub(began))
		})
	}
}

// A failure that is nobody's makes nobody wait for others' history.
func TestAFailureOfSettingsIsNoFaultOfTheirZones(t *testing.T) {
	var tags []string
	w := newWorld(t, func(c *cfsim.Config) {
		one := c.Zones[slices.IndexFunc(c.Zones, func(z cfsim.Zone) bool { return z.Plan == cfsim.Free })]
		c.Zones = nil
		for i := range 60 {
			one.Name = fmt.Sprintf("zone-%d.example", i)
			one.ID = cfsim.Tag("zone:" + one.Name)
			c.Zones, tags = append(c.Zones, one), append(tags, one.ID)
		}
	})
	w.only("http_5m")
	w.config.Lookback = 12 * time.Hour
	var err error
	if w.config.Credentials[0].Budget, err = quota.New(quota.Config{User: "u", Reserver: w.store, Clock: w.clock, Holder: "test", Share: .12}); err != nil {
		t.Fatal(err)
	}
	s := &sick{Client: w.config.Credentials[0].Client, class: cloudflare.Transient, times: 1}
	w.config.Credentials[0].Client = s
	w.run(15 * time.Minute)
	for _, zone := range tags {
		if w.scope(zone).Checked == 0 {
			t.Errorf("settings of zone %s are not known after a quarter of an hour", zone)
		}
	}
}

// A token that may not ask a zone for one dataset may ask it for others.
func TestADeniedDatasetIsDeniedAlone(t *testing.T) {
	var tags []string
	w := newWorld(t, func(c *cfsim.Config) {
		one := c.Zones[slices.IndexFunc(c.Zones, func(z cfsim.Zone) bool { return z.Name == "shop.example" })]
		c.Zones = nil
		for i := range 30 {
			one.Name = fmt.Sprintf("z-%d.example", i)
			one.ID = cfsim.Tag("zone:" + one.Name)
			c.Zones, tags = append(c.Zones, one), append(tags, one.ID)
		}
	})
	w.only("http_5m", "uniques_1h")
	b, voided := &between{}, 0
	w.stand(b)
	b.query = func(q cloudflare.Query) error {
		for _, s := range q.Selections {
			if s.Node == "httpRequests1hGroups" {
				voided++
				return &cloudflare.Error{Class: cloudflare.Denied, Zone: slices.Min(q.Zones), Alias: s.Alias, Node: s.Node, Message: "does not have permission"}
			}
		}
		return nil
	}
	w.run(4 * time.Hour)
	for _, zone := range tags {
		if n := w.missing(zone, began.Add(-3*time.Hour)); n != 0 {
			t.Fatalf("%d windows of zone %s are missing", n, zone)
		}
	}
	// Pauses double from eight minutes to an hour.
	if voided > 30*8 {
		t.Errorf("%d requests were voided in four hours", voided)
	}
	late := 0
	for key, b := range w.stored() {
		if key.Start > bucket.TimeOf(began.Add(time.Hour)) && b.ReadAt.Sub(b.Window().End) > 30*time.Minute {
			late++
		}
	}
	if late > 0 {
		t.Errorf("%d buckets came more than half an hour late", late)
	}
}

// Settings that cannot be read are asked for now and then, whatever is wrong with
// them, and what was known goes on to hold.
func TestSickSettingsAreAskedForNowAndThen(t *testing.T) {
	for class, most := range map[cloudflare.Class]int{cloudflare.Transient: 20, cloudflare.BadResponse: 100} {
		t.Run(class.String(), func(t *testing.T) {
			w := newWorld(t, nil)
			w.only("http_5m")
			s := &sick{Client: w.config.Credentials[0].Client}
			w.config.Credentials[0].Client = s
			w.run(time.Hour)
			s.class = class
			w.run(6 * time.Hour) // they are read every six hours
			s.asked = 0
			w.run(2 * time.Hour)
			if perHour := s.asked / 2; perHour > most {
				t.Errorf("settings were asked for %d times an hour, want at most %d", perHour, most)
			}
			if n := w.missing(cfsim.Tag("zone:shop.example"), began.Add(-3*time.Hour)); n != 0 {
				t.Errorf("%d windows are missing", n)
			}
		})
	}
}

// sick answers every question for settings with an error, once it has a class.
type sick struct {
	upstream.Client
	class cloudflare.Class
	times int // that it fails; 0: always
	asked int
}

func (u *sick) Settings(ctx context.Context, account string, zones, nodes []string) (map[string]map[string]cloudflare.Settings, error) {
	if u.class == 0 || u.times > 0 && u.asked == u.times {
		return u.Client.Settings(ctx, account, zones, nodes)
	}
	u.asked++
	return nil, &cloudflare.Error{Class: u.class, Message: "settings are not to be had"}
}

// scope reads a zone's record.
func (w *world) scope(zone string) *roster.Scope {
	w.t.Helper()
	stored := roster.Read(w.records(roster.KindScope), w.records(roster.KindEntitlements))
	if stored.Unreadable != nil || stored.Damaged != nil {
		w.t.Fatal(stored.Unreadable, stored.Damaged)
	}
	return stored.Roster[bucket.Scope{Kind: bucket.Zone, ID: zone}]
}
