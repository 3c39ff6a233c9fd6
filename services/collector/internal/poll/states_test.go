package poll_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// object is something that the REST API shows.
type object = map[string]any

func text(o object, name string) string {
	v, _ := o[name].(string)
	if v == "" {
		return "unknown"
	}
	return v
}

// stateOf are the rows that a state dataset has to have, by family: what the documents of the
// datasets say, from the simulator's words.
var stateOf = map[string]struct {
	state string
	rows  func(all []object) map[string]map[string]float64
}{
	"tunnels": {cfsim.StateTunnels, func(all []object) map[string]map[string]float64 {
		info, health := map[string]float64{}, map[string]float64{}
		for _, o := range all {
			info[joined(text(o, "id"), text(o, "name"), text(o, "tun_type"))] = 1
			code, known := map[string]float64{"down": 0, "healthy": 1, "degraded": 2, "inactive": 3}[text(o, "status")]
			if !known {
				code = 255
			}
			health[joined(text(o, "id"), text(o, "name"))] = code
		}
		return map[string]map[string]float64{"cloudflare_account_tunnel_info": info, "cloudflare_account_tunnel_health_status": health}
	}},
	"tunnel_connectors": {cfsim.StateConnectors, func(all []object) map[string]map[string]float64 {
		info, active := map[string]float64{}, map[string]float64{}
		for _, o := range all {
			conns := o["conns"].([]map[string]any)
			info[joined(text(o, "tunnel_id"), text(o, "id"), text(o, "version"), text(o, "arch"), text(conns[0], "origin_ip"))] = 1
			active[joined(text(o, "tunnel_id"), text(o, "id"))] = float64(len(conns))
		}
		return map[string]map[string]float64{"cloudflare_account_tunnel_connector_info": info, "cloudflare_account_tunnel_connector_active_connections": active}
	}},
	"load_balancer_pools": {cfsim.StatePools, func(all []object) map[string]map[string]float64 {
		pools, origins := map[string]float64{}, map[string]float64{}
		truth := func(o object) float64 {
			if o["healthy"].(bool) {
				return 1
			}
			return 0
		}
		for _, o := range all {
			pools[joined(text(o, "id"), text(o, "name"))] = truth(o)
			for _, one := range o["origins"].([]map[string]any) {
				origins[joined(text(o, "id"), text(o, "name"), text(one, "name"), text(one, "address"))] = truth(one)
			}
		}
		return map[string]map[string]float64{"cloudflare_account_load_balancer_pool_healthy": pools, "cloudflare_account_load_balancer_origin_healthy": origins}
	}},
	"certificates": {cfsim.StateCertificates, func(all []object) map[string]map[string]float64 {
		packs, expiry := map[string]float64{}, map[string]float64{}
		for _, o := range all {
			packs[joined(text(o, "id"), text(o, "type"), text(o, "certificate_authority"), text(o, "status"))] = 1
			for _, one := range o["certificates"].([]map[string]any) {
				at, err := time.Parse(time.RFC3339, text(one, "expires_on"))
				if err != nil {
					panic(err)
				}
				expiry[joined(text(o, "id"), text(one, "id"), text(o, "type"), text(one, "issuer"))] = float64(at.Unix())
			}
		}
		return map[string]map[string]float64{"cloudflare_zone_certificate_pack_info": packs, "cloudflare_zone_certificate_expiry_timestamp_seconds": expiry}
	}},
	"custom_hostnames": {cfsim.StateHostnames, func(all []object) map[string]map[string]float64 {
		n := map[string]float64{}
		for _, o := range all {
			ssl := o["ssl"].(map[string]any)
			n[joined(text(o, "status"), text(ssl, "status"), text(ssl, "certificate_authority"))]++
		}
		return map[string]map[string]float64{"cloudflare_zone_custom_hostnames": n}
	}},
	"firewall_rule_names": {cfsim.StateRulesets, func(all []object) map[string]map[string]float64 {
		n := map[string]float64{}
		for _, o := range all {
			for _, one := range o["rules"].([]any) {
				rule := one.(map[string]any)
				n[joined(text(rule, "id"), text(rule, "description"), text(o, "name"), text(rule, "action"))] = 1
			}
		}
		return map[string]map[string]float64{"cloudflare_zone_firewall_rule_info": n}
	}},
}

