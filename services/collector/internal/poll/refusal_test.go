package poll_test

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// door stands before the simulated Cloudflare as its edge does, and refuses some
// requests with a status and a body of its own.
type door struct {
	w      *world
	next   http.RoundTripper
	refuse func(at time.Duration, document string) (status int, body string) // 0: let in
	turned int
	asked  []time.Duration // of what was refused
}

// front puts a door before the world's Cloudflare.
func (w *world) front(refuse func(at time.Duration, document string) (int, string)) *door {
	w.t.Helper()
	d := &door{w: w, next: cfsimtest.Transport(w.sim), refuse: refuse}
	client, err := cloudflare.New(cloudflare.Config{
		BaseURL: "https://simulator.example" + cfsim.Prefix, Transport: d, Token: func() (string, error) { return w.token, nil },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.config.Credentials[0].Client = client
	w.config.Trouble = trouble.New(w.config.Logger, w.clock.Now, w.registry)
	return d
}

// RoundTrip implements [http.RoundTripper].
func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/graphql") {
		return d.next.RoundTrip(r)
	}
	document, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	status, body := d.refuse(d.w.clock.Now().Sub(began), string(document))
	if status == 0 {
		r.Body = io.NopCloser(strings.NewReader(string(document)))
		return d.next.RoundTrip(r)
	}
	d.turned++
	d.asked = append(d.asked, d.w.clock.Now().Sub(began))
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}, "Date": {d.w.clock.Now().UTC().Format(http.TimeFormat)}},
		Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}, nil
}

