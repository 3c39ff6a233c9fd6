package cfsim_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// wide is the demo with one busy zone.
func wide(t *testing.T) *world {
	return newWorld(t, func(c *cfsim.Config) {
		c.Zones[0].Traffic = traffic.Wide(90_000)
	})
}

func groups(t *testing.T, w *world, zoneName, dataset string, filter map[string]any, dims ...string) []cfsim.Group {
	t.Helper()
	out, err := w.sim.TrueGroups(zone(zoneName), dataset, epoch.Add(-time.Hour), epoch.Add(-55*time.Minute), filter, dims...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A busy zone has as many values as limits on values are made for.
func TestABusyZoneIsVaried(t *testing.T) {
	w := wide(t)
	const http, events = "httpRequestsAdaptiveGroups", "firewallEventsAdaptiveGroups"
	for _, test := range []struct {
		dataset, dimension string
		least              int
	}{
		{http, "clientCountryName", 190},
		{http, "coloCode", 150},
		{http, "clientAsn", 400},
		{http, "clientRequestHTTPHost", 390},
		{http, "clientRequestPath", 900},
		{http, "botScore", 60},
		{events, "ruleId", 40},
		{events, "clientCountryName", 60},
	} {
		if n := len(groups(t, w, "shop", test.dataset, nil, test.dimension)); n < test.least {
			t.Errorf("%s has %d values of %s in five minutes, want %d", test.dataset, n, test.dimension, test.least)
		}
	}
	a := w.good(`{ viewer { zones(filter: {zoneTag: $zone}) { httpRequestsAdaptiveGroups(limit: 10000, filter: {datetime_geq: $from, datetime_lt: $to}) {
		count dimensions { edgeResponseStatus clientCountryName clientRequestHTTPHost } } } } }`, span("shop", epoch.Add(-time.Hour), epoch.Add(-55*time.Minute)))
	if n := len(rows(t, a, "httpRequestsAdaptiveGroups")); n < 4000 {
		t.Errorf("by status, country and host there are %d groups, want thousands", n)
	}
}

// What is shown by any dimension adds up to the same totals.
func TestDimensionsDivideTheSameRequests(t *testing.T) {
	for _, w := range []*world{newWorld(t, nil), wide(t)} {
		whole := groups(t, w, "shop", "httpRequestsAdaptiveGroups", nil)[0]
		d := schema.Lookup(schema.Zone, "httpRequestsAdaptiveGroups")
		for _, f := range d.Fields(schema.Zone, "dimensions") {
			if f.Name == "datetime" {
				continue // as datetimeMinute, at sixty times the cost
			}
			var sum cfsim.Group
			for _, g := range groups(t, w, "shop", "httpRequestsAdaptiveGroups", nil, f.Name) {
				sum.Count, sum.Bytes, sum.Visits, sum.OriginMs = sum.Count+g.Count, sum.Bytes+g.Bytes, sum.Visits+g.Visits, sum.OriginMs+g.OriginMs
			}
			if sum.Count != whole.Count || sum.Bytes != whole.Bytes || sum.Visits != whole.Visits || sum.OriginMs != whole.OriginMs {
				t.Errorf("by %s there are %+v, in all %+v", f.Name, sum, whole)
			}
		}
	}
}

// What belongs together is together: an answer from the cache asked no origin, and
// where end users come from, some of them arrive.
func TestRequestsAreConsistent(t *testing.T) {
	for name, w := range map[string]*world{"demo": newWorld(t, nil), "wide": wide(t)} {
		const dataset = "httpRequestsAdaptiveGroups"
		for _, g := range groups(t, w, "shop", dataset, map[string]any{"cacheStatus": "hit"}, "originResponseStatus") {
			if g.Key[0] != uint64(0) || g.OriginMs != 0 {
				t.Errorf("%s: answers from the cache have the origin's status %v and %d ms", name, g.Key[0], g.OriginMs)
			}
		}
		for _, g := range groups(t, w, "shop", dataset, map[string]any{"originResponseStatus_gt": 0}) {
			if g.OriginMs == 0 {
				t.Errorf("%s: %d requests to the origin took no time", name, g.Count)
			}
		}
		for _, g := range groups(t, w, "shop", dataset, map[string]any{"requestSource": "eyeball"}, "coloCode") {
			if g.Count > 1000 && g.Visits == 0 {
				t.Errorf("%s: data centre %v has %d requests and no visit", name, g.Key[0], g.Count)
			}
		}
		seen := map[string]string{}
		for _, g := range groups(t, w, "shop", dataset, nil, "clientAsn", "clientCountryName") {
			asn, country := g.Key[0].(string), g.Key[1].(string)
			if before, ok := seen[asn]; ok && before != country && asn != "64496" { // the one of all that is left
				t.Errorf("%s: network %s is in %s and in %s", name, asn, before, country)
			}
			seen[asn] = country
		}
	}
}

// A minute of twenty thousand hosts is still made, kept and shown.
func TestManyHosts(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		c.Zones[0].Traffic = traffic.Profile{RequestsPerMinute: 1_000_000, Cells: 22_000, Variety: traffic.Variety{Hosts: 20_000}}
	})
	if n := len(groups(t, w, "shop", "httpRequestsAdaptiveGroups", nil, "clientRequestHTTPHost")); n < 17_000 {
		t.Errorf("there are %d hosts", n)
	}
}