func joined(parts ...string) string { return strings.Join(parts, "\x00") }

// stateAt is what a bucket of a state has to have, and its number of rows.
func stateAt(t *testing.T, w *world, b *bucket.Bucket) (want map[string]map[string]float64, rows int) {
	t.Helper()
	of, known := stateOf[w.catalogue.Find(b.Dataset).Name]
	if !known {
		t.Fatalf("nothing is known of what %s should be", b.Dataset)
	}
	scope := schema.Zone
	if b.Scope.Kind == bucket.Account {
		scope = schema.Account
	}
	all, err := w.sim.TrueState(scope, b.Scope.ID, of.state, b.ReadAt.Std())
	if err != nil {
		t.Fatal(err)
	}
	want = of.rows(all)
	for _, f := range want {
		rows += len(f)
	}
	return want, rows
}

// stateWorld collects these states alone, of an account and a zone that have every product.
func stateWorld(t *testing.T, change func(*cfsim.Config), names ...string) *world {
	t.Helper()
	w := newWorld(t, func(c *cfsim.Config) {
		a := cfsim.Account{ID: cfsim.Tag("account:states"), Name: "States", Plan: cfsim.Enterprise, Products: traffic.AllProducts(false)}
		z := cfsim.Zone{ID: cfsim.Tag("zone:states"), Name: "states.example", Account: a.ID, Plan: cfsim.Enterprise, Products: traffic.AllProducts(true)}
		z.Traffic = traffic.Profile{RequestsPerMinute: 600, Cells: 32}
		c.Settling.Stragglers = 0
		c.Accounts, c.Zones = []cfsim.Account{a}, []cfsim.Zone{z}
		if change != nil {
			change(c)
		}
	})
	w.states(names...)
	return w
}

