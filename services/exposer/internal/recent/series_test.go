package recent

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
)

// feeder is a dataset with samples of families that others may have too.
type feeder struct {
	id      string
	size    time.Duration
	windows int       // held, the newest of which ends at last
	last    time.Time // zero: noon
	zones   string    // one letter each; empty: one zone
	// Of the newest window, the one before it, and so on: label values of the
	// breakdown. The last one is that of all that are older. None: there is only the
	// total, which has a label too if the dataset's id is to tell it apart.
	rows []string
	own  bool // the total bears the dataset's id as a label
}

const (
	sharedTotal     = "cloudflare_zone_shared"
	sharedBreakdown = "cloudflare_zone_shared_by_status"
)

// hold renders the buckets of the feeders, as they come in a snapshot.
func hold(t testing.TB, feeders ...feeder) *State {
	t.Helper()
	r := New(sample.Store{ID: "test", Stamp: sample.End}, 1000*time.Hour)
	for _, f := range feeders {
		d := &bucket.Definition{Dataset: f.id, Version: 1, ScopeKind: bucket.Zone, Size: f.size, Depth: 30, Families: []bucket.Family{
			{Name: sharedTotal, Help: "Shared.", Role: bucket.Total},
			{Name: sharedBreakdown, Help: "Shared, by status.", Role: bucket.Breakdown, Labels: []string{"status"}},
		}}
		total := bucket.Rows{Family: sharedTotal, Values: []float64{1}}
		if f.own {
			d.Families[0].Labels, total.Labels = []string{"dataset"}, []string{f.id}
		}
		if err := r.Define(d); err != nil {
			t.Fatal(err)
		}
		last := f.last
		if last.IsZero() {
			last = noon
		}
		at, _ := r.find(f.id)
		pages := map[int64]bool{} // all of them, so that all windows are held
		for n := range f.windows {
			pages[r.schedule(r.datasets[at]).PageOf(bucket.TimeOf(last).Add(-time.Duration(n+1)*f.size))] = true
		}
		r.datasets[at].pages = pages
		if f.zones == "" {
			f.zones = "a"
		}
		for n := f.windows - 1; n >= 0; n-- {
			for _, zone := range strings.Split(f.zones, "") {
				b := &bucket.Bucket{
					Key:  bucket.Key{Dataset: f.id, Scope: bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat(zone, 32)}, Start: bucket.TimeOf(last).Add(-time.Duration(n+1) * f.size)},
					Size: f.size, Version: 1, Zone: zone + ".example", Account: "Acme", Families: []bucket.Rows{total},
				}
				if len(f.rows) > 0 {
					if values := f.rows[min(n, len(f.rows)-1)]; values != "" {
						rows := bucket.Rows{Family: sharedBreakdown, Labels: strings.Split(values, " ")}
						rows.Values = make([]float64, len(rows.Labels))
						b.Families = append(b.Families, rows)
					}
				}
				if held, err := r.Add(b, d, noon); err != nil || !held {
					t.Fatalf("%s is not held: %v", b.Key, err)
				}
			}
		}
	}
	return r.State(bucket.Position{})
}

func all() Limits { return Limits{MaxAge: 1000 * time.Hour, Soft: math.MaxInt, Hard: math.MaxInt} }

// After a change of bucket size two datasets carry the same series. Together
// they must stay below the cliff.
func TestSharedFamilyIsCapped(t *testing.T) {
	c, err := hold(t,
		feeder{id: "http_15m", size: 15 * time.Minute, windows: 8},
		feeder{id: "http_5m", size: 5 * time.Minute, windows: 30, last: noon.Add(-2 * time.Hour)},
	).wide(noon, all())
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Datasets[0].Serve[0].Len(); got != 8 {
		t.Errorf("the new size serves %d windows, want all 8", got)
	}
	if got := c.Datasets[1].Serve[0].Len(); got != MaxDepth-8 {
		t.Errorf("the old size serves %d windows, want the newest %d", got, MaxDepth-8)
	}
}

// lines are the samples of a family in the order of a body: labels and the end of
// the window.
func lines(c *Choice, s *State, family string) (out []string) {
	i := slices.IndexFunc(s.families, func(f Family) bool { return f.Name == family })
	for column := range c.Columns(&s.families[i]) {
		for line := range strings.Lines(string(column.Lines)) {
			var series string
			var value float64
			var at int64
			if _, err := fmt.Sscan(line, &series, &value, &at); err != nil {
				panic(err)
			}
			out = append(out, series+" "+time.UnixMilli(at+1).UTC().Format("15:04"))
		}
	}
	return out
}