// problems are what those of a code are about that the leader left on record.
func (w *world) problems(code trouble.Code) (about []string) {
	w.t.Helper()
	head, err := w.store.Head(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	records, err := w.store.Records(w.t.Context(), trouble.KindProblems)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range trouble.Read(head.Term, records) {
		if p.Code == code {
			about = append(about, p.About)
		}
	}
	return about
}

// late is the longest that a bucket of a 5-minute dataset took from its end to
// its commit, of those that ended in a span.
func (w *world) late(zone string, from, to time.Duration) (most time.Duration) {
	w.t.Helper()
	n := 0
	for _, e := range w.entries(bucket.KindBucket) {
		end := e.End.Std().Sub(began)
		if e.Key.Dataset != "http_5m" || e.Key.Scope.ID != zone || end < from || end > to {
			continue
		}
		n++
		most = max(most, e.CommittedAt.Sub(e.End.Std()))
	}
	if n < int((to-from)/(5*time.Minute))-1 {
		w.t.Errorf("zone %s: %d buckets that ended in %s", zone, n, to-from)
	}
	return most
}

const (
	restRefusal  = `{"success":false,"errors":[{"code":%d,"message":%q}],"messages":[],"result":null}`
	graphRefusal = `{"data":null,"errors":[{"message":%q,"path":%s,"extensions":{"code":%q}}]}`
)

// Refusals of everything, in words that nobody knows or that are about the token,
// decide nothing about zones, plans and datasets: it is one failure, with one
// back-off and a reason on record. When it is over everything is fetched, in the
// variant that the plan allows.
func TestARefusalOfEverythingDecidesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		code   trouble.Code
		reason ledger.Reason
	}{
		"location":        {403, fmt.Sprintf(restRefusal, 9109, "Cannot use the access token from location: 203.0.113.9"), trouble.TokenRefused, ledger.Unauthorized},
		"REST, unknown":   {403, fmt.Sprintf(restRefusal, 4711, "computer says no"), trouble.UnknownRefusal, ledger.Unknown},
		"REST, path":      {403, fmt.Sprintf(restRefusal, 4711, "zone does not have access to the path"), trouble.UnknownRefusal, ledger.Unknown},
		"GraphQL, 200":    {200, fmt.Sprintf(graphRefusal, "policy 42", "null", "authz"), trouble.UnknownRefusal, ledger.Unknown},
		"GraphQL, 403":    {403, fmt.Sprintf(graphRefusal, "policy 42", "null", ""), trouble.UnknownRefusal, ledger.Unknown},
		"GraphQL, 400":    {400, fmt.Sprintf(graphRefusal, "policy 42", "null", ""), trouble.UnknownRefusal, ledger.Unknown},
		"first zone":      {403, fmt.Sprintf(graphRefusal, "policy 42", `["viewer","zones","0"]`, ""), trouble.UnknownRefusal, ledger.Unknown},
		"first selection": {403, fmt.Sprintf(graphRefusal, "policy 42", `["viewer","zones","0","s0"]`, ""), trouble.UnknownRefusal, ledger.Unknown},
		"challenge":       {403, "<!DOCTYPE html><title>Just a moment...</title>", trouble.UnknownRefusal, ledger.Unknown},
		"account":         {200, fmt.Sprintf(graphRefusal, "not authorized for that account", "null", "authz"), trouble.TokenRefused, ledger.Unauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			d := w.front(func(at time.Duration, _ string) (int, string) {
				if at < 30*time.Minute || at >= 90*time.Minute {
					return 0, ""
				}
				return c.status, c.body
			})
			w.run(90*time.Minute - 10*time.Second)
			if got := w.problems(c.code); len(got) != 1 || got[0] != "" {
				t.Errorf("problems of %s are about %q; want one, of the whole", c.code, got)
			}
			shop := cfsim.Tag("zone:shop.example")
			if got := w.gaps("http_5m", shop); got[c.reason] < 8 || len(got) != 1 {
				t.Errorf("gaps after an hour: %v; want all of reason %s", got, c.reason)
			}
			if d.turned > 150 || d.turned < 12 {
				t.Errorf("%d requests were refused in an hour; want one back-off of minutes", d.turned)
			}
			for _, z := range []string{"shop", "blog", "api", "media", "docs"} {
				if r := w.scope(cfsim.Tag("zone:" + z + ".example")).Refusals; len(r) != 0 {
					t.Errorf("refused of %s: %v", z, r)
				}
			}
			w.run(80 * time.Minute)
			if got := w.problems(c.code); len(got) != 0 {
				t.Errorf("problems of %s about %q after it was over", c.code, got)
			}
			for _, z := range []string{"shop", "blog", "api"} {
				if n := w.missing(cfsim.Tag("zone:"+z+".example"), began.Add(-3*time.Hour)); n != 0 {
					t.Errorf("%s: %d windows are missing", z, n)
				}
			}
			for key, b := range w.stored() {
				if key.Dataset == "http_5m" && key.Scope.ID == shop && b.Variant != "rollup_1m" {
					t.Fatalf("%s is of variant %s", key, b.Variant)
				}
			}
			w.checkTruth()
		})
	}
}

