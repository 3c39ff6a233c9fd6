package poll

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// request asks d datasets of z zones.
func request(z, d int) plan.Request {
	r := plan.Request{Lane: plan.Repair}
	for i := range z {
		r.Scopes = append(r.Scopes, bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("z%d", i)})
	}
	for i := range d {
		r.Selections = append(r.Selections, plan.Selection{Dataset: &catalogue.Dataset{Definition: bucket.Definition{Dataset: fmt.Sprintf("d%d", i)}}})
	}
	return r
}

// asked counts how often each dataset is asked of each zone.
func asked(t *testing.T, requests []plan.Request) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, r := range requests {
		if r.Lane != plan.Repair || len(r.Scopes) == 0 || len(r.Selections) == 0 {
			t.Errorf("a part in lane %s asks %d selections of %d zones", r.Lane, len(r.Selections), len(r.Scopes))
		}
		for _, sc := range r.Scopes {
			for _, sel := range r.Selections {
				out[sc.ID+" "+sel.Dataset.Dataset]++
			}
		}
	}
	return out
}

// However a request is taken apart, everything of it is asked once, less what
// was to be left out.
func TestPartsAreTheWhole(t *testing.T) {
	for z := 1; z <= 10; z++ {
		for d := 1; d <= 5; d++ {
			r := request(z, d)
			want := asked(t, []plan.Request{r})
			if z*d > 1 {
				if diff := cmp.Diff(want, asked(t, halve(r))); diff != "" {
					t.Errorf("halves of %d zones × %d datasets (-want +got):\n%s", z, d, diff)
				}
			}
			for failures := range 8 {
				a := &asker{faults: &faults{tries: map[ledger.Series]*try{}}}
				for _, sc := range r.Scopes {
					for _, sel := range r.Selections {
						a.faults.tries[ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}] = &try{Backoff: backoff.Backoff{Failures: failures}}
					}
				}
				parts := a.portions(r)
				if diff := cmp.Diff(want, asked(t, parts)); diff != "" {
					t.Errorf("portions of %d zones × %d datasets after %d failures (-want +got):\n%s", z, d, failures, diff)
				}
				if failures == patience && len(parts) != 1 || failures == patience+1 && z*d > 1 && len(parts) < 2 {
					t.Errorf("%d parts of %d zones × %d datasets after %d failures", len(parts), z, d, failures)
				}
			}
			for i := range d {
				left := asked(t, []plan.Request{r})
				delete(left, fmt.Sprintf("%s d%d", r.Scopes[z-1].ID, i))
				if diff := cmp.Diff(left, asked(t, without(r, r.Scopes[z-1:], i))); diff != "" {
					t.Errorf("%d zones × %d datasets without one (-want +got):\n%s", z, d, diff)
				}
			}
		}
	}
}

// What is refused of the only zone that is collected is refused of everything, however
// many others the log has.
func TestARefusalOfTheOnlyZoneCollectedIsOfEverything(t *testing.T) {
	l, r := &line{Credential: &upstream.Credential{Name: "one"}}, request(1, 1)
	r.Selections[0].Variant = &catalogue.Variant{}
	f := &faults{tries: map[ledger.Series]*try{}}
	a := &asker{faults: f, books: &books{faults: f, lines: lines{l}, roster: roster.Roster{
		r.Scopes[0]:                     &roster.Scope{Scope: r.Scopes[0], Credential: "one", State: roster.Active},
		{Kind: bucket.Zone, ID: "gone"}: &roster.Scope{Credential: "one", State: roster.Gone},
	}}, lines: lines{l}}
	pass := alike{}
	pass.refuse(a, l, r, &cloudflare.Error{Class: cloudflare.Unknown})
	if !pass.all(a, l) {
		t.Error("a zone that is gone counts as a neighbour")
	}
}

// Passes that ask of one zone each show together what one of them does not: that
// everything is refused. A success in between shows that it is not.
func TestRefusalsOfSeveralPassesAreOfEverything(t *testing.T) {
	for _, succeeds := range []bool{false, true} {
		l := &line{Credential: &upstream.Credential{Name: "one"}}
		f := &faults{tries: map[ledger.Series]*try{}}
		a := &asker{faults: f, books: &books{faults: f, lines: lines{l}, roster: roster.Roster{}}, lines: lines{l}}
		r := request(2, 2)
		for i := range r.Selections {
			r.Selections[i].Variant = &catalogue.Variant{}
		}
		for _, sc := range r.Scopes {
			a.books.roster[sc] = &roster.Scope{Scope: sc, Credential: "one", State: roster.Active}
		}
		for i, scopes := range [][]bucket.Scope{r.Scopes[:1], r.Scopes[1:]} {
			pass, part := alike{}, r
			part.Scopes = scopes
			pass.refuse(a, l, part, &cloudflare.Error{Class: cloudflare.Unknown})
			if got, want := pass.all(a, l), i == 1 && !succeeds; got != want {
				t.Errorf("pass %d, succeeds %t: of everything is %t", i+1, succeeds, got)
			}
			if succeeds {
				a.recovered(l)
			}
		}
	}
}

// What failed by itself is requested by itself, and everything else without it.
func TestWhatFailedByItselfIsRequestedByItself(t *testing.T) {
	r := request(2, 2)
	for i := range r.Selections {
		r.Selections[i].Variant = &catalogue.Variant{}
	}
	failed := ledger.Series{Dataset: "d0", Scope: r.Scopes[0]}
	b := &books{faults: &faults{tries: map[ledger.Series]*try{failed: {alone: true}}}, roster: roster.Roster{}}
	for _, sc := range r.Scopes {
		b.roster[sc] = &roster.Scope{Scope: sc}
	}
	parts := (&asker{faults: b.faults, books: b}).apart(r)
	if diff := cmp.Diff(asked(t, []plan.Request{r}), asked(t, parts)); diff != "" {
		t.Errorf("parts (-want +got):\n%s", diff)
	}
	for _, part := range parts {
		if got := asked(t, []plan.Request{part}); got["z0 d0"] > 0 && len(got) > 1 {
			t.Errorf("it is requested with others: %v", got)
		}
	}
}
