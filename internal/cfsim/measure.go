package cfsim

import (
	"cmp"
	"math"
	"slices"
	"strconv"
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
func lookupMs(_ *traffic.Template, a traffic.Amount) uint64    { return a.Requests / 16 } // DNS is asked seldom and answers fast
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
func (s *Server) average(sel *selection, r *row, field string) float64 {
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
		return ratio(lookupMs(nil, t), t.Requests)
	case "originResponseDurationMs": // cached answers are left out
		return ratio(t.OriginMs, r.sumWhere(asksOrigin, requests))
	}
	return 0
}

// share is a field of "ratio".
func (r *row) share(field string) float64 {
	t := r.total()
	switch field {
	case "status4xx":
		return ratio(r.sumWhere(statusIn(4), requests), t.Requests)
	case "status5xx":
		return ratio(r.sumWhere(statusIn(5), requests), t.Requests)
	case "cachedRequests", "encryptedRequests":
		return ratio(r.sumWhere(sumFields[field].where, requests), t.Requests)
	case "cachedBytes", "encryptedBytes":
		return ratio(r.sumWhere(sumFields[field].where, bytesSent), t.Bytes)
	}
	return 0
}

// spread turns the mean of a template into a distribution: points at the
// 2.5th, 7.5th, … percentile of a log-normal curve with mean 1.
var spread = func() (points [20]float64) {
	const sigma = .55
	for i := range points {
		z := math.Sqrt2 * math.Erfinv(2*(float64(i)+.5)/20-1)
		points[i] = math.Exp(sigma*z - sigma*sigma/2)
	}
	return points
}()

// quantile is a field of "quantiles": a measure followed by P and a number of
// percent.
func (r *row) quantile(field string) float64 {
	measure, text, _ := strings.Cut(field, "MsP")
	measure += "Ms"
	if text == "" {
		measure, text, _ = strings.Cut(field, "P")
	}
	percent, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	type point struct{ at, weight float64 }
	var points []point
	var total float64
	for _, p := range r.parts {
		value := sumFields[measure].value
		if value == nil || measure == "originResponseDurationMs" && !asksOrigin(p.template) {
			continue
		}
		mean := ratio(value(p.template, p.amount), p.amount.Requests)
		for _, x := range spread {
			points = append(points, point{mean * x, float64(p.amount.Requests)})
			total += float64(p.amount.Requests)
		}
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.at, b.at) })
	left := total * percent / 100
	for _, p := range points {
		if left -= p.weight; left <= 0 {
			return math.Round(p.at) // whole, as published replies have them
		}
	}
	return 0
}

// number is a measure by its flattened name, for ordering.
func (s *Server) number(sel *selection, r *row, flat string) float64 {
	container, field, _ := strings.Cut(flat, "_")
	switch container {
	case "count":
		return float64(r.total().Requests)
	case "sum":
		if m, ok := sumFields[field]; ok {
			return float64(r.sumWhere(m.where, m.value))
		}
	case "avg":
		return s.average(sel, r, field)
	case "ratio":
		return r.share(field)
	case "quantiles":
		return r.quantile(field)
	case "uniq":
		return float64(r.uniques)
	}
	return 0
}
