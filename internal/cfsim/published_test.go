package cfsim_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// Cloudflare answers with and without a slash at the end.
func TestASlashAtTheEnd(t *testing.T) {
	w := newWorld(t, nil)
	for _, path := range []string{"/client/v4/graphql", "/client/v4/graphql/"} {
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(`{"query":"{ viewer { __typename } }"}`))
		r.Header.Set("Authorization", "Bearer "+cfsim.DemoToken)
		out := httptest.NewRecorder()
		w.sim.ServeHTTP(out, r)
		if out.Code != http.StatusOK || !strings.Contains(out.Body.String(), `"__typename":"viewer"`) {
			t.Errorf("%s: status %d, %s", path, out.Code, out.Body)
		}
	}
	if c := w.sim.Counters(); c.GraphQL != 2 {
		t.Errorf("the log counts %d GraphQL requests", c.GraphQL)
	}
}

// However a long range is spelled, it is the same question: the tutorials put its
// bounds into AND lists, and into each member of an OR list.
func TestALongRangeInAnySpelling(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Settling.Off = true })
	const from, to = `"2026-10-24T00:00:00Z"`, `"2026-11-22T00:00:00Z"`
	first := ""
	for _, filter := range []string{
		`{datetime_geq: ` + from + `, datetime_lt: ` + to + `, requestSource: "eyeball"}`,
		`{AND: [{datetime_geq: ` + from + `, datetime_lt: ` + to + `}, {requestSource: "eyeball"}]}`,
		`{AND: [{AND: [{datetime_geq: ` + from + `}, {datetime_lt: ` + to + `}]}, {OR: [{requestSource: "eyeball"}]}]}`,
		`{requestSource: "eyeball", OR: [{datetime_geq: ` + from + `, datetime_lt: ` + to + `}]}`,
		`{requestSource: "eyeball", OR: [{datetime_geq: ` + from + `, datetime_lt: "2026-11-02T10:00:01Z"}, {datetime_geq: "2026-11-02T10:00:01Z", datetime_lt: ` + to + `}]}`,
	} {
		a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 100, orderBy: [date_ASC], filter: `+filter+`) { count dimensions { date } } } } }`,
			map[string]any{"zone": zone("shop")})
		got := fmt.Sprint(dig(t, a.Data, "viewer", "zones"))
		if first == "" {
			first = got
		}
		if got != first || len(got) < 500 {
			t.Errorf("%s: the answer is %.200s, want %.200s", filter, got, first)
		}
	}
}

// Raw events are those that the groups count.
func TestRawFirewallEvents(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Settling.Off = true })
	vars := map[string]any{"zone": zone("shop"), "from": "2026-11-22T09:00:00Z", "to": "2026-11-22T11:00:00Z"}
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) {
		firewallEventsAdaptive(limit: 10000, orderBy: [datetime_DESC], filter: {datetime_geq: $from, datetime_lt: $to}) { action clientRequestHTTPHost datetime source }
		firewallEventsAdaptiveGroups(limit: 10000, orderBy: [action_ASC], filter: {datetime_geq: $from, datetime_lt: $to}) { count dimensions { action } } } } }`, vars)
	one := dig(t, a.Data, "viewer", "zones").([]any)[0]
	events, last, count := dig(t, one, "firewallEventsAdaptive").([]any), "9", map[string]uint64{}
	for _, e := range events {
		at := text(t, e, "datetime")
		if at > last || at < "2026-11-22T09" || at >= "2026-11-22T11" || text(t, e, "source") == "" {
			t.Fatalf("an event is %v after one at %s", e, last)
		}
		last = at
		count[text(t, e, "action")]++
	}
	groups := dig(t, one, "firewallEventsAdaptiveGroups").([]any)
	if len(events) < 10 || len(groups) == 0 {
		t.Fatalf("%d events in %d groups", len(events), len(groups))
	}
	for _, g := range groups {
		if want := num(t, g, "count"); count[text(t, g, "dimensions", "action")] != want {
			t.Errorf("of %v there are %v events", g, count)
		}
	}
	// It is served on the free plan, and ordered by what is not selected.
	w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { firewallEventsAdaptive(limit: 5, orderBy: [datetime_ASC], filter: {datetime_geq: $from, datetime_lt: $to}) { action } } } }`,
		map[string]any{"zone": zone("docs"), "from": "2026-11-22T09:00:00Z", "to": "2026-11-22T11:00:00Z"})
	// Of a long range the newest are to be had.
	a = w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { firewallEventsAdaptive(limit: 10, orderBy: [datetime_DESC], filter: {datetime_gt: $from, datetime_lt: $to}) { action datetime } } } }`,
		map[string]any{"zone": zone("shop"), "from": "2026-10-25T00:00:00Z", "to": "2026-11-22T11:00:00Z"})
	newest := dig(t, dig(t, a.Data, "viewer", "zones").([]any)[0], "firewallEventsAdaptive").([]any)
	if len(newest) != 10 || text(t, newest[0], "datetime") != text(t, events[0], "datetime") {
		t.Errorf("the newest of four weeks are %v, want those that end with %v", newest, events[0])
	}
	contains(t, w.bad(`{ viewer { zones(filter: {zoneTag: $zone}) { firewallEventsAdaptive(limit: 5, filter: {datetime_geq: $from, datetime_lt: $to}) { count } } } }`, vars), "", `unknown field "count"`)
}

