package catalogue

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/weir-metrics/weir/internal/bucket"
)

// unknown replaces an empty label value: Prometheus treats an empty label as absent, and
// remote write forbids it.
const unknown = "unknown"

// finish makes the window's rows canonical.
func (f *folder) finish(win *window, start bucket.Time) (Folded, error) {
	out := Folded{Start: start, Empty: win.groups == 0}
	if win.samples > 0 {
		out.SampleInterval = win.events / win.samples
	}
	feeds := make([]*measure, len(f.d.Families))
	bounds := make([]*measure, len(f.d.Families)) // by family of bounds
	kept := make([][]row, len(f.d.Families))
	summed := make([][]string, len(f.d.Families)) // labels of the row that the limit made
	for i := range f.measures {
		m := &f.measures[i]
		feeds[m.family] = m
		if m.interval != nil {
			bounds[m.interval.lower], bounds[m.interval.upper] = m, m
		}
		for j := range win.tables[m.family].rows {
			if r := &win.tables[m.family].rows[j]; m.statistic {
				m.joinRow(r)
			}
		}
	}
	if f.level >= 0 {
		var sum amount
		for i := range win.tables[f.level].rows {
			if err := sum.add(win.tables[f.level].rows[i].sum); err != nil {
				return Folded{}, err
			}
		}
		out.Level = sum.value()
	}
	for i := range f.d.Families {
		family := &f.d.Families[i]
		if family.Name == f.d.Interval {
			if out.SampleInterval > 1 {
				out.Families = append(out.Families, bucket.Rows{Family: family.Name, Labels: []string{f.d.Dataset}, Values: []float64{out.SampleInterval}})
			}
			continue
		}
		rows := win.tables[i].rows
		if m := feeds[i]; family.Role == bucket.Total && m != nil && !m.statistic && len(rows) == 0 {
			rows = []row{{}}
		}
		if limit, ok := f.d.Limits[family.Name]; ok {
			var err error
			before := out.FoldedRows
			if rows, err = limit.apply(f.d, win, i, &out); err != nil {
				return Folded{}, fmt.Errorf("family %s: %w", family.Name, err)
			}
			if out.FoldedRows > before {
				summed[i] = slices.Repeat([]string{limit.Other}, len(family.Labels))
			}
		}
		of := feeds[i]
		if m := bounds[i]; m != nil { // its measure's family is an earlier one
			of, rows = m, f.boundRows(rows, kept[m.family], summed[m.family])
		}
		kept[i] = rows
		if len(rows) == 0 {
			continue
		}
		r := bucket.Rows{
			Family: family.Name,
			Labels: make([]string, 0, len(rows)*len(family.Labels)),
			Values: make([]float64, 0, len(rows)),
		}
		for j := range rows {
			// Only here: before, rows are distinguished by Cloudflare's values.
			for _, text := range rows[j].labels {
				value, changed := bucket.FitLabel(text)
				r.Labels = append(r.Labels, value)
				if changed && bounds[i] == nil { // counted once
					out.CutLabels++
				}
			}
			r.Values = append(r.Values, of.scale.of(rows[j].sum.value()))
		}
		bucket.SortRows(&r)
		out.Families = append(out.Families, r)
	}
	return out, nil
}

// apply returns the rows of family i that the limit keeps, and the rest as one.
func (l Limit) apply(d *Dataset, win *window, i int, out *Folded) ([]row, error) {
	all := win.tables[i].rows
	if len(all) == 0 {
		return nil, nil
	}
	rank := &win.tables[i]
	if l.By != "" {
		rank = &win.tables[d.family(l.By)]
	}
	labels := d.Families[i].Labels
	own := len(slices.DeleteFunc(slices.Clone(labels), func(l string) bool { return l == quantileLabel })) // quantile is the last
	keep, rest := make([]row, 0, len(all)), make([]row, 0, len(all))
	for _, r := range all {
		if l.admits(labels[:own], r.labels[:own]) {
			keep = append(keep, r)
		} else {
			rest = append(rest, r)
		}
	}
	if l.Top > 0 && len(keep) > l.Top {
		weight := func(r row) float64 {
			if at, ok := rank.index[joinKey(r.labels[:own])]; ok {
				return rank.rows[at].sum.value()
			}
			return 0
		}
		slices.SortFunc(keep, func(a, b row) int {
			return cmp.Or(cmp.Compare(weight(b), weight(a)), slices.Compare(a.labels, b.labels))
		})
		most := cut(keep, own, l.Top)
		rest = append(rest, keep[most:]...)
		keep = keep[:most]
	}
	if len(rest) == 0 {
		return keep, nil
	}
	out.FoldedRows += len(rest)
	if d.ZeroFill > 0 {
		out.beyond(d.Families[i].Name, rest)
	}
	if !d.Families[i].Additive {
		return keep, nil
	}
	other := row{labels: slices.Repeat([]string{l.Other}, len(d.Families[i].Labels))}
	// If Cloudflare has a value that equals ours, they share a row.
	if at := slices.IndexFunc(keep, func(r row) bool { return slices.Equal(r.labels, other.labels) }); at >= 0 {
		other = keep[at]
		keep = slices.Delete(keep, at, at+1)
	}
	for _, r := range rest {
		if err := other.sum.add(r.sum); err != nil {
			return nil, err
		}
	}
	return append(keep, other), nil
}

// cut is the number of rows, in order, that have the first top sets of their first own
// labels.
func cut(rows []row, own, top int) int {
	sets := 0
	for i := range rows {
		if i == 0 || !slices.Equal(rows[i].labels[:own], rows[i-1].labels[:own]) {
			if sets++; sets > top {
				return i
			}
		}
	}
	return len(rows)
}

func (l Limit) admits(labels, values []string) bool {
	for i, v := range values {
		if slices.Contains(l.Deny, v) || len(l.Allow) > 0 && !slices.Contains(l.Allow, v) {
			return false
		}
		if only, ok := l.Only[labels[i]]; ok && !slices.Contains(only, v) || slices.Contains(l.Except[labels[i]], v) {
			return false
		}
	}
	return true
}

// at returns the value at a path through objects; nil if there is none.
func at(group map[string]any, path []string) any {
	var v any = group
	for _, name := range path {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = object[name]
	}
	return v
}

func amountAt(group map[string]any, path []string) (amount, error) {
	n, err := parseAmount(at(group, path))
	if err != nil {
		return amount{}, fmt.Errorf("field %v %w", path, err)
	}
	return n, nil
}

// labelText returns the text of a dimension: a string as it is, a number or boolean
// as JSON writes it.
func labelText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return string(v), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", fmt.Errorf("is %s; it must be a string, a number or a boolean", kindOf(v))
}

// joinKey is an unambiguous key of several label values.
func joinKey(labels []string) string {
	switch len(labels) {
	case 0:
		return ""
	case 1:
		return labels[0]
	}
	var key []byte
	for _, l := range labels {
		key = appendKey(key, l)
	}
	return string(key)
}

// appendKey appends a value with its length, so that no two lists of values
// share a key.
func appendKey(key []byte, text string) []byte {
	key = append(key, '/')
	key = strconv.AppendInt(key, int64(len(text)), 10)
	key = append(key, ':')
	return append(key, text...)
}
