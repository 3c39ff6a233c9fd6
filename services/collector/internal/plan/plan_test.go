package plan_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

const noon = bucket.Time(1_795_262_400) // 2026-11-21T12:00:00Z

func dataset(id string, size time.Duration, rows int) *catalogue.Dataset {
	d := &catalogue.Dataset{Definition: bucket.Definition{Dataset: id, Size: size, Delay: 5 * time.Minute, Depth: 30, ScopeKind: bucket.Zone}}
	d.Variants = []catalogue.Variant{{Name: "rollup", Node: "n", Step: size, Rows: rows}, {Name: "adaptive", Node: "a", Step: size, Rows: rows, Sampled: true}}
	return d
}

func zone(i int) bucket.Scope {
	return bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i)}
}

// state answers from two maps; windows absent from both are unread and free.
type state struct {
	again map[bucket.Key]bucket.Time
	read  map[bucket.Key]bool
}

func (s state) Again(d string, z bucket.Scope, start bucket.Time) bucket.Time {
	return s.again[bucket.Key{Dataset: d, Scope: z, Start: start}]
}

func (s state) Read(d string, z bucket.Scope, start bucket.Time) bool {
	return s.read[bucket.Key{Dataset: d, Scope: z, Start: start}]
}

// want is everything due of the last span, less the given windows counted back
// from the newest.
func want(d *catalogue.Dataset, z bucket.Scope, now bucket.Time, span time.Duration, missing ...int) plan.Want {
	due := plan.Due(now, d.Size, d.Delay)
	w := plan.Want{Dataset: d, Variant: &d.Variants[0], Scope: z, Window: bucket.Window{Start: due.Add(-span), End: due}}
	w.Have = bucket.Spans{w.Window}
	for _, i := range missing {
		start := due.Add(-time.Duration(i+1) * d.Size)
		w.Have = w.Have.Remove(bucket.Window{Start: start, End: start.Add(d.Size)})
	}
	return w
}