// At a first start, when nothing is known of any zone, a refusal of everything is
// one problem of the whole too, and blames no zone.
func TestAFirstStartThatIsRefusedBlamesNobody(t *testing.T) {
	for name, c := range map[string]struct {
		refuse func(document string) (int, string)
		code   trouble.Code
		about  string
	}{
		"unknown words": {func(string) (int, string) {
			return 403, fmt.Sprintf(restRefusal, 4711, "computer says no")
		}, trouble.UnknownRefusal, ""},
		"unknown words for settings alone": {func(document string) (int, string) {
			if !strings.Contains(document, "settings{") {
				return 0, ""
			}
			return 400, fmt.Sprintf(graphRefusal, "policy 42", `["viewer","zones","0","settings"]`, "")
		}, trouble.UnknownRefusal, ""},
		"no settings": {func(document string) (int, string) {
			if !strings.Contains(document, "settings{") {
				return 0, ""
			}
			return 502, "<!DOCTYPE html><title>502 Bad gateway</title>"
		}, trouble.UpstreamFailing, "settings"},
		"a captive portal": {func(string) (int, string) {
			return 200, "<!DOCTYPE html><title>Welcome to the hotel</title>"
		}, trouble.UpstreamFailing, ""},
		"no permission for any": {func(document string) (int, string) {
			i := strings.Index(document, `"`) // the first tag
			return 200, fmt.Sprintf(graphRefusal, "Actor 'com.cloudflare.api.token.0' does not have permission 'com.cloudflare.api.account.zone.analytics.read' for zone "+document[i+1:i+33], "null", "authz")
		}, trouble.TokenRefused, "analytics"},
		"no permission for a dataset of any": {func(document string) (int, string) {
			if !strings.Contains(document, "httpRequests1mGroups(") && !strings.Contains(document, "httpRequestsAdaptiveGroups(") {
				return 0, ""
			}
			return 200, fmt.Sprintf(graphRefusal, "zones ["+strings.Join(zoneTag.FindAllString(document, -1), " ")+"] are not authorized", "null", "authz")
		}, trouble.ZoneDenied, "all zones"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.front(func(at time.Duration, document string) (int, string) {
				if at >= time.Hour {
					return 0, ""
				}
				return c.refuse(document)
			})
			for _, d := range []time.Duration{5 * time.Minute, 55 * time.Minute} {
				w.run(d - 10*time.Second)
				if got := w.problems(c.code); len(got) != 1 || got[0] != c.about {
					t.Errorf("after %s problems of %s are about %q; want one about %q", d, c.code, got, c.about)
				}
				for _, code := range []trouble.Code{trouble.UnknownRefusal, trouble.TokenRefused, trouble.ZoneDenied, trouble.UpstreamFailing} {
					if got := w.problems(code); code != c.code && len(got) > 0 {
						t.Errorf("after %s problems of %s too: %q", d, code, got)
					}
				}
			}
			w.run(150 * time.Minute)
			for _, z := range []string{"shop", "blog", "api"} {
				if n := w.missing(cfsim.Tag("zone:"+z+".example"), began.Add(-3*time.Hour)); n != 0 {
					t.Errorf("%s: %d windows are missing", z, n)
				}
			}
			if got := w.problems(c.code); len(got) != 0 {
				t.Errorf("problems about %q after it was over", got)
			}
			w.checkTruth()
		})
	}
}

