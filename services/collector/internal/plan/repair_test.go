package plan_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// A day that zones of two kinds lack takes few requests more than its windows fill: zones that lack the
// same share requests, whatever their ids, and sampled windows, which are asked with those after them, are
// asked for few zones at a time.
func TestADayIsRepairedInFewRequests(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	others := hourly(4)
	for _, zones := range []int{20, 60, 75} {
		var wants []plan.Want
		least := 0.
		for i := range zones {
			w := want(http, zone(i), now, 24*time.Hour)
			w.Have = nil
			if i%4 == 0 {
				w.Variant = &http.Variants[1]
				least += 24*12 - 11 // without those that fell due recently
			} else {
				least++
			}
			wants = append(wants, w)
			for _, d := range others {
				w := want(d, zone(i), now, 24*time.Hour)
				w.Have = nil
				wants = append(wants, w)
				least++
			}
		}
		least /= float64(plan.DefaultCeilings.Selections)
		requests := 0.
		for _, r := range plan.Make(now, wants, state{}, plan.DefaultCeilings).Requests {
			if r.Lane == plan.Repair {
				requests++
			}
		}
		t.Logf("%d zones: %.0f requests, their windows fill %.1f", zones, requests, least)
		if requests > 1.15*least+2 { // a rectangle of each kind of zone may be half empty
			t.Errorf("%d zones: %.0f requests repair a day whose windows fill %.1f", zones, requests, least)
		}
	}
}

// Zones that lack different windows of which some are the same share requests window by window: there
// are no more of them than the zones, and no more than the windows take.
func TestZonesThatLackDifferentWindowsShareRequests(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	r := rand.New(rand.NewPCG(1, 2))
	var wants []plan.Want
	windows := map[int]int{} // how many zones lack them
	for i := range 100 {
		one, other := 100+r.IntN(6), 110+r.IntN(6)
		windows[one]++
		windows[other]++
		w := want(http, zone(i), now, 24*time.Hour, one, other)
		w.Variant = &http.Variants[1]
		wants = append(wants, w)
	}
	most := 0
	for _, zones := range windows {
		most += (zones + 9) / 10
	}
	p := plan.Make(now, wants, state{}, plan.DefaultCeilings)
	if len(p.Requests) > most {
		t.Errorf("%d requests, window by window there are %d", len(p.Requests), most)
	}
}
