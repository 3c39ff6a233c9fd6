package cfsim_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// plans has one zone for each plan.
var planZones = map[cfsim.Plan]string{cfsim.Free: "blog", cfsim.Pro: "media", cfsim.Business: "checkout", cfsim.Enterprise: "shop"}

type settings struct {
	Enabled                                                   bool
	MaxDuration, NotOlderThan, MaxPageSize, MaxNumberOfFields int64
	AvailableFields                                           []string
}

func (w *world) settings(zoneName, dataset string) settings {
	w.t.Helper()
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { settings { `+dataset+` { enabled maxDuration notOlderThan maxPageSize maxNumberOfFields availableFields } } } } }`,
		map[string]any{"zone": zone(zoneName)})
	b, err := json.Marshal(dig(w.t, a.Data, "viewer", "zones", 0, "settings", dataset))
	if err != nil {
		w.t.Fatal(err)
	}
	var s settings
	if err := json.Unmarshal(b, &s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// TestEnforcementIsWhatSettingsSay asks, for every plan and dataset, just
// inside and just outside of each advertised limit.
func TestEnforcementIsWhatSettingsSay(t *testing.T) {
	for _, old := range []bool{false, true} {
		for plan, name := range planZones {
			w := newWorld(t, func(c *cfsim.Config) {
				c.Switches.OldLimits, c.Limits.Queries = old, 1<<20
				for i := range c.Zones {
					c.Zones[i].Traffic = traffic.Profile{} // this is about permission, not about data
				}
			})
			for _, d := range schema.Datasets(schema.Zone) {
				w.checkDataset(t, plan, name, d)
			}
		}
	}
}

func (w *world) checkDataset(t *testing.T, plan cfsim.Plan, name string, d *schema.Dataset) {
	t.Helper()
	s := w.settings(name, d.Name)
	field := "datetime"
	layout := time.RFC3339
	if _, ok := d.Filterable(schema.Zone, field); !ok {
		field, layout = "date", time.DateOnly
	}
	ask := func(from, to time.Time, limit int64, container, leaf string) answer {
		selected := fmt.Sprintf("%s { %s }", container, leaf)
		if container == "raw" {
			selected = leaf
		}
		return w.ask(fmt.Sprintf(`{ viewer { zones(filter: {zoneTag: "%s"}) { %s(limit: %d, filter: {%s_geq: "%s", %s_lt: "%s"}) { %s } } } }`,
			zone(name), d.Name, limit, field, from.Format(layout), field, to.Format(layout), selected), nil)
	}
	var container, leaf string
	for _, c := range d.Containers { // a field that every plan has
		for _, f := range d.Fields(schema.Zone, c) {
			if leaf == "" && (c == "sum" || c == "avg" || c == "max" || c == "raw") && f.Fields == nil && f.Type != "" &&
				(f.Name == "requests" || f.Name == "sampleInterval" || f.Name == "coloCode" || f.Name == "avgCpuTime") {
				container, leaf = c, f.Name
			}
		}
	}
	if leaf == "" {
		t.Fatalf("no plain field in %s", d.Name)
	}
	what := fmt.Sprintf("%s of %s", d.Name, plan)
	if !s.Enabled {
		if a := ask(epoch.Add(-time.Minute), epoch, 1, container, leaf); len(a.Errors) != 1 || !strings.Contains(a.Errors[0].Message, "does not have access to the path") {
			t.Errorf("%s is not enabled, yet: %s", what, a.Body)
		}
		return
	}
	window, history := time.Duration(s.MaxDuration)*time.Second, time.Duration(s.NotOlderThan)*time.Second
	if field == "date" {
		window, history = window.Truncate(24*time.Hour), history.Truncate(24*time.Hour)-24*time.Hour
	}
	from := epoch.Add(-history)
	if a := ask(from, from.Add(min(window, history)), 1, container, leaf); len(a.Errors) > 0 {
		t.Errorf("%s: the whole window at the end of history is refused: %s", what, a.Body)
	}
	if a := ask(from.Add(-48*time.Hour), from.Add(-47*time.Hour), 1, container, leaf); len(a.Errors) != 1 ||
		!strings.Contains(a.Errors[0].Message, "cannot request data older than") || a.Errors[0].Extensions.Code != "quota" {
		t.Errorf("%s: data older than %s is not refused: %s", what, history, a.Body)
	}
	if a := ask(epoch.Add(-window-48*time.Hour), epoch, 1, container, leaf); len(a.Errors) != 1 || a.Errors[0].Extensions.Code != "quota" {
		t.Errorf("%s: more than %s is not refused: %s", what, window, a.Body)
	}
	if a := ask(from, from.Add(time.Minute), s.MaxPageSize+1, container, leaf); len(a.Errors) != 1 {
		t.Errorf("%s: a limit above %d is not refused: %s", what, s.MaxPageSize, a.Body)
	}
	if field == "date" {
		return
	}
	for _, c := range d.Containers {
		for _, f := range d.Fields(schema.Zone, c) {
			if f.Fields != nil || f.Type == "" || c == "raw" {
				continue
			}
			a := ask(from, from.Add(time.Minute), 1, c, f.Name)
			if available := slices.Contains(s.AvailableFields, c+"_"+f.Name); available != (len(a.Errors) == 0) {
				t.Errorf("%s: field %s_%s advertised %t, answer %s", what, c, f.Name, available, a.Body)
			} else if !available {
				contains(t, a.Errors[0], "authz", "does not have access to the field '"+strings.ToLower(f.Name)+"' from the path")
			}
		}
	}
}

func TestPublishedLimits(t *testing.T) {
	const d = 86400
	for _, c := range []struct {
		zone, dataset   string
		old             bool
		history, window int64
	}{
		{"media", "httpRequests1mGroups", false, d, d},
		{"checkout", "httpRequests1mGroups", false, 3 * d, d},
		{"shop", "httpRequests1mGroups", false, 7 * d, d},
		{"blog", "httpRequests1hGroups", false, 73 * 3600, 3 * d},
		{"blog", "httpRequestsAdaptiveGroups", false, 31 * d, 30 * d},
		{"blog", "httpRequestsAdaptiveGroups", true, 8 * d, d},
		{"shop", "httpRequestsAdaptiveGroups", false, 90 * d, 31 * d},
		{"media", "firewallEventsAdaptiveGroups", false, 31 * d, 30 * d},
	} {
		w := newWorld(t, func(cfg *cfsim.Config) { cfg.Switches.OldLimits = c.old })
		if s := w.settings(c.zone, c.dataset); s.NotOlderThan != c.history || s.MaxDuration != c.window || s.MaxNumberOfFields != 70 || s.MaxPageSize != 10000 {
			t.Errorf("%s, old limits %t: settings of %s are %+v", c.zone, c.old, c.dataset, s)
		}
	}
}

func TestMessagesOfRangeErrors(t *testing.T) {
	w := newWorld(t, nil)
	query := func(filter string) string {
		return `{ viewer { zones(filter: {zoneTag: "` + zone("media") + `"}) { httpRequests1mGroups(limit: 1, filter: {` + filter + `}) { sum { requests } } } } }`
	}
	w.clk.Advance(3*time.Minute + 14*time.Second + 620*time.Millisecond)
	for filter, want := range map[string]string{
		`datetime_geq: "2026-11-21T10:00:00Z", datetime_lt: "2026-11-21T11:00:00Z"`: `zone "` + zone("media") + `" cannot request data older than 1d, but your query requests data from 1d2h3m14s620ms ago`,
		`datetime_geq: "2026-11-20T12:00:00Z", datetime_lt: "2026-11-22T12:00:00Z"`: `zone "` + zone("media") + `" cannot request a time range wider than 1d, but your query time range spans 2d`,
		`datetime_geq: "2026-11-21T12:03:00Z"`:                                      `time range spans 1d14s620ms`, // a missing upper bound is now
		`datetime_lt: "2026-11-22T12:00:00Z"`:                                       `cannot request a time range wider than 1d`,
		``:                                                                          `cannot request a time range wider than 1d`,
	} {
		contains(t, w.bad(query(filter), nil), "quota", want)
	}
	w = newWorld(t, func(c *cfsim.Config) { c.Switches.OpenRange = true })
	if got := rows(t, w.good(query(""), nil), "httpRequests1mGroups"); len(got) != 1 {
		t.Errorf("with OpenRange got %v", got)
	}
}

func TestRefusedFields(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		c.Switches.Refused = map[string]string{"httpRequestsAdaptiveGroups": "dimensions_clientASNDescription"}
		c.Switches.RefusalSuffix = " 'httpRequestsAdaptiveGroups'"
	})
	if s := w.settings("shop", "httpRequestsAdaptiveGroups"); !slices.Contains(s.AvailableFields, "dimensions_clientASNDescription") {
		t.Fatal("the refused field is not advertised")
	}
	query := `{ viewer { zones(filter: {zoneTag: $zone}) { ok: httpRequests1hGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } }
		httpRequestsAdaptiveGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to}) { count dimensions { clientASNDescription } } } } }`
	contains(t, w.bad(query, span("shop", epoch.Add(-time.Hour), epoch)), "authz", "the field 'clientasndescription' from the path 'httpRequestsAdaptiveGroups'")
	// A filter needs the field as much as a dimension does.
	w = newWorld(t, nil)
	contains(t, w.bad(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to, clientAsn: "64496"}) { count } } } }`,
		span("blog", epoch.Add(-time.Hour), epoch)), "authz", "clientasn")
}

