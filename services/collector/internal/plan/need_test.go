package plan_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// defaults are the wants of zones that may be asked all default datasets.
func defaults(tb testing.TB, zones int) (wants []plan.Want) {
	c, err := catalogue.Load(nil, catalogue.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	for i := range c.Datasets {
		for n := range zones {
			wants = append(wants, plan.Want{Dataset: &c.Datasets[i], Variant: &c.Datasets[i].Variants[0], Scope: zone(n)})
		}
	}
	return wants
}

func need(wants []plan.Want) float64 {
	return plan.Need(wants, time.Minute, 5*time.Minute, plan.DefaultCeilings)
}

// Two readings of each window, ten zones a request, and a few more where traffic
// falls. That this is what is sent is held by package poll, on the simulator.
func TestNeedCountsRequests(t *testing.T) {
	for zones, want := range map[int]float64{0: 0, 1: 2, 10: 2, 11: 4, 100: 20} {
		if got := need(defaults(t, zones)); got < want || got > 1.2*want {
			t.Errorf("%d zones need %.2f requests in five minutes, want %g and a few", zones, got, want)
		}
	}
	// Zones that have to be asked another way share no request with the others.
	apart := defaults(t, 10)
	for i := range apart {
		if apart[i].Scope == zone(3) && len(apart[i].Dataset.Variants) > 1 {
			apart[i].Variant = &apart[i].Dataset.Variants[1]
		}
	}
	if one, two := need(defaults(t, 10)), need(apart); two < 1.8*one {
		t.Errorf("ten zones need %.2f, and %.2f if one of them has other variants", one, two)
	}
	// Short windows dominate.
	hourly := slices.DeleteFunc(defaults(t, 100), func(w plan.Want) bool { return w.Dataset.Size < time.Hour })
	if got := need(hourly); got < 1.5 || got > 5 {
		t.Errorf("hourly datasets of 100 zones need %.2f", got)
	}
}

// Of many scopes only a part is planned for, which takes no longer and says the same.
func TestNeedOfManyIsInProportion(t *testing.T) {
	few, many := need(defaults(t, 300)), need(defaults(t, 3000))
	if math.Abs(many/few-10) > .3 {
		t.Errorf("3000 zones need %.1f, 300 need %.1f", many, few)
	}
}
