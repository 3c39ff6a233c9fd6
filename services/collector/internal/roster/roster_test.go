package roster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

const (
	noon = bucket.Time(1_795_262_400) // 2026-11-21T12:00:00Z
	idA  = "0000000000000000000000000000000a"
	idB  = "b000000000000000000000000000000b"
)

func zoneA() roster.Seen {
	return roster.Seen{Kind: bucket.Zone, ID: idA, Name: "a.example", AccountID: "acc", AccountName: "Acme", Plan: "Pro Website", State: roster.Active, Created: noon.Add(-365 * 24 * time.Hour)}
}

// listed is what the one credential sees.
func listed(at bucket.Time, seen []roster.Seen, sel roster.Filter) []roster.List {
	return []roster.List{{Credential: roster.DefaultCredential, Select: sel, At: at, Seen: seen}}
}

func scope(id string) bucket.Scope { return bucket.Scope{Kind: bucket.Zone, ID: id} }

func discoverOf(t *testing.T, r roster.Roster, now bucket.Time, seen []roster.Seen, sel roster.Filter, lookback time.Duration) []*roster.Scope {
	t.Helper()
	changed, err := r.Discover(t.Context(), now, bucket.Zone, listed(now, seen, sel), lookback, func(bucket.Scope) bucket.Time { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func discover(t *testing.T, r roster.Roster, now bucket.Time, seen ...roster.Seen) int {
	t.Helper()
	return len(discoverOf(t, r, now, seen, roster.Filter{}, 24*time.Hour))
}

func TestANewZoneGetsADayOfHistory(t *testing.T) {
	r := roster.Roster{}
	young := roster.Seen{Kind: bucket.Zone, ID: idB, Name: "b.example", AccountID: "acc", AccountName: "Acme", State: roster.Active, Created: noon.Add(-time.Hour)}
	if n := discover(t, r, noon, zoneA(), young); n != 2 {
		t.Fatalf("%d scopes changed, want 2", n)
	}
	if got := r[scope(idA)].Start; got != noon.Add(-24*time.Hour) {
		t.Errorf("history begins at %s, want a day before it was first seen", got)
	}
	if got := r[scope(idB)].Start; got != young.Created {
		t.Errorf("history begins at %s, want when the zone was created", got)
	}
	if n := discover(t, r, noon+60, zoneA(), young); n != 0 {
		t.Errorf("%d scopes changed although nothing did", n)
	}
}

func TestTheLifeOfAZone(t *testing.T) {
	r := roster.Roster{}
	z := zoneA()
	discover(t, r, noon, z)

	z.Name = "renamed.example"
	discover(t, r, noon+100, z)
	if got := r[scope(idA)]; got.ZoneLabel != "renamed.example" || got.FirstSeen != noon || got.State != roster.Active {
		t.Errorf("after a rename: %+v", got)
	}
	r[scope(idA)].Entitle(noon+100, roster.NewContents().Of(nil))
	z.AccountID, z.AccountName = "other", "Other"
	discover(t, r, noon+200, z)
	if got := r[scope(idA)]; got.AccountLabel != "Other" || got.Checked != 0 {
		t.Errorf("after a move: account label %q, entitlements read at %s", got.AccountLabel, got.Checked)
	}
	z.State = roster.Paused
	discover(t, r, noon+300, z)
	if got := r[scope(idA)]; got.State != roster.Paused || got.End != noon+300 {
		t.Errorf("after a pause: %s until %s", got.State, got.End)
	}
	z.State = roster.Active
	discover(t, r, noon+400, z)
	if got := r[scope(idA)]; got.State != roster.Active || got.Start >= noon || got.End != 0 {
		t.Errorf("after resuming: %s from %s until %d", got.State, got.Start, got.End)
	} else if away := got.Absent(time.Minute); len(away) != 1 || away[0] != (bucket.Window{Start: (noon + 300).Floor(time.Minute), End: (noon + 400).Floor(time.Minute)}) {
		t.Errorf("after resuming the zone was away in %v", away)
	}
	discover(t, r, noon+500)
	if got := r[scope(idA)]; got.State != roster.Gone || got.End != noon+500 {
		t.Errorf("after it went: %s until %s", got.State, got.End)
	}
}

func TestSelection(t *testing.T) {
	a := zoneA()
	b := roster.Seen{Kind: bucket.Zone, ID: idB, Name: "b.example", AccountID: "acc2", AccountName: "Bcme", State: roster.Active}
	for name, c := range map[string]struct {
		sel  roster.Filter
		want []string
	}{
		"all":               {roster.Filter{}, []string{idA, idB}},
		"by name":           {roster.Filter{Zones: []string{"b.example"}}, []string{idB}},
		"by tag":            {roster.Filter{Zones: []string{idA}}, []string{idA}},
		"excluded":          {roster.Filter{Exclude: []string{"a.example"}}, []string{idB}},
		"by account's name": {roster.Filter{Accounts: []string{"Acme"}}, []string{idA}},
		"by account's tag":  {roster.Filter{Accounts: []string{"acc2"}}, []string{idB}},
	} {
		r := roster.Roster{}
		discoverOf(t, r, noon, []roster.Seen{a, b}, c.sel, time.Hour)
		var got []string
		for _, id := range []string{idA, idB} {
			if r[scope(id)] != nil {
				got = append(got, id)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestAZoneThatIsExcludedLaterEnds(t *testing.T) {
	r := roster.Roster{}
	discover(t, r, noon, zoneA())
	discoverOf(t, r, noon+60, []roster.Seen{zoneA()}, roster.Filter{Exclude: []string{"a.example"}}, time.Hour)
	if got := r[scope(idA)]; got.State != roster.Excluded || got.End != noon+60 {
		t.Errorf("%s until %s", got.State, got.End)
	}
}

// Two zones of one name in one account must not share a series.
func TestANameThatIsTakenIsTold(t *testing.T) {
	r := roster.Roster{}
	twin := zoneA()
	twin.ID = idB
	discover(t, r, noon, zoneA())
	discover(t, r, noon+60, zoneA(), twin)
	if got := r[scope(idB)].ZoneLabel; got != "a.example#b0000000" {
		t.Errorf("the newcomer's label is %q", got)
	}
	if got := r[scope(idA)].ZoneLabel; got != "a.example" {
		t.Errorf("the owner's label became %q", got)
	}
	twin.AccountName = "Bcme"
	other := roster.Roster{}
	discover(t, other, noon, zoneA(), twin)
	if got := other[scope(idB)].ZoneLabel; got != "a.example" {
		t.Errorf("in another account the label is %q", got)
	}
}

func claims(t *testing.T, s *roster.Scope, now bucket.Time) map[string]roster.Claim {
	t.Helper()
	c, err := catalogue.Load(nil, catalogue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]roster.Claim{}
	for _, claim := range (roster.Roster{s.Scope: s}).Claims(now, c.Datasets, roster.Terms{Keep: now.Add(-90 * 24 * time.Hour)}) {
		out[claim.Dataset.Dataset] = claim
	}
	return out
}

func TestClaims(t *testing.T) {
	r := roster.Roster{}
	discover(t, r, noon, zoneA())
	s := r[scope(idA)]
	if got := claims(t, s, noon)["http_5m"]; got.Variant != nil || got.Refused == "" {
		t.Errorf("before entitlements are known: variant %v, reason %q", got.Variant, got.Refused)
	}
	pro := map[string]roster.Node{
		"httpRequests1mGroups": {Enabled: true, MaxDuration: 24 * time.Hour, NotOlderThan: 24 * time.Hour},
		"httpRequests1hGroups": {Enabled: true, NotOlderThan: 7 * 24 * time.Hour},
	}
	s.Entitle(noon, allowing(pro))
	got := claims(t, s, noon)
	http := got["http_5m"]
	if http.Variant == nil || http.Variant.Name != "rollup_1m" {
		t.Fatalf("a Pro zone's variant is %+v (%s)", http.Variant, http.Refused)
	}
	// Cloudflare keeps a day; the oldest window needs a bucket of margin.
	if want := (bucket.Window{Start: noon.Add(-24*time.Hour + 5*time.Minute), End: noon.Add(-5 * time.Minute)}); http.Window != want {
		t.Errorf("window is %s, want %s", http.Window, want)
	}
	if http.Wanted != http.Window.Start {
		t.Errorf("wanted from %s: what Cloudflare had dropped before the zone was seen counts as lost", http.Wanted)
	}
	later := claims(t, s, noon.Add(time.Hour))["http_5m"]
	if later.Wanted != http.Wanted || later.Window.Start != http.Window.Start.Add(time.Hour) {
		t.Errorf("an hour later wanted from %s, may be asked from %s", later.Wanted, later.Window.Start)
	}
	if day := got["uniques_1d"]; day.Variant != nil || day.Refused == "" {
		t.Errorf("a node that is not in the settings is used: %+v", day.Variant)
	}

	for range 7 { // the pause doubles up to six hours
		s.Refuse(noon, "http_5m", "rollup_1m", roster.Refusal{Reason: "plan does not allow it"})
	}
	if c := claims(t, s, noon)["http_5m"]; c.Variant != nil {
		t.Errorf("a refused variant is used")
	}
	// The next one keeps less. What it cannot be asked of waits until the refusal
	// ends, and is not lost.
	s.Entitle(noon, allowing(map[string]roster.Node{
		"httpRequests1mGroups": pro["httpRequests1mGroups"], "httpRequestsAdaptiveGroups": {Enabled: true, NotOlderThan: 6 * time.Hour},
	}))
	if c := claims(t, s, noon)["http_5m"]; c.Variant == nil || c.Variant.Name != "adaptive" || c.Window != http.Window ||
		c.Keeps != 24*time.Hour || c.Askable != noon.Add(-6*time.Hour+5*time.Minute) {
		t.Errorf("while a variant that keeps a day is refused, the window is %s, kept for %s, asked from %s", c.Window, c.Keeps, c.Askable)
	}
	s.Entitle(noon, allowing(map[string]roster.Node{"httpRequests1mGroups": pro["httpRequests1mGroups"], "httpRequestsAdaptiveGroups": {Enabled: true}}))
	if c := claims(t, s, noon)["http_5m"]; c.Variant == nil || c.Variant.Name != "adaptive" {
		t.Errorf("the next variant is not used after a refusal")
	}
	if c := claims(t, s, noon.Add(6*time.Hour))["http_5m"]; c.Variant == nil || c.Variant.Name != "rollup_1m" {
		t.Errorf("a refusal is not forgotten when its time is over")
	}
}

// A refusal is probed after minutes, then less often; a probe that is answered
// ends it for every scope of the same credential of which the same was refused, and for
// nothing else.
func TestARefusalIsProbedAndFallsEverywhere(t *testing.T) {
	r := roster.Roster{}
	other := zoneA()
	other.ID = strings.Repeat("b", 32)
	other.Name = "other.example"
	discover(t, r, noon, zoneA(), other)
	a, b := r[scope(idA)], r[scope(other.ID)]
	foreign := &roster.Scope{Scope: scope(strings.Repeat("c", 32)), Credential: "another"}
	r[foreign.Scope] = foreign
	foreign.Refuse(noon, "http_5m", "rollup_1m", roster.Refusal{Node: "n", Field: "f"})
	at, want := noon, 10*time.Minute
	for range 10 {
		a.Refuse(at, "http_5m", "rollup_1m", roster.Refusal{Node: "n", Field: "f"})
		b.Refuse(at, "http_5m", "rollup_1m", roster.Refusal{Node: "n", Field: "f"})
		b.Refuse(at, "http_5m", "adaptive", roster.Refusal{Node: "n"})
		if !a.Refused(at.Add(want-time.Second), "http_5m", "rollup_1m") || a.Refused(at.Add(want), "http_5m", "rollup_1m") {
			t.Fatalf("after a refusal at %s it is not asked again %s later", at, want)
		}
		a.Entitle(at, allowing(nil)) // what the settings say does not make it new
		at, want = at.Add(want), min(2*want, 6*time.Hour)
	}
	if changed := r.ClearRefusal(a.Scope, "http_5m", "rollup_1m"); len(changed) != 2 {
		t.Errorf("%d scopes changed; want both", len(changed))
	}
	if !foreign.HasRefusal("http_5m", "rollup_1m") {
		t.Error("what another token is refused is absolved")
	}
	if a.HasRefusal("http_5m", "rollup_1m") || b.HasRefusal("http_5m", "rollup_1m") || !b.HasRefusal("http_5m", "adaptive") {
		t.Errorf("left: %v and %v; want the refusal of the whole node alone", a.Refusals, b.Refusals)
	}
	if changed := r.ClearRefusal(a.Scope, "http_5m", "rollup_1m"); len(changed) != 0 {
		t.Error("what is not refused is absolved")
	}
}

// A deprecated field that disappears takes its family along, not the dataset.
func TestAnOptionalFieldMayBeRefused(t *testing.T) {
	r := roster.Roster{}
	discover(t, r, noon, zoneA())
	s := r[scope(idA)]
	c, err := catalogue.Load(nil, catalogue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	full := c.Find("http_5m").Variants[0]
	var fields []string
	for _, f := range full.Fields() {
		if f != "sum_threats" {
			fields = append(fields, f)
		}
	}
	s.Entitle(noon, allowing(map[string]roster.Node{full.Node: {Enabled: true, Fields: fields}}))
	got := claims(t, s, noon)["http_5m"]
	if got.Variant == nil || len(got.Variant.Measures) != len(full.Measures)-1 {
		t.Fatalf("without threats: %+v (%s)", got.Variant, got.Refused)
	}
	if again := claims(t, s, noon)["http_5m"]; !got.Variant.Same(again.Variant) {
		t.Error("the same reduced variant is not the same twice: requests could not be shared")
	}
}