func TestTooManyFields(t *testing.T) {
	w := newWorld(t, nil)
	all := strings.Join(schema.Lookup(schema.Zone, "httpRequestsAdaptiveGroups").Flat(schema.Zone), " ")
	var dims []string
	for _, f := range strings.Fields(all) {
		if name, ok := strings.CutPrefix(f, "dimensions_"); ok {
			dims = append(dims, name)
		}
	}
	ask := func(n int) answer {
		return w.ask(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to}) { dimensions { `+
			strings.Join(dims[:n], " ")+` } } } } }`, span("shop", epoch.Add(-time.Hour), epoch.Add(-59*time.Minute)))
	}
	if a := ask(70); len(a.Errors) > 0 {
		t.Errorf("70 fields: %s", a.Body)
	}
	if a := ask(71); len(a.Errors) != 1 || a.Errors[0].Message != "number of fields can't be more than 70" {
		t.Errorf("71 fields: %s", a.Body)
	}
}

func TestZoneTimeline(t *testing.T) {
	hour := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Hour) }
	w := newWorld(t, func(c *cfsim.Config) {
		c.Zones = append(c.Zones, cfsim.Zone{
			ID: cfsim.Tag("zone:new.example"), Name: "new.example", Account: account("labs"), Plan: cfsim.Free,
			Created: hour(1), Traffic: traffic.Profile{RequestsPerMinute: 500}, Events: []cfsim.ZoneEvent{
				{At: hour(7), Delete: true},
				{At: hour(2), Rename: "renamed.example"},
				{At: hour(3), Plan: cfsim.Pro},
				{At: hour(4), Pause: true},
				{At: hour(5), Resume: true},
				{At: hour(6), Account: account("retail")},
				{At: hour(6).Add(30 * time.Minute), Leave: true},
			},
		})
	})
	type state struct {
		present        bool
		name, plan, in string
		paused         bool
	}
	for i, want := range []state{
		{},
		{true, "new.example", "free", account("labs"), false},
		{true, "renamed.example", "free", account("labs"), false},
		{true, "renamed.example", "pro", account("labs"), false},
		{true, "renamed.example", "pro", account("labs"), true},
		{true, "renamed.example", "pro", account("labs"), false},
		{true, "renamed.example", "pro", account("retail"), false},
		{},
	} {
		w.clk.Set(hour(i).Add(time.Second))
		var got state
		for _, z := range w.zones() {
			if z["id"] == zone("new") {
				got = state{true, text(t, z, "name"), text(t, z, "plan", "legacy_id"), text(t, z, "account", "id"), z["paused"].(bool)}
			}
		}
		if got != want {
			t.Errorf("hour %d: %+v, want %+v", i, got, want)
		}
		list := dig(t, w.good(`{ viewer { zones(filter: {zoneTag: $z}) { zoneTag } } }`, map[string]any{"z": zone("new")}).Data, "viewer", "zones").([]any)
		if (len(list) == 1) != want.present {
			t.Errorf("hour %d: GraphQL lists %d zones", i, len(list))
		}
		if want.plan == "free" || want.plan == "pro" {
			if enabled := w.settings("new", "httpRequests1mGroups").Enabled; enabled != (want.plan == "pro") {
				t.Errorf("hour %d: minutes enabled %t on plan %s", i, enabled, want.plan)
			}
		}
	}
	for i, busy := range []bool{false, true, true, true, false, true, true, false} {
		truth, err := w.sim.True(zone("new"), hour(i), hour(i+1))
		if err != nil {
			t.Fatal(err)
		}
		if (truth.Requests > 0) != busy {
			t.Errorf("hour %d has %d requests", i, truth.Requests)
		}
	}
}

func TestZoneThatMovedAway(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		for i := range c.Zones {
			c.Zones[i].Events = []cfsim.ZoneEvent{{At: epoch, Leave: true}, {At: epoch.Add(time.Hour), Resume: true}}
		}
	})
	status := func(filter string) int {
		_, _, v := w.get("/zones?" + filter)
		return len(v["result"].([]any))
	}
	if active, moved := status("status=active"), status("status=moved"); active != 0 || moved != 8 {
		t.Errorf("%d zones are active and %d moved", active, moved)
	}
	w.clk.Advance(time.Hour)
	if active := status("status=active"); active != 8 {
		t.Errorf("after the return %d zones are active", active)
	}
	away, _ := w.sim.True(zone("shop"), epoch, epoch.Add(time.Hour))
	back, _ := w.sim.True(zone("shop"), epoch.Add(time.Hour), epoch.Add(2*time.Hour))
	if away.Requests != 0 || back.Requests == 0 {
		t.Errorf("%d requests while it was away, %d afterwards", away.Requests, back.Requests)
	}
}
