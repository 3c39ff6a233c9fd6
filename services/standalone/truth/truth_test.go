package truth_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/standalone/truth"
)

// A bucket that is not the truth is told of, whatever is wrong with it.
func TestDiffers(t *testing.T) {
	happened := cfsim.Totals{Uniques: 7}
	rows := func(family string, value float64) []bucket.Rows {
		return []bucket.Rows{{Family: family, Values: []float64{value}}}
	}
	for name, tc := range map[string]struct {
		families []bucket.Rows
		interval float64
		differs  bool
	}{
		"the truth":       {rows("cloudflare_zone_unique_visitors", 7), 0, false},
		"another value":   {rows("cloudflare_zone_unique_visitors", 8), 0, true},
		"nothing":         {nil, 0, true},
		"another family":  {append(rows("cloudflare_zone_requests", 7), rows("cloudflare_zone_unique_visitors", 7)...), 0, true},
		"a hidden sample": {rows("cloudflare_zone_unique_visitors", 7), 10, true},
	} {
		b := &bucket.Bucket{Key: bucket.Key{Dataset: "uniques_1h"}, Families: tc.families, SampleInterval: tc.interval}
		if got := truth.Differs(b, happened); (got != "") != tc.differs {
			t.Errorf("%s: told is %q; it differs: %t", name, got, tc.differs)
		}
	}
}

func TestNear(t *testing.T) {
	near := truth.Near(10)
	for got, want := range map[float64]bool{1000: true, 1200: true, 1700: false, 300: false} {
		if near(got, 1000) != want {
			t.Errorf("%v of 1000 by every tenth: near is %t, want %t", got, !want, want)
		}
	}
	if near(10, 0) {
		t.Error("a sample has requests where there were none")
	}
}

func TestSamples(t *testing.T) {
	end := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	at := func(zone string, minutes int) truth.Point {
		return truth.Of("cloudflare_zone_requests", zone, "A", "", end.Add(time.Duration(minutes)*time.Minute))
	}
	a, b, late := at("a", 0), at("b", 0), at("a", 5)
	if zone, account, label := a.Labels(); zone != "a" || account != "A" || label != "" || a.Family() != "cloudflare_zone_requests" || !a.End().Equal(end) {
		t.Errorf("the point %s is of %s, %s, %s, %s at %s", a, a.Family(), zone, account, label, a.End())
	}
	want := truth.Samples{May: map[truth.Point]float64{a: 1, b: 2}, Must: map[truth.Point]bool{a: true}}
	for name, tc := range map[string]struct {
		got            map[truth.Point]float64
		missing, wrong int
	}{
		"what must be":         {map[truth.Point]float64{a: 1}, 0, 0},
		"what may be":          {map[truth.Point]float64{a: 1, b: 2}, 0, 0},
		"what comes after":     {map[truth.Point]float64{a: 1, late: 9}, 0, 0},
		"nothing":              {nil, 1, 0},
		"another value":        {map[truth.Point]float64{a: 2}, 0, 1},
		"what nobody asked of": {map[truth.Point]float64{a: 1, at("c", 0): 1}, 0, 1},
	} {
		missing, wrong := truth.Missing(tc.got, want.Must), want.Wrong(tc.got, end)
		if len(missing) != tc.missing || len(wrong) != tc.wrong {
			t.Errorf("%s: missing are %v, wrong are %v; want %d and %d", name, missing, wrong, tc.missing, tc.wrong)
		}
	}
}