// tell prints requests, one a line, times as minutes before noon.
func tell(p plan.Plan) string {
	var b strings.Builder
	for _, r := range p.Requests {
		fmt.Fprintf(&b, "%s zones=%d", r.Lane, len(r.Scopes))
		for _, s := range r.Selections {
			fmt.Fprintf(&b, " %s/%s[%d,%d)", s.Dataset.Dataset, s.Variant.Name, (s.Window.Start-noon)/60, (s.Window.End-noon)/60)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func check(t *testing.T, p plan.Plan, want string) {
	t.Helper()
	if diff := cmp.Diff(strings.TrimLeft(want, "\n"), tell(p)); diff != "" {
		t.Fatalf("plan differs (-want +got):\n%s", diff)
	}
}

func TestTenZonesShareOneRequest(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	var wants []plan.Want
	for i := range 12 {
		wants = append(wants, want(http, zone(i), now, 24*time.Hour, 0))
	}
	check(t, plan.Make(now, wants, state{}, plan.DefaultCeilings), `
fresh zones=10 http_5m/rollup[-5,5)
fresh zones=2 http_5m/rollup[-5,5)
`)
}

func TestATrailingRangeCoversWhatWaits(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	// Zone 0 waits for the window before the newest, zone 1 only for the newest.
	wants := []plan.Want{want(http, zone(0), now, 24*time.Hour, 0, 1), want(http, zone(1), now, 24*time.Hour, 0)}
	check(t, plan.Make(now, wants, state{}, plan.DefaultCeilings), `
fresh zones=2 http_5m/rollup[-10,5)
`)
}

func TestDatasetsOfTheSameZonesShareADocument(t *testing.T) {
	now := noon.Add(5 * time.Minute)
	a, b := dataset("a_5m", 5*time.Minute, 1), dataset("b_1h", time.Hour, 1)
	var wants []plan.Want
	for _, d := range []*catalogue.Dataset{a, b} {
		for i := range 2 {
			wants = append(wants, want(d, zone(i), now, 24*time.Hour, 0))
		}
	}
	check(t, plan.Make(now, wants, state{}, plan.DefaultCeilings), `
fresh zones=2 a_5m/rollup[-5,5) b_1h/rollup[-60,60)
`)
}

func TestScopesTimesSelectionsStayUnderTheCeiling(t *testing.T) {
	now := noon.Add(5 * time.Minute)
	var wants []plan.Want
	for k := range 7 {
		d := dataset(fmt.Sprintf("d%d_5m", k), 5*time.Minute, 1)
		for i := range 10 {
			wants = append(wants, want(d, zone(i), now, time.Hour, 0))
		}
	}
	for _, r := range plan.Make(now, wants, state{}, plan.DefaultCeilings).Requests {
		if n := len(r.Scopes) * len(r.Selections); n > 50 {
			t.Fatalf("a request asks %d selections, above the ceiling", n)
		}
	}
}

func TestAWindowThatMayNotBeReadYetWaits(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	key := bucket.Key{Dataset: "http_5m", Scope: zone(0), Start: noon.Add(-5 * time.Minute)}
	st := state{again: map[bucket.Key]bucket.Time{key: now + 40}, read: map[bucket.Key]bool{key: true}}
	wants := []plan.Want{want(http, zone(0), now, time.Hour, 0)}
	p := plan.Make(now, wants, st, plan.DefaultCeilings)
	check(t, p, "")
	if p.Next != now+40 {
		t.Fatalf("next pass at %s, want when the reading may count, %s", p.Next, now+40)
	}
	check(t, plan.Make(now+40, wants, st, plan.DefaultCeilings), `
confirm zones=1 http_5m/rollup[-5,10)
`)
}

// A window that was read and is not final is asked along with those after it,
// final, due or not, up to the one that runs: they tell whether the answer is whole.
func TestWhatWaitsIsAskedWithWhatCameAfter(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	for _, test := range []struct {
		waits int // windows before the newest
		want  string
	}{
		{0, "confirm zones=1 http_5m/rollup[-5,5)\n"},
		{1, "confirm zones=1 http_5m/rollup[-10,5)\n"},
		{6, "confirm zones=1 http_5m/rollup[-35,-15)\n"},
		{20, "repair zones=1 http_5m/rollup[-105,-85)\n"},
	} {
		key := bucket.Key{Dataset: "http_5m", Scope: zone(0), Start: noon.Add(-time.Duration(test.waits+1) * 5 * time.Minute)}
		st := state{read: map[bucket.Key]bool{key: true}}
		check(t, plan.Make(now, []plan.Want{want(http, zone(0), now, 24*time.Hour, test.waits)}, st, plan.DefaultCeilings), test.want)
		st.read = nil
		for _, r := range plan.Make(now, []plan.Want{want(http, zone(0), now, 24*time.Hour, test.waits)}, st, plan.DefaultCeilings).Requests {
			if n := r.Selections[0].Window.Len(); n != min(15*time.Minute, time.Duration(test.waits+2)*5*time.Minute) {
				t.Errorf("a window that was never read is asked with a range of %s, want it and the next two", n)
			}
		}
	}
}

func TestNextIsWhenTheNextWindowFallsDue(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(6*time.Minute)
	p := plan.Make(now, []plan.Want{want(http, zone(0), now, time.Hour)}, state{}, plan.DefaultCeilings)
	if due := noon.Add(10 * time.Minute); p.Next != due || len(p.Requests) != 0 {
		t.Fatalf("next at %s with %d requests, want %s and none", p.Next, len(p.Requests), due)
	}
}

// After an outage: the newest first as a trailing range, then chunks with
// calendar borders that both zones share, newest first inside the replay, then
// the rest oldest first.
func TestCatchingUp(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 5), noon.Add(5*time.Minute)
	http.Variants[0].Rows = 5
	c := plan.DefaultCeilings
	c.Rows = 120 // 12 windows of 2×5 rows: an hour
	var wants []plan.Want
	for i := range 2 {
		w := want(http, zone(i), now, 6*time.Hour)
		w.Have = nil
		wants = append(wants, w)
	}
	check(t, plan.Make(now, wants, state{}, c), `
fresh zones=2 http_5m/rollup[-50,5)
repair zones=2 http_5m/rollup[-60,-40) http_5m/rollup[-120,-60) http_5m/rollup[-180,-120) http_5m/rollup[-360,-300) http_5m/rollup[-300,-240) http_5m/rollup[-240,-180)
`)
}

func TestWhatLeavesRetentionComesFirst(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 5), noon.Add(5*time.Minute)
	c := plan.DefaultCeilings
	c.Rows, c.Selections = 120, 1
	w := want(http, zone(0), now, 4*time.Hour)
	w.Have, w.Limits.NotOlderThan = nil, 5*time.Hour
	p := plan.Make(now, []plan.Want{w}, state{}, c)
	if got := p.Requests[1].Selections[0].Window.Start; got != noon.Add(-4*time.Hour) {
		t.Fatalf("first repair begins at %s, want the window about to be lost, %s", got, noon.Add(-4*time.Hour))
	}
}

func TestSampledVariantsAskOneWindowPerSelection(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	w := want(http, zone(0), now, 24*time.Hour, 0, 1, 30)
	w.Variant = &http.Variants[1]
	check(t, plan.Make(now, []plan.Want{w}, state{}, plan.DefaultCeilings), `
fresh zones=1 http_5m/adaptive[-10,-5) http_5m/adaptive[-5,0) http_5m/adaptive[0,5)
repair zones=1 http_5m/adaptive[-155,-150) http_5m/adaptive[-150,-145) http_5m/adaptive[-145,-140)
`)
}

// Each window of a sampled variant is a selection of its own. Neighbours are one
// another's witnesses, so that a catch-up of ten zones asks three windows in a
// request of five, and not one.
func TestNeighboursAreOneAnothersWitnesses(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	var wants []plan.Want
	for i := range 10 {
		w := want(http, zone(i), now, 24*time.Hour, 30, 31, 32, 33, 34, 35)
		w.Variant = &http.Variants[1]
		wants = append(wants, w)
	}
	check(t, plan.Make(now, wants, state{}, plan.DefaultCeilings), `
repair zones=10 http_5m/adaptive[-155,-150) http_5m/adaptive[-150,-145) http_5m/adaptive[-145,-140) http_5m/adaptive[-165,-160) http_5m/adaptive[-160,-155)
repair zones=10 http_5m/adaptive[-180,-175) http_5m/adaptive[-175,-170) http_5m/adaptive[-170,-165) http_5m/adaptive[-165,-160) http_5m/adaptive[-160,-155)
`)
}

func TestARangeStaysUnderThePlansLimits(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	w := want(http, zone(0), now, 24*time.Hour)
	w.Have, w.Limits = nil, plan.Limits{MaxDuration: 90 * time.Minute, MaxPageSize: 20}
	for _, r := range plan.Make(now, []plan.Want{w}, state{}, plan.DefaultCeilings).Requests {
		for _, s := range r.Selections {
			if s.Window.Len() > 50*time.Minute || s.Limit != 20 {
				t.Fatalf("selection %s with limit %d: above a page of 20 rows, two a window", s.Window, s.Limit)
			}
		}
	}
}

// Whatever is missing: every missing window that may be asked is asked, as what
// is wanted or as a witness too; one answer holds it and what came after, as far
// as that has begun; and the same input gives the same plan.
func TestEveryMissingWindowIsAsked(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	sizes := map[string]time.Duration{"a_5m": 5 * time.Minute, "b_1h": time.Hour, "c_1m": time.Minute}
	for range 200 {
		now := noon.Add(time.Duration(rng.IntN(3600)) * time.Second)
		var wants []plan.Want
		st := state{read: map[bucket.Key]bool{}}
		for _, d := range []*catalogue.Dataset{dataset("a_5m", 5*time.Minute, 1+rng.IntN(400)), dataset("b_1h", time.Hour, 1+rng.IntN(400)), dataset("c_1m", time.Minute, 1+rng.IntN(40))} {
			all := rng.IntN(3) == 0 // as in a catch-up, which fills requests
			for i := range 1 + rng.IntN(13) {
				var missing []int
				for k := range 70 {
					if all || rng.IntN(10) == 0 {
						missing = append(missing, k)
					}
				}
				w := want(d, zone(i), now, 70*d.Size, missing...)
				w.Variant = &d.Variants[rng.IntN(5)/4]
				wants = append(wants, w)
				if rng.IntN(3) == 0 {
					for _, k := range missing {
						st.read[bucket.Key{Dataset: d.Dataset, Scope: w.Scope, Start: w.Window.End.Add(-time.Duration(k+1) * d.Size)}] = true
					}
				}
			}
		}
		p := plan.Make(now, wants, st, plan.DefaultCeilings)
		if again := plan.Make(now, wants, st, plan.DefaultCeilings); tell(p) != tell(again) {
			t.Fatal("the same input gave two plans")
		}
		asked, witnessed := map[bucket.Key]int{}, map[bucket.Key]bool{}
		for _, r := range p.Requests {
			in := map[bucket.Key]bool{} // this request
			if len(r.Scopes) > 10 || len(r.Scopes)*len(r.Selections) > 50 {
				t.Fatalf("request of %d zones and %d selections", len(r.Scopes), len(r.Selections))
			}
			for _, s := range r.Selections {
				for _, z := range r.Scopes {
					for start := s.Window.Start; start < s.Window.End; start = start.Add(s.Dataset.Size) {
						key := bucket.Key{Dataset: s.Dataset.Dataset, Scope: z, Start: start}
						asked[key]++
						in[key] = true
					}
				}
			}
			for key := range in {
				end := key.Start.Add(sizes[key.Dataset])
				all := true
				for next := end; next < now && next.Sub(end) < settle.Beyond+sizes[key.Dataset]; next = next.Add(sizes[key.Dataset]) {
					all = all && in[bucket.Key{Dataset: key.Dataset, Scope: key.Scope, Start: next}]
				}
				witnessed[key] = witnessed[key] || all
			}
		}
		for _, w := range wants {
			for _, gap := range w.Have.Missing(w.Window) {
				for start := gap.Start; start < gap.End; start = start.Add(w.Dataset.Size) {
					if n := asked[bucket.Key{Dataset: w.Dataset.Dataset, Scope: w.Scope, Start: start}]; n < 1 || n > 8 { // as a witness of each of those before it, at most
						t.Fatalf("window %s of %s is asked %d times", start, w.Dataset.Dataset, n)
					}
					next := start.Add(w.Dataset.Size)
					if key := (bucket.Key{Dataset: w.Dataset.Dataset, Scope: w.Scope, Start: start}); !witnessed[key] && next < now && now.Sub(next) < settle.SuspectAge {
						t.Fatalf("no answer shows both %s of %s and the windows after it", start, w.Dataset.Dataset)
					}
				}
			}
		}
	}
}

// Rechecks ask exactly the windows they are given, those of the same scopes
// together, and nothing is widened.
func TestLooksArePackedAsTheyAre(t *testing.T) {
	five, hour := dataset("five", 5*time.Minute, 1), dataset("hour", time.Hour, 1)
	look := func(d *catalogue.Dataset, z int, start bucket.Time) plan.Recheck {
		return plan.Recheck{
			Want:   plan.Want{Dataset: d, Variant: &d.Variants[0], Scope: zone(z), Limits: plan.Limits{MaxPageSize: 100}},
			Window: bucket.Window{Start: start, End: start.Add(d.Size)},
		}
	}
	hours, day := noon.Add(-2*time.Hour), noon.Add(-25*time.Hour)
	p := plan.Plan{Requests: plan.Rechecks([]plan.Recheck{
		look(hour, 1, hours), look(hour, 2, hours), look(five, 1, hours), look(five, 2, hours), look(five, 1, day), look(hour, 3, day),
	}, plan.DefaultCeilings)}
	check(t, p, `
audit zones=2 hour/rollup[-120,-60) five/rollup[-120,-115)
audit zones=1 five/rollup[-1500,-1495)
audit zones=1 hour/rollup[-1500,-1440)
`)
	for _, r := range p.Requests {
		for _, s := range r.Selections {
			if s.Limit != 100 {
				t.Errorf("a page of %d rows is asked for, the plan allows 100", s.Limit)
			}
		}
	}
}