// A refusal that strikes one zone, or one dataset of one zone, whatever its words
// and whether it names it, costs that alone: its neighbours are as early as
// ever, and it is missing with a reason until it is answered.
func TestARefusalOfOneZoneDelaysNobodyElse(t *testing.T) {
	shop := cfsim.Tag("zone:shop.example")
	const node = "httpRequests1mGroups("
	for name, c := range map[string]struct {
		status int
		body   string
		node   string // that is refused; empty: all of the zone
		reason ledger.Reason
	}{
		"unknown, unnamed":        {403, fmt.Sprintf(graphRefusal, "policy 42", "null", ""), "", ledger.Unknown},
		"unknown, named":          {200, fmt.Sprintf(graphRefusal, "zone '"+shop+"' is in quarantine", "null", ""), "", ledger.Unknown},
		"unknown, one dataset":    {400, fmt.Sprintf(graphRefusal, "policy 42", "null", "brandnew"), node, ledger.Unknown},
		"REST envelope":           {403, fmt.Sprintf(restRefusal, 4711, "computer says no"), "", ledger.Unknown},
		"internal error, named":   {500, fmt.Sprintf(graphRefusal, "Internal server error for zone '"+shop+"'", "null", ""), "", ledger.UpstreamError},
		"its own budget":          {200, fmt.Sprintf(graphRefusal, "Zone "+shop+" has exceeded its rate limit. Please try again after 5 minutes.", "null", "budget"), "", ledger.UpstreamError},
		"query error, unnamed":    {400, fmt.Sprintf(graphRefusal, "query contains error, please review it and retry", "null", ""), node, ledger.UpstreamError},
		"several zones are named": {403, fmt.Sprintf(graphRefusal, "zones ["+shop+" "+cfsim.Tag("zone:gone.example")+"] are not authorized", "null", "authz"), "", ledger.Unauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			d := w.front(func(at time.Duration, document string) (int, string) {
				if at < time.Hour || at >= 2*time.Hour || !strings.Contains(document, shop) || !strings.Contains(document, c.node) || strings.Contains(document, "settings{") {
					return 0, ""
				}
				return c.status, c.body
			})
			w.run(2*time.Hour - 10*time.Second)
			if got := w.gaps("http_5m", shop); got[c.reason] < 8 || len(got) != 1 {
				t.Errorf("gaps after an hour: %v; want all of reason %s", got, c.reason)
			}
			if got := w.problems(trouble.UnknownRefusal); (len(got) > 0) != (c.reason == ledger.Unknown) {
				t.Errorf("problems of %s are about %q", trouble.UnknownRefusal, got)
			}
			if d.turned > 12*len(w.catalogue.Datasets)+60 {
				t.Errorf("%d requests were refused in an hour; want pauses of minutes", d.turned)
			}
			for _, z := range []string{"checkout", "blog", "api"} {
				zone := cfsim.Tag("zone:" + z + ".example")
				before, meanwhile := w.late(zone, 15*time.Minute, 50*time.Minute), w.late(zone, time.Hour, 105*time.Minute)
				if meanwhile > before+time.Minute {
					t.Errorf("%s: buckets took up to %s, and before %s", z, meanwhile, before)
				}
			}
			if r := w.scope(shop).Refusals; len(r) != 0 {
				t.Errorf("a variant was given up: %v", r)
			}
			w.run(90 * time.Minute)
			for _, z := range []string{"shop", "blog", "api"} {
				if n := w.missing(cfsim.Tag("zone:"+z+".example"), began.Add(-3*time.Hour)); n != 0 {
					t.Errorf("%s: %d windows are missing after it was over", z, n)
				}
			}
			if got := w.problems(trouble.UnknownRefusal); len(got) != 0 {
				t.Errorf("problems about %q after it was over", got)
			}
			w.checkTruth()
		})
	}
}

// A zone that is asked at times of its own, since its variant settles later, is all
// that some passes ask. That they are refused says nothing of its neighbours, unless
// these are refused as well, in passes of their own.
func TestARefusalOfTheOnlyZoneAskedIsNotOfEverything(t *testing.T) {
	blog, shop := cfsim.Tag("zone:blog.example"), cfsim.Tag("zone:shop.example")
	for name, everything := range map[string]bool{"one zone": false, "everything": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(conf *cfsim.Config) {
				zones("shop.example", "blog.example")(conf)
				conf.Sampling = cfsim.Sampling{Enabled: true, Load: 18, Hundredth: math.Inf(1)}
			})
			w.only("http_5m")
			const begins, ends = 30 * time.Minute, 90 * time.Minute
			only := false
			w.front(func(at time.Duration, document string) (int, string) {
				if at < begins || at >= ends || !everything && !strings.Contains(document, blog) {
					return 0, ""
				}
				only = only || !strings.Contains(document, shop)
				return 410, "<!DOCTYPE html><title>forbidden</title>"
			})
			for range ends / time.Minute {
				w.run(time.Minute)
				at := w.clock.Now().Sub(began)
				switch about := w.problems(trouble.UnknownRefusal); {
				case !everything && slices.Contains(about, ""):
					t.Fatalf("after %s everything is said to be refused", at)
				case everything && at > begins+15*time.Minute && !slices.Equal(about, []string{""}):
					t.Fatalf("after %s everything is refused, and the problems are about %q", at, about)
				}
			}
			if !only {
				t.Error("no pass asked of the zone alone: the story has lost its subject")
			}
			if !everything {
				return
			}
			// One back-off, of five minutes at most, and nobody to blame.
			w.run(12 * time.Minute)
			for _, zone := range []string{blog, shop} {
				if got := w.gaps("http_5m", zone); len(got) != 0 {
					t.Errorf("gaps of %s twelve minutes after it was over: %v", zone, got)
				}
			}
		})
	}
}

