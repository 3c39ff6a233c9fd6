package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// family says what one metric family's samples must be.
type family struct {
	size  time.Duration
	label string // of a breakdown
	// value is the truth of a total, values that of a breakdown.
	value  func(cfsim.Totals) uint64
	values func(cfsim.Totals) map[string]uint64
	rollup bool // not obtainable for Free zones
}

const (
	fiveMinutes = 5 * time.Minute
	day         = 24 * time.Hour
)

func requests(s cfsim.Share) uint64 { return s.Requests }
func sent(s cfsim.Share) uint64     { return s.Bytes }

func shares(m map[string]cfsim.Share, of func(cfsim.Share) uint64) map[string]uint64 {
	out := map[string]uint64{}
	for k, s := range m {
		out[k] = of(s)
	}
	return out
}

// families is everything that the default catalogue exposes.
var families = map[string]family{
	"cloudflare_zone_requests":           {size: fiveMinutes, value: func(t cfsim.Totals) uint64 { return t.Requests }},
	"cloudflare_zone_bytes":              {size: fiveMinutes, value: func(t cfsim.Totals) uint64 { return t.Bytes }},
	"cloudflare_zone_cached_requests":    {size: fiveMinutes, value: func(t cfsim.Totals) uint64 { return t.CachedRequests }},
	"cloudflare_zone_cached_bytes":       {size: fiveMinutes, value: func(t cfsim.Totals) uint64 { return t.CachedBytes }},
	"cloudflare_zone_encrypted_requests": {size: fiveMinutes, value: func(t cfsim.Totals) uint64 { return t.EncryptedRequests }},
	"cloudflare_zone_encrypted_bytes":    {size: fiveMinutes, value: func(t cfsim.Totals) uint64 { return t.EncryptedBytes }},
	"cloudflare_zone_page_views":         {size: fiveMinutes, rollup: true, value: func(t cfsim.Totals) uint64 { return t.PageViews }},
	"cloudflare_zone_threats":            {size: fiveMinutes, rollup: true, value: func(t cfsim.Totals) uint64 { return t.Threats }},
	"cloudflare_zone_requests_by_status": {size: fiveMinutes, label: "status", values: func(t cfsim.Totals) map[string]uint64 {
		out := map[string]uint64{}
		for status, n := range t.Status {
			out[strconv.FormatUint(status, 10)] = n
		}
		return out
	}},
	"cloudflare_zone_unique_visitors":       {size: time.Hour, value: func(t cfsim.Totals) uint64 { return t.Uniques }},
	"cloudflare_zone_daily_unique_visitors": {size: day, value: func(t cfsim.Totals) uint64 { return t.Uniques }},
	"cloudflare_zone_requests_by_country": {size: time.Hour, label: "country", values: func(t cfsim.Totals) map[string]uint64 {
		return shares(t.Countries, requests)
	}},
	"cloudflare_zone_bytes_by_country": {size: time.Hour, label: "country", values: func(t cfsim.Totals) map[string]uint64 {
		return shares(t.Countries, sent)
	}},
	"cloudflare_zone_requests_by_content_type": {size: time.Hour, label: "content_type", values: func(t cfsim.Totals) map[string]uint64 {
		return shares(t.ContentTypes, requests)
	}},
	"cloudflare_zone_bytes_by_content_type": {size: time.Hour, label: "content_type", values: func(t cfsim.Totals) map[string]uint64 {
		return shares(t.ContentTypes, sent)
	}},
}

// point is one sample's identity: series and time.
type point struct {
	series string // family{zone,account,label value}
	at     int64  // milliseconds
}

func (p point) String() string {
	return p.series + " at " + time.UnixMilli(p.at).UTC().Format("2006-01-02T15:04:05.000Z")
}

// zoneStory is what must be held of one zone.
type zoneStory struct {
	cfsim.Zone
	account string
	// from is when its history may begin, and must is when it has to;
	// aligned down to each bucket size.
	from, must time.Time
	silent     bool // no traffic: nothing, since no zero is confirmed in the test's time
}

// truth is what may be held, and what must be.
type truth struct {
	may  map[point]float64
	must map[point]bool
}

// expected is the truth of every window that ends at or before until. A
// breakdown's label values beyond the catalogue's limit of 20 do not occur in
// the simulator, which is checked.
func expected(t *testing.T, sim *cfsim.Server, zones []zoneStory, until time.Time) truth {
	t.Helper()
	out := truth{may: map[point]float64{}, must: map[point]bool{}}
	add := func(p point, v float64, must bool) {
		out.may[p] = v
		if must {
			out.must[p] = true
		}
	}
	for _, z := range zones {
		if z.silent {
			continue
		}
		for name, f := range families {
			if f.rollup && z.Plan == cfsim.Free {
				continue
			}
			for start := z.from.Truncate(f.size); !start.Add(f.size).After(until); start = start.Add(f.size) {
				truth, err := sim.True(z.ID, start, start.Add(f.size))
				if err != nil {
					t.Fatal(err)
				}
				at, must := start.Add(f.size).UnixMilli()-1, !start.Before(z.must.Truncate(f.size))
				base := fmt.Sprintf("%s{%s,%s,", name, z.Name, z.account)
				if f.value != nil {
					v := f.value(truth)
					if z.Name == "quiet.example" && v == 0 {
						must = false // a zero amid traffic is believed after hours
					}
					add(point{base + "}", at}, float64(v), must)
					continue
				}
				values := f.values(truth)
				if len(values) > 20 && f.label != "status" {
					t.Fatalf("the simulator has %d values of %s; the test's arithmetic ends at 20", len(values), f.label)
				}
				for label, v := range values {
					add(point{base + label + "}", at}, float64(v), must)
				}
			}
		}
	}
	return out
}

// expected is what must be held of the world: history may begin at the lookback
// before the story does, and must begin at the lookback before the zone was
// first listed.
func (w *world) expected(until time.Time) truth {
	w.t.Helper()
	for i := range w.zones {
		z := &w.zones[i]
		z.from = later(w.began.Add(-w.lookback), z.Created)
		z.must = later(w.listed(z.Created).Add(-w.lookback), z.Created)
	}
	return expected(w.t, w.sim, w.zones, until)
}

// listed is when the zones were listed for the first time at or after a time.
func (w *world) listed(after time.Time) time.Time {
	w.t.Helper()
	for _, r := range w.sim.Requests() {
		if r.Kind == "rest" && strings.Contains(r.Path, "/zones") && !r.Time.Before(after) {
			return r.Time
		}
	}
	w.t.Fatalf("nobody listed the zones after %s", after)
	return time.Time{}
}