// most is the greatest number of samples that a series has in a choice.
func most(c *Choice, s *State) (n int) {
	for i := range s.families {
		of := map[uint64]int{}
		for column := range c.Columns(&s.families[i]) {
			for id := range expo.Series(column.Lines) {
				of[id]++
				n = max(n, of[id])
			}
		}
	}
	return n
}

// What counts against the cliff are the samples of a series. Datasets that share
// a family's name and no series leave each other's windows alone, and those that
// share some lose what is too much, and nothing else.
func TestSeriesAreCapped(t *testing.T) {
	const five, quarter, hour = 5 * time.Minute, 15 * time.Minute, time.Hour
	for _, tc := range []struct {
		name    string
		feeders []feeder
		want    [][Roles]int // windows shown
	}{
		{"hourly ones beside 5-minute ones, told apart by a label", []feeder{
			{id: "a_5m", size: five, windows: 30, own: true},
			{id: "b_1h", size: hour, windows: 24, own: true},
		}, [][Roles]int{{30, 30}, {24, 24}}},
		{"told apart by their zones", []feeder{
			{id: "a_5m", size: five, windows: 30, zones: "ab"},
			{id: "b_1h", size: hour, windows: 24, zones: "cd"},
		}, [][Roles]int{{30, 30}, {24, 24}}},
		{"told apart by the values of a label", []feeder{
			{id: "a_5m", size: five, windows: 30, own: true, rows: []string{"200 404"}},
			{id: "b_1h", size: hour, windows: 24, own: true, rows: []string{"301"}},
		}, [][Roles]int{{30, 30}, {24, 24}}},
		{"one zone of many has both", []feeder{
			{id: "a_15m", size: quarter, windows: 8, zones: "bc"},
			{id: "b_5m", size: five, windows: 30, last: noon.Add(-2 * hour), zones: "ab"},
		}, [][Roles]int{{8, 8}, {22, 30}}},
		{"totals are others, a status is the same", []feeder{
			{id: "a_15m", size: quarter, windows: 8, own: true, rows: []string{"200"}},
			{id: "b_5m", size: five, windows: 30, last: noon.Add(-2 * hour), own: true, rows: []string{"200 404"}},
		}, [][Roles]int{{8, 8}, {30, 22}}},
		{"a status that was rare counts as often as it was there", []feeder{
			{id: "a_15m", size: quarter, windows: 8, own: true, rows: []string{"301 404", "301", "301", "301 404", "301"}},
			{id: "b_5m", size: five, windows: 30, last: noon.Add(-2 * hour), own: true, rows: []string{"404"}},
		}, [][Roles]int{{8, 8}, {30, 28}}},
		{"a window may stay in which the series is not", []feeder{
			{id: "a_15m", size: quarter, windows: 8, own: true, rows: []string{"404"}},
			// 22 of its newest have a sample, then come five without.
			{id: "b_5m", size: five, windows: 30, last: noon.Add(-2 * hour), own: true, rows: append(slices.Repeat([]string{"404"}, 22), "", "", "", "", "", "404")},
		}, [][Roles]int{{8, 8}, {30, 27}}},
		{"three datasets", []feeder{
			{id: "a_1h", size: hour, windows: 3},
			{id: "b_15m", size: quarter, windows: 10, last: noon.Add(-3 * hour)},
			{id: "c_5m", size: five, windows: 30, last: noon.Add(-330 * time.Minute)},
		}, [][Roles]int{{3, 3}, {10, 10}, {17, 30}}},
		{"interleaved, where none ends before the other begins", []feeder{
			{id: "a_15m", size: quarter, windows: 30},
			{id: "b_5m", size: five, windows: 30},
		}, [][Roles]int{{7, 30}, {23, 30}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := hold(t, tc.feeders...)
			c, err := s.wide(noon, all())
			if err != nil {
				t.Fatal(err)
			}
			var got [][Roles]int
			for i := range c.Datasets {
				// A role of which nothing is in the family is not cut.
				got = append(got, [Roles]int{c.Datasets[i].Serve[0].Len(), c.Datasets[i].Serve[1].Len()})
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("windows shown (-want +got):\n%s", diff)
			}
			if n := most(c, s); n > MaxDepth {
				t.Errorf("a series has %d samples", n)
			}
		})
	}
}