// Quantiles come as whole numbers.
func TestQuantilesAreWhole(t *testing.T) {
	w := newWorld(t, nil)
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 100, orderBy: [datetimeMinute_ASC], filter: {datetime_geq: "2026-11-22T10:00:00Z", datetime_lt: "2026-11-22T11:00:00Z"}) {
		quantiles { edgeTimeToFirstByteMsP50 edgeTimeToFirstByteMsP95 edgeTimeToFirstByteMsP99 originResponseDurationMsP95 edgeDnsResponseTimeMsP99 } dimensions { datetimeMinute } } } } }`, map[string]any{"zone": zone("shop")})
	for _, g := range dig(t, a.Data, "viewer", "zones").([]any)[0].(map[string]any)["httpRequestsAdaptiveGroups"].([]any) {
		for name, v := range dig(t, g, "quantiles").(map[string]any) {
			if f, err := v.(json.Number).Float64(); err != nil || f != math.Trunc(f) {
				t.Fatalf("%s is %v", name, v)
			}
		}
	}
}

func TestWhatIsRefusedAsPublished(t *testing.T) {
	w := newWorld(t, nil)
	contains(t, w.bad(`{ viewer { zones(filter: {zoneTag_in: []}) { zoneTag } } }`, nil), "", "empty zone filters not allowed")
	contains(t, w.bad(`{ viewer { zones(filter: {zoneTag_in: $zones}) { zoneTag } } }`, map[string]any{"zones": []string{}}), "", "empty zone filters not allowed")
	contains(t, w.bad(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 1, filter: {datetime_geq: "2026-11-22T10:00:00Z", datetime_lt: "2026-11-22T11:00:00Z"}) { confidence { count { estimate } } } } } }`,
		map[string]any{"zone": zone("shop")}), "", "level argument is required")
}

