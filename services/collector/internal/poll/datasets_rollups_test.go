package poll_test

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// rollups are the families of datasets that are maps of the roll-ups or their totals.
var rollups = map[string]func(cfsim.Totals) map[string]float64{
	"cloudflare_zone_requests":           one(func(t cfsim.Totals) uint64 { return t.Requests }),
	"cloudflare_zone_bytes":              one(func(t cfsim.Totals) uint64 { return t.Bytes }),
	"cloudflare_zone_cached_requests":    one(func(t cfsim.Totals) uint64 { return t.CachedRequests }),
	"cloudflare_zone_cached_bytes":       one(func(t cfsim.Totals) uint64 { return t.CachedBytes }),
	"cloudflare_zone_encrypted_requests": one(func(t cfsim.Totals) uint64 { return t.EncryptedRequests }),
	"cloudflare_zone_encrypted_bytes":    one(func(t cfsim.Totals) uint64 { return t.EncryptedBytes }),
	"cloudflare_zone_page_views":         one(func(t cfsim.Totals) uint64 { return t.PageViews }),
	"cloudflare_zone_threats":            one(func(t cfsim.Totals) uint64 { return t.Threats }),
	"cloudflare_zone_requests_by_status": func(t cfsim.Totals) map[string]float64 {
		out := map[string]float64{}
		for status, n := range t.Status {
			out[strconv.FormatUint(status, 10)] = float64(n)
		}
		return out
	},
	"cloudflare_zone_unique_visitors":          one(func(t cfsim.Totals) uint64 { return t.Uniques }),
	"cloudflare_zone_daily_unique_visitors":    one(func(t cfsim.Totals) uint64 { return t.Uniques }),
	"cloudflare_zone_page_views_by_browser":    func(t cfsim.Totals) map[string]float64 { return top(20, t.Browsers, t.Browsers) },
	"cloudflare_zone_requests_by_threat_type":  func(t cfsim.Totals) map[string]float64 { return top(20, t.ThreatTypes, t.ThreatTypes) },
	"cloudflare_zone_requests_by_country":      shares(20, func(t cfsim.Totals) map[string]cfsim.Share { return t.Countries }, byRequests),
	"cloudflare_zone_bytes_by_country":         shares(20, func(t cfsim.Totals) map[string]cfsim.Share { return t.Countries }, byBytes),
	"cloudflare_zone_requests_by_content_type": shares(20, func(t cfsim.Totals) map[string]cfsim.Share { return t.ContentTypes }, byRequests),
	"cloudflare_zone_bytes_by_content_type":    shares(20, func(t cfsim.Totals) map[string]cfsim.Share { return t.ContentTypes }, byBytes),
	"cloudflare_zone_requests_by_http_version": shares(20, func(t cfsim.Totals) map[string]cfsim.Share { return t.HTTPVersions }, byRequests),
	"cloudflare_zone_requests_by_tls_version":  shares(20, func(t cfsim.Totals) map[string]cfsim.Share { return t.TLSVersions }, byRequests),
	"cloudflare_zone_requests_by_ip_class":     shares(20, func(t cfsim.Totals) map[string]cfsim.Share { return t.IPClasses }, byRequests),
	"cloudflare_zone_threats_by_country": func(t cfsim.Totals) map[string]float64 {
		threats := map[string]uint64{}
		for country, s := range t.Countries {
			if s.Threats > 0 {
				threats[country] = s.Threats
			}
		}
		return top(50, threats, threats)
	},
}

func one(of func(cfsim.Totals) uint64) func(cfsim.Totals) map[string]float64 {
	return func(t cfsim.Totals) map[string]float64 { return map[string]float64{"": float64(of(t))} }
}

func byRequests(s cfsim.Share) uint64 { return s.Requests }
func byBytes(s cfsim.Share) uint64    { return s.Bytes }

func shares(most int, of func(cfsim.Totals) map[string]cfsim.Share, what func(cfsim.Share) uint64) func(cfsim.Totals) map[string]float64 {
	return func(t cfsim.Totals) map[string]float64 {
		values, rank := map[string]uint64{}, map[string]uint64{}
		for k, s := range of(t) {
			values[k], rank[k] = what(s), s.Requests
		}
		return top(most, values, rank)
	}
}

func top(most int, values, rank map[string]uint64) map[string]float64 {
	best := slices.SortedFunc(maps.Keys(rank), func(a, b string) int { return cmp.Or(cmp.Compare(rank[b], rank[a]), strings.Compare(a, b)) })
	out := map[string]float64{}
	for i, k := range best {
		if i >= most {
			k = "other"
		}
		out[cmp.Or(k, "unknown")] += float64(values[best[i]])
	}
	return out
}
