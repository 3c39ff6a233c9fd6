package cfsim

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/query"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// row is one group of an answer.
type row struct {
	key      []any // values of the selected dimensions: string or uint64
	parts    []part
	clients  traffic.ClientSet
	from, to int64 // Unix times of what was read
	uniques  uint64
	interval uint64 // 1, 10 or 100 events for each sampled one
	sampled  uint64 // events in the sample, over all parts
}

// part is what one template of one zone contributes to a row.
type part struct {
	template *traffic.Template
	amount   traffic.Amount
}

// rows evaluates a selection for one zone, or for all zones of an account.
func (s *world) rows(sel *selection, zones []*zoneState, now time.Time) ([]row, *gqlError) {
	var all []row
	for _, z := range zones {
		seen, empty := s.faults.view(sel.dataset.Name, z.ID, now)
		if empty {
			continue
		}
		r, err := s.zoneRows(sel, z, seen)
		if err != nil {
			return nil, err
		}
		all = append(all, r...)
	}
	all = whole(sel, zones, all)
	if len(all) == 0 && len(sel.dims) == 0 && s.config.Switches.ZeroRow && modelled(sel.dataset.Name) {
		all = []row{{interval: 1}}
	}
	return s.sample(sel, all, zones, now), nil
}

// whole are the rows of several zones as one answer, every event counted.
func whole(sel *selection, zones []*zoneState, all []row) []row {
	if len(zones) > 1 && !sel.dataset.Raw {
		all = merge(all)
	}
	for i := range all {
		all[i].uniques, all[i].interval = all[i].clients.Count(), 1
		all[i].sampled = all[i].total().Requests
	}
	return all
}

func modelled(dataset string) bool { return traffic.SourceOf(dataset) != nil }

// groupStep is the finest time dimension selected, in seconds; 0 for none.
// Coarser ones follow from it, since all steps divide each other.
func groupStep(sel *selection) int64 {
	if sel.dataset.Raw {
		return 60 // events get their seconds afterwards
	}
	var finest int64
	for _, d := range sel.dims {
		step, ok := query.Steps[d]
		if d == "datetime" {
			step, ok = datetimeStep(sel.dataset.Name), true
		}
		if ok && (finest == 0 || step < finest) {
			finest = step
		}
	}
	return finest
}

func (s *world) zoneRows(sel *selection, z *zoneState, now time.Time) ([]row, *gqlError) {
	model := z.model(sel.dataset.Name)
	if model == nil {
		return nil, nil
	}
	buckets, err := s.buckets(sel, z, model, now)
	if err != nil {
		return nil, err
	}
	if sel.dataset.Raw {
		return rawRows(sel, z, model, buckets)
	}
	groups := groupTemplates(sel, z, model)
	withUniques := slices.Contains(sel.flat, "uniq_uniques")
	var out []row
	for _, b := range buckets {
		for _, g := range groups {
			r := row{parts: make([]part, 0, len(g)), from: b.from, to: b.to}
			for _, i := range g {
				if b.amounts[i].Requests > 0 {
					r.parts = append(r.parts, part{&model.Templates()[i], b.amounts[i]})
				}
			}
			if len(r.parts) == 0 {
				continue
			}
			r.key = make([]any, len(sel.dims))
			for i, f := range sel.types {
				r.key[i] = dimension(z, r.parts[0].template, f, b.start)
			}
			if withUniques {
				r.clients = traffic.Union(b.clients...).WithOffset(z.seed)
			}
			out = append(out, r)
		}
	}
	return out, nil
}

// maxEvents bounds the work of one selection of raw events.
const maxEvents = 500_000

