package plan_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// hourly are so many hourly datasets.
func hourly(n int) (out []*catalogue.Dataset) {
	for i := range n {
		out = append(out, dataset(fmt.Sprintf("d%02d_1h", i), time.Hour, 1))
	}
	return out
}

// Ten zones with seven selections are two requests, seven zones with seven are one: of 56 zones
// eight requests ask everything, and no other way takes as few.
func TestACrewIsAsLargeAsItsSelectionsAllow(t *testing.T) {
	now := noon.Add(5 * time.Minute)
	for _, test := range []struct{ zones, datasets, want int }{
		{60, 1, 6}, {60, 5, 6}, {56, 7, 8}, {60, 6, 8}, {12, 6, 2}, {10, 10, 2}, {1, 50, 1}, {1, 51, 2}, {20, 25, 10},
	} {
		var wants []plan.Want
		for _, d := range hourly(test.datasets) {
			for i := range test.zones {
				wants = append(wants, want(d, zone(i), now, 24*time.Hour, 0))
			}
		}
		p := plan.Make(now, wants, state{}, plan.DefaultCeilings)
		if len(p.Requests) != test.want {
			t.Errorf("%d zones with %d selections are %d requests, want %d:\n%s", test.zones, test.datasets, len(p.Requests), test.want, tell(p))
		}
		if got := cells(p.Requests); got != float64(test.zones*test.datasets) {
			t.Errorf("%d zones with %d selections: %g are requested", test.zones, test.datasets, got)
		}
	}
}

// Zones of two plans, in any order of their ids: those that are asked the same share requests.
func TestZonesThatAreAskedTheSameShareRequests(t *testing.T) {
	now := noon.Add(5 * time.Minute)
	var wants []plan.Want
	for _, d := range hourly(5) {
		for i := range 40 {
			w := want(d, zone(i), now, 24*time.Hour, 0)
			w.Variant = &d.Variants[i%2] // every other zone
			if i%2 == 1 && d.Dataset > "d03" {
				continue // whose plan lacks two of them
			}
			wants = append(wants, w)
		}
	}
	p := plan.Make(now, wants, state{}, plan.DefaultCeilings)
	// 20 zones with five selections, and 20 with three of two windows each: eight at a time.
	if len(p.Requests) != 2+3 {
		t.Errorf("%d requests, want 5:\n%s", len(p.Requests), tell(p))
	}
}

// A zone that lacks nothing of a dataset is asked along if that saves a request. One that
// waits, which may be because it fails, is not: it would void the response for its
// neighbours.
func TestWhatIsWholeIsAskedAlong(t *testing.T) {
	now := noon.Add(5 * time.Minute)
	d := hourly(2)
	var wants []plan.Want
	for i := range 10 {
		lacks := []int{0}
		if i == 3 {
			lacks = nil
		}
		wants = append(wants, want(d[0], zone(i), now, 24*time.Hour, 0), want(d[1], zone(i), now, 24*time.Hour, lacks...))
	}
	check(t, plan.Make(now, wants, state{}, plan.DefaultCeilings), `
fresh zones=10 d00_1h/rollup[-60,60) d01_1h/rollup[-60,60)
`)
	wants[3*2+1] = want(d[1], zone(3), now, 24*time.Hour, 0)
	failed := bucket.Key{Dataset: d[1].Dataset, Scope: zone(3), Start: noon.Add(-time.Hour)}
	st := state{again: map[bucket.Key]bucket.Time{failed: now + 600}}
	for _, r := range plan.Make(now, wants, st, plan.DefaultCeilings).Requests {
		for _, sc := range r.Scopes {
			for _, s := range r.Selections {
				if sc == zone(3) && s.Dataset == d[1] {
					t.Error("a zone that waits is asked along")
				}
			}
		}
	}
}

// What a plan asks at a moment is near the least that it could be, and a fraction of what another
// exporter sends for the same families.
func TestPackingIsNearTheLeast(t *testing.T) {
	for _, profile := range catalogue.Profiles {
		of := offer(t, profile)
		for _, test := range []struct {
			plans  []cfsim.Plan
			factor float64
		}{{paid, 1.1}, {mixed, 1.3}} {
			p := pack(of.zones(60, test.plans))
			t.Logf("%s, 60 zones of %d plans: %.1f requests in five minutes; the least is %.1f at these moments and %.1f at any", profile, len(test.plans), p.sent, p.moments, p.least)
			if p.sent > test.factor*p.moments {
				t.Errorf("%s, 60 zones of %d plans: %.1f requests in five minutes, the least is %.1f", profile, len(test.plans), p.sent, p.moments)
			}
			if p.sent < p.moments || p.moments < p.least {
				t.Errorf("%s, 60 zones of %d plans: fewer than the least: %+v", profile, len(test.plans), p)
			}
			if profile == catalogue.LablabsProfile && p.sent > lablabs*60/5 {
				t.Errorf("%s, 60 zones of %d plans: %.1f requests in five minutes, more than a fifth of the %.0f that lablabs sends", profile, len(test.plans), p.sent, lablabs*60)
			}
		}
	}
}

// A crew is no worse than every zone alone, and asks all that is lacking, whatever is.
func TestCrewsAskWhatIsLacking(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	now := noon.Add(5 * time.Minute)
	for range 50 {
		var wants []plan.Want
		alone := 0
		lacks := map[bucket.Key]bool{}
		for _, d := range hourly(1 + rng.IntN(12)) {
			for i := range 1 + rng.IntN(25) {
				w := want(d, zone(i), now, 24*time.Hour, make([]int, rng.IntN(2))...)
				w.Variant, w.Group = &d.Variants[rng.IntN(4)/3], i%3/2
				wants = append(wants, w)
				for _, gap := range w.Have.Missing(w.Window) {
					lacks[bucket.Key{Dataset: d.Dataset, Scope: w.Scope, Start: gap.Start}] = true
				}
			}
		}
		for i := range wants {
			alone += len(plan.Make(now, wants[i:i+1], state{}, plan.DefaultCeilings).Requests)
		}
		p := plan.Make(now, wants, state{}, plan.DefaultCeilings)
		if len(p.Requests) > alone {
			t.Fatalf("%d requests, and %d if nothing is shared", len(p.Requests), alone)
		}
		variant := map[string]*catalogue.Variant{}
		for _, w := range wants {
			variant[w.Dataset.Dataset+w.Scope.ID] = w.Variant
		}
		for _, r := range p.Requests {
			for _, sc := range r.Scopes {
				for _, s := range r.Selections {
					if v := variant[s.Dataset.Dataset+sc.ID]; v != s.Variant {
						t.Fatalf("a zone is asked %s %s, which its plan may not allow", s.Dataset.Dataset, s.Variant.Name)
					}
					for start := s.Window.Start; start < s.Window.End; start = start.Add(time.Hour) {
						delete(lacks, bucket.Key{Dataset: s.Dataset.Dataset, Scope: sc, Start: start})
					}
				}
			}
		}
		if len(lacks) > 0 {
			t.Fatalf("%d windows are not asked", len(lacks))
		}
	}
}
