package cfsim

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/query"
)

// writer appends JSON. It exists because answers of thousands of groups are
// written all the time, and maps of any would cost more than making the data.
type writer struct {
	s   *world
	sel *selection
	buf []byte
	odd oddities
	mut *mutation
}

// oddities are the faults in values.
type oddities struct{ huge, negative, duplicate bool }

func (w *writer) raw(s string) { w.buf = append(w.buf, s...) }

func (w *writer) key(k string, first *bool) {
	if !*first {
		w.buf = append(w.buf, ',')
	}
	*first = false
	w.text(k)
	w.buf = append(w.buf, ':')
}

// text writes a string without escaping <, > and &, as the real API does.
func (w *writer) text(s string) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			b, err := json.Marshal(s)
			if err != nil {
				panic(err) // a string always marshals
			}
			w.buf = append(w.buf, b...)
			return
		}
	}
	w.buf = append(append(append(w.buf, '"'), s...), '"')
}

func (w *writer) uint(n uint64) {
	if text := w.mut.number(); text != "" {
		w.raw(text)
		return
	}
	if w.odd.huge {
		n += 1<<63 + 1
	}
	w.buf = strconv.AppendUint(w.buf, n, 10)
}

func (w *writer) float(f float64) {
	if text := w.mut.number(); text != "" {
		w.raw(text)
		return
	}
	if w.odd.negative {
		f = -1
	}
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		w.buf = strconv.AppendInt(w.buf, int64(f), 10)
		return
	}
	w.buf = strconv.AppendFloat(w.buf, math.Round(f*1e7)/1e7, 'f', -1, 64)
}

// value writes the value of a dimension or the key of a map.
func (w *writer) value(field string, v any) {
	switch x := v.(type) {
	case string:
		if text := w.mut.text(field, x); text != "" {
			w.raw(text)
			return
		}
		w.text(x)
	case uint64:
		w.buf = strconv.AppendUint(w.buf, x, 10)
	default:
		w.raw("[]") // list dimensions are not modelled
	}
}

// rows writes the list of groups.
func (w *writer) rows(rows []row) {
	w.raw("[")
	for i := range rows {
		if i > 0 {
			w.raw(",")
		}
		w.row(&rows[i])
	}
	w.raw("]")
}

// object writes {"alias": …} for each distinct alias, letting member write the
// value.
func (w *writer) object(fields []query.Field, typename string, member func(query.Field)) {
	w.raw("{")
	first := true
	for i, f := range fields {
		if repeated(fields[:i], f.Alias) {
			continue
		}
		w.key(f.Alias, &first)
		if f.Name == "__typename" {
			w.text(typename)
			continue
		}
		member(f)
	}
	w.raw("}")
}

func repeated(before []query.Field, alias string) bool {
	for _, f := range before {
		if f.Alias == alias {
			return true
		}
	}
	return false
}

func (w *writer) row(r *row) {
	name := w.sel.dataset.Name
	w.mut.begin(r)
	w.object(w.sel.field.Fields, name, func(c query.Field) {
		if w.sel.dataset.Raw {
			if c.Fields != nil {
				w.nested(r, c)
				return
			}
			w.leaf(r, "dimensions", c)
			return
		}
		if c.Name == "count" {
			w.uint(r.total().Requests)
			return
		}
		if c.Name == "confidence" {
			w.confidence(r, c)
			return
		}
		w.object(c.Fields, name+"_"+c.Name, func(f query.Field) { w.leaf(r, c.Name, f) })
	})
}

