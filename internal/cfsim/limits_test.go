package cfsim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// manyZones adds n zones on the pro plan to the first account.
func manyZones(n int) func(*cfsim.Config) {
	return func(c *cfsim.Config) {
		for i := range n {
			name := fmt.Sprintf("many%02d.example", i)
			c.Zones = append(c.Zones, cfsim.Zone{
				ID: cfsim.Tag("zone:" + name), Name: name, Account: account("retail"), Plan: cfsim.Pro,
				Traffic: traffic.Profile{RequestsPerMinute: 1000},
			})
		}
	}
}

func manyTags(n int) []string {
	tags := make([]string, n)
	for i := range tags {
		tags[i] = zone(fmt.Sprintf("many%02d", i))
	}
	return tags
}

func TestZonesPerQuery(t *testing.T) {
	w := newWorld(t, manyZones(12))
	query := `{ viewer { zones(filter: {zoneTag_in: $zones}) { zoneTag } } }`
	a := w.good(query, map[string]any{"zones": manyTags(10)})
	if n := len(dig(t, a.Data, "viewer", "zones").([]any)); n != 10 {
		t.Errorf("got %d zones", n)
	}
	contains(t, w.bad(query, map[string]any{"zones": manyTags(11)}), "quota", "too many zones requested")
	contains(t, w.bad(`{ viewer { zones { zoneTag } } }`, nil), "quota", "too many zones requested")
	// All zones can be walked by their tags.
	seen, after := map[string]bool{}, ""
	for {
		list := dig(t, w.good(`{ viewer { zones(filter: {zoneTag_gt: $after}, limit: 7) { zoneTag } } }`, map[string]any{"after": after}).Data, "viewer", "zones").([]any)
		for _, z := range list {
			after = text(t, z, "zoneTag")
			seen[after] = true
		}
		if len(list) < 7 {
			break
		}
	}
	if len(seen) != 20 {
		t.Errorf("walked %d zones, want 20", len(seen))
	}
	if c := w.sim.Counters(); c.MaxZones != 20 {
		t.Errorf("the log saw at most %d zones in a request, want 20", c.MaxZones)
	}
}

func TestScopesTimesNodes(t *testing.T) {
	w := newWorld(t, manyZones(10))
	document := func(nodes int) string {
		var b strings.Builder
		for i := range nodes {
			fmt.Fprintf(&b, "n%d: httpRequests1mGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } } ", i)
		}
		return `{ viewer { zones(filter: {zoneTag_in: $zones}) { ` + b.String() + ` } } }`
	}
	vars := map[string]any{"zones": manyTags(10), "from": stamp(epoch.Add(-time.Hour)), "to": stamp(epoch)}
	w.good(document(5), vars)
	if e := w.bad(document(6), vars); e.Message != "in combination, your request queries too many nodes, zones and accounts" || e.Path != nil {
		t.Errorf("60 zones times nodes: %+v", e)
	}
}

// Whose settings are asked counts too, beside data and alone.
func TestScopesTimesSettings(t *testing.T) {
	names := []string{
		"httpRequests1mGroups", "httpRequests1hGroups", "httpRequests1dGroups", "httpRequestsAdaptiveGroups", "firewallEventsAdaptiveGroups", "dnsAnalyticsAdaptiveGroups",
	}
	document := func(settings int, data string) string {
		return `{ viewer { zones(filter: {zoneTag_in: $zones}) { zoneTag settings { __typename ` + strings.Join(names[:settings], "{enabled} ") + `{enabled} } ` + data + ` } } }`
	}
	const data = `httpRequests1mGroups(limit: 1, filter: {datetime: "2026-11-22T11:00:00Z"}) { sum { requests } }`
	vars := map[string]any{"zones": manyTags(10)}
	w := newWorld(t, manyZones(10))
	w.good(document(5, ""), vars)
	w.good(document(4, data), vars)
	for _, over := range []string{document(6, ""), document(5, data)} {
		if e := w.bad(over, vars); e.Message != "in combination, your request queries too many nodes, zones and accounts" {
			t.Errorf("60 zones times nodes: %+v", e)
		}
	}
	w.bad(`{ viewer { accounts(filter: {accountTag: "`+account("retail")+`"}) { zones(filter: {zoneTag_in: $zones}) { settings { `+strings.Join(names, "{enabled} ")+`{enabled} } } } } }`, vars)
	w = newWorld(t, func(c *cfsim.Config) { manyZones(10)(c); c.Switches.FreeSettings = true })
	w.good(document(6, data), vars)
}

