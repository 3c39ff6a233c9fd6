package verify

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// Each sample is in exactly one class, whatever is there at its time.
func TestCompare(t *testing.T) {
	there := &origin{shown: true}
	young := &origin{shown: true, pending: true, due: time.Unix(500, 0)}
	other := &origin{shown: true, aside: true}
	younger := &origin{shown: true, pending: true, due: time.Unix(600, 0)}
	c := column{
		family: "x", names: []string{"a", "b"},
		want: []wanted{{100, 1, there}, {200, 2, there}, {300, 3, young}, {400, 4, there}, {500, math.Copysign(0, -1), there}, {600, 6, there}, {700, 7, there}, {840, 8, other}, {845, 8, other}, {850, 8, younger}, {870, 8, young}, {900, 9, young}},
		got: []held{
			{promapi.Sample{At: 100, Value: 1}, 0},
			{promapi.Sample{At: 400, Value: 5}, 0},
			{promapi.Sample{At: 500, Value: 0}, 0},
			{promapi.Sample{At: 600, Value: 7}, 0},
			{promapi.Sample{At: 600, Value: 6}, 1},
			{promapi.Sample{At: 700, Value: 7}, 0},
			{promapi.Sample{At: 700, Value: 7}, 0},
			{promapi.Sample{At: 800, Value: math.NaN()}, 0},
			{promapi.Sample{At: 845, Value: 8}, 0},
			{promapi.Sample{At: 900, Value: 9}, 1},
			{promapi.Sample{At: 1000, Value: 1}, 0},
		},
	}
	var got []string
	var count tally
	c.compare(100, 1000, exact, &count, func(d difference) { got = append(got, fmt.Sprintf("%s %d %v %v", d.kind, d.at, d.store, d.held)) })
	want := []string{"missing 200 2 0", "different 400 4 5", "different 500 -0 0", "parallel 600 6 7", "repeated 700 7 7", "extra 800 0 NaN"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(tally{Store: 10, Prometheus: 9, Equal: 4, Pending: 3, Until: time.Unix(600, 0)}, count); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}

// Labels have one meaning on both sides: order, empty values and ignored ones do not
// matter; one that nobody knows is an error that names it.
func TestKeys(t *testing.T) {
	tab := newTable([]string{"job", "instance"})
	b := someBucket(1795341600, 2)
	tab.add(&origin{}, setsOf(t, b))
	for _, s := range []promapi.Series{
		{Labels: map[string]string{"__name__": "x_by", "zone": "shop.example", "account": "Acme", "status": "200", "cache": "hit", "job": "weir"}},
		{Labels: map[string]string{"__name__": "x_by", "zone": "shop.example", "account": "Acme", "status": "404", "instance": "y"}}, // the label cache is empty
	} {
		if err := tab.take(&s, []string{"status", "cache"}); err != nil {
			t.Error(err)
		}
	}
	for key, c := range tab.columns {
		if (len(c.want) != 1 || len(c.names) != 1) && c.family == "x_by" {
			t.Errorf("column %q has %d samples and %d series, want one of each", key, len(c.want), len(c.names))
		}
	}
	stray := promapi.Series{Labels: map[string]string{"__name__": "x_by", "zone": "shop.example", "cluster": "eu"}}
	if err := tab.take(&stray, []string{"status", "cache"}); err == nil || !strings.Contains(err.Error(), "has the label cluster, which the store does not have") {
		t.Errorf("a label that nobody knows: %v", err)
	}
}

func someBucket(start bucket.Time, rows int) *bucket.Bucket {
	by := bucket.Rows{Family: "x_by", Labels: []string{"200", "hit", "404", ""}[:2*rows], Values: []float64{1, 2}[:rows]}
	return &bucket.Bucket{
		Key:  bucket.Key{Dataset: "x_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat("a", 32)}, Start: start},
		Size: 5 * time.Minute, Version: 1, Zone: "shop.example", Account: "Acme",
		Families: []bucket.Rows{{Family: "x", Values: []float64{7}}, by},
	}
}

var definition = &bucket.Definition{Dataset: "x_5m", Version: 1, ScopeKind: bucket.Zone, Size: 5 * time.Minute, Depth: 30, Families: []bucket.Family{
	{Name: "x", Role: bucket.Total}, {Name: "x_by", Labels: []string{"status", "cache"}, Role: bucket.Breakdown},
}}

func setsOf(t *testing.T, b *bucket.Bucket) []sample.Set {
	t.Helper()
	sets, err := sample.Append(nil, b, definition, sample.End)
	if err != nil {
		t.Fatal(err)
	}
	return sets
}

// What is picked is exactly what was found missing, whatever that is (seeds 1 to 8).
func TestPicksAreTheMissingSamples(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed+1, 1))
		tab := newTable(nil)
		var buckets []*history.Bucket
		for i := range 600 { // two days and more
			b := someBucket(bucket.Time(1795341600+300*i), 1+r.IntN(2))
			h := &history.Bucket{Bucket: b, Definition: definition, Sets: setsOf(t, b)}
			buckets = append(buckets, h)
			tab.add(&origin{Dataset: b.Dataset, Scope: b.Scope, Window: b.Window(), shown: true, pending: r.IntN(40) == 0}, h.Sets)
		}
		absent := map[string]bool{}
		hole := false
		for _, c := range tab.columns {
			c.names = []string{"x"}
			for _, w := range c.want {
				if r.IntN(20) == 0 {
					hole = !hole
				}
				if !hole {
					c.got = append(c.got, held{promapi.Sample{At: w.at, Value: w.value}, 0})
				} else if !w.origin.pending {
					absent[fmt.Sprint(c.family, c.labels, w.at)] = true
				}
			}
		}
		var file bytes.Buffer
		out, err := newWriter(&file, Header{Format: Format, StoreID: "s", Start: 1795341600, End: 1795341600 + 3*86400})
		if err != nil {
			t.Fatal(err)
		}
		report := &Report{}
		v := &run{store: &history.Store{}, o: &Options{}, report: report, ranges: newRanges(report), out: out}
		day := bucket.Time(1795341600)
		chunk := &history.Chunk{Group: &history.Group{Datasets: []string{"x_5m"}}, Range: bucket.Window{Start: day, End: day.Add(72 * time.Hour)}}
		v.sizes = func(string) time.Duration { return 5 * time.Minute }
		v.same = exact
		v.owner = func(*history.Group, *column) string { return "x_5m" }
		if err := v.compare(tab, chunk); err != nil {
			t.Fatal(err)
		}
		v.ranges.end()
		if err := out.close(); err != nil {
			t.Fatal(err)
		}
		whole := file.String()
		picks, err := LoadMissing(&file)
		if err != nil {
			t.Fatal(err)
		}
		if picks.Samples != int64(len(absent)) || report.Differences[Missing] != int64(len(absent)) {
			t.Errorf("seed %d: %d samples picked, %d reported, want %d", seed, picks.Samples, report.Differences[Missing], len(absent))
		}
		for _, b := range buckets {
			sets := picks.Of(b)
			for i := range sets {
				set := &sets[i]
				for n := range set.Len() {
					labels := []label{{"zone", set.Zone}, {"account", set.Account}}
					for j, value := range set.Own(n) {
						labels = append(labels, label{set.Family.Labels[j], value})
					}
					key := fmt.Sprint(set.Name, labels, set.At)
					if !absent[key] {
						t.Errorf("seed %d: %s was picked", seed, key)
					}
					delete(absent, key)
				}
			}
		}
		if len(absent) > 0 {
			t.Errorf("seed %d: %d samples were not picked", seed, len(absent))
		}
		middle := sample.Millis(1795341600+300*300) * 1000
		older := picks.Before(middle, v.sizes)
		if newer := picks.Before(1<<60, v.sizes); newer != picks.Samples || older > newer {
			t.Errorf("seed %d: %d samples before the middle and %d in all, want %d", seed, older, newer, picks.Samples)
		}
		// A file that was cut off is refused.
		cut := strings.TrimSuffix(whole[:strings.LastIndex(strings.TrimSuffix(whole, "\n"), "\n")+1], "")
		if _, err := LoadMissing(strings.NewReader(cut)); err == nil || !strings.Contains(err.Error(), "incomplete") {
			t.Errorf("seed %d: a file without its end is read: %v", seed, err)
		}
		// So is one that lost a line in its middle.
		lines := strings.SplitAfter(whole, "\n")
		middleOut := strings.Join(slices.Delete(lines, len(lines)/2, len(lines)/2+1), "")
		if _, err := LoadMissing(strings.NewReader(middleOut)); err == nil || !strings.Contains(err.Error(), "and its last line says") {
			t.Errorf("seed %d: a file without a line of its middle is read: %v", seed, err)
		}
	}
}

