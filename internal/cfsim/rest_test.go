package cfsim_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// get makes a REST call with the world's token.
func (w *world) get(path string) (int, http.Header, map[string]any) {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodGet, cfsim.Prefix+path, nil)
	r.Header.Set("Authorization", "Bearer "+w.secret)
	rec := httptest.NewRecorder()
	w.sim.ServeHTTP(rec, r)
	var v map[string]any
	dec := json.NewDecoder(rec.Body)
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		w.t.Fatalf("%s: %v", path, err)
	}
	return rec.Code, rec.Header(), v
}

// zones lists all zones.
func (w *world) zones() []map[string]any {
	w.t.Helper()
	_, _, v := w.get("/zones?per_page=50")
	var out []map[string]any
	for _, z := range v["result"].([]any) {
		out = append(out, z.(map[string]any))
	}
	return out
}

func TestRESTLists(t *testing.T) {
	w := newWorld(t, nil)
	if z := w.zones(); len(z) != 8 || !slices.IsSortedFunc(z, func(a, b map[string]any) int { return strings.Compare(a["name"].(string), b["name"].(string)) }) {
		t.Errorf("zones are %v", z)
	}
	status, _, v := w.get("/zones?account.id=" + account("labs") + "&page=2&per_page=3")
	if info := v["result_info"].(map[string]any); status != 200 || len(v["result"].([]any)) != 1 || num(t, info, "total_pages") != 2 || num(t, info, "total_count") != 4 {
		t.Errorf("second page is %v", v)
	}
	if _, _, v = w.get("/zones?per_page=100"); num(t, v, "result_info", "per_page") != 50 {
		t.Errorf("a page has %v zones, want 50 at most", v["result_info"])
	}
	if _, _, v = w.get("/zones?name=blog.example"); text(t, v, "result", 0, "plan", "id") != "0feeeeeeeeeeeeeeeeeeeeeeeeeeeeee" {
		t.Errorf("the free zone is %v", v)
	}
	if _, _, v = w.get("/accounts?per_page=100"); len(v["result"].([]any)) != 2 {
		t.Errorf("accounts are %v", v)
	}
	if _, _, v = w.get("/zones/" + zone("shop")); text(t, v, "result", "name") != "shop.example" {
		t.Errorf("zone is %v", v)
	}
	if status, _, v = w.get("/zones/" + cfsim.Tag("nobody")); status != 403 || v["success"] != false {
		t.Errorf("unknown zone: %d %v", status, v)
	}
	if status, _, v = w.get("/zones/zz"); status != 404 || num(t, v, "errors", 0, "code") != 7003 {
		t.Errorf("malformed id: %d %v", status, v)
	}
	if status, _, _ = w.get("/nothing"); status != 404 {
		t.Errorf("unknown path: %d", status)
	}
}