func TestBudgetSlides(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		second := cfsim.GoodToken("another-token-of-the-same-user")
		second.User = c.Tokens[0].User
		stranger := cfsim.GoodToken("token-of-somebody-else")
		c.Tokens = append(c.Tokens, second, stranger)
	})
	const query = `{ viewer { budget } }`
	for i := range 300 {
		if i == 150 {
			w.clk.Advance(2 * time.Minute)
			w.secret = "another-token-of-the-same-user"
		}
		if left := num(t, w.good(query, nil).Data, "viewer", "budget"); left != uint64(299-i) {
			t.Fatalf("after %d requests %d are left", i+1, left)
		}
	}
	a := w.ask(query, nil)
	contains(t, a.Errors[0], "budget", "Rate limiter budget depleted. Please try again after 5 minutes.")
	if a.Status != 200 || a.Errors[0].Path != nil || a.Header.Get("Retry-After") != "" || a.Data != nil {
		t.Errorf("budget error: %d %v %s", a.Status, a.Header, a.Body)
	}
	w.secret = "token-of-somebody-else"
	w.good(query, nil)
	w.secret = cfsim.DemoToken
	w.clk.Advance(3*time.Minute - time.Second)
	w.bad(query, nil)
	w.clk.Advance(time.Second) // the first 150 leave the window
	for range 150 {
		w.good(query, nil)
	}
	w.bad(query, nil)
	if c := w.sim.Counters(); c.PeakQueries != 303 { // 300 and three refused ones
		t.Errorf("the most requests in five minutes were %d", c.PeakQueries)
	}
	if got := w.sim.Budgets(); len(got) != 2 {
		t.Errorf("budgets are %v, want two users", got)
	}
}

func TestBudgetVariants(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		c.Limits.Queries, c.Switches.BudgetStatus, c.Switches.RetryAfter = 1, 429, true
	})
	w.good(`{ cost }`, nil)
	w.clk.Advance(time.Minute)
	if a := w.ask(`{ cost }`, nil); a.Status != 429 || a.Header.Get("Retry-After") != "240" {
		t.Errorf("status %d, Retry-After %q, want 429 and 240", a.Status, a.Header.Get("Retry-After"))
	}
	w = newWorld(t, func(c *cfsim.Config) { manyZones(10)(c); c.Limits.Queries, c.Switches.MultiplyBudget = 15, true })
	query := `{ viewer { zones(filter: {zoneTag_in: $zones}) { httpRequests1mGroups(limit: 1, filter: {datetime: "2026-11-22T11:00:00Z"}) { sum { requests } } } } }`
	w.good(query, map[string]any{"zones": manyTags(10)})
	contains(t, w.bad(query, map[string]any{"zones": manyTags(10)}), "budget", "depleted")
	w.good(query, map[string]any{"zones": manyTags(5)})
}

func TestAccountBasedLimits(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Limits.Queries = 3 })
	w.header.Set("X-Rate-Limit-Type", "account-based")
	list := map[string]any{"zones": []string{zone("docs"), zone("quiet")}}
	w.bad(`{ viewer { zones(filter: {zoneTag_in: $zones}) { zoneTag } } }`, list)
	nested := `{ viewer { accounts(filter: {accountTag: "` + account("labs") + `"}) { zones(filter: {zoneTag_in: $zones}) { zoneTag } } } }`
	for range 3 {
		w.good(nested, list)
	}
	e := w.bad(nested, list)
	contains(t, e, "budget", "Account "+account("labs")+" has exceeded its rate limit.")
	if e.Path != nil {
		t.Errorf("path is %v", e.Path)
	}
	w.good(`{ viewer { zones(filter: {zoneTag: "`+zone("api")+`"}) { zoneTag } } }`, nil) // has a budget of its own
	for range 10 {
		w.good(`{ viewer { zones(filter: {zoneTag: "`+zone("shop")+`"}) { zoneTag } } }`, nil) // enterprise: more
	}
	w.header.Del("X-Rate-Limit-Type")
	w.good(nested, list) // the user's own budget is untouched
}

func TestRequestLog(t *testing.T) {
	w := newWorld(t, nil)
	w.good(`query Trail { viewer { zones(filter: {zoneTag: $zone}) { x: httpRequests1mGroups(limit: 5, filter: {datetime_geq: $from, datetime_lt: $to}, orderBy: [datetime_ASC]) {
		dimensions { datetime } sum { requests } } } } }`, span("shop", epoch.Add(-time.Hour), epoch.Add(-30*time.Minute)))
	w.bad(`{ nonsense }`, nil)
	log := w.sim.Requests()
	if len(log) != 2 {
		t.Fatalf("log has %d entries", len(log))
	}
	want := cfsim.Query{Alias: "x", Dataset: "httpRequests1mGroups", Scope: "zone", Tag: zone("shop"), From: epoch.Add(-time.Hour), To: epoch.Add(-30 * time.Minute), Limit: 5, Rows: 5}
	if e := log[0]; e.Kind != "graphql" || e.Outcome != "ok" || len(e.Queries) != 1 || e.Queries[0] != want || len(e.Zones) != 1 || !e.Time.Equal(epoch) || e.RayID == "" {
		t.Errorf("first entry is %+v", e)
	}
	if e := log[1]; e.Outcome != "error" || !strings.Contains(e.Message, "unknown field") {
		t.Errorf("second entry is %+v", e)
	}
	if s := fmt.Sprintf("%+v", log); strings.Contains(s, cfsim.DemoToken) {
		t.Error("the log holds a token's value")
	}
	if c := w.sim.Counters(); c.GraphQL != 2 || c.Outcomes["ok"] != 1 || c.Rows != 5 {
		t.Errorf("counters are %+v", c)
	}
	w.sim.ClearRequests()
	if len(w.sim.Requests()) != 0 || w.sim.Counters().GraphQL != 2 {
		t.Error("clearing the log must empty it and keep the counters")
	}
}
