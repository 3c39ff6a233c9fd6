package roster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

func accountScope(id string) bucket.Scope { return bucket.Scope{Kind: bucket.Account, ID: id} }

func accountSeen(id, name string) roster.Seen {
	return roster.Seen{Kind: bucket.Account, ID: id, Name: name, AccountID: id, AccountName: name, State: roster.Active}
}

func discoverAccounts(t *testing.T, r roster.Roster, now bucket.Time, sel roster.Filter, seen ...roster.Seen) {
	t.Helper()
	if _, err := r.Discover(t.Context(), now, bucket.Account, listed(now, seen, sel), time.Hour, func(bucket.Scope) bucket.Time { return 0 }); err != nil {
		t.Fatal(err)
	}
}

// A list of accounts says nothing about zones, and the other way round, though they
// share an id.
func TestAccountsAndZonesAreApart(t *testing.T) {
	r := roster.Roster{}
	discover(t, r, noon, zoneA())
	discoverAccounts(t, r, noon, roster.Filter{}, accountSeen(idA, "Acme"))
	discoverAccounts(t, r, noon.Add(time.Hour), roster.Filter{})
	if z, a := r[scope(idA)], r[accountScope(idA)]; z.State != roster.Active || a.State != roster.Gone || a.End != noon.Add(time.Hour) {
		t.Errorf("after an empty list of accounts the zone is %s, the account %s since %s", z.State, a.State, a.End)
	}
	discoverAccounts(t, r, noon.Add(2*time.Hour), roster.Filter{}, accountSeen(idA, "Acme"))
	discover(t, r, noon.Add(2*time.Hour))
	if z, a := r[scope(idA)], r[accountScope(idA)]; z.State != roster.Gone || a.State != roster.Active || len(a.Away) != 1 {
		t.Errorf("after an empty list of zones the zone is %s, the account %s, away %v", z.State, a.State, a.Away)
	}
}

// Accounts carry their name in the label account alone. Of two with one name the second
// has its tag's digits, and a rename shows in windows that begin after it (decision 9).
func TestLabelsOfAccounts(t *testing.T) {
	r := roster.Roster{}
	labels := func(id string, at bucket.Time) string {
		zone, account := r[accountScope(id)].Labels(at)
		return zone + "|" + account
	}
	discoverAccounts(t, r, noon, roster.Filter{}, accountSeen(idA, "Acme"))
	discoverAccounts(t, r, noon.Add(time.Hour), roster.Filter{}, accountSeen(idA, "Acme"), accountSeen(idB, "Acme"))
	if a, b := labels(idA, noon), labels(idB, noon.Add(time.Hour)); a != "|Acme" || b != "|Acme#b0000000" {
		t.Errorf("two accounts of one name are %q and %q", a, b)
	}
	renamed := noon.Add(2 * time.Hour)
	discoverAccounts(t, r, renamed, roster.Filter{}, accountSeen(idA, "Bcme"), accountSeen(idB, "Acme"))
	for at, want := range map[bucket.Time]string{renamed: "|Bcme", renamed.Add(time.Hour): "|Bcme"} {
		if got := labels(idA, at); got != want {
			t.Errorf("after a rename the label at %s is %q, want %q", at, got, want)
		}
	}
	// The second has the name from where the first has it no more.
	if before, after := labels(idB, renamed.Add(-time.Minute)), labels(idB, renamed); before != "|Acme#b0000000" || after != "|Acme" {
		t.Errorf("the name's next owner bears %q before and %q after", before, after)
	}
	long := roster.Roster{}
	discoverAccounts(t, long, noon, roster.Filter{}, accountSeen(idA, strings.Repeat("x", 2*bucket.MaxName)), accountSeen(idB, " "))
	for id, s := range map[string]*roster.Scope{idA: long[accountScope(idA)], idB: long[accountScope(idB)]} {
		if len(s.AccountLabel) > bucket.MaxName || !bucket.Printable(s.AccountLabel) || s.ZoneLabel != "" {
			t.Errorf("account %s has the labels %.60q and %.60q", id, s.ZoneLabel, s.AccountLabel)
		}
	}
}