func (w *writer) leaf(r *row, container string, f query.Field) {
	switch container {
	case "dimensions":
		for i, d := range w.sel.dims {
			if d == f.Name && i < len(r.key) {
				w.value(d, r.key[i])
				return
			}
		}
		w.raw("null")
	case "uniq":
		w.uint(r.uniques)
	default:
		if container == "sum" { // most of what is asked, without a look at its type
			if m, ok := mapFields[f.Name]; ok {
				w.list(r.mapRows(m.attribute, m.where), m.key, f)
				return
			}
			if m, ok := sumFields[f.Name]; ok && len(r.parts) > 0 && r.parts[0].template.Values == nil {
				w.uint(r.sumWhere(m.where, m.value))
				return
			}
		}
		def, _ := w.sel.dataset.Field(w.sel.scope, container, f.Name)
		if def.List {
			w.raw("[]")
			return
		}
		w.any(f.Name, w.s.field(w.sel, r, container, def))
	}
}

// any writes the value of a measure or of a member of a raw row's list.
func (w *writer) any(name string, v any) {
	switch x := v.(type) {
	case uint64:
		w.uint(x)
	case float64:
		w.float(x)
	case string:
		w.value(name, x)
	default:
		w.raw("null")
	}
}

// nested writes a list of objects of a raw row.
func (w *writer) nested(r *row, f query.Field) {
	list, _ := r.parts[0].template.Attributes[f.Name].([]map[string]any)
	w.raw("[")
	for i, member := range list {
		if i > 0 {
			w.raw(",")
		}
		w.object(f.Fields, f.Name, func(leaf query.Field) { w.any(leaf.Name, member[leaf.Name]) })
	}
	w.raw("]")
}

// list writes one of the maps of a roll-up.
func (w *writer) list(rows []mapRow, key string, f query.Field) {
	w.raw("[")
	for i := range rows {
		if i > 0 {
			w.raw(",")
		}
		w.object(f.Fields, f.Name, func(leaf query.Field) {
			switch leaf.Name {
			case key:
				w.value(key, rows[i].key)
			case "bytes":
				w.uint(rows[i].bytes)
			case "threats":
				w.uint(rows[i].threats)
			default: // "requests", or "pageViews" where the rows are page views already
				w.uint(rows[i].requests)
			}
		})
	}
	w.raw("]")
}

// confidence writes the bounds that follow from the size of the sample: exact
// when every event was counted.
func (w *writer) confidence(r *row, c query.Field) {
	z := math.Sqrt2 * math.Erfinv(w.sel.level)
	bounds := func(f query.Field, estimate uint64) {
		half := 0.0
		if r.interval > 1 && r.sampled > 0 {
			half = z * float64(estimate) * math.Sqrt((1-1/float64(r.interval))/float64(r.sampled))
		}
		w.object(f.Fields, "confidence", func(b query.Field) {
			switch b.Name {
			case "estimate":
				w.uint(estimate)
			case "lower":
				w.float(max(float64(estimate)-half, 0))
			case "upper":
				w.float(float64(estimate) + half)
			case "sampleSize":
				w.uint(r.sampled)
			case "isValid":
				w.raw(strconv.FormatBool(r.interval == 1 || r.sampled >= 10))
			}
		})
	}
	w.object(c.Fields, "confidence", func(part query.Field) {
		switch part.Name {
		case "level":
			w.float(w.sel.level)
		case "count":
			bounds(part, r.total().Requests)
		case "sum":
			w.object(part.Fields, "confidence_sum", func(f query.Field) {
				n, _ := r.sum(f.Name)
				bounds(f, n)
			})
		}
	})
}

// answer evaluates a selection and writes its list.
func (s *world) answer(sel *selection, zones []*zoneState, now time.Time, tag string, odd oddities) ([]byte, int, *gqlError) {
	rows, err := s.rows(sel, zones, now)
	if err != nil {
		return nil, 0, err
	}
	s.sortRows(sel, rows)
	if len(rows) > sel.limit {
		rows = rows[:sel.limit] // silently, as the real one does
	}
	w := writer{s: s, sel: sel, odd: odd}
	if s.faults.anyOdd() {
		w.mut = &mutation{faults: s.faults, now: now, dataset: sel.dataset.Name, tag: tag}
	}
	if odd.duplicate && len(rows) > 0 {
		rows = append(rows, rows[0])
	}
	w.rows(rows)
	return w.buf, len(rows), nil
}
