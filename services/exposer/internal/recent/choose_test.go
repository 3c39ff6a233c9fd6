package recent

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/sample"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// dataset makes n windows that end at last and before, each with this many
// samples of totals and of breakdowns.
func dataset(id string, size time.Duration, depth, n int, last time.Time, totals, breakdowns int) Held {
	d := Held{Definition: &bucket.Definition{Dataset: id, Depth: depth, Size: size}}
	for i := n; i > 0; i-- {
		start := bucket.TimeOf(last).Add(-time.Duration(i) * size)
		d.slots = append(d.slots, &slot{window: bucket.Window{Start: start, End: start.Add(size)}, samples: [Roles]int{totals, breakdowns}})
	}
	return d
}

func day() Limits { return Limits{MaxAge: 24 * time.Hour, Soft: 100_000, Hard: 250_000} }

// wide chooses as if all windows were among the newest, for rules that are the same for
// those and for pages.
func (s *State) wide(now time.Time, limits Limits) (*Choice, error) {
	c := s.choose(now, limits)
	c.newest = true // no turn ends it
	for i := range c.Datasets {
		for role := range Roles {
			c.Datasets[i].Serve[role].From = c.Datasets[i].old.From
		}
	}
	err := c.limit(s, limits)
	c.newest = false
	return c, err
}