// Properties over random datasets that share families: no series is above the
// cliff, and no window is left out without need.
func TestSeriesProperties(t *testing.T) {
	sizes := []time.Duration{5 * time.Minute, 15 * time.Minute, time.Hour}
	statuses := []string{"", "200", "404", "200 404", "200 301 404"}
	cuts := 0
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var feeders []feeder
		for i := range 2 + rng.IntN(3) {
			size := sizes[rng.IntN(len(sizes))]
			f := feeder{id: fmt.Sprint(i), size: size, windows: 1 + rng.IntN(30), last: noon.Add(-time.Duration(rng.IntN(20)) * size), own: rng.IntN(2) == 0, zones: []string{"a", "b", "ab"}[rng.IntN(3)]}
			for range 1 + rng.IntN(30) {
				f.rows = append(f.rows, statuses[rng.IntN(len(statuses))])
			}
			feeders = append(feeders, f)
		}
		s := hold(t, feeders...)
		c, err := s.wide(noon, all())
		if err != nil {
			t.Fatal(err)
		}
		if n := most(c, s); n > MaxDepth {
			t.Fatalf("seed %d: a series has %d samples", seed, n)
		}
		samples := map[uint64]int{}
		for i := range s.families {
			for column := range c.Columns(&s.families[i]) {
				for id := range expo.Series(column.Lines) {
					samples[id]++
				}
			}
		}
		for i := range c.Datasets {
			d := &c.Datasets[i]
			for role, r := range d.Serve {
				if r.To != d.Len() {
					t.Fatalf("seed %d: %s ends at window %d of %d", seed, d.Dataset, r.To, d.Len())
				}
				if r.From == 0 {
					continue
				}
				cuts++
				full := false // a series of the window that went first has all that it may have
				for _, column := range d.Columns(r.From - 1) {
					full = full || Index(column.Role) == role && slices.ContainsFunc(column.Series(), func(id uint64) bool { return samples[id] == MaxDepth })
				}
				if !full {
					t.Fatalf("seed %d: %s shows %v of role %d, and no series of the window before is full", seed, d.Dataset, r, role)
				}
			}
		}
	}
	if cuts < 20 {
		t.Errorf("only %d ranges were cut: the seeds say nothing", cuts)
	}
}

// Who takes the newest bucket alone gets that of each series, whichever dataset
// it is of.
func TestNewestOfASharedFamily(t *testing.T) {
	const five, hour = 5 * time.Minute, time.Hour
	for _, tc := range []struct {
		name    string
		feeders []feeder
		want    []string
	}{
		{"told apart by a label", []feeder{
			{id: "a_5m", size: five, windows: 3, own: true},
			{id: "b_1h", size: hour, windows: 2, last: noon.Add(-10 * time.Minute), own: true},
		}, []string{
			`cloudflare_zone_shared{zone="a.example",account="Acme",dataset="b_1h"} 11:50`,
			`cloudflare_zone_shared{zone="a.example",account="Acme",dataset="a_5m"} 12:00`,
		}},
		{"the same series", []feeder{
			{id: "a_5m", size: five, windows: 3},
			{id: "b_1h", size: hour, windows: 2, last: noon.Add(-15 * time.Minute)},
		}, []string{`cloudflare_zone_shared{zone="a.example",account="Acme"} 12:00`}},
		{"one zone is behind, and the other has changed its size", []feeder{
			{id: "a_5m", size: five, windows: 3, zones: "b"},
			{id: "b_1h", size: hour, windows: 2, last: noon.Add(-15 * time.Minute), zones: "ab"},
		}, []string{
			`cloudflare_zone_shared{zone="a.example",account="Acme"} 11:45`,
			`cloudflare_zone_shared{zone="b.example",account="Acme"} 12:00`,
		}},
	} {
		s := hold(t, tc.feeders...)
		c, err := s.Newest(noon, all())
		if err != nil {
			t.Fatal(err)
		}
		got := lines(c, s, sharedTotal)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
		if c.Samples != len(got) {
			t.Errorf("%s: %d samples, and %d lines", tc.name, c.Samples, len(got))
		}
	}
}
