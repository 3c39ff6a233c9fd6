package poll_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

var retail, labs = cfsim.Tag("account:retail"), cfsim.Tag("account:labs")

// newAccounts is a world in which Workers of accounts are collected, and of the zones
// http_5m where zones is set.
func newAccounts(t *testing.T, zones bool, change func(*cfsim.Config)) *world {
	t.Helper()
	w := newWorld(t, func(c *cfsim.Config) {
		c.Zones = slices.DeleteFunc(c.Zones, func(z cfsim.Zone) bool { return z.Name != "shop.example" && z.Name != "docs.example" })
		if change != nil {
			change(c)
		}
	})
	var others []string
	for _, d := range w.catalogue.Datasets {
		if !zones || d.Dataset != "http_5m" {
			others = append(others, d.Name)
		}
	}
	var err error
	if w.catalogue, err = catalogue.Load(nil, catalogue.Options{Disable: others, Enable: []string{"workers"}}); err != nil {
		t.Fatal(err)
	}
	w.config.Catalogue = w.catalogue
	return w
}

// may gives the token these permissions alone.
func may(permissions ...cfsim.Permission) func(*cfsim.Config) {
	return func(c *cfsim.Config) { c.Tokens[0].Permissions = permissions }
}

func (w *world) account(id string) *roster.Scope {
	w.t.Helper()
	return roster.Read(w.records(roster.KindAccount), w.records(roster.KindEntitlements)).Roster[bucket.Scope{Kind: bucket.Account, ID: id}]
}