// Every refusal of a token that is published can be played: with the status, the
// envelope and the words that it has.
func TestRefusalsOfTokens(t *testing.T) {
	for kind, want := range map[cfsim.FaultKind]struct {
		status int
		says   string
	}{
		cfsim.FaultTokenInvalid:   {403, `"code":9109,"message":"Invalid access token"`},
		cfsim.FaultTokenUnknown:   {401, `"code":1000,"message":"Invalid API Token"`},
		cfsim.FaultAuthentication: {401, `"code":10000,"message":"Authentication error"`},
		cfsim.FaultLocation:       {403, `"code":9109,"message":"Cannot use the access token from location: 203.0.113.9"`},
		cfsim.FaultUnauthorized:   {401, `"message":"Unauthorized","path":null`},
		cfsim.FaultAccountDenied:  {200, `"extensions":{"code":"authz","timestamp":"2026-11-22T12:00:00Z"},"message":"not authorized for that account"`},
		cfsim.FaultPermission:     {200, `"message":"Actor 'com.cloudflare.api.token.` + cfsim.GoodToken(cfsim.DemoToken).ID + `' does not have permission 'com.cloudflare.api.account.zone.analytics.read' for zone ` + zone("shop") + `"`},
		cfsim.FaultZonesDenied:    {200, `"message":"zones [` + zone("shop") + `] are not authorized"`},
		cfsim.FaultAuthInternal:   {500, `"message":"Internal authentication error: internal server error"`},
	} {
		w := newWorld(t, func(c *cfsim.Config) { c.Faults = []cfsim.Fault{{Kind: kind, Path: "/graphql"}} })
		body, err := json.Marshal(map[string]any{"query": `{ viewer { zones(filter: {zoneTag: $zone}) { zoneTag } } }`, "variables": map[string]any{"zone": zone("shop")}})
		if err != nil {
			t.Fatal(err)
		}
		out := w.post(body)
		if out.Code != want.status || !strings.Contains(out.Body.String(), want.says) {
			t.Errorf("%s: status %d, %s; want %d and %s", kind, out.Code, out.Body, want.status, want.says)
		}
	}
	// Those that need no fault: a header of the wrong shape, an unknown token.
	w := newWorld(t, nil)
	for header, want := range map[string]string{"Token x": `"error_chain":[{"code":6111,"message":"Invalid format for Authorization header"}]`, "Bearer unknown": `"code":9109`, "": `"code":10000`} {
		r := httptest.NewRequest(http.MethodGet, "/client/v4/zones", http.NoBody)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		out := httptest.NewRecorder()
		w.sim.ServeHTTP(out, r)
		if !strings.Contains(out.Body.String(), want) {
			t.Errorf("%q: %s, want %s", header, out.Body, want)
		}
	}
}

// A zone is pending between its creation and its activation, and any of its values
// may be malformed.
func TestPendingAndMalformedZones(t *testing.T) {
	docs := zone("docs")
	w := newWorld(t, func(c *cfsim.Config) {
		i := slices.IndexFunc(c.Zones, func(z cfsim.Zone) bool { return z.ID == docs })
		c.Zones[i].Created, c.Zones[i].Activated = epoch.Add(-time.Hour), epoch.Add(time.Hour)
		c.Faults = []cfsim.Fault{{Kind: cfsim.FaultZonePaused, Zone: zone("shop"), Odd: []string{"quotes"}}, {Kind: cfsim.FaultZoneCreated, Zone: zone("shop"), Odd: []string{"empty"}}}
	})
	list := func() map[string]map[string]any {
		byID := map[string]map[string]any{}
		for _, z := range w.zones() {
			byID[z["id"].(string)] = z
		}
		return byID
	}
	before := list()
	if before[docs]["status"] != "pending" || before[zone("shop")]["created_on"] != "" {
		t.Errorf("the zones are %v and %v", before[docs], before[zone("shop")])
	}
	if _, isText := before[zone("shop")]["paused"].(string); !isText {
		t.Errorf("paused is %v", before[zone("shop")]["paused"])
	}
	w.clk.Advance(2 * time.Hour)
	if after := list(); after[docs]["status"] != "active" {
		t.Errorf("after its activation the zone is %v", after[docs])
	}
	truth, err := w.sim.True(docs, epoch, epoch.Add(2*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if silent, err := w.sim.True(docs, epoch.Add(-time.Hour), epoch.Add(time.Hour)); err != nil || silent.Requests != 0 || truth.Requests == 0 {
		t.Errorf("%d requests while it was pending, %d with the hour after it, %v", silent.Requests, truth.Requests, err)
	}
}