// What cannot be in a file of findings is refused, at once and without the memory that a
// range of ages would take.
func TestLoadMissingHasBorders(t *testing.T) {
	const (
		header  = `{"format":"weir-findings-1","store_id":"s","start_unix_seconds":1795341600,"end_unix_seconds":1795428000}` + "\n"
		trailer = `{"complete":true,"findings":1,"samples":1}` + "\n"
	)
	finding := func(first, last, samples string) string {
		return `{"kind":"missing","dataset":"d","scope_kind":"zone","scope_id":"z","family":"x","labels":{},"first_ms":` + first + `,"last_ms":` + last + `,"samples":` + samples + "}\n"
	}
	for _, tc := range []struct{ name, text, want string }{
		{"right", header + finding("1795341600000", "1795427999999", "1") + trailer, ""},
		{"a huge end", header + finding("1795341600000", "9000000000000000000", "1") + trailer, "line 2: the finding is from 1795341600000 to 9000000000000000000 ms; it must be inside the header's range, from 1795341600000 and before 1795428000000"},
		{"before the range", header + finding("1795341599999", "1795427999999", "1") + trailer, "line 2: the finding is from"},
		{"reversed", header + finding("1795341600001", "1795341600000", "1") + trailer, "line 2: the finding is from"},
		{"no sample", header + finding("1795341600000", "1795341600000", "0") + trailer, "has 0 samples"},
		{"a huge range", strings.Replace(header, "1795428000", "9000000000000000", 1) + trailer, "line 1: the header's range is from 1795341600 to 9000000000000000"},
		{"a reversed range", strings.Replace(header, "1795428000", "1795341600", 1) + trailer, "line 1: the header's range"},
		{"other counts", header + trailer, "the file has 0 findings of 0 samples, and its last line says 1 of 1"},
	} {
		if _, err := LoadMissing(strings.NewReader(tc.text)); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

// VictoriaMetrics is compared with the precision that it has, everybody else bit by bit.
func TestEquality(t *testing.T) {
	for _, tc := range []struct {
		a, b           float64
		exact, rounded bool
	}{
		{1, 1, true, true},
		{1076.6666666666667, 1076.6666666666, false, true},
		{1.9879253333333332e+07, 1.9879253333333336e+07, false, true},
		{1076.6666666, 1076.6666667, false, false},
		{0, 1e-300, false, false},
		{1 << 53, 1<<53 - 1, false, true},
		{1e11, 1e11 + 1, false, false},
	} {
		if got := [2]bool{exact(tc.a, tc.b), rounded(tc.a, tc.b)}; got != [2]bool{tc.exact, tc.rounded} {
			t.Errorf("%v and %v are equal: %v, want %v and %v", tc.a, tc.b, got, tc.exact, tc.rounded)
		}
	}
}