// checkWorkers compares every stored bucket of Workers with what really happened, and
// returns how many windows of each account are stored.
func (w *world) checkWorkers() map[string]int {
	w.t.Helper()
	n := map[string]int{}
	for key, b := range w.stored() {
		if key.Dataset != "workers_5m" {
			continue
		}
		n[key.Scope.ID]++
		want, got := map[string]float64{}, map[string]float64{}
		all, err := w.sim.TrueWorkers(key.Scope.ID, key.Start.Std(), key.Start.Add(b.Size).Std())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, one := range all {
			of := "{" + one.Script + "," + one.Status + "}"
			want["cloudflare_account_worker_requests"+of] = float64(one.Requests)
			want["cloudflare_account_worker_errors"+of] = float64(one.Errors)
			want["cloudflare_account_worker_subrequests"+of] = float64(one.Subrequests)
		}
		for _, rows := range b.Families {
			for i, v := range rows.Values {
				got[rows.Family+"{"+strings.Join(rows.Labels[2*i:2*i+2], ",")+"}"] = v
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) { // maps are printed in order
			w.t.Errorf("%s (%v) is %v, truth is %v", key, b.Finality, got, want)
		}
		if key.Scope.Kind != bucket.Account || b.Zone != "" || !strings.HasPrefix(b.Account, "Example ") {
			w.t.Errorf("%s has the labels %q and %q", key, b.Zone, b.Account)
		}
	}
	return n
}

// What is stored of accounts is the truth, beside that of zones; accounts are asked one
// at a time, and only for what is about accounts.
func TestAccountsAreCollected(t *testing.T) {
	w := newAccounts(t, true, nil)
	seen, _ := w.watch(unaltered)
	w.run(4 * time.Hour)
	if n := w.checkWorkers(); n[retail] < 80 {
		t.Errorf("windows stored by account: %v", n)
	}
	if n := w.missing(cfsim.Tag("zone:shop.example"), began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows of a zone are missing", n)
	}
	asked := map[string]int{}
	for _, r := range w.sim.Requests() {
		if r.Kind == "graphql" && r.Outcome != "ok" {
			t.Errorf("a request was refused: %s", r.Message)
		}
		tags := map[string]bool{}
		for _, q := range r.Queries {
			if asked[q.Scope+" "+q.Dataset]++; q.Scope == "account" {
				tags[q.Tag] = true
			}
		}
		if len(tags) > 1 {
			t.Errorf("a request asks %d accounts", len(tags))
		}
	}
	if asked["account workersInvocationsAdaptive"] == 0 || asked["zone workersInvocationsAdaptive"] != 0 || asked["account httpRequests1mGroups"] != 0 {
		t.Errorf("asked were %v", asked)
	}
	for name, want := range map[string]float64{
		"weir_collector_scope_state Example Retail workers_5m  collecting ": 1, "weir_collector_accounts active": 2, "weir_collector_scopes default active": 2,
		"weir_collector_visible_accounts": 2, "weir_collector_selected_accounts": 2, "weir_collector_unread_scopes": 0,
	} {
		if got, there := seen.metrics[1][name]; !there || got != want {
			t.Errorf("%s is %v (there: %t), want %v", name, got, there, want)
		}
	}
	for _, code := range []trouble.Code{trouble.NoAccounts, trouble.NoZones, trouble.AccountDenied, trouble.BudgetShort} {
		if got := seen.problems[1][code]; got != "" {
			t.Errorf("%s is told: %s", code, got)
		}
	}
}

// Others use up the user's limit of calls, so that the list of accounts is always refused, and
// each attempt blocks the user for minutes. It is tried less and less often, and the known
// accounts and zones are collected.
func TestAListOfAccountsThatIsRefusedBlocksNothingForLong(t *testing.T) {
	w := newAccounts(t, true, func(c *cfsim.Config) { c.Limits.RESTCalls = 1 }) // the list of zones
	w.config.Trouble = trouble.New(w.config.Logger, w.clock.Now, w.registry)
	w.run(5 * time.Hour)
	if n := w.missing(cfsim.Tag("zone:shop.example"), began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows of a zone are missing", n)
	}
	if n := w.checkWorkers(); n[retail] < 80 {
		t.Errorf("windows stored by account: %v", n)
	}
	if about := w.problems(trouble.UpstreamFailing); !slices.Equal(about, []string{"list of accounts"}) {
		t.Errorf("UPSTREAM_FAILING is told about %q", about)
	}
	if n := w.sim.Counters().Outcomes["limited"]; n > 60 {
		t.Errorf("%d requests were refused as too many", n)
	}
}

// A token may be good for accounts that it may not list: they are those of its zones.
// One that sees no zone has the list. Neither lacks anything.
func TestAccountsAreFoundEitherWay(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*cfsim.Config)
		zones  bool
	}{
		"of the zones alone":                            {may(cfsim.ZoneRead, cfsim.ZoneAnalytics, cfsim.AccountAnalytics), true},
		"by the list alone":                             {may(cfsim.AccountRead, cfsim.AccountAnalytics), false},
		"of zones, none of whose datasets is collected": {may(cfsim.ZoneRead, cfsim.AccountAnalytics), false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAccounts(t, test.zones, test.change)
			seen, _ := w.watch(unaltered)
			w.run(150 * time.Minute)
			if n := w.checkWorkers(); n[retail] < 60 || w.account(labs) == nil {
				t.Errorf("windows stored by account: %v", n)
			}
			for code, about := range seen.problems[len(seen.problems)-1] {
				t.Errorf("%s is told: %s", code, about)
			}
			if n := len(seen.at); n > 4 {
				t.Errorf("zones were listed %d times, as if something were wrong", n)
			}
		})
	}
}

// A list of accounts that fails or is suddenly empty ends no account, though their zones
// are gone too. That it fails is told, unless the token may not list accounts.
func TestAListThatFailsEndsNoAccount(t *testing.T) {
	for failure, told := range map[*cloudflare.Error]bool{
		nil: false, {Class: cloudflare.Denied, Message: "403"}: false, {Class: cloudflare.Transient, Message: "502"}: true,
	} {
		w := newAccounts(t, false, func(c *cfsim.Config) { c.Zones = nil })
		failed := 0
		seen, _ := w.watch(unaltered)
		w.stand(&between{accounts: func(all []cloudflare.Account) ([]cloudflare.Account, error) {
			if at := w.clock.Now().Sub(began); at >= 30*time.Minute && at < 2*time.Hour {
				failed++
				if failure != nil {
					return nil, fmt.Errorf("list accounts: %w", failure)
				}
				return nil, nil
			}
			return all, nil
		}})
		w.run(4*time.Hour + time.Minute) // the list after the first that succeeds is an hour later
		said := 0
		for _, problems := range seen.problems {
			if strings.Contains(problems[trouble.UpstreamFailing], "list of accounts: ") {
				said++
			}
		}
		if last := seen.problems[len(seen.problems)-1][trouble.UpstreamFailing]; (said > 0) != told || last != "" {
			t.Errorf("with %v, told before %d of %d lists, in the end %q", failure, said, len(seen.problems), last)
		}
		for _, id := range []string{retail, labs} {
			if a := w.account(id); a == nil || a.State != roster.Active || len(a.Away) > 0 {
				t.Errorf("with %v, account %s is %+v", failure, id, a)
			}
		}
		if n := w.checkWorkers(); n[retail] < 60 || failed == 0 {
			t.Errorf("with %v, which was met %d times, windows stored by account: %v", failure, failed, n)
		}
	}
}