// What fails is a problem as long as it is asked for: a zone that goes away while it
// fails is none any more.
func TestAZoneThatIsGoneIsNoProblem(t *testing.T) {
	shop := cfsim.Tag("zone:shop.example")
	w := newWorld(t, nil)
	w.front(func(at time.Duration, document string) (int, string) {
		if at < 30*time.Minute || !strings.Contains(document, shop) {
			return 0, ""
		}
		return 500, fmt.Sprintf(graphRefusal, "Internal server error for zone '"+shop+"'", "null", "")
	})
	gone := false
	w.stand(&between{zones: func(list []cloudflare.Zone) []cloudflare.Zone {
		if at := w.clock.Now().Sub(began); at > 50*time.Minute {
			if got := w.problems(trouble.UpstreamFailing); !gone && len(got) == 0 {
				t.Error("a zone that has failed for minutes is no problem: the story has lost its subject")
			}
			gone = true
			list = slices.DeleteFunc(list, func(z cloudflare.Zone) bool { return z.ID == shop })
		}
		return list
	}})
	w.run(80 * time.Minute)
	if got := w.problems(trouble.UpstreamFailing); !gone || len(got) != 0 {
		t.Errorf("after the zone has gone there are problems about %q", got)
	}
}

// Words that name a plan's limit are believed for minutes at first, and when they
// strike many zones at once not before they are said twice. One probe that is
// answered ends it for all.
func TestARefusalByThePlanIsProbed(t *testing.T) {
	for _, c := range []struct {
		name   string
		lasts  time.Duration
		struck int
		given  bool // a variant may be given up meanwhile
	}{
		{"one zone, for ten minutes", 10 * time.Minute, 1, true},
		{"every zone, for a minute", 50 * time.Second, 30, false},
		{"every zone, for an hour", time.Hour, 30, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var tags []string
			w := newWorld(t, func(conf *cfsim.Config) {
				one := conf.Zones[slices.IndexFunc(conf.Zones, func(z cfsim.Zone) bool { return z.Name == "shop.example" })]
				conf.Zones = nil
				for i := range 30 {
					one.Name = fmt.Sprintf("zone-%d.example", i)
					one.ID = cfsim.Tag("zone:" + one.Name)
					tags = append(tags, one.ID)
					conf.Zones = append(conf.Zones, one)
				}
			})
			w.only("http_5m")
			w.front(func(at time.Duration, document string) (int, string) {
				if at < time.Hour || at >= time.Hour+c.lasts || !strings.Contains(document, "httpRequests1mGroups(") {
					return 0, ""
				}
				for _, tag := range tags[:c.struck] {
					if strings.Contains(document, tag) {
						return 200, fmt.Sprintf(graphRefusal, "zone '"+tag+"' does not have access to the path", `["viewer","zones","0","s0"]`, "authz")
					}
				}
				return 0, ""
			})
			w.run(time.Hour + c.lasts)
			w.run(80 * time.Minute)
			refused, other := 0, 0
			for _, tag := range tags {
				refused += len(w.scope(tag).Refusals)
			}
			for _, b := range w.stored() {
				if b.Variant != "rollup_1m" {
					other++
				}
			}
			if refused != 0 {
				t.Errorf("%d variants are still given up 80 minutes later", refused)
			}
			if (other > 0) != c.given {
				t.Errorf("%d buckets are of another variant", other)
			}
			for _, tag := range tags {
				if n := w.missing(tag, began.Add(-3*time.Hour)); n != 0 {
					t.Errorf("zone %s: %d windows are missing", tag, n)
				}
			}
		})
	}
}