// states collects these states alone.
func (w *world) states(names ...string) {
	w.t.Helper()
	all, err := catalogue.Load(nil, catalogue.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	o := catalogue.Options{Enable: names}
	for i := range all.Datasets {
		if !slices.Contains(names, all.Datasets[i].Name) {
			o.Disable = append(o.Disable, all.Datasets[i].Name)
		}
	}
	if w.catalogue, err = catalogue.Load(nil, o); err != nil {
		w.t.Fatal(err)
	}
	w.config.Catalogue = w.catalogue
}

// allStates are the names of the datasets that are states.
func allStates() (names []string) {
	for name := range stateOf {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Every state is stored once a window, as it was when it was read, shortly after the end of the
// window.
func TestStatesAreStoredAsTheyWere(t *testing.T) {
	w := stateWorld(t, nil, allStates()...)
	w.run(3 * time.Hour)
	windows, changed, before := map[string]int{}, map[string]bool{}, map[string]string{}
	for key, b := range w.stored() {
		want, rows := stateAt(t, w, b)
		if why := differs(b, want, nil); why != "" {
			t.Errorf("%s: %s", key, why)
		}
		if rows == 0 {
			t.Errorf("%s: the truth has no rows, which shows nothing", key)
		}
		if late := b.ReadAt.Sub(b.Window().End); late < 0 || late > time.Minute && b.Window().End > bucket.TimeOf(began) {
			t.Errorf("%s was read %s after its end", key, late)
		}
		if b.Origin != bucket.Live || b.Finality != bucket.Confirmed {
			t.Errorf("%s has origin %v and finality %v", key, b.Origin, b.Finality)
		}
		name := w.catalogue.Find(key.Dataset).Name
		windows[name]++
		text := fmt.Sprint(want)
		changed[name] = changed[name] || before[name] != "" && before[name] != text
		before[name] = text
	}
	for name, least := range map[string]int{"tunnels": 36, "tunnel_connectors": 36, "load_balancer_pools": 36, "certificates": 3, "custom_hostnames": 3, "firewall_rule_names": 3} {
		if windows[name] < least || windows[name] > least+1 {
			t.Errorf("%s: %d windows in three hours, want %d", name, windows[name], least)
		}
	}
	if !changed["tunnels"] {
		t.Error("no tunnel changed its health, so nothing shows that a reading is of its own time")
	}
}

// statesOf counts the windows of a state in the range, by their state of coverage as a standby
// reads it, and lists the reasons of those that are lost.
func (w *world) statesOf(dataset string, of bucket.Window) (states map[bucketv1.CoverageState]int, reasons map[bucketv1.GapReason]int) {
	w.t.Helper()
	d := w.catalogue.Find(dataset)
	src := &status.Source{Store: w.store, Catalogue: w.catalogue, Clock: w.clock, Retention: w.config.Retention, Leading: func() bool { return false }}
	all, _, err := src.Coverage(w.t.Context(), store.Filter{Datasets: []string{dataset}}, of)
	if err != nil {
		w.t.Fatal(err)
	}
	states, reasons = map[bucketv1.CoverageState]int{}, map[bucketv1.GapReason]int{}
	for _, c := range all {
		for _, r := range c.GetRanges() {
			n := int(time.Duration(r.GetEndUnixSeconds()-r.GetStartUnixSeconds()) * time.Second / d.Size)
			states[r.GetState()] += n
			if r.GetState() == bucketv1.CoverageState_COVERAGE_STATE_LOST {
				reasons[r.GetReason()] += n
			}
		}
	}
	return states, reasons
}

// A state that was not read in time is lost by its nature: the coverage says so with the reason,
// and a metric of its own counts it, not that of windows that Cloudflare dropped. Analytics lack
// nothing meanwhile.
func TestAStateThatWasNotReadIsLost(t *testing.T) {
	first := time.Date(2026, 6, 20, 12, 0, 0, 0, time.UTC)
	down := func(kind cfsim.FaultKind) cfsim.Fault {
		return cfsim.Fault{Kind: kind, Path: "/cfd_tunnel", From: first.Add(59*time.Minute + 30*time.Second), To: first.Add(76 * time.Minute)}
	}
	for _, test := range []struct {
		name   string
		fault  cfsim.Fault
		reason bucketv1.GapReason
	}{
		{"the REST API is down", down(cfsim.FaultHTML), bucketv1.GapReason_GAP_REASON_UPSTREAM_ERROR},
		{"an error that nobody knows", down(cfsim.FaultRefusal), bucketv1.GapReason_GAP_REASON_UNKNOWN},
		{"a body that is cut", down(cfsim.FaultTruncated), bucketv1.GapReason_GAP_REASON_BAD_ANSWER},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := stateWorld(t, func(c *cfsim.Config) { c.Faults = append(c.Faults, test.fault) }, "tunnels", "tunnel_connectors", "load_balancer_pools", "http")
			w.run(2*time.Hour + 2*time.Minute)
			of := bucket.Window{Start: bucket.TimeOf(first), End: bucket.TimeOf(first.Add(2 * time.Hour))}
			for dataset, lost := range map[string]int{"tunnels_5m": 3, "tunnel_connectors_5m": 3, "load_balancer_pools_5m": 0} {
				states, reasons := w.statesOf(dataset, of)
				got := states[bucketv1.CoverageState_COVERAGE_STATE_LOST]
				// The pause after the last failure may take one window more.
				if got < lost || got > lost+1 && lost > 0 || lost == 0 && got > 0 || states[bucketv1.CoverageState_COVERAGE_STATE_FINAL] != 24-got {
					t.Errorf("%s: %v, want %d lost and the others final", dataset, states, lost)
				}
				if reasons[test.reason] < lost {
					t.Errorf("%s is lost because of %v, want %s", dataset, reasons, test.reason)
				}
			}
			if missed := w.metric("weir_collector_missed_states_total", ""); missed < 6 || missed > 8 {
				t.Errorf("%v states are counted as missed", missed)
			}
			if lost := w.metric("weir_collector_lost_windows_total", ""); lost != 0 {
				t.Errorf("%v windows are counted as dropped by Cloudflare", lost)
			}
			if n := w.missing(cfsim.Tag("zone:states"), began.Add(-3*time.Hour)); n != 0 {
				t.Errorf("%d windows of http_5m are missing", n)
			}
		})
	}
}

// While no collector runs nothing is read: those windows are lost, and the reading of a new
// leader is not stored as that of an earlier time.
func TestStatesOfATimeWithoutACollectorAreLost(t *testing.T) {
	w := stateWorld(t, nil, "tunnels", "certificates")
	w.run(30 * time.Minute)
	w.clock.Advance(2 * time.Hour)
	w.run(30 * time.Minute)
	of := bucket.Window{Start: bucket.TimeOf(began.Add(90 * time.Second)), End: bucket.TimeOf(w.clock.Now()).Floor(5 * time.Minute)}
	states, reasons := w.statesOf("tunnels_5m", of)
	if lost := states[bucketv1.CoverageState_COVERAGE_STATE_LOST]; lost < 22 || lost > 25 || states[bucketv1.CoverageState_COVERAGE_STATE_FINAL]+lost != int(of.Len()/(5*time.Minute)) {
		t.Errorf("%v of two hours without a collector and one with", states)
	}
	if reasons[bucketv1.GapReason_GAP_REASON_PENDING] < 22 {
		t.Errorf("they are lost because of %v", reasons)
	}
	for key, b := range w.stored() {
		if late := b.ReadAt.Sub(b.Window().End); late < 0 || late >= min(b.Size, 15*time.Minute) {
			t.Errorf("%s was read %s after its end", key, late)
		}
	}
}

// A token without the permission costs the states that need it. They are asked again within an
// hour, and begin when the token may.
func TestAStateThatTheTokenMayNotReadCostsItselfAlone(t *testing.T) {
	w := stateWorld(t, func(c *cfsim.Config) {
		without := cfsim.GoodToken(narrow)
		without.User = c.Tokens[0].User
		without.Permissions = slices.DeleteFunc(slices.Clone(cfsim.AllPermissions), func(p cfsim.Permission) bool {
			return p == cfsim.TunnelsRead || p == cfsim.RulesetsRead
		})
		c.Tokens = append(c.Tokens, without)
	}, append(allStates(), "http")...)
	w.token = narrow
	w.run(3 * time.Hour)
	n := map[string]int{}
	count := func() {
		clear(n)
		for key := range w.stored() {
			n[w.catalogue.Find(key.Dataset).Name]++
		}
	}
	if count(); n["tunnels"]+n["tunnel_connectors"]+n["firewall_rule_names"] > 0 || n["load_balancer_pools"] < 36 || n["certificates"] != 3 || n["custom_hostnames"] != 3 || n["http"] < 70 {
		t.Errorf("stored without the permissions: %v", n)
	}
	account := cfsim.Tag("account:states")
	if gaps := w.gaps("tunnels_5m", account); gaps[ledger.Unauthorized] != 1 || len(gaps) != 1 {
		t.Errorf("the ledger has %v, want the newest window, unauthorized", gaps)
	}
	asked := 0
	for _, r := range w.sim.Requests() {
		if strings.Contains(r.Path, "/cfd_tunnel?") {
			asked++
		}
	}
	if asked < 4 || asked > 20 {
		t.Errorf("the denied lists were asked %d times in three hours, want pauses up to an hour", asked)
	}
	if missed := w.metric("weir_collector_missed_states_total", ""); missed != 0 {
		t.Errorf("%v windows are missed of series that have not begun", missed)
	}
	w.token = cfsim.DemoToken
	w.run(2 * time.Hour)
	if count(); n["tunnels"] < 11 || n["tunnel_connectors"] < 11 || n["firewall_rule_names"] < 1 {
		t.Errorf("stored two hours after the token may: %v", n)
	}
	if states, _ := w.statesOf("tunnels_5m", bucket.Window{Start: bucket.TimeOf(w.clock.Now()).Floor(time.Hour).Add(-time.Hour), End: bucket.TimeOf(w.clock.Now()).Floor(time.Hour)}); states[bucketv1.CoverageState_COVERAGE_STATE_FINAL] != 12 {
		t.Errorf("the last hour has %v", states)
	}
}

// Every request for a state has a permit of the budget, rules are read once a version, and what
// is sent is what was planned for (G7).
func TestEveryRequestForAStateTakesAPermit(t *testing.T) {
	w := stateWorld(t, nil, allStates()...)
	budget, heard := w.budget(), &expecting{}
	heard.Budget, w.config.Credentials[0].Budget = budget, heard
	w.run(4 * time.Hour)
	sent, rules := 0, 0
	for _, r := range w.sim.Requests() {
		switch {
		case strings.Contains(r.Path, "/accounts?"), strings.Contains(r.Path, "/zones?"):
			continue // lists have no permits
		case strings.Contains(r.Path, "/rulesets/"):
			rules++
		}
		sent++
	}
	if sent < 200 || budget.taken != sent {
		t.Errorf("%d requests with %d permits", sent, budget.taken)
	}
	if asked := w.asked(); int(asked) != sent {
		t.Errorf("the metric counts %v of %d requests", asked, sent)
	}
	if rules != 3 {
		t.Errorf("the three rulesets were read %d times on one day", rules)
	}
	// Tunnels 1, connectors 4 (here 3), pools 1 in five minutes; three datasets an hour.
	if want := 6 + 3./12; heard.need != want {
		t.Errorf("the need is %v requests in five minutes, want %v", heard.need, want)
	}
}

// A reading that gets no permit for its next request is not a failure of Cloudflare. It is made
// when there are permits.
func TestAStateWaitsForPermits(t *testing.T) {
	w := stateWorld(t, nil, "tunnel_connectors")
	scarce := &scarce{Budget: w.config.Credentials[0].Budget}
	w.config.Credentials[0].Budget = scarce
	w.run(time.Hour)
	if n := len(w.stored()); n < 11 || scarce.denied < 5 {
		t.Errorf("%d windows are stored, and %d permits were denied", n, scarce.denied)
	}
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "weir_collector_upstream_errors_total" }) {
		t.Error("errors of Cloudflare are counted")
	}
}

