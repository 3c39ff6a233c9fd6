// Package truth says what Weir must hold of what a simulated Cloudflare knows to
// have happened: the value of each family in each window, as a stored bucket and
// as a sample. The tests of the whole system compare with it. It is written from
// the documents of the datasets, not from the catalogue, so that the two can
// disagree.
package truth

import (
	"maps"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// Family says what the samples of one metric family must be.
type Family struct {
	Dataset string
	Label   string // of a breakdown; a total has none
	// Rollup: the adaptive variant, for plans without roll-ups, lacks it.
	Rollup bool
	// OnRequest: its dataset is not collected by default.
	OnRequest bool
	// Values are by label value; that of a total is under the empty one.
	Values func(cfsim.Totals) map[string]uint64
}

// Size is how long a window of the family is.
func (f Family) Size() time.Duration { return Size(f.Dataset) }

// Size is how long a window of a dataset is.
func Size(dataset string) time.Duration {
	switch dataset {
	case "http_1m":
		return time.Minute
	case "uniques_1d":
		return 24 * time.Hour
	case "uniques_1h", "browsers_1h", "countries_1h", "content_types_1h":
		return time.Hour
	}
	return 5 * time.Minute
}

// Minutes are [Families] where CF_BUCKET_SECONDS is 60.
func Minutes() map[string]Family {
	families := maps.Clone(Families)
	for name, f := range families {
		if f.Dataset == "http_5m" {
			f.Dataset = "http_1m"
			families[name] = f
		}
	}
	return families
}

// Families is everything that the catalogue's datasets expose of zones, by name.
var Families = map[string]Family{
	"cloudflare_zone_requests":           {Dataset: "http_5m", Values: total(func(t cfsim.Totals) uint64 { return t.Requests })},
	"cloudflare_zone_bytes":              {Dataset: "http_5m", Values: total(func(t cfsim.Totals) uint64 { return t.Bytes })},
	"cloudflare_zone_cached_requests":    {Dataset: "http_5m", Values: total(func(t cfsim.Totals) uint64 { return t.CachedRequests })},
	"cloudflare_zone_cached_bytes":       {Dataset: "http_5m", Values: total(func(t cfsim.Totals) uint64 { return t.CachedBytes })},
	"cloudflare_zone_encrypted_requests": {Dataset: "http_5m", Values: total(func(t cfsim.Totals) uint64 { return t.EncryptedRequests })},
	"cloudflare_zone_encrypted_bytes":    {Dataset: "http_5m", Values: total(func(t cfsim.Totals) uint64 { return t.EncryptedBytes })},
	"cloudflare_zone_page_views":         {Dataset: "http_5m", Rollup: true, Values: total(func(t cfsim.Totals) uint64 { return t.PageViews })},
	"cloudflare_zone_threats":            {Dataset: "http_5m", Rollup: true, Values: total(func(t cfsim.Totals) uint64 { return t.Threats })},
	"cloudflare_zone_requests_by_status": {Dataset: "http_5m", Label: "status", Values: func(t cfsim.Totals) map[string]uint64 {
		out := map[string]uint64{}
		for status, n := range t.Status {
			out[strconv.FormatUint(status, 10)] = n
		}
		return out
	}},
	"cloudflare_zone_unique_visitors":       {Dataset: "uniques_1h", Values: total(func(t cfsim.Totals) uint64 { return t.Uniques })},
	"cloudflare_zone_daily_unique_visitors": {Dataset: "uniques_1d", Values: total(func(t cfsim.Totals) uint64 { return t.Uniques })},
	"cloudflare_zone_page_views_by_browser": {Dataset: "browsers_1h", Label: "browser", OnRequest: true, Values: func(t cfsim.Totals) map[string]uint64 {
		return named(t.Browsers)
	}},
	"cloudflare_zone_requests_by_country": {Dataset: "countries_1h", Label: "country", Values: func(t cfsim.Totals) map[string]uint64 {
		return shares(t.Countries, requests)
	}},
	"cloudflare_zone_bytes_by_country": {Dataset: "countries_1h", Label: "country", Values: func(t cfsim.Totals) map[string]uint64 {
		return shares(t.Countries, sent)
	}},
	"cloudflare_zone_requests_by_content_type": {Dataset: "content_types_1h", Label: "content_type", Values: func(t cfsim.Totals) map[string]uint64 {
		return shares(t.ContentTypes, requests)
	}},
	"cloudflare_zone_bytes_by_content_type": {Dataset: "content_types_1h", Label: "content_type", Values: func(t cfsim.Totals) map[string]uint64 {
		return shares(t.ContentTypes, sent)
	}},
}

func total(of func(cfsim.Totals) uint64) func(cfsim.Totals) map[string]uint64 {
	return func(t cfsim.Totals) map[string]uint64 { return map[string]uint64{"": of(t)} }
}

func requests(s cfsim.Share) uint64 { return s.Requests }
func sent(s cfsim.Share) uint64     { return s.Bytes }

func shares(m map[string]cfsim.Share, of func(cfsim.Share) uint64) map[string]uint64 {
	out := make(map[string]uint64, len(m))
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