// A dataset is switched off for a field that Cloudflare names and the dataset
// asks for, for minutes at first; one answer switches it on.
func TestAnUnknownFieldDisablesTheDatasetForMinutes(t *testing.T) {
	w := newWorld(t, zones("shop.example", "blog.example"))
	w.front(func(at time.Duration, document string) (int, string) {
		if at < time.Hour || at >= 90*time.Minute || !strings.Contains(document, "threats") {
			return 0, ""
		}
		return 200, fmt.Sprintf(graphRefusal, `unknown field "threats"`, "null", "")
	})
	w.run(90*time.Minute - 10*time.Second)
	if got := w.problems(trouble.DatasetDisabled); !slices.Equal(got, []string{"http_5m"}) {
		t.Errorf("disabled: %q; want the dataset that asks for the field", got)
	}
	w.run(80 * time.Minute)
	if got := w.problems(trouble.DatasetDisabled); len(got) != 0 {
		t.Errorf("disabled after the field is known again: %q", got)
	}
	for _, z := range []string{"shop", "blog"} {
		if n := w.missing(cfsim.Tag("zone:"+z+".example"), began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%s: %d windows are missing", z, n)
		}
	}
}

// One failed answer is one failure, however many windows of a series it was asked
// for: incident "One failed answer costs a quarter of an hour".
func TestARequestOfManyWindowsFailsOnce(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"no answer":        {http.StatusBadGateway, "<html>"},
		"lacks everything": {http.StatusOK, `{"data":{"viewer":{"zones":[{"zoneTag":"` + cfsim.Tag("zone:blog.example") + `"}]}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, zones("blog.example")) // on Free: a selection for each window
			w.only("http_5m")
			w.config.Lookback = 45 * time.Minute // all in one request: another would clear the failure
			var failed, again time.Duration
			var window string // the first that was asked for in vain
			w.front(func(at time.Duration, document string) (int, string) {
				switch windows := strings.Count(document, "httpRequestsAdaptiveGroups("); {
				case windows == 0:
				case failed == 0 && windows < 5:
					t.Fatalf("the request has %d windows, which shows nothing", windows)
				case failed == 0:
					failed = max(at, 1)
					_, window, _ = strings.Cut(document, "datetime_geq:")
					window = window[:len(`\"2006-01-02T15:04:05Z\"`)]
					return answer.status, answer.body
				case again == 0 && strings.Contains(document, window):
					again = at
				}
				return 0, ""
			})
			w.run(30 * time.Minute)
			if wait := again - failed; again == 0 || wait > time.Minute {
				t.Errorf("asked again after %v (at %v), want a minute at most", wait, again)
			}
		})
	}
}

// zoneTag is a zone in a document.
var zoneTag = regexp.MustCompile(`[0-9a-f]{32}`)

// A plan that does not include a dimension does not include a filter by it either: nobody is asked
// to find out, and no zone waits for what others are refused.
func TestAFilterThatThePlanLacksIsNotAsked(t *testing.T) {
	w := newWorld(t, nil)
	var err error
	if w.catalogue, err = catalogue.Load(nil, catalogue.Options{Enable: []string{"bot_countries"}}); err != nil {
		t.Fatal(err)
	}
	w.config.Catalogue = w.catalogue
	log, logs := testkit.RecordingLogger(t)
	w.config.Logger = log
	w.run(10 * time.Minute)
	if logs.Count("is refused")+logs.Count("Cloudflare refuses") != 0 {
		t.Errorf("Cloudflare has refused something: %s", logs)
	}
	with := map[string]int{}
	for key := range w.stored() {
		if key.Dataset == "bot_countries_1h" {
			with[key.Scope.ID]++
		}
	}
	for _, z := range w.sim.Zones() {
		if has := with[z.ID] > 0; has != (z.Plan == cfsim.Enterprise) {
			t.Errorf("%s on plan %s has %d windows of bot_countries_1h", z.Name, z.Plan, with[z.ID])
		}
	}
}
