package status_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

const (
	noon  = bucket.Time(1_795_262_400) // 2026-11-21T12:00:00Z
	five  = 5 * time.Minute
	tagA  = "0000000000000000000000000000000a"
	tagB  = "0000000000000000000000000000000b"
	tagC  = "0000000000000000000000000000000c"
	http5 = "http_5m"
)

func zone(tag string) bucket.Scope { return bucket.Scope{Kind: bucket.Zone, ID: tag} }

// shelf is a store's head, records and coverage.
type shelf struct {
	head    store.Head
	records map[string][]store.Record
	runs    []store.Run
	scans   int                    // of coverage
	read    map[string]bucket.Time // since when coverage of a dataset was read
}

// Datasets are the definitions of what is stored, as of long ago.
func (s *shelf) Datasets(context.Context) (out []store.Entry, err error) {
	for _, id := range append([]string{http5}, ids(s.runs)...) {
		out = append(out, store.Entry{CommittedAt: noon.Add(-90 * 24 * time.Hour).Std(), NewEntry: store.NewEntry{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: id}}})
	}
	return out, nil
}

func ids(runs []store.Run) (out []string) {
	for _, r := range runs {
		out = append(out, r.Dataset)
	}
	return out
}

func (s *shelf) Head(context.Context) (store.Head, error) { return s.head, nil }

func (s *shelf) Records(_ context.Context, kind string) ([]store.Record, error) {
	return s.records[kind], nil
}

func (s *shelf) take(records []store.Record) {
	for _, r := range records {
		s.records[r.Kind] = append(s.records[r.Kind], r)
	}
}

func (s *shelf) Coverage(_ context.Context, f store.Filter, since bucket.Time) (out []store.Run, err error) {
	s.scans++
	for _, r := range s.runs {
		if len(f.Datasets) > 0 && !slices.Contains(f.Datasets, r.Dataset) || len(f.Scopes) > 0 && !slices.Contains(f.Scopes, r.Scope) || r.Window.End <= since {
			continue
		}
		if s.read == nil {
			s.read = map[string]bucket.Time{}
		}
		if before, ok := s.read[r.Dataset]; !ok || since < before {
			s.read[r.Dataset] = since
		}
		out = append(out, r)
	}
	return out, nil
}

// window is n windows of five minutes before noon up to m before noon.
func window(n, m int) bucket.Window {
	return bucket.Window{Start: noon.Add(-time.Duration(n) * five), End: noon.Add(-time.Duration(m) * five)}
}

