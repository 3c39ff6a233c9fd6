package recent

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
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

func choose(t *testing.T, datasets []Held, stamp sample.Stamp, now time.Time, limits Limits) *Choice {
	t.Helper()
	state := State{Store: sample.Store{Stamp: stamp}, Datasets: datasets}
	c, err := state.Choose(now, limits)
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

func TestDepthAndAge(t *testing.T) {
	five := dataset("http_5m", 5*time.Minute, 30, 40, noon, 1, 0)
	hour := dataset("uniques_1h", time.Hour, 24, 30, noon, 1, 0)
	deep := dataset("x_5m", 5*time.Minute, 99, 40, noon, 1, 0) // a definition cannot lift the cliff
	shallow := dataset("countries_1h", time.Hour, 6, 30, noon, 0, 1)
	c := choose(t, []Held{five, hour, deep, shallow}, sample.End, noon, day())
	var got []int
	for i := range c.Datasets {
		got = append(got, c.Datasets[i].Serve[0].Len())
	}
	if diff := cmp.Diff([]int{30, 24, 30, 6}, got); diff != "" {
		t.Errorf("windows served (-want +got):\n%s", diff)
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
	if _, err := state.Choose(noon, limits); err != nil {
		t.Errorf("exactly the hard limit is refused: %v", err)
	}
	big.slots[5].samples[1]++
	_, err := state.Choose(noon, limits)
	var many *TooManyError
	if !errors.As(err, &many) || many.Samples != limits.Hard+1 {
		t.Errorf("error is %v, want a TooManyError of %d samples", err, limits.Hard+1)
	}
}

// Properties over random stores: never older than the bound, never deeper than
// the cliff, never above the soft limit unless at the floor, suffixes only,
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
				if r.To != len(datasets[i].slots) || r.Len() > MaxDepth {
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
		{of(time.Minute, 30), 24 * time.Hour, 30 * time.Minute, "repeats 30 buckets of 1m, whatever CF_METRICS_REPLAY_HOURS is: a Prometheus that is down for longer than 30m"},
		{of(time.Minute, 99), 720 * time.Hour, 30 * time.Minute, "repeats 30 buckets of 1m"},
		{of(5*time.Minute, 30), 24 * time.Hour, 150 * time.Minute, ""},
		{of(5*time.Minute, 6), 24 * time.Hour, 30 * time.Minute, "repeats 6 buckets of 5m"},
		{of(5*time.Minute, 12), 24 * time.Hour, time.Hour, ""},
		{of(5*time.Minute, 30), time.Hour, 55 * time.Minute, "CF_METRICS_REPLAY_HOURS is 1 and"},
		{of(time.Hour, 30), 24 * time.Hour, 24*time.Hour - 5*time.Minute, ""},
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
	// A sample stays for that long, to the window: what leaves is as old as it is said.
	minutes := dataset("http", time.Minute, 30, 60, noon, 1, 0)
	minutes.Definition = of(time.Minute, 30)
	c := choose(t, []Held{minutes}, sample.End, noon, day())
	oldest, newest := minutes.slots[c.Datasets[0].Serve[0].From], minutes.slots[c.Datasets[0].Serve[0].To-1]
	if got, want := newest.window.End.Sub(oldest.window.Start), Span(of(time.Minute, 30), sample.End, day().MaxAge); got != want {
		t.Errorf("%s are served, %s are told", got, want)
	}
	// The limit on samples takes its part.
	limits := day()
	limits.Soft = 10
	c = choose(t, []Held{minutes}, sample.End, noon, limits)
	if got := c.Datasets[0].Span(sample.End, day().MaxAge); got != 10*time.Minute {
		t.Errorf("ten samples of one series stay for %s, want 10m", got)
	}
}