// scarce is a budget that denies every eighth request for a permit.
type scarce struct {
	upstream.Budget
	n, denied int
}

func (s *scarce) TryTake(ctx context.Context, lane quota.Lane) (bool, time.Duration, error) {
	if s.n++; s.n%4 == 2 && s.n%8 != 2 {
		s.denied++
		return false, 30 * time.Second, nil
	}
	return s.Budget.TryTake(ctx, lane)
}

// The past of a state cannot be read: a backfill of one is refused, one of everything leaves
// states out, and neither audits nor restatements ask for them.
func TestThePastOfAStateIsNotAskedFor(t *testing.T) {
	w := stateWorld(t, nil, "tunnels", "http")
	w.run(2 * time.Hour)
	range1 := bucket.Window{Start: bucket.TimeOf(began).Floor(time.Hour).Add(-6 * time.Hour), End: bucket.TimeOf(began).Floor(time.Hour)}
	asked := func() (n int) {
		for _, r := range w.sim.Requests() {
			if strings.Contains(r.Path, "/cfd_tunnel?") {
				n++
			}
		}
		return n
	}
	before := asked()
	w.leading(30*time.Minute, func(ctx context.Context, p *poll.Poller) {
		_, err := p.CreateBackfill(ctx, jobs.Selection{Window: range1, Datasets: []string{"tunnels_5m"}}, "", poll.Asked{Requester: "o", Reason: "r"})
		if err == nil || !strings.Contains(err.Error(), "is a state") {
			t.Errorf("a backfill of a state: %v", err)
		}
		j, err := p.CreateBackfill(ctx, jobs.Selection{Window: range1}, "", poll.Asked{Requester: "o", Reason: "r"})
		if err != nil || slices.Contains(j.Datasets, "tunnels_5m") {
			t.Errorf("a backfill of everything is %+v, %v", j, err)
		}
	})
	if n := asked() - before; n > 7 {
		t.Errorf("tunnels were asked %d times in half an hour", n)
	}
}