// An account that is deleted ends there, and is told for what it is; what happened until
// then is stored.
func TestAnAccountThatIsGone(t *testing.T) {
	deleted := began.Add(90 * time.Minute)
	w := newAccounts(t, false, func(c *cfsim.Config) {
		c.Zones = nil
		c.Accounts = append(c.Accounts, cfsim.Account{
			ID: cfsim.Tag("account:short"), Name: "Example Short", Plan: cfsim.Pro, Deleted: deleted,
			Workers: []traffic.Script{{Name: "brief", RequestsPerMinute: 30}},
		})
	})
	seen, _ := w.watch(unaltered)
	w.run(4*time.Hour + time.Minute)
	short := w.account(cfsim.Tag("account:short"))
	if short == nil || short.State != roster.Gone || short.End < bucket.TimeOf(deleted) || short.End > bucket.TimeOf(deleted.Add(time.Hour)) {
		t.Errorf("the account is %+v; it was deleted at %s", short, deleted)
	}
	n := w.checkWorkers()
	if n[cfsim.Tag("account:short")] < 48 || n[retail] < 80 {
		t.Errorf("windows stored by account: %v", n)
	}
	last := seen.metrics[len(seen.metrics)-1]
	if last["weir_collector_accounts gone"] != 1 || last["weir_collector_scope_state Example Short workers_5m  gone "] != 1 {
		t.Errorf("an account that is gone is told as %v", last)
	}
}

// An account that the token may not ask is denied and told; its zones are collected as
// before, and nothing of them is put off for it.
func TestADeniedAccountIsToldAndHarmsNobody(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*cfsim.Config)
		told   string
	}{
		"no account": {may(cfsim.ZoneRead, cfsim.ZoneAnalytics, cfsim.AccountRead), "all accounts: the API token has no access to datasets of any of the 2 accounts; it needs Account Analytics Read for them"},
		"one account": {func(c *cfsim.Config) {
			c.Faults = []cfsim.Fault{{Kind: cfsim.FaultAccountDenied, Path: "/graphql", Dataset: "workersInvocationsAdaptive"}}
		}, "Account Analytics Read"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAccounts(t, true, test.change)
			seen, _ := w.watch(unaltered)
			w.run(2*time.Hour + time.Minute)
			if n := w.missing(cfsim.Tag("zone:shop.example"), began.Add(-3*time.Hour)); n != 0 {
				t.Errorf("%d windows of a zone are missing", n)
			}
			if n := w.checkWorkers(); len(n) != 0 {
				t.Errorf("windows stored by account: %v", n)
			}
			last := seen.problems[len(seen.problems)-1]
			if got := last[trouble.AccountDenied]; !strings.Contains(got, test.told) {
				t.Errorf("told is %q; want %q in it", got, test.told)
			}
			if last[trouble.ZoneDenied] != "" || last[trouble.TokenRefused] != "" || last[trouble.UnknownRefusal] != "" {
				t.Errorf("told is %v", last)
			}
			metrics := seen.metrics[len(seen.metrics)-1]
			if got := metrics["weir_collector_scope_state Example Retail workers_5m unauthorized denied "]; got != 1 {
				t.Errorf("the account's state is not denied, unauthorized; there are %v", metrics)
			}
		})
	}
}

