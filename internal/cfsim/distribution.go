package cfsim

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

// rateSpans are the seconds of the names that rates of bits and packets have.
var rateSpans = map[string]int64{"TenSeconds": 10, "Minute": 60, "FiveMinutes": 300, "FifteenMinutes": 900, "Hour": 3600, "Day": 86400}

// rate splits a field like "bitRateMinute" into the sum that it is of and the seconds
// that this is divided by; those of the group where the name has none.
func rate(field string, group int64) (of string, seconds int64, ok bool) {
	for prefix, of := range map[string]string{"bitRate": "bits", "packetRate": "packets"} {
		if span, ok := strings.CutPrefix(field, prefix); ok {
			if span == "" {
				return of, group, true
			}
			if seconds, ok := rateSpans[span]; ok {
				return of, seconds, true
			}
		}
	}
	return "", 0, false
}

// mean is what one event of the part has of a measure; ok is false where it has none.
func (p *part) mean(measure string) (v float64, ok bool) {
	if v, ok := p.template.Values[measure]; ok {
		return v, true
	}
	switch measure {
	case "cpuTime":
		measure = "cpuTimeUs"
	case "duration":
		return float64(p.amount.OriginMs) / 1e6 * workerMemory / max(float64(p.amount.Requests), 1), p.template.Values == nil
	case "originResponseDurationMs":
		if !asksOrigin(p.template) {
			return 0, false
		}
	case "edgeDnsResponseTimeMs":
		return float64(p.template.LookupMs), p.template.LookupMs > 0
	}
	m, ok := sumFields[measure]
	if !ok || p.template.Values != nil {
		return 0, false
	}
	return ratio(m.value(p.template, p.amount), p.amount.Requests), true
}

// extreme is a field of "max" or "min": of a gauge over the hours of the row, else of
// what the events had.
func (r *row) extreme(field string, highest bool) float64 {
	var out float64
	first := true
	take := func(v float64) {
		if first || highest == (v > out) {
			out, first = v, false
		}
	}
	for i := range r.parts {
		p := &r.parts[i]
		if _, gauge := p.template.Gauges[field]; gauge {
			for hour := floorDiv(r.from, 3600); hour*3600 < r.to; hour++ {
				v, _ := p.template.Level(field, hour)
				take(v)
			}
			continue
		}
		v, ok := p.mean(field)
		switch {
		case !ok:
		case p.template.Exact(field):
			take(v)
		case highest:
			take(v * spread[len(spread)-1])
		default:
			take(v * spread[0])
		}
	}
	return rounded(out)
}

// rounded is whole where it is not small, as published replies have it.
func rounded(v float64) float64 {
	if v < 1 {
		return math.Round(v*1e6) / 1e6
	}
	return math.Round(v)
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

// quantile is a field of "quantiles": a measure followed by P and its
// percentage, without the point of 99.9.
func (r *row) quantile(field string) float64 {
	at := strings.LastIndexByte(field, 'P')
	percent, err := strconv.ParseFloat(field[at+1:], 64)
	if at < 0 || err != nil {
		return 0
	}
	if percent > 100 {
		percent /= 10
	}
	type point struct{ at, weight float64 }
	points := make([]point, 0, len(spread)*len(r.parts))
	var total float64
	for i := range r.parts {
		p := &r.parts[i]
		mean, ok := p.mean(field[:at])
		if !ok {
			continue
		}
		exact := p.template.Exact(field[:at])
		for _, x := range spread {
			if exact {
				x = 1
			}
			points = append(points, point{mean * x, float64(p.amount.Requests)})
			total += float64(p.amount.Requests)
		}
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.at, b.at) })
	left := total * percent / 100
	for _, p := range points {
		if left -= p.weight; left <= 0 {
			if strings.HasSuffix(field[:at], "Ms") || strings.HasSuffix(field[:at], "Bytes") {
				return math.Round(p.at) // whole, as published replies have them
			}
			return rounded(p.at)
		}
	}
	return 0
}

// field is a measure of a row: uint64, float64 or string, after the schema's type.
func (s *world) field(sel *selection, r *row, container string, f schema.Field) any {
	var v float64
	switch container {
	case "count":
		return r.total().Requests
	case "uniq":
		return r.uniques
	case "sum":
		n, sum := r.sum(f.Name)
		if strings.HasPrefix(f.Type, "uint") || strings.HasPrefix(f.Type, "int") {
			return n
		}
		return sum
	case "avg":
		v = s.average(sel, r, f.Name)
	case "ratio":
		return r.share(f.Name)
	case "quantiles":
		return r.quantile(f.Name)
	case "avgWeighted":
		v, _ = r.ownAverage(f.Name)
	case "max", "min":
		if f.Type == "Time" {
			return time.Unix(max(r.to-1, 0), 0).UTC().Format(time.RFC3339)
		}
		v = r.extreme(f.Name, container == "max")
	}
	if strings.HasPrefix(f.Type, "uint") || strings.HasPrefix(f.Type, "int") {
		return uint64(math.Round(max(v, 0)))
	}
	return v
}
