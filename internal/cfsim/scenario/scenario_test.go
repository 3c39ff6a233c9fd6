package scenario_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/scenario"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
	"github.com/weir-metrics/weir/internal/clock"
)

const full = `
seed: 7
clock: {at: 2026-11-22T12:00:00Z}
latency: 20ms
accounts:
  - name: Retail
    plan: enterprise
    products: {r2: 40, magicTransit: 6}
    workers: [{name: checkout, requests_per_minute: 600, subrequests: 2, failing: 0.4%}, {name: "job-{n}", count: 300, requests_per_minute: 2}]
  - name: Labs
    products: none
zones:
  - name: shop.example
    account: Retail
    plan: enterprise
    requests_per_minute: 24000
    variety: {countries: 220, colos: 180, networks: 900, hosts: 400, paths: 2500, rules: 60}
    cells: 3000
    products: all
    events: [{at: 2026-11-22T13:00:00Z, plan: business}, {at: 2026-11-22T14:00:00Z, account: Labs}]
  - name: tenant-{n}.example
    count: 30
    account: Labs
    plans: [free, pro, business, enterprise]
    requests_per_minute: 200
tokens:
  - {secret: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, accounts: [Retail], expires_on: 2026-11-22T15:00:00Z}
sampling: {enabled: true, load: 2}
settling: {stragglers: 0.004, revisions: 0.01}
limits: {queries: 400, zones_per_query: 5}
faults:
  - {kind: html, status: 502, probability: 0.01}
  - {kind: dataset-empty, zone: shop.example, dataset: httpRequests1mGroups}
`

func TestAScenarioIsAWorld(t *testing.T) {
	c, err := scenario.Read([]byte(full), clock.System())
	if err != nil {
		t.Fatal(err)
	}
	sim, err := cfsim.New(c)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	if !c.Clock.Now().Equal(now) || c.Seed != 7 || c.Latency != 20*time.Millisecond || c.Limits.Queries != 400 || !c.Sampling.Enabled || c.Settling.Revisions != .01 {
		t.Errorf("the settings are %+v", c)
	}
	plans := map[cfsim.Plan]int{}
	for _, z := range sim.Zones() {
		plans[z.Plan]++
	}
	if len(sim.Zones()) != 31 || plans[cfsim.Free] != 8 || plans[cfsim.Enterprise] != 8 {
		t.Errorf("%d zones, by plan %v", len(sim.Zones()), plans)
	}
	count := func(scope schema.Scope, tag, dataset, dimension, measure string) int {
		groups, err := sim.Truth(cfsim.Question{
			Scope: scope, Tag: tag, Dataset: dataset, Start: now.Add(-time.Hour), End: now, Dimensions: []string{dimension}, Measures: []string{measure},
		})
		if err != nil {
			t.Fatal(err)
		}
		return len(groups)
	}
	retail, shop := cfsim.Tag("account:Retail"), cfsim.Tag("zone:shop.example")
	for _, got := range []struct{ have, want int }{
		{count(schema.Account, retail, "r2OperationsAdaptiveGroups", "bucketName", "sum_requests"), 40},
		{count(schema.Account, retail, "magicTransitTunnelHealthChecksAdaptiveGroups", "tunnelName", "count"), 6},
		{count(schema.Account, retail, "d1AnalyticsAdaptiveGroups", "databaseId", "count"), 0},
		{count(schema.Account, retail, "workersInvocationsAdaptive", "scriptName", "sum_requests"), 301},
		{count(schema.Zone, shop, "httpRequestsAdaptiveGroups", "clientRequestHTTPHost", "count"), 400},
		{count(schema.Zone, shop, "healthCheckEventsAdaptiveGroups", "fqdn", "count"), 2},
	} {
		if got.have != got.want {
			t.Errorf("there are %d things, want %d", got.have, got.want)
		}
	}
	if n := count(schema.Zone, shop, "httpRequestsAdaptiveGroups", "clientCountryName", "count"); n < 150 {
		t.Errorf("visitors come from %d countries", n)
	}
	if f := c.Faults[1]; f.Zone != shop || len(c.Tokens) != 1 || c.Tokens[0].Accounts[0] != retail {
		t.Errorf("names do not stand for ids: %+v, %+v", f, c.Tokens)
	}
}