// The rules of stored security events have names.
func TestRulesOfSecurityEventsHaveNames(t *testing.T) {
	w := stateWorld(t, nil, "firewall_rules", "firewall_rule_names")
	w.run(3 * time.Hour)
	named, used := map[string]string{}, map[string]bool{}
	for _, b := range w.stored() {
		for _, r := range b.Families {
			labels := w.catalogue.Find(b.Dataset).Families[0].Labels
			at := slices.Index(labels, "rule")
			for i := range r.Values {
				row := r.Labels[i*r.Width() : (i+1)*r.Width()]
				switch r.Family {
				case "cloudflare_zone_firewall_rule_info":
					named[row[at]] = row[slices.Index(labels, "name")]
				case "cloudflare_zone_firewall_events_by_rule":
					used[row[at]] = true
				}
			}
		}
	}
	if len(used) < 3 {
		t.Fatalf("events name %d rules", len(used))
	}
	for rule := range used {
		if name := named[rule]; rule != "other" && rule != "unknown" && (name == "" || name == "unknown") {
			t.Errorf("rule %s has the name %q", rule, name)
		}
	}
}

// The REST API and GraphQL fail apart: while no state can be read, analytics are not a second
// later than otherwise, whatever the error is.
func TestStatesThatFailDelayNoAnalytics(t *testing.T) {
	for _, kind := range []cfsim.FaultKind{cfsim.FaultHTML, cfsim.FaultRefusal, cfsim.FaultReset, cfsim.FaultEmptyObject} {
		t.Run(string(kind), func(t *testing.T) {
			w := stateWorld(t, func(c *cfsim.Config) {
				for n := range 9 { // each with states that fail in one pass
					z := c.Zones[0]
					z.Name = fmt.Sprintf("states-%d.example", n)
					z.ID = cfsim.Tag("zone:" + z.Name)
					c.Zones = append(c.Zones, z)
				}
				for _, path := range []string{"/cfd_tunnel", "/load_balancers", "/ssl/", "/custom_hostnames", "/rulesets"} {
					c.Faults = append(c.Faults, cfsim.Fault{Kind: kind, Path: path, From: began.Add(20 * time.Minute)})
				}
			}, "tunnels_1m", "tunnel_connectors_1m", "load_balancer_pools_1m", "certificates_15m", "custom_hostnames_15m", "firewall_rule_names_15m", "http")
			w.run(90 * time.Minute)
			read := 0
			for key, b := range w.stored() {
				due := b.Window().End.Add(5 * time.Minute)
				if key.Dataset != "http_5m" || due < bucket.TimeOf(began.Add(20*time.Minute)) {
					continue
				}
				if read++; b.ReadAt.Sub(due) > 90*time.Second {
					t.Errorf("%s was read %s after it fell due", key, b.ReadAt.Sub(due))
				}
			}
			if read < 120 {
				t.Errorf("%d windows of http_5m were stored", read)
			}
		})
	}
}

// A reading that was begun too long after the end of its window is not stored: the wait for a
// permit, or a clock that was corrected, may have taken so long.
func TestAStateThatIsReadTooLateIsNotStored(t *testing.T) {
	w := stateWorld(t, nil, "tunnels")
	slow := &slowBudget{Budget: w.config.Credentials[0].Budget, clock: w.clock}
	w.config.Credentials[0].Budget = slow
	w.run(2 * time.Hour)
	n := 0
	for key, b := range w.stored() {
		n++
		if late := b.ReadAt.Sub(b.Window().End); late < 0 || late >= b.Size {
			t.Errorf("%s was read %s after its end", key, late)
		}
	}
	if n < 10 || n > 20 || slow.waited < 4 {
		t.Errorf("%d windows are stored, and %d permits took ten minutes", n, slow.waited)
	}
}

// slowBudget takes ten minutes for every fourth permit.
type slowBudget struct {
	upstream.Budget
	clock     *leaping
	n, waited int
}

func (s *slowBudget) TryTake(ctx context.Context, lane quota.Lane) (bool, time.Duration, error) {
	if s.n++; s.n%4 == 0 {
		s.waited++
		s.clock.Advance(10 * time.Minute)
	}
	return s.Budget.TryTake(ctx, lane)
}
