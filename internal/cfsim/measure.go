package cfsim

import (
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

func (r *row) total() traffic.Amount {
	var t traffic.Amount
	for _, p := range r.parts {
		t.Add(p.amount)
	}
	return t
}

// sumWhere adds up what value says over the parts that where selects.
func (r *row) sumWhere(where func(*traffic.Template) bool, value func(*traffic.Template, traffic.Amount) uint64) uint64 {
	var n uint64
	for _, p := range r.parts {
		if where == nil || where(p.template) {
			n += value(p.template, p.amount)
		}
	}
	return n
}

func requests(_ *traffic.Template, a traffic.Amount) uint64    { return a.Requests }
func bytesSent(_ *traffic.Template, a traffic.Amount) uint64   { return a.Bytes }
func bytesRead(_ *traffic.Template, a traffic.Amount) uint64   { return a.RequestBytes }
func visits(_ *traffic.Template, a traffic.Amount) uint64      { return a.Visits }
func firstByteMs(_ *traffic.Template, a traffic.Amount) uint64 { return a.FirstByteMs }
func originMs(_ *traffic.Template, a traffic.Amount) uint64    { return a.OriginMs }
func lookupMs(t *traffic.Template, a traffic.Amount) uint64    { return t.LookupMs * a.Requests }
func subrequests(t *traffic.Template, a traffic.Amount) uint64 { return t.Subrequests * a.Requests }
func failed(t *traffic.Template) bool                          { return t.Failed }
func gaveUp(t *traffic.Template) bool                          { return t.String("status") == "clientDisconnected" }
func cached(t *traffic.Template) bool                          { return t.Cached }
func encrypted(t *traffic.Template) bool                       { return t.Encrypted }
func pageView(t *traffic.Template) bool                        { return t.PageView }
func threat(t *traffic.Template) bool                          { return t.Threat }
func asksOrigin(t *traffic.Template) bool                      { return t.Uint("originResponseStatus") != 0 }

func statusIn(class uint64) func(*traffic.Template) bool {
	return func(t *traffic.Template) bool { return t.Uint("edgeResponseStatus")/100 == class }
}

// sumFields are the fields of "sum" that are numbers.
var sumFields = map[string]struct {
	where func(*traffic.Template) bool
	value func(*traffic.Template, traffic.Amount) uint64
}{
	"requests": {nil, requests}, "bytes": {nil, bytesSent}, "edgeRequestBytes": {nil, bytesRead}, "edgeResponseBytes": {nil, bytesSent},
	"cachedRequests": {cached, requests}, "cachedBytes": {cached, bytesSent},
	"encryptedRequests": {encrypted, requests}, "encryptedBytes": {encrypted, bytesSent},
	"pageViews": {pageView, requests}, "threats": {threat, requests}, "visits": {nil, visits},
	"edgeTimeToFirstByteMs": {nil, firstByteMs}, "originResponseDurationMs": {nil, originMs}, "edgeDnsResponseTimeMs": {nil, lookupMs},
	"errors": {failed, requests}, "subrequests": {nil, subrequests}, "clientDisconnects": {gaveUp, requests}, "responseBodySize": {nil, bytesSent},
	"cpuTimeUs": {nil, firstByteMs}, "wallTime": {nil, originMs}, "requestDuration": {nil, originMs},
}

// workerMemory is what each invocation of a Worker has, in GB.
const workerMemory = .128

// sum is a field of "sum", as a whole number and as it is. A measure of the events'
// own comes before one that is computed from their amounts.
func (r *row) sum(field string) (uint64, float64) {
	m, known := sumFields[field]
	if len(r.parts) > 0 && r.parts[0].template.Values == nil && known { // all parts come from one kind of event
		n := r.sumWhere(m.where, m.value)
		return n, float64(n)
	}
	var n uint64
	var f float64
	for _, p := range r.parts {
		if v, own := p.template.Values[field]; own {
			n, f = n+uint64(v)*p.amount.Requests, f+v*float64(p.amount.Requests)
			continue
		}
		switch {
		case known && (m.where == nil || m.where(p.template)):
			v := m.value(p.template, p.amount)
			n, f = n+v, f+float64(v)
		case field == "duration": // GB·s
			f += float64(p.amount.OriginMs) / 1e6 * workerMemory
		}
	}
	return n, f
}

// mapFields are the fields of "sum" that are lists: the key's name in the list and
// as an attribute, and which requests take part.
var mapFields = map[string]struct {
	key, attribute string
	where          func(*traffic.Template) bool
}{
	"browserMap":           {"uaBrowserFamily", "userAgentBrowser", pageView},
	"clientHTTPVersionMap": {"clientHTTPProtocol", "clientRequestHTTPProtocol", nil},
	"clientSSLMap":         {"clientSSLProtocol", "clientSSLProtocol", nil},
	"contentTypeMap":       {"edgeResponseContentTypeName", "edgeResponseContentTypeName", nil},
	"countryMap":           {"clientCountryName", "clientCountryName", nil},
	"ipClassMap":           {"ipType", "ipType", nil},
	"responseStatusMap":    {"edgeResponseStatus", "edgeResponseStatus", nil},
	"threatPathingMap":     {"threatPathingName", "threatPathingName", threat},
}

// mapRow is one element of such a list.
type mapRow struct {
	key                      any // string or uint64
	requests, bytes, threats uint64
}

// mapRows divides a row by an attribute, ordered by its value.
func (r *row) mapRows(attribute string, where func(*traffic.Template) bool) []mapRow {
	var out []mapRow
	for _, p := range r.parts {
		if where != nil && !where(p.template) {
			continue
		}
		key := p.template.Attributes[attribute]
		// The lists are short: looking through them is faster than a map.
		i := slices.IndexFunc(out, func(m mapRow) bool { return m.key == key })
		if i < 0 {
			i = len(out)
			out = append(out, mapRow{key: key})
		}
		out[i].requests += p.amount.Requests
		out[i].bytes += p.amount.Bytes
		if p.template.Threat {
			out[i].threats += p.amount.Requests
		}
	}
	slices.SortFunc(out, func(a, b mapRow) int { return compareValues(a.key, b.key) })
	return out
}

func ratio(a, b uint64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// average is a field of "avg". 0 stands for "nothing to average".
func (s *world) average(sel *selection, r *row, field string) float64 {
	if v, ok := r.ownAverage(field); ok {
		return v
	}
	t := r.total()
	switch field {
	case "sampleInterval":
		if isRollup(sel.dataset.Name) && s.config.Switches.RollupSampleInterval > 0 {
			return s.config.Switches.RollupSampleInterval
		}
		return float64(r.interval)
	case "bytes":
		return ratio(t.Bytes, t.Requests)
	case "edgeRequestBytes":
		return ratio(t.RequestBytes, t.Requests)
	case "edgeTimeToFirstByteMs":
		return ratio(t.FirstByteMs, t.Requests)
	case "edgeDnsResponseTimeMs":
		return ratio(r.sumWhere(nil, lookupMs), t.Requests)
	case "originResponseDurationMs": // cached answers are left out
		return ratio(t.OriginMs, r.sumWhere(asksOrigin, requests))
	case "avgCpuTime":
		_, sum := r.sum("totalCpuTime")
		return sum / max(float64(t.Requests), 1)
	}
	if of, per, ok := rate(field, r.to-r.from); ok {
		_, sum := r.sum(of)
		return sum / max(float64(per), 1)
	}
	return 0
}

// ownAverage is the average of a measure of the events' own; those without it are left
// out. ok is false where none has it.
func (r *row) ownAverage(field string) (v float64, ok bool) {
	if len(r.parts) == 0 || r.parts[0].template.Values == nil {
		return 0, false
	}
	var sum float64
	var n uint64
	for _, p := range r.parts {
		if v, ok := p.template.Values[field]; ok {
			sum, n = sum+v*float64(p.amount.Requests), n+p.amount.Requests
		}
	}
	return sum / max(float64(n), 1), n > 0
}

// number is a measure by its flattened name, for ordering.
func (s *world) number(sel *selection, r *row, flat string) float64 {
	container, name, _ := strings.Cut(flat, "_")
	f, _ := sel.dataset.Field(sel.scope, container, name)
	switch v := s.field(sel, r, container, f).(type) {
	case uint64:
		return float64(v)
	case float64:
		return v
	}
	return 0
}