// No account at all is an error that says why, as no zone is.
func TestNoAccountAtAllIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*cfsim.Config)
		sel    roster.Filter
		says   string
	}{
		"none seen":     {may(cfsim.AccountAnalytics), roster.Filter{}, "Account Settings Read"},
		"none selected": {nil, roster.Filter{Accounts: []string{"Nobody"}}, "the token sees 2 accounts, and CF_ACCOUNTS selects none of them"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAccounts(t, false, test.change)
			w.config.Credentials[0].Select = test.sel
			seen, _ := w.watch(unaltered)
			w.run(20 * time.Minute)
			last := len(seen.problems) - 1
			if got := seen.problems[last][trouble.NoAccounts]; !strings.Contains(got, test.says) {
				t.Errorf("told is %q; want %q in it", got, test.says)
			}
			if seen.problems[last][trouble.NoZones] != "" {
				t.Error("that no zone is collected is told, though no dataset is about zones")
			}
			if got := seen.metrics[last]["weir_collector_selected_accounts"]; got != 0 || last < 2 {
				t.Errorf("%v accounts are selected; looked at %v", got, seen.at)
			}
		})
	}
}

// CF_ACCOUNTS selects accounts, as it does their zones, and no other setting does.
func TestAccountsAreSelected(t *testing.T) {
	w := newAccounts(t, true, nil)
	w.config.Credentials[0].Select = roster.Filter{Accounts: []string{"example labs"}, Exclude: []string{"docs.example"}}
	w.run(time.Hour)
	if n := w.checkWorkers(); n[retail] != 0 || w.account(retail) != nil || w.account(labs) == nil {
		t.Errorf("windows stored by account: %v", n)
	}
}

// The silence of an account in which nothing runs is believed as that of a zone is, and
// is empty buckets then.
func TestSilenceOfAnAccountIsEmptyBuckets(t *testing.T) {
	w := newAccounts(t, false, func(c *cfsim.Config) {
		c.Zones, c.Accounts = nil, slices.DeleteFunc(c.Accounts, func(a cfsim.Account) bool { return a.ID != labs })
	})
	w.run(26 * time.Hour)
	if n := w.checkWorkers(); n[labs] < 50 {
		t.Errorf("windows stored by account: %v", n)
	}
	for key, b := range w.stored() {
		if len(b.Families) > 0 {
			t.Errorf("%s has rows", key)
		}
	}
}

// Accounts, each asked by itself, are reckoned with as zones are.
func TestNeedOfAccountsIsWhatIsSent(t *testing.T) {
	w := newAccounts(t, false, func(c *cfsim.Config) {
		c.Zones, c.Accounts = nil, nil
		for i := range 20 {
			name := fmt.Sprintf("Example %d", i)
			c.Accounts = append(c.Accounts, cfsim.Account{
				ID: cfsim.Tag("account:" + name), Name: name, Plan: cfsim.Pro, Workers: []traffic.Script{{Name: "s", RequestsPerMinute: 60}},
			})
		}
	})
	w.config.Lookback = 15 * time.Minute
	heard := w.give(.5)
	w.run(61*time.Minute + 30*time.Second)
	before := w.asked()
	w.run(6 * time.Hour)
	sent := (w.asked() - before) / (6 * 12)
	if heard.need < .85*sent || heard.need > 1.15*sent {
		t.Errorf("%.2f requests were sent in five minutes, %.2f were expected", sent, heard.need)
	}
	t.Logf("%.2f requests were sent in five minutes, %.2f were expected", sent, heard.need)
}

// What Cloudflare sampled of an account says so, beside numbers that are near the truth
// (G12).
func TestSampledWorkersSaySo(t *testing.T) {
	w := newAccounts(t, false, func(c *cfsim.Config) {
		c.Zones, c.Sampling = nil, cfsim.Sampling{Enabled: true, Load: 1000, Hundredth: 1e9}
	})
	w.run(time.Hour)
	n := 0
	for key, b := range w.stored() {
		truth, err := w.sim.TrueWorkers(key.Scope.ID, key.Start.Std(), key.Start.Add(b.Size).Std())
		if err != nil {
			t.Fatal(err)
		}
		want := 0.0
		for _, one := range truth {
			want += float64(one.Requests)
		}
		got := value(b, "cloudflare_account_worker_requests")
		if n++; b.SampleInterval != 10 || value(b, "cloudflare_sample_interval") != 10 || got < .6*want || got > 1.4*want || got == want {
			t.Errorf("%s: sampled 1 in %v, the family says %v; %v requests, the truth is %v", key, b.SampleInterval, value(b, "cloudflare_sample_interval"), got, want)
		}
	}
	if n < 30 {
		t.Errorf("only %d buckets are final", n)
	}
}
