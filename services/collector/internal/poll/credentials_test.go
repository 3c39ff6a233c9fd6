package poll_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// way is a credential's client whose answers may be taken away, by the time since
// the beginning.
type way struct {
	upstream.Client
	w        *world
	refuse   func(at time.Duration) *cloudflare.Error // any request; nil: none is
	fail     func() *cloudflare.Error                 // a query for data; nil: none does
	list     func(at time.Duration, zones []cloudflare.Zone) ([]cloudflare.Zone, error)
	settings int
}

func (u *way) refused() error {
	if u.refuse != nil {
		if e := u.refuse(u.w.clock.Now().Sub(began)); e != nil {
			return e
		}
	}
	return nil
}

func (u *way) Query(ctx context.Context, q cloudflare.Query) (*cloudflare.Response, error) {
	if err := u.refused(); err != nil {
		return nil, err
	}
	if u.fail != nil {
		return nil, u.fail()
	}
	return u.Client.Query(ctx, q)
}

func (u *way) Settings(ctx context.Context, account string, zones, nodes []string) (map[string]map[string]cloudflare.Settings, error) {
	if err := u.refused(); err != nil {
		return nil, err
	}
	u.settings++
	return u.Client.Settings(ctx, account, zones, nodes)
}

func (u *way) Zones(ctx context.Context) ([]cloudflare.Zone, error) {
	if err := u.refused(); err != nil {
		return nil, err
	}
	zones, err := u.Client.Zones(ctx)
	if err == nil && u.list != nil {
		return u.list(u.w.clock.Now().Sub(began), zones)
	}
	return zones, err
}

// The zones of the two credentials' world. The first sees those of Retail, the
// second all.
var (
	shopZone = cfsim.Tag("zone:shop.example")
	blogZone = cfsim.Tag("zone:blog.example")
	apiZone  = cfsim.Tag("zone:api.example")
)

