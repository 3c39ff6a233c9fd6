package cfsim

import (
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// maxSteps bounds the work of one selection: spans of time times templates.
const maxSteps = 40_000_000

// bucket sums one group of time.
type bucket struct {
	start    int64
	from, to int64 // what was read of it
	amounts  []traffic.Amount
	clients  []traffic.ClientSet
}

// buckets sums the zone's traffic that passes the filter by groups of time.
func (s *world) buckets(sel *selection, z *zoneState, model *traffic.Model, now time.Time) ([]bucket, *gqlError) {
	name, templates := sel.dataset.Name, model.Templates()
	hull := sel.filter.Hull()
	hull.From, hull.To = max(hull.From, z.firstSecond(now), sel.since), min(hull.To, now.Unix())
	rest := sel.filter.WithoutHull()
	step, edges := groupStep(sel), rest.Edges()
	chunks := int64(len(edges))
	if step > 0 {
		chunks += (hull.To - hull.From) / step
	}
	if chunks*int64(len(templates)) > maxSteps {
		return nil, errExcessive
	}
	onlyEyeballs := isRollup(name) || name == "httpRequestsOverviewAdaptiveGroups"
	mask := make([]bool, len(templates))
	setMask := func(t int64) {
		for i := range templates {
			tpl := &templates[i]
			mask[i] = (!onlyEyeballs || tpl.Eyeball) && rest.Match(t, func(field string) any {
				if field == "zoneTag" {
					return z.ID
				}
				return tpl.Attribute(field)
			})
		}
	}
	reader := secondReader{s: s, z: z, model: model, dataset: name, now: now}
	var out []bucket
	known := false // whether the mask is that of at
	for at := hull.From; at < hull.To; {
		for len(edges) > 0 && edges[0] <= at {
			edges, known = edges[1:], false
		}
		if !known {
			setMask(at)
			known = true
		}
		end := hull.To // within a span neither the group nor the filter's answer changes
		if step > 0 {
			end = min(end, (floorDiv(at, step)+1)*step)
		}
		if len(edges) > 0 {
			end = min(end, edges[0])
		}
		start := int64(0)
		if step > 0 {
			start = floorDiv(at, step) * step
		}
		if len(out) == 0 || out[len(out)-1].start != start {
			out = append(out, bucket{start: start, from: at, amounts: make([]traffic.Amount, len(templates))})
		}
		b := &out[len(out)-1]
		slice := reader.read(at, end)
		for i, a := range slice.Amounts {
			if mask[i] {
				b.amounts[i].Add(a)
			}
		}
		b.clients = append(b.clients, slice.Clients)
		b.to = end
		at = end
	}
	return out, nil
}

// firstSecond is the earliest time worth looking at.
func (z *zoneState) firstSecond(now time.Time) int64 {
	if !z.Created.IsZero() {
		return floorDiv(z.Created.Unix(), 86400) * 86400
	}
	return now.Add(-400 * day).Unix()
}

// secondReader reads spans of seconds, and remembers the last minute that it
// cut.
type secondReader struct {
	s       *world
	z       *zoneState
	model   *traffic.Model
	dataset string
	now     time.Time
	minute  int64
	last    *traffic.Slice
}

func (r *secondReader) read(from, to int64) *traffic.Slice {
	first, last := -floorDiv(-from, 60), floorDiv(to, 60)
	if first > last { // inside one minute
		return r.cut(last, int(from-last*60), int(to-last*60))
	}
	settling := &r.s.config.Settling
	var parts []*traffic.Slice
	if first*60 > from {
		parts = append(parts, r.cut(first-1, int(from-(first-1)*60), 60))
	}
	if last > first {
		parts = append(parts, settling.shown(r.model, r.z.seed, r.dataset, first, last, r.now))
	}
	if last*60 < to {
		parts = append(parts, r.cut(last, 0, int(to-last*60)))
	}
	return r.model.Sum(parts)
}

func (r *secondReader) cut(minute int64, from, to int) *traffic.Slice {
	if r.last == nil || r.minute != minute {
		r.minute = minute
		r.last = r.s.config.Settling.shown(r.model, r.z.seed, r.dataset, minute, minute+1, r.now)
	}
	out := &traffic.Slice{Amounts: make([]traffic.Amount, len(r.last.Amounts)), Clients: r.last.Clients}
	for i, a := range r.last.Amounts {
		if a.Requests > 0 {
			out.Amounts[i] = r.model.Second(minute, i, a, from, to)
		}
	}
	return out
}