func TestAnEmptyScenarioHasTheDemosToken(t *testing.T) {
	clk := clock.NewManual(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	c, err := scenario.Read([]byte("seed: 1\n"), clk)
	if err != nil || c.Clock != clock.Clock(clk) || len(c.Tokens) != 1 || c.Tokens[0].Secret != cfsim.DemoToken {
		t.Errorf("%+v (%v)", c, err)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"zones: [{nam: a.example}]", `nam`},
		{"seed: -1", `seed`},
		{"clock: {speed: 60}", `speed 60 must`},
		{"accounts: [{products: some}]", `products "some" must be all, none`},
		{"accounts: [{name: A, products: {r3: 1}}]", `account A: product "r3" must be one of`},
		{"accounts: [{name: A, products: {r2: 0}}]", `product r2: 0 must be 1 or more`},
		{"accounts: [{name: A, products: {r2: 90000}}]", `product r2: 90000 things`},
		{"accounts: [{name: A, plan: gold}]", `plan "gold" must be`},
		{"accounts: [{plan: pro}]", `account 1 has no name`},
		{"accounts: [{name: A, workers: [{name: s, failing: 200%}]}]", `share "200%" must be`},
		{"zones: [{name: a.example, account: B}]", `zone a.example: account "B" is not in the scenario`},
		{"accounts: [{name: A}]\nzones: [{name: a.example, account: A, count: 2}]", `zone "a.example": the name must have {n} in it`},
		{"accounts: [{name: A, workers: [{name: job, count: 2}]}]", `account A: worker "job": the name must have {n} in it`},
		{"accounts: [{name: A, workers: [{name: 'job-{n}', count: 20000}]}]", `worker "job-{n}": count 20000 must be from 1 to 10000`},
		{"accounts: [{name: A}]\nzones: [{name: a.example, account: A, variety: {hosts: 100000}}]", `zone "a.example": variety: hosts 100000 is more than the zone has combinations; cells is 48 and must be at least as many`},
		{"accounts: [{name: A}]\nzones: [{name: a.example, account: A, cells: 1000, variety: {countries: 300}}]", `variety: countries 300 must be from 0 to 242`},
		{"accounts: [{name: A}]\nzones: [{name: a.example, account: A, variety: {colos: -1}}]", `variety: colos -1 must be from 0 to 200`},
		{"accounts: [{name: A}]\nzones: [{name: a.example, account: A, cells: 5}]", `cells 5 must be from 12 to 200000`},
		{"accounts: [{name: A}]\nzones: [{name: a.example, account: A, requests_per_minute: -1}]", `requests_per_minute -1 must be from 0`},
		{"accounts: [{name: A}]\nzones: [{name: a.example, account: A, peak_hour: 24}]", `peak_hour 24 must be from 0 to 23`},
		{"accounts: [{name: A}]\nzones: [{name: 'a{n}.example', account: A, count: 200000}]", `count 200000 must be`},
		{"accounts: [{name: A}]\nzones: [{name: a.example, account: A, plan: pro, plans: [free]}]", `must have plan or plans, not both`},
		{"accounts: [{name: A}]\nzones: [{name: a.test, account: A}]", `must end in .example`},
		{"accounts: [{name: A}]\nzones: [{name: a.example, account: A, events: [{at: 2026-01-01T00:00:00Z}]}]", `makes 0 changes, want one`},
		{"tokens: [{user: u}]", `a token has no secret`},
		{"tokens: [{secret: s, zones: [b.example]}]", `zone "b.example" is not in the scenario`},
		{"tokens: [{secret: s, permissions: [everything]}]", `permission "everything" must be one of`},
		{"faults: [{kind: earthquake}]", `fault kind "earthquake" is unknown`},
		{"faults: [{kind: html, zone: b.example}]", `fault html: zone "b.example" is not in the scenario`},
		{"seed: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1", `nests deeper`},
	} {
		text, want := tc.text, tc.want
		if _, err := scenario.Read([]byte(text), clock.System()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v; want %q in it", text, err, want)
		}
	}
}