// pair is a world with two tokens of two Cloudflare users.
func pair(t *testing.T) (w *world, retail, labs *way) {
	t.Helper()
	w = newWorld(t, func(c *cfsim.Config) {
		zones("shop.example", "blog.example", "api.example")(c)
		first, second := cfsim.GoodToken("retail-token"), cfsim.GoodToken("labs-token")
		first.User, first.Accounts, second.User = "retail-user", []string{cfsim.Tag("account:retail")}, "labs-user"
		c.Tokens = []cfsim.Token{first, second}
	})
	w.only("http_5m")
	w.config.Trouble = trouble.New(w.config.Logger, w.clock.Now, w.registry)
	w.config.Credentials = nil
	add := func(name string) *way {
		client, err := cloudflare.New(cloudflare.Config{
			BaseURL: "https://simulator.example" + cfsim.Prefix, Transport: cfsimtest.Transport(w.sim), Token: func() (string, error) { return name + "-token", nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		limiter, err := quota.New(quota.Config{User: name, Reserver: w.store, Clock: w.clock, Holder: "test", Logger: w.config.Logger})
		if err != nil {
			t.Fatal(err)
		}
		u := &way{Client: client, w: w}
		w.config.Credentials = append(w.config.Credentials, upstream.Credential{Name: name, User: name, Client: u, Budget: limiter, Select: roster.Filter{Credential: name}})
		return u
	}
	return w, add("retail"), add("labs")
}

// Each zone is asked by one credential, the first that sees it; no request asks
// zones of two, and each user's budget is counted apart.
func TestZonesBelongToTheFirstCredentialThatSeesThem(t *testing.T) {
	w, _, _ := pair(t)
	w.run(3 * time.Hour)
	of := map[string]string{shopZone: "retail-user", blogZone: "retail-user", apiZone: "labs-user"}
	users := map[string]int{}
	for _, r := range w.sim.Requests() {
		if r.Kind != "graphql" {
			continue
		}
		users[r.User]++
		for _, z := range r.Zones {
			if of[z] != r.User {
				t.Fatalf("%s asks for zone %s, which is for %s", r.User, z, of[z])
			}
		}
	}
	if users["retail-user"] < 20 || users["labs-user"] < 20 {
		t.Errorf("requests by user: %v", users)
	}
	if n := w.checkTruth(); n < 3*60 {
		t.Errorf("only %d buckets were stored and compared", n)
	}
	for zone, want := range map[string]string{shopZone: "retail", blogZone: "retail", apiZone: "labs"} {
		if n := w.missing(zone, began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%s: %d windows are missing", zone, n)
		}
		if got := w.scope(zone).Credential; got != want {
			t.Errorf("zone %s belongs to %s, want %s", zone, got, want)
		}
	}
}

// Whatever keeps one credential from being used, the zones of the other are
// collected in time, and afterwards nothing is missing of either.
func TestWhatOneCredentialWaitsForNoOtherDoes(t *testing.T) {
	during := func(e cloudflare.Error) func(at time.Duration) *cloudflare.Error {
		return func(at time.Duration) *cloudflare.Error {
			if at < time.Hour || at >= 3*time.Hour {
				return nil
			}
			return &e
		}
	}
	for name, story := range map[string]struct {
		refuse func(at time.Duration) *cloudflare.Error
		budget *counting
		code   trouble.Code
	}{
		"token refused":      {refuse: during(cloudflare.Error{Class: cloudflare.Auth, Message: "Authentication error"}), code: trouble.TokenRefused},
		"Cloudflare is away": {refuse: during(cloudflare.Error{Class: cloudflare.Transient, Message: "502"}), code: trouble.UpstreamFailing},
		"budget used up":     {refuse: during(cloudflare.Error{Class: cloudflare.Budget, Message: "rate limiter budget depleted", RetryAfter: 5 * time.Minute})},
		"no permit":          {budget: &counting{wait: time.Minute}},
		"permits one by one": {budget: &counting{wait: 7 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			w, retail, _ := pair(t)
			w.run(time.Hour)
			usual := w.late(apiZone, 10*time.Minute, 50*time.Minute)
			retail.refuse = story.refuse
			kept := w.config.Credentials[0].Budget
			if story.budget != nil {
				story.budget.Budget, story.budget.clock = kept, w.clock
				story.budget.deny = map[quota.Lane]bool{quota.Urgent: true, quota.Background: true, quota.Spare: true}
				w.config.Credentials[0].Budget = story.budget
			}
			w.run(2 * time.Hour)
			if story.code != "" {
				if about := w.problems(story.code); !slices.Contains(about, "retail") {
					t.Errorf("%s is told about %q, want the credential", story.code, about)
				}
			}
			if got := w.late(apiZone, time.Hour, 170*time.Minute); got > usual+15*time.Second {
				t.Errorf("a zone of the other credential is %s late, where %s is usual", got, usual)
			}
			w.config.Credentials[0].Budget = kept
			w.run(2 * time.Hour)
			for _, zone := range []string{shopZone, blogZone, apiZone} {
				if n := w.missing(zone, began.Add(-3*time.Hour)); n != 0 {
					t.Errorf("%s: %d windows are missing", zone, n)
				}
			}
			if left := w.problems(story.code); len(left) > 0 && story.code != "" {
				t.Errorf("%s is still told about %q", story.code, left)
			}
		})
	}
}

// Requests of one credential hang until the client gives up. That is an outage of it, as
// failures at once are, and what the other waits for is one request at a time.
func TestACredentialWhoseRequestsHang(t *testing.T) {
	const patience = cloudflare.DefaultTimeout
	w, retail, _ := pair(t)
	w.run(time.Hour)
	usual, hung := w.late(apiZone, 10*time.Minute, 50*time.Minute), 0
	retail.refuse = func(at time.Duration) *cloudflare.Error {
		if at >= 3*time.Hour {
			return nil
		}
		hung++
		w.clock.Set(w.clock.Now().Add(patience))
		return &cloudflare.Error{Class: cloudflare.Transient, Message: "no response within " + patience.String()}
	}
	w.run(2 * time.Hour)
	if about := w.problems(trouble.UpstreamFailing); !slices.Contains(about, "retail") {
		t.Errorf("UPSTREAM_FAILING is told about %q, want the credential", about)
	}
	if got := w.late(apiZone, 70*time.Minute, 170*time.Minute); got > usual+2*patience {
		t.Errorf("a zone of the other credential is %s late, where %s is usual", got, usual)
	}
	if hung > 90 { // a request in two minutes, and a list in five
		t.Errorf("%d requests hung in two hours", hung)
	}
	w.run(2 * time.Hour)
	for _, zone := range []string{shopZone, blogZone, apiZone} {
		if n := w.missing(zone, began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%s: %d windows are missing", zone, n)
		}
	}
	if left := w.problems(trouble.UpstreamFailing); len(left) > 0 {
		t.Errorf("UPSTREAM_FAILING is still told about %q", left)
	}
}

// Zones are listed every hour by another API. Its response says nothing about queries that fail
// meanwhile, so their outage is told until a query succeeds.
func TestAListOfZonesEndsNoOutage(t *testing.T) {
	w, retail, _ := pair(t)
	lists, told, silent := 0, 0, 0
	retail.list = func(_ time.Duration, zones []cloudflare.Zone) ([]cloudflare.Zone, error) {
		lists++
		return zones, nil
	}
	retail.fail = func() *cloudflare.Error {
		switch is := slices.Contains(w.problems(trouble.UpstreamFailing), "retail"); {
		case is:
			told++
		case told > 0:
			silent++
		}
		return &cloudflare.Error{Class: cloudflare.Transient, Message: "502"}
	}
	w.run(4 * time.Hour)
	if lists < 4 || told < 30 || silent > 0 {
		t.Errorf("zones were listed %d times; at %d failures the outage was told, and at %d no longer", lists, told, silent)
	}
}

// without is a list less some zones, from a time on.
func without(from time.Duration, ids ...string) func(time.Duration, []cloudflare.Zone) ([]cloudflare.Zone, error) {
	return func(at time.Duration, zones []cloudflare.Zone) ([]cloudflare.Zone, error) {
		if at < from {
			return zones, nil
		}
		return slices.DeleteFunc(slices.Clone(zones), func(z cloudflare.Zone) bool { return slices.Contains(ids, z.ID) }), nil
	}
}

// A zone that only another credential sees from some time on moves to it: without a
// gap, under its name, and with what the other token may ask.
func TestAZoneMovesToTheCredentialThatStillSeesIt(t *testing.T) {
	w, retail, labs := pair(t)
	retail.list = without(90*time.Minute, shopZone)
	w.run(90 * time.Minute)
	before := labs.settings
	w.run(4 * time.Hour)
	sc := w.scope(shopZone)
	if sc.Credential != "labs" || sc.State != roster.Active || len(sc.Away) != 0 || sc.ZoneLabel != "shop.example" {
		t.Fatalf("the zone is %s of %s, away %v, with the label %q", sc.State, sc.Credential, sc.Away, sc.ZoneLabel)
	}
	if labs.settings == before {
		t.Error("its settings were not read with the other token")
	}
	if n := w.missing(shopZone, began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows are missing", n)
	}
	if got := w.late(shopZone, 0, 5*time.Hour); got > 20*time.Minute {
		t.Errorf("a window of the zone was %s late", got)
	}
	if got := w.scope(blogZone).Credential; got != "retail" {
		t.Errorf("the zone that both see belongs to %s", got)
	}
	w.checkTruth()
}

// A zone is gone when the credential that it belongs to lists without it and none
// of the others sees it; a list that fails, or is empty, ends nothing.
func TestAZoneIsGoneWhenNoCredentialSeesIt(t *testing.T) {
	refused := func(time.Duration, []cloudflare.Zone) ([]cloudflare.Zone, error) {
		return nil, &cloudflare.Error{Class: cloudflare.Auth, Message: "Authentication error"}
	}
	empty := func(time.Duration, []cloudflare.Zone) ([]cloudflare.Zone, error) { return nil, nil }
	for name, story := range map[string]struct {
		retail, labs func(time.Duration, []cloudflare.Zone) ([]cloudflare.Zone, error)
		want         roster.State
		of           string
	}{
		"neither sees it":                   {without(0, shopZone), without(0, shopZone), roster.Gone, "retail"},
		"its own list fails":                {refused, without(0, shopZone), roster.Active, "retail"},
		"its own list is empty":             {empty, without(0, shopZone), roster.Active, "retail"},
		"the other was not heard yet":       {without(0, shopZone), refused, roster.Active, "retail"},
		"its own list fails, others see it": {refused, nil, roster.Active, "retail"},
	} {
		t.Run(name, func(t *testing.T) {
			w, retail, labs := pair(t)
			w.run(30 * time.Minute)
			retail.list, labs.list = story.retail, story.labs
			w.run(90 * time.Minute) // as a new leader, who lists at once
			if sc := w.scope(shopZone); sc.State != story.want || sc.Credential != story.of {
				t.Errorf("the zone is %s of %s, want %s of %s", sc.State, sc.Credential, story.want, story.of)
			}
			if sc := w.scope(apiZone); sc.State != roster.Active || sc.Credential != "labs" {
				t.Errorf("the other's zone is %s of %s", sc.State, sc.Credential)
			}
			if name == "its own list is empty" && !slices.Equal(w.problems(trouble.ZonesUnlisted), []string{"retail"}) {
				t.Errorf("ZONES_UNLISTED is told about %q", w.problems(trouble.ZonesUnlisted))
			}
		})
	}
}

// Lists are not heard at the same time. One that is older than the list that a zone
// is missing from is heard again before the zone moves to its credential.
func TestAnOlderListIsHeardAgainBeforeAZoneMoves(t *testing.T) {
	w, retail, labs := pair(t)
	gone := without(70*time.Minute, shopZone)
	retail.list = func(at time.Duration, zones []cloudflare.Zone) ([]cloudflare.Zone, error) {
		if at < 20*time.Minute {
			return nil, &cloudflare.Error{Class: cloudflare.Transient, Message: "502"}
		}
		return gone(at, zones)
	}
	labs.list = gone // heard at the hour, and the other some twenty minutes later
	w.run(105 * time.Minute)
	sc := w.scope(shopZone)
	if since := sc.End.Std().Sub(began); sc.State != roster.Gone || sc.Credential != "retail" || since > 100*time.Minute {
		t.Errorf("the zone is %s of %s since %s, want gone when the first list lacked it", sc.State, sc.Credential, since)
	}
}

// A zone may move between two credentials after the one that it moves to was last
// heard: that one is heard again before the zone counts as gone.
func TestAZoneThatMovesBetweenTwoListsIsNotGone(t *testing.T) {
	w, retail, labs := pair(t)
	gone := without(70*time.Minute, shopZone)
	retail.list = func(at time.Duration, zones []cloudflare.Zone) ([]cloudflare.Zone, error) {
		if at < 20*time.Minute {
			return nil, &cloudflare.Error{Class: cloudflare.Transient, Message: "502"}
		}
		return gone(at, zones)
	}
	absent := without(0, shopZone)
	labs.list = func(at time.Duration, zones []cloudflare.Zone) ([]cloudflare.Zone, error) {
		if at < 70*time.Minute { // heard at the hour, and the other some twenty minutes later
			return absent(at, zones)
		}
		return zones, nil
	}
	w.run(105 * time.Minute)
	if sc := w.scope(shopZone); sc.State != roster.Active || sc.Credential != "labs" || len(sc.Away) != 0 {
		t.Errorf("the zone is %s of %s, away %v; want that it has moved", sc.State, sc.Credential, sc.Away)
	}
}

// A store of one credential goes on with several, without a gap: its zones move to
// those that see them.
func TestOneCredentialBecomesTwo(t *testing.T) {
	w, _, _ := pair(t)
	two := w.config.Credentials
	one := two[1]
	one.Name, one.Select = roster.DefaultCredential, roster.Filter{}
	w.config.Credentials = []upstream.Credential{one}
	w.run(time.Hour)
	if raw := string(w.records(roster.KindScope)[0].Value); strings.Contains(raw, "credential") {
		t.Errorf("a record of the one credential names it: %s", raw)
	}
	w.config.Credentials = two
	w.run(2 * time.Hour)
	for zone, want := range map[string]string{shopZone: "retail", blogZone: "retail", apiZone: "labs"} {
		if sc := w.scope(zone); sc.Credential != want || sc.State != roster.Active {
			t.Errorf("zone %s is %s of %s, want %s", zone, sc.State, sc.Credential, want)
		}
		if n := w.missing(zone, began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%s: %d windows are missing", zone, n)
		}
	}
}