func choose(t *testing.T, datasets []Held, stamp sample.Stamp, now time.Time, limits Limits) *Choice {
	t.Helper()
	state := State{Store: sample.Store{Stamp: stamp}, Datasets: datasets, maxAge: 24 * time.Hour}
	c, err := state.wide(now, limits)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// served is what a choice says of its datasets, for comparisons.
func served(c *Choice) (out [][Roles]Range) {
	for i := range c.Datasets {
		out = append(out, c.Datasets[i].Serve)
	}
	return out
}

// Every scrape has the newest half hour, of at least two and at most ten windows, within
// the depth.
func TestNewestWindows(t *testing.T) {
	for _, tc := range []struct {
		size        time.Duration
		depth, want int
	}{
		{time.Minute, 30, 10},
		{5 * time.Minute, 30, 6},
		{5 * time.Minute, 99, 6},
		{5 * time.Minute, 4, 4},
		{15 * time.Minute, 30, 2},
		{30 * time.Minute, 30, 2},
		{time.Hour, 24, 1},
	} {
		of := dataset("x", tc.size, tc.depth, 40, noon, 1, 0)
		s := State{Store: sample.Store{Stamp: sample.End}, Datasets: []Held{of}, maxAge: 24 * time.Hour}
		c, err := s.Choose(noon, day())
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Datasets[0].Serve[0]; got.Len() != tc.want || got.To != of.Len() {
			t.Errorf("%s with depth %d: windows %v of %d are shown, want the newest %d", tc.size, tc.depth, got, of.Len(), tc.want)
		}
	}
	// They are counted from the newest one back, so with a hole there are fewer.
	of := dataset("x", 5*time.Minute, 30, 40, noon, 1, 0)
	of.slots = slices.Delete(of.slots, 36, 38)
	s := State{Store: sample.Store{Stamp: sample.End}, Datasets: []Held{of}, maxAge: 24 * time.Hour}
	if c, err := s.Choose(noon, day()); err != nil || c.Datasets[0].Serve[0].Len() != 4 {
		t.Errorf("with two of the newest six missing, %v is shown: %v", c.Datasets[0].Serve, err)
	}
}

// A long window is among the newest until Prometheus would no longer take its sample in
// order, and then a matter of its page.
func TestLongWindowsAreShownWhileTheyAreYoung(t *testing.T) {
	of := dataset("x_1h", time.Hour, 24, 30, noon, 1, 0)
	s := State{Store: sample.Store{Stamp: sample.End}, Datasets: []Held{of}, maxAge: 24 * time.Hour}
	last := noon.Add(carousel.Young)
	for now, want := range map[time.Time]int{noon: 1, last.Add(-time.Millisecond): 1, last: 0} {
		c, err := s.Choose(now, day())
		if err != nil {
			t.Fatal(err)
		}
		d := &c.Datasets[0]
		if d.Serve[0].Len() != want || c.Expires.After(last) && want > 0 || d.old.To != 30-want {
			t.Errorf("at %s %v is shown, %v may be on a page, until %s", now, d.Serve, d.old, c.Expires)
		}
	}
}

// with is a state of a day of 5-minute windows, late in which a commit was late, of which
// the pages are held that are given by their distance to the page in turn at now.
func with(now time.Time, late bool, pages ...int64) *State {
	d := dataset("http_5m", 5*time.Minute, 30, 288, now, 1, 10)
	s := schedule(d.Definition, 24*time.Hour)
	d.pages = map[int64]bool{}
	for _, n := range pages {
		d.pages[s.InTurn(carousel.TurnOf(now))+n] = true
	}
	if late {
		d.Late = now.Add(-time.Minute)
	}
	return &State{Store: sample.Store{Stamp: sample.End}, Datasets: []Held{d}, maxAge: 24 * time.Hour}
}

// The page in turn is shown beside the newest windows, without gap or overlap, in each
// turn of a round, and until its turn is over.
func TestThePageInTurnIsShown(t *testing.T) {
	shown := map[bucket.Time]bool{}
	schedule := schedule(dataset("http_5m", 5*time.Minute, 30, 1, noon, 1, 0).Definition, 24*time.Hour)
	for n := range schedule.Pages {
		now := noon.Add(3*time.Hour + time.Duration(n)*carousel.Turn) // no round is due by itself
		c, err := with(now, true, 0).Choose(now, day())
		if err != nil {
			t.Fatal(err)
		}
		d := &c.Datasets[0]
		if c.Missing != 0 || d.Page[0] != d.Page[1] || d.Page[0].To > d.Serve[0].From || d.Windows(0) > MaxDepth || c.Samples != 11*d.Windows(0) {
			t.Fatalf("turn %d: page %v beside %v, %d samples, %d missing", n, d.Page, d.Serve, c.Samples, c.Missing)
		}
		for j := range d.shown(0) {
			shown[d.Window(j).Start] = true
		}
		if !c.Expires.Equal(now.Add(carousel.Turn)) && !c.Expires.Before(now.Add(carousel.Turn)) {
			t.Errorf("turn %d: the choice is valid until %s", n, c.Expires)
		}
		if oldest, _ := d.Oldest(); n > 0 && d.Page[0].Len() > 0 && oldest != d.Window(d.Page[0].From) {
			t.Errorf("turn %d: the oldest window is %s", n, oldest)
		}
	}
	// A day but the hour that passed meanwhile.
	if len(shown) < 288-schedule.Pages {
		t.Errorf("%d windows were shown in a round", len(shown))
	}
}

// A page that is not complete is not shown at all, and counted; without a round there is
// none, and none is missing; a query may ask for one.
func TestPagesAreShownWholeAndInRoundsOnly(t *testing.T) {
	s := schedule(dataset("http_5m", 5*time.Minute, 30, 1, noon, 1, 0).Definition, 24*time.Hour)
	quiet := noon // no round is due by itself
	for s.Shows(carousel.TurnOf(quiet), s.Every(), time.Time{}) {
		quiet = quiet.Add(carousel.Turn)
	}
	for _, tc := range []struct {
		name          string
		state         *State
		round         time.Duration
		pages, missed bool
	}{
		{"in a round", with(quiet, true, 0), 0, true, false},
		{"another page is there", with(quiet, true, 1, -1), 0, false, true},
		{"no round", with(quiet, false, 0), 0, false, false},
		{"a round is asked for", with(quiet, false, 0), carousel.Turn, true, false},
		{"and the page is missing", with(quiet, false), carousel.Turn, false, true},
	} {
		limits := day()
		limits.Round = tc.round
		c, err := tc.state.Choose(quiet, limits)
		if err != nil {
			t.Fatal(err)
		}
		if got, missed := c.Datasets[0].Page[0].Len() > 0, c.Missing == 1; got != tc.pages || missed != tc.missed {
			t.Errorf("%s: a page is shown: %t, missing: %t", tc.name, got, missed)
		}
		// Less history is less of the page.
		limits.MaxAge = time.Hour
		if c, err = tc.state.Choose(quiet, limits); err != nil || c.Datasets[0].Windows(0) > 12 {
			t.Errorf("%s: %d windows of an hour: %v", tc.name, c.Datasets[0].Windows(0), err)
		}
		// The newest alone have no page.
		if c, err = tc.state.Newest(quiet, limits); err != nil || c.Datasets[0].Page[0].Len() > 0 || c.Missing > 0 {
			t.Errorf("%s: the newest alone come with a page: %v", tc.name, err)
		}
	}
}

// Above the soft limit pages go before what is newest, breakdowns first.
func TestPagesGiveWayFirst(t *testing.T) {
	state := with(noon, true, 0)
	all, err := state.Choose(noon, day())
	if err != nil {
		t.Fatal(err)
	}
	page, newest := all.Datasets[0].Page[0].Len(), all.Datasets[0].Serve[0].Len()
	if page < 10 || newest != 6 {
		t.Fatalf("a page of %d and the newest %d", page, newest)
	}
	for _, tc := range []struct {
		soft        int
		page, serve [Roles]int
	}{
		{11*page + 66, [Roles]int{page, page}, [Roles]int{6, 6}},
		{11*page + 65, [Roles]int{page, page - 1}, [Roles]int{6, 6}},
		{page + 66, [Roles]int{page, 0}, [Roles]int{6, 6}},
		{page + 65, [Roles]int{page - 1, 0}, [Roles]int{6, 6}},
		{66, [Roles]int{0, 0}, [Roles]int{6, 6}},
		{65, [Roles]int{0, 0}, [Roles]int{6, 5}},
	} {
		limits := day()
		limits.Soft = tc.soft
		c, err := state.Choose(noon, limits)
		if err != nil {
			t.Fatal(err)
		}
		d := &c.Datasets[0]
		for role := range Roles {
			if d.Page[role].Len() != tc.page[role] || d.Serve[role].Len() != tc.serve[role] || d.Trimmed[role] != page+6-d.Windows(role) {
				t.Errorf("soft limit %d, role %d: %d of the page and the newest %d are shown, %d counted as trimmed; want %d and %d",
					tc.soft, role, d.Page[role].Len(), d.Serve[role].Len(), d.Trimmed[role], tc.page[role], tc.serve[role])
			}
		}
	}
}

// A sample leaves at the very millisecond at which it is as old as the bound:
// one later would fail the whole scrape of a Prometheus with that window.
func TestAgeIsExact(t *testing.T) {
	hour := dataset("uniques_1h", time.Hour, 30, 30, noon, 1, 0)
	for _, stamp := range []sample.Stamp{sample.End, sample.Start} {
		limits := day()
		before := choose(t, []Held{hour}, stamp, noon, limits)
		if before.Expires.IsZero() || !before.Expires.After(noon) {
			t.Fatalf("%s: the choice at noon expires at %v", stamp, before.Expires)
		}
		oldest := hour.slots[before.Datasets[0].Serve[0].From]
		if age := noon.Sub(stamp.Of(oldest.window).Std()); age >= limits.MaxAge {
			t.Errorf("%s: the oldest sample served is %s old", stamp, age)
		}
		last := choose(t, []Held{hour}, stamp, before.Expires.Add(-time.Millisecond), limits)
		if diff := cmp.Diff(served(before), served(last)); diff != "" || !before.Expires.Equal(last.Expires) {
			t.Errorf("%s: the choice changed before it expired:\n%s", stamp, diff)
		}
		after := choose(t, []Held{hour}, stamp, before.Expires, limits)
		if got, want := after.Datasets[0].Serve[0].From, before.Datasets[0].Serve[0].From+1; got != want {
			t.Errorf("%s: at its expiry the choice begins at window %d, want %d", stamp, got, want)
		}
	}
}

func TestFutureIsNotServed(t *testing.T) {
	five := dataset("http_5m", 5*time.Minute, 30, 5, noon, 1, 0)
	c := choose(t, []Held{five}, sample.End, noon.Add(-2*time.Minute), day())
	if got := c.Datasets[0].Serve[0]; got != (Range{0, 4}) {
		t.Errorf("served %v, want the four windows that have ended", got)
	}
	if want := noon.Add(-time.Millisecond); !c.Expires.Equal(want) {
		t.Errorf("the choice expires at %v, want %v, when the fifth window has ended", c.Expires, want)
	}
}

func TestSoftLimit(t *testing.T) {
	five := dataset("http_5m", 5*time.Minute, 30, 30, noon, 10, 100)
	hour := dataset("countries_1h", time.Hour, 6, 6, noon, 0, 1000)
	all := 30*110 + 6*1000
	for _, tc := range []struct {
		name       string
		soft       int
		five, hour [Roles]int // windows left
		samples    int
	}{
		{"all fit", all, [Roles]int{30, 30}, [Roles]int{6, 6}, all},
		{"one too many: the oldest breakdown goes, whole", all - 1, [Roles]int{30, 30}, [Roles]int{6, 5}, all - 1000},
		{"breakdowns by age across datasets", all - 3*1000 - 1, [Roles]int{30, 29}, [Roles]int{6, 3}, all - 3*1000 - 100},
		{"totals last", 2*1000 + 2*100 + 5*10, [Roles]int{5, 2}, [Roles]int{2, 2}, 2*1000 + 2*100 + 5*10},
		{"the floor stays", 1, [Roles]int{2, 2}, [Roles]int{2, 2}, 2*1000 + 2*110},
	} {
		t.Run(tc.name, func(t *testing.T) {
			limits := day()
			limits.Soft = tc.soft
			c := choose(t, []Held{five, hour}, sample.End, noon, limits)
			got := [][Roles]int{{c.Datasets[0].Serve[0].Len(), c.Datasets[0].Serve[1].Len()}, {c.Datasets[1].Serve[0].Len(), c.Datasets[1].Serve[1].Len()}}
			want := [][Roles]int{tc.five, tc.hour}
			if tc.name != "all fit" { // windows without totals count for nothing and may go at any time
				got[1][0], want[1][0] = 0, 0
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("windows left (-want +got):\n%s", diff)
			}
			if c.Samples != tc.samples {
				t.Errorf("%d samples, want %d", c.Samples, tc.samples)
			}
			if got, want := c.Datasets[0].Trimmed[1], 30-tc.five[1]; got != want {
				t.Errorf("%d windows of http_5m's breakdowns counted as trimmed, want %d", got, want)
			}
			if got := c.Datasets[1].Trimmed[0]; got != 0 {
				t.Errorf("%d windows counted as trimmed that held no sample", got)
			}
		})
	}
}

func TestHardLimit(t *testing.T) {
	limits := day()
	big := dataset("countries_1h", time.Hour, 6, 6, noon, 0, limits.Hard/2)
	state := State{Store: sample.Store{Stamp: sample.End}, Datasets: []Held{big}}
	if _, err := state.wide(noon, limits); err != nil {
		t.Errorf("exactly the hard limit is refused: %v", err)
	}
	big.slots[5].samples[1]++
	_, err := state.wide(noon, limits)
	var many *TooManyError
	if !errors.As(err, &many) || many.Samples != limits.Hard+1 {
		t.Errorf("error is %v, want a TooManyError of %d samples", err, limits.Hard+1)
	}
}

// Properties over random stores: never older than the bound, never above the soft limit unless at the floor, suffixes only,
// valid until the instant that it names and not beyond.
func TestProperties(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		sizes := []time.Duration{time.Minute, 5 * time.Minute, time.Hour, 24 * time.Hour}
		var datasets []Held
		for range rng.IntN(5) {
			size := sizes[rng.IntN(len(sizes))]
			last := noon.Truncate(size).Add(-time.Duration(rng.IntN(3)) * size)
			d := dataset(string(rune('a'+len(datasets))), size, rng.IntN(35), rng.IntN(40), last, rng.IntN(9), rng.IntN(90))
			kept := d.slots[:0]
			for _, w := range d.slots { // with holes
				if rng.IntN(5) > 0 {
					kept = append(kept, w)
				}
			}
			d.slots = kept
			datasets = append(datasets, d)
		}
		limits := Limits{MaxAge: time.Duration(1+rng.IntN(30)) * time.Hour, Soft: rng.IntN(3000), Hard: 1 << 30}
		c := choose(t, datasets, sample.End, noon, limits)
		atFloor, samples := true, 0
		for i := range datasets {
			for role, r := range c.Datasets[i].Serve {
				if r.To != len(datasets[i].slots) {
					t.Fatalf("seed %d: range %v of %d windows", seed, r, len(datasets[i].slots))
				}
				atFloor = atFloor && r.Len() <= Floor
				for _, w := range datasets[i].slots[r.From:r.To] {
					samples += w.samples[role]
					if age := noon.Sub(sample.End.Of(w.window).Std()); age >= limits.MaxAge {
						t.Fatalf("seed %d: a sample is %s old, the bound is %s", seed, age, limits.MaxAge)
					}
				}
			}
		}
		if samples != c.Samples || (samples > limits.Soft && !atFloor) {
			t.Fatalf("seed %d: %d samples (said %d), soft limit %d", seed, samples, c.Samples, limits.Soft)
		}
		if !c.Expires.IsZero() {
			// What is served must not change; what is left out may shrink meanwhile.
			later := choose(t, datasets, sample.End, c.Expires.Add(-time.Millisecond), limits)
			if diff := cmp.Diff(served(c), served(later)); diff != "" || later.Samples != c.Samples {
				t.Fatalf("seed %d: the choice changed before it expired:\n%s", seed, diff)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	hour := &bucket.Definition{Dataset: "uniques_1h", Size: time.Hour, Delay: 5 * time.Minute}
	daily := &bucket.Definition{Dataset: "uniques_1d", Size: 24 * time.Hour, Delay: 5 * time.Minute}
	for _, tc := range []struct {
		d     *bucket.Definition
		stamp sample.Stamp
		age   time.Duration
		want  string // part of the error; empty: none
	}{
		{hour, sample.End, 24 * time.Hour, ""},
		{hour, sample.End, 2*time.Hour + 5*time.Minute, ""},
		{hour, sample.End, 2 * time.Hour, "needs at least 3"},
		{hour, sample.Start, 3 * time.Hour, "needs at least 4"},
		{daily, sample.End, 24 * time.Hour, ""},
		{daily, sample.End, 12 * time.Hour, "needs at least 13"},
		{daily, sample.Start, 24 * time.Hour, "none is ever served"},
	} {
		err := Check(tc.d, tc.stamp, tc.age)
		if (err == nil) != (tc.want == "") || (err != nil && !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s, %s, %s: %v, want %q", tc.d.Dataset, tc.stamp, tc.age, err, tc.want)
		}
	}
}

func TestSpan(t *testing.T) {
	of := func(size time.Duration, depth int) *bucket.Definition {
		return &bucket.Definition{Dataset: "http", Size: size, Depth: depth, Delay: 5 * time.Minute}
	}
	for _, tc := range []struct {
		d       *bucket.Definition
		age     time.Duration
		want    time.Duration
		shallow string // part of what is said; empty: nothing
	}{
		// What is left of the age when a sample has waited for a round and its turn in it.
		{of(time.Minute, 30), 24 * time.Hour, 24*time.Hour - 5*time.Minute - 12*time.Hour - 365*time.Minute, ""},
		{of(5*time.Minute, 30), 24 * time.Hour, 24*time.Hour - 5*time.Minute - 12*time.Hour - 65*time.Minute, ""},
		{of(5*time.Minute, 30), 12 * time.Hour, 12*time.Hour - 5*time.Minute - 6*time.Hour - 35*time.Minute, ""},
		{of(time.Hour, 30), 24 * time.Hour, 24*time.Hour - 5*time.Minute - 12*time.Hour - 10*time.Minute, ""},
		{of(5*time.Minute, 6), 24 * time.Hour, 30 * time.Minute, "the depth of http is 6 buckets of 5m, so older ones never come round"},
		{of(5*time.Minute, 30), time.Hour, 30 * time.Minute, "CF_METRICS_REPLAY_HOURS is 1 and"},
		{of(24*time.Hour, 2), 72 * time.Hour, 72*time.Hour - 5*time.Minute - 12*time.Hour - 20*time.Minute, ""},
	} {
		name := bucket.SizeName(tc.d.Size)
		if got := Span(tc.d, sample.End, tc.age); got != tc.want {
			t.Errorf("%d buckets of %s within %s: %s, want %s", tc.d.Depth, name, tc.age, got, tc.want)
		}
		err := Shallow(tc.d, sample.End, tc.age)
		if (err == nil) != (tc.shallow == "") || err != nil && !strings.Contains(err.Error(), tc.shallow) {
			t.Errorf("%d buckets of %s within %s: %v, want %q", tc.d.Depth, name, tc.age, err, tc.shallow)
		}
	}
	minutes := dataset("http", time.Minute, 30, 60, noon, 1, 0)
	minutes.Definition = of(time.Minute, 30)
	// The limit on samples takes its part.
	limits := day()
	limits.Soft = 10
	c := choose(t, []Held{minutes}, sample.End, noon, limits)
	if got := c.Datasets[0].Span(sample.End, day().MaxAge); got != 10*time.Minute {
		t.Errorf("ten samples of one series stay for %s, want 10m", got)
	}
}
