package bucket_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/weir-metrics/weir/internal/bucket"
)

func TestFloorAndCeil(t *testing.T) {
	for _, c := range []struct {
		at, floor, ceil string
		size            time.Duration
	}{
		{"2026-11-22T10:07:31Z", "2026-11-22T10:05:00Z", "2026-11-22T10:10:00Z", 5 * time.Minute},
		{"2026-11-22T10:05:00Z", "2026-11-22T10:05:00Z", "2026-11-22T10:05:00Z", 5 * time.Minute},
		{"2026-11-22T10:05:00Z", "2026-11-22T00:00:00Z", "2026-11-23T00:00:00Z", 24 * time.Hour},
		{"1969-12-31T23:59:00Z", "1969-12-31T23:00:00Z", "1970-01-01T00:00:00Z", time.Hour},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		got := bucket.TimeOf(at)
		if f := got.Floor(c.size).String(); f != c.floor {
			t.Errorf("%s floored to %s is %s, want %s", c.at, c.size, f, c.floor)
		}
		if f := got.Ceil(c.size).String(); f != c.ceil {
			t.Errorf("%s raised to %s is %s, want %s", c.at, c.size, f, c.ceil)
		}
	}
}

func TestSizeName(t *testing.T) {
	for size, want := range map[time.Duration]string{time.Minute: "1m", 5 * time.Minute: "5m", 30 * time.Minute: "30m", time.Hour: "1h", 24 * time.Hour: "1d"} {
		if err := bucket.ValidSize(size); err != nil {
			t.Error(err)
		}
		if got := bucket.SizeName(size); got != want {
			t.Errorf("%s is called %q, want %q", size, got, want)
		}
	}
	for _, size := range []time.Duration{0, -time.Hour, 7 * time.Minute, 2 * time.Hour, time.Second} {
		if bucket.ValidSize(size) == nil {
			t.Errorf("%s is taken for a bucket size", size)
		}
	}
}

// Spans against a plain set of seconds: whatever is added and removed, both
// hold the same, and spans neither overlap nor touch.
func TestSpansAreASet(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const n = 60
	for range 300 {
		var spans bucket.Spans
		var set [n]bool
		for range 20 {
			a, b := bucket.Time(rng.IntN(n)), bucket.Time(rng.IntN(n+1))
			w := bucket.Window{Start: a, End: b}
			add := rng.IntN(3) > 0
			if add {
				spans = spans.Add(w)
			} else {
				spans = spans.Remove(w)
			}
			for i := a; i < b; i++ {
				set[i] = add
			}
			check(t, spans, set[:])
		}
	}
}

func check(t *testing.T, spans bucket.Spans, set []bool) {
	t.Helper()
	for i, s := range spans {
		if s.Empty() || i > 0 && spans[i-1].End >= s.Start {
			t.Fatalf("spans are not ascending and apart: %v", spans)
		}
	}
	all := bucket.Window{Start: 0, End: bucket.Time(len(set))}
	missing, within := spans.Missing(all), spans.Within(all)
	for i, in := range set {
		second := bucket.Window{Start: bucket.Time(i), End: bucket.Time(i + 1)}
		if spans.Contains(second) != in || missing.Contains(second) == in || within.Contains(second) != in {
			t.Fatalf("second %d: in the set %t; spans %v, missing %v", i, in, spans, missing)
		}
	}
}

func TestRowsAreSortedAndUnique(t *testing.T) {
	rows := bucket.Rows{Family: "f", Labels: []string{"b", "1", "a", "2", "a", "1"}, Values: []float64{1, 2, 3}}
	if rows.Validate() == nil {
		t.Error("rows out of order pass")
	}
	bucket.SortRows(&rows)
	want := bucket.Rows{Family: "f", Labels: []string{"a", "1", "a", "2", "b", "1"}, Values: []float64{3, 2, 1}}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("sorted rows differ (-want +got):\n%s", diff)
	}
	if err := rows.Validate(); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]bucket.Rows{
		"twice":   {Family: "f", Labels: []string{"a", "a"}, Values: []float64{1, 2}},
		"no name": {Values: []float64{1}},
		"no rows": {Family: "f"},
		"ragged":  {Family: "f", Labels: []string{"a", "b", "c"}, Values: []float64{1, 2}},
		"NaN":     {Family: "f", Values: []float64{math.NaN()}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

func TestScopeIDs(t *testing.T) {
	good := bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat("0a", 16)}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, id := range []string{"", "0a", strings.Repeat("0A", 16), strings.Repeat("zz", 16), strings.Repeat("0a", 17)} {
		if (bucket.Scope{Kind: bucket.Zone, ID: id}).Validate() == nil {
			t.Errorf("id %q passes", id)
		}
	}
	if (bucket.Scope{ID: good.ID}).Validate() == nil {
		t.Error("a scope without a kind passes")
	}
}

// The chain changes with anything that an entry is.
func TestChainTellsHistoriesApart(t *testing.T) {
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	var zero bucket.Chain
	seen := map[bucket.Chain]string{}
	for name, c := range map[string]bucket.Chain{
		"entry":     zero.Next(bucket.KindBucket, at, []byte("ab")),
		"payload":   zero.Next(bucket.KindBucket, at, []byte("ac")),
		"kind":      zero.Next(bucket.KindState, at, []byte("ab")),
		"time":      zero.Next(bucket.KindBucket, at.Add(time.Millisecond), []byte("ab")),
		"before":    zero.Next(bucket.KindBucket, at, []byte("a")).Next(bucket.KindBucket, at, []byte("ab")),
		"two of it": zero.Next(bucket.KindBucket, at, []byte("ab")).Next(bucket.KindBucket, at, []byte("ab")),
	} {
		if other, twice := seen[c]; twice {
			t.Errorf("%s and %s have one chain", name, other)
		}
		seen[c] = name
	}
	if zero.Next(bucket.KindBucket, at, []byte("ab")) != zero.Next(bucket.KindBucket, at.In(time.FixedZone("x", 3600)), []byte("ab")) {
		t.Error("the same instant in another zone gives another chain")
	}
}