// story is two entitled zones and one that is not, an hour after they were
// first seen with an hour of history, five minutes after noon: due up to noon.
// Of zone A windows 12 to 7 are final, 7 to 6 were lost, 6 to 5 accepted, 4 to
// 3 are suspect, 2 to 1 it was paused; the rest is missing without a record. Of zone B all is final but for the last two windows.
func story(t *testing.T) *status.Source {
	t.Helper()
	r := roster.Roster{}
	var seen []roster.Seen
	for i, tag := range []string{tagA, tagB, tagC} {
		seen = append(seen, roster.Seen{
			Kind: bucket.Zone,
			ID:   tag, Name: fmt.Sprintf("%c.example", 'a'+i), AccountID: "acc", AccountName: "Acme", Plan: "Pro Website",
			State: roster.Active, Created: noon.Add(-time.Hour),
		})
	}
	if _, err := r.Discover(t.Context(), noon.Add(-30*time.Minute), bucket.Zone, listed(noon.Add(-30*time.Minute), seen), time.Hour, func(bucket.Scope) bucket.Time { return 0 }); err != nil {
		t.Fatal(err)
	}
	contents := roster.NewContents()
	for _, tag := range []string{tagA, tagB} {
		r[zone(tag)].Entitle(noon, contents.Of(map[string]roster.Node{"httpRequests1mGroups": {Enabled: true}}))
	}
	r[zone(tagC)].Entitle(noon, contents.Of(nil))
	r[zone(tagA)].Away = []roster.Away{{Window: bucket.Window{Start: window(2, 0).Start + 60, End: window(1, 0).Start + 60}, State: roster.Paused}}
	s := &shelf{records: map[string][]store.Record{}}
	s.take(contents.Records(r[zone(tagC)], r[zone(tagA)], r[zone(tagB)]))
	decision := ledger.Decision{Dataset: http5, Scope: zone(tagA), Spans: []ledger.Decided{
		{Window: window(7, 6), Reason: ledger.UpstreamError},
		{Window: window(6, 5), Accepted: true, Reason: ledger.TooBig},
	}}
	s.records[ledger.KindDecided] = []store.Record{decision.Record()}
	s.records[ledger.KindGap] = ledger.Diff(nil, []ledger.Gap{{
		Dataset: http5, Scope: zone(tagA), Window: window(4, 3), Reason: ledger.Suspect, Attempts: 3, Next: noon + 60, LostAt: noon + 3600,
	}})
	// Of zone B the last window waits to be believed; the one before should have been.
	s.records[ledger.KindGap] = append(s.records[ledger.KindGap], ledger.Diff(nil, []ledger.Gap{
		{Dataset: http5, Scope: zone(tagB), Window: window(2, 1), Reason: ledger.Suspect, WaitsUntil: noon + 299},
		{Dataset: http5, Scope: zone(tagB), Window: window(1, 0), Reason: ledger.Suspect, WaitsUntil: noon + 301},
	})...)
	s.runs = []store.Run{
		{Dataset: http5, Scope: zone(tagA), Window: window(12, 7)},
		{Dataset: http5, Scope: zone(tagB), Window: window(12, 2)},
	}
	c, err := catalogue.Load(nil, catalogue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	leading := true
	return &status.Source{
		Store: s, Catalogue: c, Clock: clock.NewManual(noon.Add(five).Std()), Retention: 90 * 24 * time.Hour,
		Leading: func() bool { leading = !leading; return leading },
	}
}

// tell prints a range, times as windows before noon.
func tell(r *bucketv1.CoverageRange) string {
	word := func(s fmt.Stringer, prefix string) string {
		return strings.ToLower(strings.TrimPrefix(s.String(), prefix))
	}
	out := fmt.Sprintf("%d-%d %s %s", (int64(noon)-r.StartUnixSeconds)/300, (int64(noon)-r.EndUnixSeconds)/300,
		word(r.State, "COVERAGE_STATE_"), word(r.Reason, "GAP_REASON_"))
	if r.Attempts != 0 {
		out += fmt.Sprintf(" %d attempts, next %d, lost %d", r.Attempts, r.NextAttempt.GetSeconds()-int64(noon), r.LostAt.GetSeconds()-int64(noon))
	}
	return out
}

func coverage(t *testing.T, in bucket.Window) map[string][]string {
	t.Helper()
	all, asOf, err := story(t).Coverage(t.Context(), store.Filter{Datasets: []string{http5}}, in)
	if err != nil {
		t.Fatal(err)
	}
	if !asOf.Equal(noon.Add(five).Std()) {
		t.Errorf("as of %s, want the present", asOf)
	}
	out := map[string][]string{}
	for _, c := range all {
		out[c.Scope.Id] = []string{}
		for _, r := range c.Ranges {
			out[c.Scope.Id] = append(out[c.Scope.Id], tell(r))
		}
	}
	return out
}

// Four different things look different (G3).
func TestCoverageTellsThemApart(t *testing.T) {
	want := map[string][]string{
		tagA: {
			"12-7 final unspecified", "7-6 lost upstream_error", "6-5 accepted too_big", "5-4 missing pending",
			"4-3 missing suspect 3 attempts, next 60, lost 3600",
			"3-2 missing pending", "2-1 refused unspecified", "1-0 missing pending",
		},
		tagB: {"12-2 final unspecified", "2-1 missing suspect", "1-0 waiting suspect"},
		tagC: {"12-0 refused unspecified"},
	}
	if diff := cmp.Diff(want, coverage(t, bucket.Window{})); diff != "" {
		t.Errorf("coverage (-want +got):\n%s", diff)
	}
	// Inside a window it is cut to that; beyond what is due there is nothing.
	want = map[string][]string{
		tagA: {"8-7 final unspecified", "7-6 lost upstream_error", "6-5 accepted too_big"},
		tagB: {"8-5 final unspecified"}, tagC: {"8-5 refused unspecified"},
	}
	if diff := cmp.Diff(want, coverage(t, window(8, 5))); diff != "" {
		t.Errorf("coverage of a part (-want +got):\n%s", diff)
	}
	want = map[string][]string{tagA: {}, tagB: {}, tagC: {}}
	if diff := cmp.Diff(want, coverage(t, window(0, -12))); diff != "" {
		t.Errorf("coverage of the future (-want +got):\n%s", diff)
	}
}

func TestFilterByScope(t *testing.T) {
	all, _, err := story(t).Coverage(t.Context(), store.Filter{Datasets: []string{http5}, Scopes: []bucket.Scope{zone(tagB)}}, bucket.Window{})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || all[0].Scope.Id != tagB || all[0].Dataset != http5 {
		t.Errorf("coverage of one zone and dataset is %v", all)
	}
}

// Missing is what is neither final nor decided; complete is up to the first of
// it, in whichever zone.
func TestDatasetsAddUp(t *testing.T) {
	datasets, err := story(t).Datasets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range datasets {
		if d.Dataset != http5 {
			continue
		}
		got := fmt.Sprintf("%d active, %d refused, %d missing, %d waiting, newest %d, complete until %d", d.ScopesActive, d.ScopesRefused, d.WindowsMissing, d.WindowsWaiting,
			(int64(noon)-d.NewestEndUnixSeconds)/300, (int64(noon)-d.CompleteUntilUnixSeconds)/300)
		if want := "2 active, 1 refused, 5 missing, 1 waiting, newest 2, complete until 5"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		return
	}
	t.Errorf("no %s among %d datasets", http5, len(datasets))
}

func TestScopesSayWhatTheyMayBeAsked(t *testing.T) {
	s := story(t)
	scopes, err := s.Scopes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, sc := range scopes {
		for _, e := range sc.Entitlements {
			if e.Dataset == http5 {
				got = append(got, fmt.Sprintf("%s %s %s %q %t", sc.ZoneLabel, sc.AccountLabel, sc.State, e.Variant, e.Reason == ""))
			}
		}
	}
	want := []string{
		`a.example Acme SCOPE_STATE_ACTIVE "rollup_1m" true`,
		`b.example Acme SCOPE_STATE_ACTIVE "rollup_1m" true`,
		`c.example Acme SCOPE_STATE_ACTIVE "" false`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scopes (-want +got):\n%s", diff)
	}
	// Whoever asks for a backfill of a zone asks this; it must stay small.
	if n := s.Store.(*shelf).scans; n != 0 {
		t.Errorf("coverage was read %d times for a list of scopes", n)
	}
	if a, b := s.Role(), s.Role(); a != bucketv1.Role_ROLE_STANDBY || b != bucketv1.Role_ROLE_LEADER {
		t.Errorf("roles are %s and %s", a, b)
	}
}

// A standby tells what the present leader has found. The record of an earlier
// term stays where a release leads that does not write it.
func TestAStandbyTellsTheProblemsOfThePresentLeader(t *testing.T) {
	found := []trouble.Problem{{Code: trouble.NoZones, Message: "the token sees no zone"}}
	s := &shelf{head: store.Head{Term: 7}, records: map[string][]store.Record{trouble.KindProblems: {trouble.Record(7, found)}}}
	source := status.Source{Store: s, Leading: func() bool { return false }}
	for term, want := range map[store.Term]int{7: 1, 8: 0} {
		s.head.Term = term
		got, err := source.Problems(t.Context())
		if err != nil || len(got) != want {
			t.Errorf("under term %d a standby tells %v, %v; want %d problems", term, got, err, want)
		}
	}
}

// A name is that of every scope that has it, or had it before a rename.
func TestNamesOfZones(t *testing.T) {
	r := roster.Roster{}
	see := func(at bucket.Time, names ...string) {
		var seen []roster.Seen
		for i, name := range names {
			seen = append(seen, roster.Seen{Kind: bucket.Zone, ID: []string{tagA, tagB}[i], Name: name, AccountID: "acc", AccountName: "Acme", State: roster.Active, Created: noon.Add(-time.Hour)})
		}
		if _, err := r.Discover(t.Context(), at, bucket.Zone, listed(at, seen), time.Hour, func(bucket.Scope) bucket.Time { return 0 }); err != nil {
			t.Fatal(err)
		}
	}
	see(noon, "a.example", "b.example")
	see(noon.Add(time.Hour), "new.example", "b.example")
	r[zone(tagB)].Earlier = []roster.Label{{Zone: "b.example#22222222", Account: "Acme", Until: noon}} // while another had the name
	s := &shelf{records: map[string][]store.Record{}}
	s.take(roster.NewContents().Records(r[zone(tagA)], r[zone(tagB)]))
	source := &status.Source{Store: s, Clock: clock.NewManual(noon.Add(2 * time.Hour).Std())}
	for name, want := range map[string]string{"a.example": tagA, "new.example": tagA, "b.example": tagB, "b.example#22222222": tagB, "c.example": ""} {
		got, err := source.Named(t.Context(), []string{name})
		if err != nil || want == "" && len(got) > 0 || want != "" && (len(got) != 1 || got[0] != zone(want)) {
			t.Errorf("%s is of %v (%v), want %s", name, got, err, want)
		}
	}
}

// listed is what the one credential sees.
func listed(at bucket.Time, seen []roster.Seen) []roster.List {
	return []roster.List{{Credential: roster.DefaultCredential, At: at, Seen: seen}}
}

// Of an account the same is told as of a zone, by its own label, to whoever asks.
func TestAccountsAreToldToo(t *testing.T) {
	account := bucket.Scope{Kind: bucket.Account, ID: tagA}
	r := roster.Roster{}
	seen := []roster.Seen{{Kind: bucket.Account, ID: tagA, Name: "Acme", AccountID: tagA, AccountName: "Acme", State: roster.Active}}
	if _, err := r.Discover(t.Context(), noon, bucket.Account, listed(noon, seen), time.Hour, func(bucket.Scope) bucket.Time { return 0 }); err != nil {
		t.Fatal(err)
	}
	c, err := catalogue.Load(nil, catalogue.Options{Enable: []string{"workers"}})
	if err != nil {
		t.Fatal(err)
	}
	contents := roster.NewContents()
	r[account].Entitle(noon, contents.Of(map[string]roster.Node{"workersInvocationsAdaptive": {Enabled: true, Fields: c.Find("workers_5m").Variants[0].Fields()}}))
	s := &shelf{records: map[string][]store.Record{}}
	s.take(contents.Records(r[account]))
	s.runs = []store.Run{{Dataset: "workers_5m", Scope: account, Window: window(12, 2)}}
	source := &status.Source{Store: s, Catalogue: c, Clock: clock.NewManual(noon.Add(five).Std()), Retention: 90 * 24 * time.Hour, Leading: func() bool { return false }}
	scopes, err := source.Scopes(t.Context())
	if err != nil || len(scopes) != 1 {
		t.Fatalf("%d scopes: %v", len(scopes), err)
	}
	got := scopes[0]
	if got.Scope.Kind != bucketv1.ScopeKind_SCOPE_KIND_ACCOUNT || got.ZoneLabel != "" || got.AccountLabel != "Acme" || len(got.Entitlements) != 1 || got.Entitlements[0].Variant != "adaptive" {
		t.Errorf("told is %v", got)
	}
	coverage, _, err := source.Coverage(t.Context(), store.Filter{Scopes: []bucket.Scope{account}}, window(4, 0))
	if err != nil || len(coverage) != 1 || len(coverage[0].Ranges) != 2 || tell(coverage[0].Ranges[0]) != "4-2 final unspecified" {
		t.Errorf("its coverage is %v, %v", coverage, err)
	}
	if named, err := source.Named(t.Context(), []string{"Acme"}); err != nil || len(named) != 0 {
		t.Errorf("a zone's name finds %v, %v", named, err)
	}
}