// rawRows has a row for each event, but for those that the limit cuts off where
// they are in the order of time. Its second follows from what it is, so that it is
// the same whenever it is asked for.
func rawRows(sel *selection, z *zoneState, model *traffic.Model, buckets []bucket) ([]row, *gqlError) {
	hull := sel.filter.Hull()
	cut := len(sel.order) == 0
	if !cut && slices.Contains([]string{"datetime", "datetimeMinute"}, sel.dims[sel.order[0].dim]) {
		if cut = true; sel.order[0].desc {
			slices.Reverse(buckets)
		}
	}
	var out []row
	for _, b := range buckets {
		if cut && len(out) >= sel.limit {
			break
		}
		for i, a := range b.amounts {
			if uint64(len(out))+a.Requests > maxEvents {
				return nil, errExcessive
			}
			for n := range a.Requests {
				at := b.start + int64(traffic.Hash(z.seed, 71, uint64(b.start), uint64(i), n)%60)
				at = min(max(at, hull.From), hull.To-1)
				r := row{key: make([]any, len(sel.dims)), parts: []part{{&model.Templates()[i], a.WithRequests(1)}}, from: at, to: at + 1}
				for k, f := range sel.types {
					r.key[k] = dimension(z, r.parts[0].template, f, at)
				}
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// groupTemplates divides the templates by the selected dimensions that are
// not times.
func groupTemplates(sel *selection, z *zoneState, model *traffic.Model) [][]int {
	index := map[string]int{}
	var out [][]int
	templates := model.Templates()
	var key []byte
	for i := range templates {
		key = key[:0]
		for _, f := range sel.types {
			if f.Type == "Time" || f.Type == "Date" {
				continue
			}
			switch v := dimension(z, &templates[i], f, 0).(type) {
			case string:
				key = append(append(key, v...), 0)
			case uint64:
				key = append(strconv.AppendUint(key, v, 10), 0)
			}
		}
		g, ok := index[string(key)]
		if !ok {
			g = len(out)
			index[string(key)] = g
			out = append(out, nil)
		}
		out[g] = append(out[g], i)
	}
	return out
}

// dimension is the value of one dimension for a template in a group of time.
func dimension(z *zoneState, t *traffic.Template, f schema.Field, start int64) any {
	switch {
	case f.Type == "Date":
		return time.Unix(start, 0).UTC().Format(time.DateOnly)
	case f.Type == "Time":
		if step, ok := query.Steps[f.Name]; ok {
			start = floorDiv(start, step) * step
		}
		return time.Unix(start, 0).UTC().Format(time.RFC3339)
	case f.Name == "zoneTag":
		return z.ID
	case f.Name == "sampleInterval":
		return uint64(1) // set again when the answer is sampled
	case f.List:
		return []any(nil)
	}
	if v := t.Attribute(f.Name); v != nil {
		return v
	}
	if f.Type == "string" {
		return ""
	}
	return uint64(0)
}

// merge joins rows of different zones that have the same key.
func merge(rows []row) []row {
	index := map[string]int{}
	var out []row
	for _, r := range rows {
		key := fmt.Sprintf("%q", r.key)
		i, ok := index[key]
		if !ok {
			index[key] = len(out)
			out = append(out, r)
			continue
		}
		out[i].parts = append(out[i].parts, r.parts...)
		out[i].from, out[i].to = min(out[i].from, r.from), max(out[i].to, r.to)
		out[i].clients = traffic.Union(out[i].clients, r.clients)
	}
	return out
}

// sortRows orders rows by the terms and then by the group key. Without terms
// it shuffles: the real API promises no order then.
func (s *world) sortRows(sel *selection, rows []row) {
	byKey := func(a, b row) int {
		for i := range a.key {
			if c := compareValues(a.key[i], b.key[i]); c != 0 {
				return c
			}
		}
		return 0
	}
	if len(sel.order) == 0 {
		s.shuffle(rows)
		return
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		for _, t := range sel.order {
			var c int
			if t.dim >= 0 {
				c = compareValues(a.key[t.dim], b.key[t.dim])
			} else {
				c = cmp.Compare(s.number(sel, &a, t.measure), s.number(sel, &b, t.measure))
			}
			if t.desc {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return byKey(a, b)
	})
}

func compareValues(a, b any) int {
	switch x := a.(type) {
	case string:
		y, _ := b.(string)
		return cmp.Compare(x, y)
	case uint64:
		y, _ := b.(uint64)
		return cmp.Compare(x, y)
	}
	return 0
}