func TestSelectionOfAccounts(t *testing.T) {
	for _, test := range []struct {
		sel  roster.Filter
		want bool
	}{
		{roster.Filter{}, true},
		{roster.Filter{Accounts: []string{" acme "}}, true},
		{roster.Filter{Accounts: []string{strings.ToUpper(idA)}}, true},
		{roster.Filter{Accounts: []string{"other"}}, false},
		{roster.Filter{Zones: []string{"b.example"}, Exclude: []string{"a.example"}}, true}, // which are about zones
	} {
		r := roster.Roster{}
		discoverAccounts(t, r, noon, test.sel, accountSeen(idA, "Acme"))
		if got := r[accountScope(idA)] != nil; got != test.want {
			t.Errorf("%+v selects the account: %t", test.sel, got)
		}
	}
	sel := roster.Filter{Accounts: []string{"Acme", "Acne"}}
	seen := []roster.Seen{accountSeen(idA, "Acme")} // of which no zone is seen
	if got := sel.Unmatched(seen); len(got) != 1 || got[0].Entry != "Acne" || !strings.Contains(got[0].Reason, `did you mean "Acme"?`) {
		t.Errorf("unmatched are %+v", got)
	}
}

// An account is claimed for datasets about accounts and for no others.
func TestClaimsOfAccounts(t *testing.T) {
	c, err := catalogue.Load(nil, catalogue.Options{Enable: []string{"workers"}})
	if err != nil {
		t.Fatal(err)
	}
	r := roster.Roster{}
	discover(t, r, noon, zoneA())
	discoverAccounts(t, r, noon, roster.Filter{}, accountSeen(idA, "Acme"))
	account := r[accountScope(idA)]
	claimed := func() (of roster.Claim) {
		for _, c := range r.Claims(noon, c.Datasets, roster.Terms{}) {
			if (c.Scope.Kind == bucket.Account) != (c.Dataset.Dataset == "workers_5m") {
				t.Errorf("%s is claimed for %s", c.Dataset.Dataset, c.Scope.Scope)
			}
			if c.Scope.Kind == bucket.Account {
				of = c
			}
		}
		return of
	}
	if got := claimed(); !got.Unread || got.Refused != "the account's settings have not been read yet" {
		t.Errorf("before its settings are read: %q", got.Refused)
	}
	account.Entitle(noon, allowing(map[string]roster.Node{"workersInvocationsAdaptive": {}}))
	if got := claimed(); got.Variant != nil || got.Refused != "plan does not allow workersInvocationsAdaptive" {
		t.Errorf("a plan that does not allow it: %q", got.Refused)
	}
	fields := c.Find("workers_5m").Variants[0].Fields()
	account.Entitle(noon, allowing(map[string]roster.Node{"workersInvocationsAdaptive": {Enabled: true, MaxFields: 30, Fields: fields}}))
	if got := claimed(); got.Variant == nil || got.Refused != "" {
		t.Errorf("a plan that allows it: %q", got.Refused)
	}
	account.State, account.End = roster.Gone, noon
	if got := claimed(); got.Refused != "account is gone" {
		t.Errorf("gone: %q", got.Refused)
	}
}

// Accounts are records of a kind of their own, so that a build that knows zones alone,
// and reads the kind of scopes, never comes to one.
func TestRecordsOfAccounts(t *testing.T) {
	records, r, c := two(t)
	discoverAccounts(t, r, noon, roster.Filter{}, accountSeen(idA, "Acme"))
	r[accountScope(idA)].Entitle(noon, c.Of(minutes(time.Hour)))
	records.write(c.Records(r[accountScope(idA)]))
	if zones, accounts := records.of(roster.KindScope), records.of(roster.KindAccount); len(zones) != 2 || len(accounts) != 1 {
		t.Fatalf("%d records of zones and %d of accounts, want 2 and 1", len(zones), len(accounts))
	}
	all := append(records.of(roster.KindScope), records.of(roster.KindAccount)...)
	back := roster.Read(all, records.of(roster.KindEntitlements))
	if a := back.Roster[accountScope(idA)]; len(back.Unreadable) > 0 || a == nil || a.AccountLabel != "Acme" || a.Checked == 0 {
		t.Errorf("read again it is %+v; unreadable: %v", a, back.Unreadable)
	}
	moved := records.of(roster.KindAccount)[0]
	moved.Kind = roster.KindScope
	bad := roster.Read(append(records.of(roster.KindScope), moved), nil).Unreadable
	if len(bad) != 1 || len(roster.Of(roster.KindScope, bad)) != 1 || len(roster.Of(roster.KindAccount, bad)) != 0 {
		t.Errorf("an account's record among those of zones: %v", bad)
	}
}
