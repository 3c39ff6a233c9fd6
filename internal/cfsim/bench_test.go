package cfsim_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// BenchmarkQuery asks what collectors ask all the time: one window of five minutes.
func BenchmarkQuery(b *testing.B) {
	for _, c := range []struct{ name, node, selection string }{
		{"rollup", "httpRequests1mGroups", `dimensions { datetime } ` + rollupSums},
		{"adaptive", "httpRequestsAdaptiveGroups", `count sum { edgeResponseBytes visits } avg { sampleInterval }
			dimensions { datetimeFiveMinutes edgeResponseStatus clientCountryName clientRequestHTTPHost }`},
		{"latency", "httpRequestsAdaptiveGroups", `count quantiles { originResponseDurationMsP50 originResponseDurationMsP95 }
			dimensions { datetimeFiveMinutes originResponseStatus clientRequestHTTPHost }`},
		{"colos", "httpRequestsAdaptiveGroups", `count sum { edgeResponseBytes visits } dimensions { clientRequestHTTPHost coloCode datetime }`},
		{"events", "firewallEventsAdaptiveGroups", `count dimensions { datetimeFiveMinutes action source ruleId }`},
	} {
		b.Run(c.name, func(b *testing.B) {
			t := &testing.T{}
			w := newWorld(t, func(c *cfsim.Config) { c.Limits.Queries = 1 << 40 })
			query := `{ viewer { zones(filter: {zoneTag: $zone}) { ` + c.node +
				`(limit: 9999, filter: {datetime_geq: $from, datetime_lt: $to}) { ` + c.selection + ` } } } }`
			for i := 0; b.Loop(); i++ {
				from := epoch.Add(-time.Duration(2+i%250) * 5 * time.Minute)
				w.good(query, span("shop", from, from.Add(5*time.Minute)))
			}
		})
	}
}
