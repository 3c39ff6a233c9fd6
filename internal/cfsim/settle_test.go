package cfsim_test

import (
	"math"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// TestSettlingHasTheRecordedShape compares with the one snapshot of the real
// API that was published: shares of a steady level by the age of the bucket's
// end.
func TestSettlingHasTheRecordedShape(t *testing.T) {
	w := newWorld(t, nil)
	at := epoch.Add(44 * time.Second)
	for _, c := range []struct {
		age  time.Duration
		want float64
	}{{44 * time.Second, .04}, {104 * time.Second, .44}, {164 * time.Second, .89}, {224 * time.Second, 1}, {284 * time.Second, 1}} {
		var shown, whole float64
		for i := range 40 { // 40 instants, since one minute is one draw of the jitter
			now := at.Add(time.Duration(i) * time.Hour)
			end := now.Add(-c.age)
			got, err := w.sim.Shown(zone("shop"), "httpRequests1mGroups", end.Add(-time.Minute), end, now)
			if err != nil {
				t.Fatal(err)
			}
			truth, err := w.sim.True(zone("shop"), end.Add(-time.Minute), end)
			if err != nil {
				t.Fatal(err)
			}
			shown, whole = shown+float64(got.Requests), whole+float64(truth.Requests)
		}
		if got := shown / whole; math.Abs(got-c.want) > .03 {
			t.Errorf("age %s: %.3f of the truth is shown, want %.2f", c.age, got, c.want)
		}
	}
}

func TestSettledMinutesAreExactAndGrowUntilThen(t *testing.T) {
	w := newWorld(t, nil)
	start := epoch.Add(-10 * time.Minute)
	truth, err := w.sim.True(zone("checkout"), start, start.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	var last cfsim.Totals
	uneven := false
	for age := -time.Minute; age <= 6*time.Minute; age += 5 * time.Second {
		got, err := w.sim.Shown(zone("checkout"), "httpRequests1mGroups", start, start.Add(time.Minute), start.Add(time.Minute+age))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case age < 0 && got.Requests != 0:
			t.Fatalf("running minute shows %d requests", got.Requests)
		case got.Requests < last.Requests || got.Bytes < last.Bytes || got.Uniques < last.Uniques:
			t.Fatalf("age %s: shrank from %+v to %+v", age, last, got)
		case age >= 225*time.Second && (got.Requests != truth.Requests || got.Bytes != truth.Bytes || got.Uniques != truth.Uniques || got.PageViews != truth.PageViews):
			t.Fatalf("age %s: shows %+v, truth is %+v", age, got, truth)
		case age == 105*time.Second && got.Uniques >= truth.Uniques:
			t.Fatalf("age %s: uniques are complete already", age)
		}
		if age == 105*time.Second {
			a := float64(got.Status[200]) / float64(truth.Status[200])
			b := float64(got.Status[404]) / float64(max(truth.Status[404], 1))
			uneven = math.Abs(a-b) > .005
		}
		last = got
	}
	if !uneven {
		t.Error("all parts settle alike, want jitter")
	}
}

func TestSettlingScalePerDataset(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		c.Settling.Scale = map[string]float64{"httpRequestsAdaptiveGroups": 2}
	})
	start := epoch.Add(-time.Hour)
	now := start.Add(time.Minute + 300*time.Second)
	truth, _ := w.sim.True(zone("shop"), start, start.Add(time.Minute))
	rollup, _ := w.sim.Shown(zone("shop"), "httpRequests1mGroups", start, start.Add(time.Minute), now)
	adaptive, _ := w.sim.Shown(zone("shop"), "httpRequestsAdaptiveGroups", start, start.Add(time.Minute), now)
	if rollup.Requests != truth.Requests || adaptive.Requests >= truth.Requests {
		t.Errorf("truth %d, roll-up %d, adaptive at twice the time %d", truth.Requests, rollup.Requests, adaptive.Requests)
	}
}

func TestStragglersJumpAtSixMinutes(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Settling.Stragglers = .1 })
	stuck := 0
	for i := range 300 {
		start := epoch.Add(time.Duration(i) * time.Minute)
		end := start.Add(time.Minute)
		truth, _ := w.sim.True(zone("shop"), start, end)
		five, _ := w.sim.Shown(zone("shop"), "httpRequests1mGroups", start, end, end.Add(5*time.Minute))
		six, _ := w.sim.Shown(zone("shop"), "httpRequests1mGroups", start, end, end.Add(6*time.Minute))
		if six.Requests != truth.Requests {
			t.Fatalf("minute %d: after six minutes %d, truth %d", i, six.Requests, truth.Requests)
		}
		if share := float64(five.Requests) / float64(truth.Requests); share < 1 {
			stuck++
			if share < .4 || share > .8 {
				t.Errorf("minute %d: a straggler shows %.2f", i, share)
			}
		}
	}
	if stuck < 15 || stuck > 50 {
		t.Errorf("%d of 300 minutes straggled, want about 30", stuck)
	}
}

func TestLateRevisions(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Settling.Revisions, c.Settling.Downward = .1, .1 })
	grew, shrank := 0, 0
	for i := range 300 {
		start := epoch.Add(time.Duration(i) * time.Minute)
		end := start.Add(time.Minute)
		truth, _ := w.sim.True(zone("shop"), start, end)
		early, _ := w.sim.Shown(zone("shop"), "httpRequests1mGroups", start, end, end.Add(10*time.Minute))
		late, _ := w.sim.Shown(zone("shop"), "httpRequests1mGroups", start, end, end.Add(24*time.Hour))
		if late.Requests != truth.Requests {
			t.Fatalf("minute %d: after a day %d, truth %d", i, late.Requests, truth.Requests)
		}
		switch {
		case early.Requests < truth.Requests:
			grew++
		case early.Requests > truth.Requests:
			shrank++
		}
	}
	if grew < 12 || shrank < 12 {
		t.Errorf("%d minutes grew late and %d shrank, want about 30 each", grew, shrank)
	}
}

func TestRunningHourGrowsWithItsMinutes(t *testing.T) {
	w := newWorld(t, nil)
	hour := epoch
	w.clk.Set(epoch.Add(30 * time.Minute))
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) {
		h: httpRequests1hGroups(limit: 10, filter: {datetime: $from}) { sum { requests } }
		m: httpRequests1mGroups(limit: 100, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } } } } }`,
		span("shop", hour, hour.Add(time.Hour)))
	h, m := num(t, rows(t, a, "h")[0], "sum", "requests"), num(t, rows(t, a, "m")[0], "sum", "requests")
	truth, _ := w.sim.True(zone("shop"), hour, hour.Add(time.Hour))
	if h != m || h == 0 || h >= truth.Requests {
		t.Errorf("running hour shows %d, its minutes %d, truth %d", h, m, truth.Requests)
	}
}