func TestRulesetsNameTheRulesOfEvents(t *testing.T) {
	w := newWorld(t, nil)
	_, _, v := w.get("/zones/" + zone("shop") + "/rulesets")
	if _, has := v["result"].([]any)[0].(map[string]any)["rules"]; has {
		t.Error("the list of rulesets has rules")
	}
	known := map[string]bool{"": true}
	for _, rs := range v["result"].([]any) {
		_, _, one := w.get("/zones/" + zone("shop") + "/rulesets/" + text(t, rs, "id"))
		for _, rule := range dig(t, one, "result", "rules").([]any) {
			known[text(t, rule, "id")] = true
		}
	}
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { firewallEventsAdaptiveGroups(limit: 100, filter: {datetime_geq: $from, datetime_lt: $to}) { count dimensions { ruleId action source } } } } }`,
		span("shop", epoch.Add(-2*time.Hour), epoch.Add(-time.Hour)))
	got := rows(t, a, "firewallEventsAdaptiveGroups")
	if len(got) < 3 {
		t.Errorf("only %d groups of events", len(got))
	}
	for _, r := range got {
		if !known[text(t, r, "dimensions", "ruleId")] {
			t.Errorf("no ruleset has the rule of %v", r)
		}
	}
}

func TestTokens(t *testing.T) {
	only := func(p ...cfsim.Permission) func(*cfsim.Token) { return func(t *cfsim.Token) { t.Permissions = p } }
	query := `{ viewer { zones(filter: {zoneTag_in: $zones}) { zoneTag } } }`
	both := map[string]any{"zones": []string{zone("shop"), zone("blog")}}
	holder := func(change func(*cfsim.Token)) *world {
		return newWorld(t, func(c *cfsim.Config) { change(&c.Tokens[0]) })
	}
	w := holder(only(cfsim.ZoneAnalytics))
	w.good(query, both)
	if z := w.zones(); len(z) != 0 {
		t.Errorf("a token without zone read lists %v", z)
	}
	byAccount := `{ viewer { accounts(filter: {accountTag: "` + account("retail") + `"}) { httpRequestsAdaptiveGroups(limit: 1,
		filter: {datetime_geq: $from, datetime_lt: $to, zoneTag: $zone}) { count dimensions { zoneTag } } } } }`
	contains(t, w.bad(byAccount, span("shop", epoch.Add(-time.Hour), epoch)), "authz", "not authorized for that account")

	w = holder(only(cfsim.AccountAnalytics))
	contains(t, w.bad(query, both), "authz", "does not have permission 'com.cloudflare.api.account.zone.analytics.read' for zone")
	a := w.good(byAccount, span("shop", epoch.Add(-time.Hour), epoch.Add(-time.Minute*10)))
	groups, _ := w.sim.TrueGroups(zone("shop"), "httpRequestsAdaptiveGroups", epoch.Add(-time.Hour), epoch.Add(-10*time.Minute), nil)
	if n := num(t, a.Data, "viewer", "accounts", 0, "httpRequestsAdaptiveGroups", 0, "count"); n != groups[0].Count {
		t.Errorf("the account's view of the zone has %d requests, truth %d", n, groups[0].Count)
	}

	w = holder(func(t *cfsim.Token) { t.Zones = []string{zone("blog")} })
	if list := dig(t, w.good(query, both).Data, "viewer", "zones").([]any); len(list) != 1 || text(t, list[0], "zoneTag") != zone("blog") {
		t.Errorf("invisible zone: %v, want it to be absent", list)
	}
	w = holder(func(t *cfsim.Token) { t.Denied = []string{zone("shop")} })
	contains(t, w.bad(query, both), "authz", "for zone "+zone("shop"))
	w = newWorld(t, func(c *cfsim.Config) {
		c.Switches.InvisibleZoneError = true
		c.Tokens[0].Zones = []string{zone("blog")}
	})
	contains(t, w.bad(query, both), "authz", "for zone "+zone("shop"))
}

func TestTokenLife(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Tokens[0].ExpiresOn = epoch.Add(time.Hour) })
	w.good(`{ viewer { budget } }`, nil)
	if _, _, v := w.get("/user/tokens/verify"); text(t, v, "result", "status") != "active" || num(t, v, "messages", 0, "code") != 10000 {
		t.Errorf("verify says %v", v)
	}
	w.clk.Advance(time.Hour)
	if a := w.ask(`{ viewer { budget } }`, nil); a.Status != 401 || !strings.Contains(string(a.Body), `"code":10000`) {
		t.Errorf("expired token: %d %s", a.Status, a.Body)
	}
	if _, _, v := w.get("/user/tokens/verify"); text(t, v, "result", "status") != "expired" {
		t.Errorf("verify says %v", v)
	}
	w = newWorld(t, func(c *cfsim.Config) { c.Tokens[0].Disabled = true; c.Switches.ExpiredUnauthorized = true })
	if a := w.ask(`{ viewer { budget } }`, nil); a.Status != 401 || a.Errors[0].Message != "Unauthorized" {
		t.Errorf("disabled token: %d %s", a.Status, a.Body)
	}
	w = newWorld(t, nil)
	w.secret = "wrong"
	if status, _, v := w.get("/zones"); status != 403 || num(t, v, "errors", 0, "code") != 9109 {
		t.Errorf("unknown token: %d %v", status, v)
	}
	w.secret = "not a token"
	if status, _, v := w.get("/zones"); status != 400 || num(t, v, "errors", 0, "error_chain", 0, "code") != 6111 {
		t.Errorf("malformed header: %d %v", status, v)
	}
	w = newWorld(t, func(c *cfsim.Config) { c.Tokens[0].FlapsUntil = epoch.Add(time.Minute) })
	var seen []int
	for range 4 {
		status, _, _ := w.get("/zones")
		seen = append(seen, status)
	}
	w.clk.Advance(time.Minute)
	if status, _, _ := w.get("/zones"); fmt.Sprint(seen) != "[403 200 403 200]" || status != 200 {
		t.Errorf("a flapping token gave %v, then %d", seen, status)
	}
}

func TestRESTLimit(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Limits.RESTCalls = 5 })
	for range 5 {
		if status, h, _ := w.get("/zones"); status != 200 || h.Get("Ratelimit") == "" || h.Get("Ratelimit-Policy") != `"burst";q=5;w=300` {
			t.Fatalf("status %d, headers %v", status, h)
		}
	}
	if status, h, _ := w.get("/zones"); status != 429 || h.Get("Retry-After") != "300" {
		t.Errorf("sixth call: %d, Retry-After %q", status, h.Get("Retry-After"))
	}
	if a := w.ask(`{ viewer { budget } }`, nil); a.Status != 429 {
		t.Errorf("GraphQL is not blocked with the rest: %d", a.Status)
	}
	w.clk.Advance(5 * time.Minute)
	w.good(`{ viewer { budget } }`, nil)
	if status, _, _ := w.get("/zones"); status != 200 {
		t.Errorf("still blocked after five minutes: %d", status)
	}
}

func TestConfigMistakesAreAllNamed(t *testing.T) {
	_, err := cfsim.New(cfsim.Config{
		Zones:  []cfsim.Zone{{ID: "short", Name: "real.com", Account: "x", Plan: "gold", Traffic: traffic.Profile{}, Events: []cfsim.ZoneEvent{{}}}},
		Tokens: []cfsim.Token{{}, {}}, Faults: []cfsim.Fault{{Kind: "tea"}},
	})
	for _, part := range []string{"clock is missing", "32 hexadecimal digits", "must end in .example", `plan "gold"`, `account "x"`, "needs a secret", "secret of another", "makes 0 changes", `fault kind "tea"`} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error does not say %q: %v", part, err)
		}
	}
}
