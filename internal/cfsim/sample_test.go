package cfsim_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

const sampledQuery = `{ viewer { zones(filter: {zoneTag: $zone}) {
	rollup: httpRequests1mGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } avg { sampleInterval } }
	adaptive: httpRequestsAdaptiveGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to, requestSource: "eyeball"}) {
		count avg { sampleInterval } confidence(level: 0.95) { level count { estimate lower upper sampleSize isValid } sum { visits { estimate } } } } } } }`

func TestSamplingIsOffByDefault(t *testing.T) {
	w := newWorld(t, nil)
	a := w.good(sampledQuery, span("shop", epoch.Add(-20*time.Hour), epoch.Add(-time.Hour)))
	r := rows(t, a, "adaptive")[0]
	n := num(t, r, "count")
	if num(t, r, "avg", "sampleInterval") != 1 || num(t, r, "confidence", "count", "sampleSize") != n || num(t, r, "confidence", "count", "lower") != n ||
		num(t, rows(t, a, "rollup")[0], "sum", "requests") != n || num(t, rows(t, a, "rollup")[0], "avg", "sampleInterval") != 1 {
		t.Errorf("an exact answer is %v", r)
	}
}

func TestSamplingFollowsTheSizeOfTheQuestion(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Sampling.Enabled = true })
	for window, interval := range map[time.Duration]uint64{time.Hour: 1, 3 * time.Hour: 10, 60 * time.Hour: 100} {
		from, to := epoch.Add(-window-time.Hour), epoch.Add(-time.Hour)
		vars := span("shop", from, to)
		query := `{ viewer { zones(filter: {zoneTag: $zone}) { adaptive: httpRequestsAdaptiveGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to, requestSource: "eyeball"}) {
			count sum { edgeResponseBytes } avg { sampleInterval } confidence(level: 0.99) { count { estimate lower upper sampleSize isValid } } } } } }`
		one, two := rows(t, w.good(query, vars), "adaptive")[0], rows(t, w.good(query, vars), "adaptive")[0]
		truth, err := w.sim.True(zone("shop"), from, to)
		if err != nil {
			t.Fatal(err)
		}
		n := num(t, one, "count")
		if got := num(t, one, "avg", "sampleInterval"); got != interval || n%interval != 0 {
			t.Errorf("%s: interval %d and count %d, want interval %d", window, got, n, interval)
		}
		if d := math.Abs(float64(n)-float64(truth.Requests)) / float64(truth.Requests); d > .02 {
			t.Errorf("%s: the estimate %d is %.3f off the truth %d", window, n, d, truth.Requests)
		}
		if (n == num(t, two, "count")) != (interval == 1) {
			t.Errorf("%s: two reads gave %d and %d", window, n, num(t, two, "count"))
		}
		lower, _ := dig(t, one, "confidence", "count", "lower").(json.Number).Float64()
		upper, _ := dig(t, one, "confidence", "count", "upper").(json.Number).Float64()
		if size := num(t, one, "confidence", "count", "sampleSize"); size != n/interval || lower > float64(n) || upper < float64(n) || (lower < upper) != (interval > 1) {
			t.Errorf("%s: confidence %v", window, one)
		}
	}
}

func TestSmallGroupsVanishFromSamples(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Sampling = cfsim.Sampling{Enabled: true, Load: 1000} })
	from, to := epoch.Add(-time.Hour), epoch.Add(-50*time.Minute)
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { adaptive: httpRequestsAdaptiveGroups(limit: 1000, filter: {datetime_geq: $from, datetime_lt: $to}) {
		count dimensions { clientCountryName edgeResponseStatus sampleInterval } }
		rollup: httpRequests1mGroups(limit: 1, filter: {datetime_geq: $from, datetime_lt: $to}) { sum { requests } } } } }`, span("api", from, to))
	groups, err := w.sim.TrueGroups(zone("api"), "httpRequestsAdaptiveGroups", from, to, nil, "clientCountryName", "edgeResponseStatus")
	if err != nil {
		t.Fatal(err)
	}
	got := rows(t, a, "adaptive")
	if len(got) >= len(groups) || len(got) == 0 {
		t.Errorf("the sample has %d of %d groups, want some to be missing", len(got), len(groups))
	}
	for _, r := range got {
		if num(t, r, "count")%100 != 0 || num(t, r, "dimensions", "sampleInterval") != 100 {
			t.Errorf("row %v is no multiple of 100", r)
		}
	}
	truth, _ := w.sim.True(zone("api"), from, to)
	if n := num(t, rows(t, a, "rollup")[0], "sum", "requests"); n != truth.Requests {
		t.Errorf("the roll-up has %d, want exactly %d", n, truth.Requests)
	}
}
