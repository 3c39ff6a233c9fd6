package chaos

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// amounts is what a family must hold of what happened: one value, or one by
// label value.
type amounts struct {
	total func(cfsim.Totals) uint64
	by    func(cfsim.Totals) map[string]uint64
	// rollup: the adaptive variant, for plans without roll-ups, lacks it.
	rollup bool
}

func shares(m map[string]cfsim.Share, of func(cfsim.Share) uint64) map[string]uint64 {
	out := map[string]uint64{}
	for k, s := range m {
		out[k] = of(s)
	}
	return out
}

// named are counts by label value: an empty one would be none to Prometheus.
func named(m map[string]uint64) map[string]uint64 {
	out := maps.Clone(m)
	if n, there := out[""]; there {
		delete(out, "")
		out["unknown"] += n
	}
	return out
}

func requests(s cfsim.Share) uint64 { return s.Requests }
func sent(s cfsim.Share) uint64     { return s.Bytes }

// families is everything that the datasets of a run may expose, by dataset.
var families = map[string]map[string]amounts{
	"http_5m": {
		"cloudflare_zone_requests":           {total: func(t cfsim.Totals) uint64 { return t.Requests }},
		"cloudflare_zone_bytes":              {total: func(t cfsim.Totals) uint64 { return t.Bytes }},
		"cloudflare_zone_cached_requests":    {total: func(t cfsim.Totals) uint64 { return t.CachedRequests }},
		"cloudflare_zone_cached_bytes":       {total: func(t cfsim.Totals) uint64 { return t.CachedBytes }},
		"cloudflare_zone_encrypted_requests": {total: func(t cfsim.Totals) uint64 { return t.EncryptedRequests }},
		"cloudflare_zone_encrypted_bytes":    {total: func(t cfsim.Totals) uint64 { return t.EncryptedBytes }},
		"cloudflare_zone_page_views":         {rollup: true, total: func(t cfsim.Totals) uint64 { return t.PageViews }},
		"cloudflare_zone_threats":            {rollup: true, total: func(t cfsim.Totals) uint64 { return t.Threats }},
		"cloudflare_zone_requests_by_status": {by: func(t cfsim.Totals) map[string]uint64 {
			out := map[string]uint64{}
			for status, n := range t.Status {
				out[strconv.FormatUint(status, 10)] = n
			}
			return out
		}},
	},
	"uniques_1h": {"cloudflare_zone_unique_visitors": {total: func(t cfsim.Totals) uint64 { return t.Uniques }}},
	"uniques_1d": {"cloudflare_zone_daily_unique_visitors": {total: func(t cfsim.Totals) uint64 { return t.Uniques }}},
	"browsers_1h": {
		"cloudflare_zone_page_views_by_browser": {by: func(t cfsim.Totals) map[string]uint64 { return named(t.Browsers) }},
	},
	"countries_1h": {
		"cloudflare_zone_requests_by_country": {by: func(t cfsim.Totals) map[string]uint64 { return shares(t.Countries, requests) }},
		"cloudflare_zone_bytes_by_country":    {by: func(t cfsim.Totals) map[string]uint64 { return shares(t.Countries, sent) }},
	},
	"content_types_1h": {
		"cloudflare_zone_requests_by_content_type": {by: func(t cfsim.Totals) map[string]uint64 { return shares(t.ContentTypes, requests) }},
		"cloudflare_zone_bytes_by_content_type":    {by: func(t cfsim.Totals) map[string]uint64 { return shares(t.ContentTypes, sent) }},
	},
}

// sampleInterval is the family that says which buckets are estimates, with the
// dataset's id as label.
const sampleInterval = "cloudflare_sample_interval"

// differs says how a stored bucket differs from totals; empty if it does not.
func differs(s *shown, t cfsim.Totals) string {
	of := families[s.Dataset]
	have := map[string]map[string]float64{}
	for _, rows := range s.Families {
		values := map[string]float64{}
		for i, v := range rows.Values {
			label := ""
			if rows.Width() > 0 {
				label = rows.Labels[i]
			}
			values[label] = v
		}
		have[rows.Family] = values
	}
	// What was sampled says so, and nothing else does (G12).
	interval, estimated := have[sampleInterval]
	if estimated != (s.SampleInterval > 1) || estimated && interval[s.Dataset] != s.SampleInterval {
		return fmt.Sprintf("its sample interval is %v, the family says %v", s.SampleInterval, interval)
	}
	delete(have, sampleInterval)
	equal := func(got float64, want uint64) bool { return got == float64(want) }
	if estimated {
		equal = near(s.SampleInterval)
		maps.DeleteFunc(have, func(name string, _ map[string]float64) bool { return strings.Contains(name, "bytes") })
	}
	for name := range have {
		if _, known := of[name]; !known {
			return fmt.Sprintf("family %s is not one of the dataset", name)
		}
	}
	for name, a := range of {
		want := map[string]uint64{}
		if a.by != nil {
			want = a.by(t)
		} else {
			want[""] = a.total(t)
		}
		got, there := have[name]
		if !there {
			if !a.rollup && sum(want) > 0 && !(estimated && strings.Contains(name, "bytes")) {
				return fmt.Sprintf("%s is absent, the truth is %v", name, want)
			}
			continue
		}
		for label, v := range want {
			if !equal(got[label], v) {
				return fmt.Sprintf("%s %s is %v, the truth is %d", name, label, got[label], v)
			}
		}
		for label, v := range got {
			if v != 0 && !equal(v, want[label]) {
				return fmt.Sprintf("%s %s is %v, the truth is %d", name, label, v, want[label])
			}
		}
	}
	return ""
}

// near tells what a sample of one request in interval can make of a number of
// requests. Six standard deviations are far enough out for a million samples.
func near(interval float64) func(got float64, want uint64) bool {
	return func(got float64, want uint64) bool {
		n := float64(want)
		return (n > 0 || got == 0) && math.Abs(got-n) <= 6*math.Sqrt(n*(interval-1))+2*interval
	}
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}

// rollups are the nodes that answer datasets by size, for what was to be seen at
// an instant.
func node(variant string, size time.Duration) string {
	switch {
	case size == time.Hour:
		return "httpRequests1hGroups"
	case size == 24*time.Hour:
		return "httpRequests1dGroups"
	case variant == "adaptive":
		return "httpRequestsAdaptiveGroups"
	}
	return "httpRequests1mGroups"
}
