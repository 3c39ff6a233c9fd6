package cfsim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// invocations asks for what the Workers of an account did, as the documentation does.
const invocations = `query ($account: string!, $from: Time!, $to: Time!) { viewer { accounts(filter: {accountTag: $account}) {
	workersInvocationsAdaptive(limit: 9000, filter: {datetime_geq: $from, datetime_lt: $to}, orderBy: [scriptName_ASC, status_ASC]) {
		dimensions { scriptName status } sum { requests errors subrequests } avg { sampleInterval } } } } }`

func of(accountName string, from, to time.Time) map[string]any {
	return map[string]any{"account": account(accountName), "from": stamp(from), "to": stamp(to)}
}

// shown are the groups of an answer in the form of the truth.
func shown(t *testing.T, a answer) (out []cfsim.Invocations) {
	t.Helper()
	list, _ := dig(t, a.Data, "viewer", "accounts", 0, "workersInvocationsAdaptive").([]any)
	for _, g := range list {
		out = append(out, cfsim.Invocations{
			Script: text(t, g, "dimensions", "scriptName"), Status: text(t, g, "dimensions", "status"),
			Requests: num(t, g, "sum", "requests"), Errors: num(t, g, "sum", "errors"), Subrequests: num(t, g, "sum", "subrequests"),
		})
	}
	return out
}

func TestWorkersAreShownAsTheyWere(t *testing.T) {
	w := newWorld(t, nil)
	from, to := epoch.Add(-3*time.Hour), epoch.Add(-2*time.Hour)
	truth, err := w.sim.TrueWorkers(account("retail"), from, to)
	if err != nil {
		t.Fatal(err)
	}
	got := shown(t, w.good(invocations, of("retail", from, to)))
	if fmt.Sprint(got) != fmt.Sprint(truth) || len(truth) < 6 {
		t.Errorf("shown is %v, truth is %v", got, truth)
	}
	var parts uint64
	for i := range 12 {
		some, err := w.sim.TrueWorkers(account("retail"), from.Add(time.Duration(i)*5*time.Minute), from.Add(time.Duration(i+1)*5*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range some {
			parts += one.Requests
		}
	}
	var whole uint64
	for _, one := range truth {
		whole += one.Requests
		failed := one.Status == "scriptThrewException" || one.Status == "exceededResources"
		if failed != (one.Errors == one.Requests) || !failed && one.Errors != 0 || one.Script == "checkout" && one.Status == "success" && one.Subrequests != 2*one.Requests {
			t.Errorf("%+v is at odds with itself", one)
		}
	}
	if parts != whole || whole < 10_000 {
		t.Errorf("twelve parts of an hour have %d requests, the hour %d", parts, whole)
	}
	if got := shown(t, w.good(invocations, of("labs", from, to))); len(got) != 0 {
		t.Errorf("an account in which nothing runs shows %v", got)
	}
	// Fresh minutes are partial, as those of zones are.
	var fresh uint64
	for _, one := range shown(t, w.good(invocations, of("retail", epoch.Add(-2*time.Minute), epoch))) {
		fresh += one.Requests
	}
	if fresh == 0 || fresh > 1200 {
		t.Errorf("two fresh minutes show %d requests", fresh)
	}
}

// What happens in an account is no zone's, and is asked of one account, by a token that
// may, within its limits and its budget.
func TestWorkersAreRefusedAsTheyShouldBe(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		narrow := cfsim.GoodToken("narrow")
		narrow.Permissions = []cfsim.Permission{cfsim.ZoneAnalytics, cfsim.ZoneRead, cfsim.AccountRead}
		c.Tokens = append(c.Tokens, narrow)
		c.Accounts = append(c.Accounts, cfsim.Account{ID: account("old"), Name: "Old", Plan: cfsim.Pro, Deleted: epoch.Add(-time.Hour)})
	})
	hour := of("retail", epoch.Add(-2*time.Hour), epoch.Add(-time.Hour))
	before := w.sim.Budgets()
	w.good(invocations, hour)
	for user, n := range w.sim.Budgets() {
		if n != before[user]+1 {
			t.Errorf("a question about an account costs user %s %d", user, n-before[user])
		}
	}
	contains(t, w.bad(strings.Replace(invocations, "accounts(filter: {accountTag: $account})", `zones(filter: {zoneTag: "`+zone("shop")+`"})`, 1), hour), "", "workersInvocationsAdaptive")
	contains(t, w.bad(invocations, of("retail", epoch.Add(-40*24*time.Hour), epoch)), "quota", "cannot request a time range wider than")
	contains(t, w.bad(invocations, of("old", epoch.Add(-2*time.Hour), epoch)), "authz", "not authorized for that account")
	w.secret = "narrow"
	contains(t, w.bad(invocations, hour), "authz", "not authorized for that account")
}

// An account is listed from when it begins to be there until it is deleted.
func TestAccountTimeline(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		c.Accounts = append(c.Accounts, cfsim.Account{
			ID: account("brief"), Name: "Brief", Listed: epoch.Add(time.Hour), Deleted: epoch.Add(2 * time.Hour),
			Workers: []traffic.Script{{Name: "s", RequestsPerMinute: 60}},
		})
	})
	for _, test := range []struct {
		after time.Duration
		want  int
	}{{0, 2}, {90 * time.Minute, 3}, {3 * time.Hour, 2}} { // in order: the clock does not go back
		after, want := test.after, test.want
		w.clk.Set(epoch.Add(after))
		if _, _, list := w.get("/accounts"); len(list["result"].([]any)) != want {
			t.Errorf("after %s %d accounts are listed, want %d", after, len(list["result"].([]any)), want)
		}
	}
	for after, some := range map[time.Duration]bool{0: false, time.Hour: true, 2 * time.Hour: false} {
		truth, err := w.sim.TrueWorkers(account("brief"), epoch.Add(after), epoch.Add(after+time.Minute))
		if err != nil || (len(truth) > 0) != some {
			t.Errorf("after %s its Workers did %v (%v)", after, truth, err)
		}
	}
}

func TestImpossibleWorkersAreRefused(t *testing.T) {
	c := cfsim.Demo(newWorld(t, nil).clk, 1)
	c.Accounts[0].Workers = []traffic.Script{{Name: "a"}, {Name: "a"}, {}, {Name: "b", RequestsPerMinute: -1}, {Name: "c", Failing: 1.5}}
	_, err := cfsim.New(c)
	for _, want := range []string{`script "a" must`, `script "" must`, `script "b" has -1 requests`, `script "c" has 0 requests a minute, of which 1.5 fail`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v; want %q in it", err, want)
		}
	}
}
