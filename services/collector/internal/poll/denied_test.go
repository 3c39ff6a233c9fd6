package poll_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
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
	poll.Upstream
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

func (u *turning) Query(ctx context.Context, q cloudflare.Query) (*cloudflare.Answer, error) {
	u.turn(q.Zones...)
	return u.Upstream.Query(ctx, q)
}

func (u *turning) Settings(ctx context.Context, account string, zones, nodes []string) (map[string]map[string]cloudflare.Settings, error) {
	u.turn(zones...)
	if u.open {
		defer func(t string) { u.w.token = t }(u.w.token)
		u.w.token = cfsim.DemoToken
	}
	return u.Upstream.Settings(ctx, account, zones, nodes)
}

func (u *turning) Zones(ctx context.Context) ([]cloudflare.Zone, error) {
	u.turn()
	u.lists++
	return u.Upstream.Zones(ctx)
}

func (w *world) turn(tokens map[time.Duration]string) *turning {
	u := &turning{Upstream: w.config.Upstream, w: w, tokens: tokens, asked: map[string][]time.Time{}}
	w.config.Upstream = u
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
	const denied = 150
	shop := cfsim.Tag("zone:shop.example")
	for _, story := range []struct {
		name   string
		share  float64
		tokens map[time.Duration]string
		open   bool
	}{
		{"never allowed", .5, map[time.Duration]string{0: narrow}, false},
		{"never allowed, small share", .12, map[time.Duration]string{0: narrow}, false},
		{"narrowed, small share", .2, map[time.Duration]string{0: cfsim.DemoToken, time.Hour: narrow}, false},
		{"settings are shown", .5, map[time.Duration]string{0: narrow}, true},
	} {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(c *cfsim.Config) {
				var tags []string
				one := c.Zones[slices.IndexFunc(c.Zones, func(z cfsim.Zone) bool { return z.ID == shop })]
				c.Zones = []cfsim.Zone{one}
				for i := range denied {
					one.Name = fmt.Sprintf("denied-%d.example", i)
					one.ID = cfsim.Tag("zone:" + one.Name)
					c.Zones, tags = append(c.Zones, one), append(tags, one.ID)
				}
				deny(c, tags...)
			})
			w.only("http_5m")
			w.config.Lookback = time.Hour
			var err error
			if w.config.Budget, err = quota.New(quota.Config{User: "u", Reserver: w.store, Clock: w.clock, Holder: "test", Share: story.share}); err != nil {
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
			// Eight tries in a leader's first hour, one or two in each that follows.
			if perHour := (budget.taken - before) / 3; perHour > 5*denied {
				t.Errorf("%d requests an hour for %d zones", perHour, denied+1)
			}
			if u.lists < 6 || u.lists > 12 {
				t.Errorf("zones were listed %d times in six hours by three leaders", u.lists)
			}
			late := 0
			for zone, tries := range u.asked {
				if zone != shop && w.clock.Now().Sub(tries[len(tries)-1]) > 2*time.Hour {
					late++
				}
			}
			if late > 0 || len(u.asked) != denied+1 {
				t.Errorf("of %d zones %d were not tried in the last two hours", len(u.asked), late)
			}
		})
	}
}

// A token that may not ask a zone for one dataset may ask it for others.
func TestADeniedDatasetIsDeniedAlone(t *testing.T) {
	var tags []string
	w := newWorld(t, func(c *cfsim.Config) {
		one := c.Zones[slices.IndexFunc(c.Zones, func(z cfsim.Zone) bool { return z.Name == "shop.example" })]
		c.Zones = nil
		for i := range 60 {
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
	// Pauses double from fifteen seconds to an hour: eight tries until they last.
	if voided > 60*14 {
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
	for class, most := range map[cloudflare.Class]int{cloudflare.Transient: 20, cloudflare.BadAnswer: 100} {
		t.Run(class.String(), func(t *testing.T) {
			w := newWorld(t, nil)
			w.only("http_5m")
			s := &sick{Upstream: w.config.Upstream}
			w.config.Upstream = s
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
	poll.Upstream
	class cloudflare.Class
	asked int
}

func (u *sick) Settings(ctx context.Context, account string, zones, nodes []string) (map[string]map[string]cloudflare.Settings, error) {
	if u.class == 0 {
		return u.Upstream.Settings(ctx, account, zones, nodes)
	}
	u.asked++
	return nil, &cloudflare.Error{Class: u.class, Message: "settings are not to be had"}
}
