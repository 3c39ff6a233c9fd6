package catalogue

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/yamlspec"
)

const (
	// mostFill is how many buckets back zero fill looks: each is read before every append.
	mostFill = 12
	// mostFilled is how many rows a family without a limit has with the filled ones.
	mostFilled = 1000
)

// fillSpan is how far back zero fill looks: a number of buckets or a duration.
type fillSpan struct{ depth }

// UnmarshalText reads 6 or 6h.
func (f *fillSpan) UnmarshalText(text []byte) error {
	if n, err := strconv.Atoi(string(text)); err == nil && (n < 1 || n > mostFill) {
		return errors.New("1 to 12 buckets, or a duration such as 1h")
	}
	return f.depth.UnmarshalText(text)
}

// YAMLSchema describes a span.
func (*fillSpan) YAMLSchema() map[string]any {
	s := yamlspec.DurationSchema()
	s["minimum"], s["maximum"] = 1, mostFill
	return s
}

// buckets is the number of buckets of a size that the span has; -1: not a whole number.
func (f fillSpan) buckets(size time.Duration) int {
	switch {
	case f.span == 0:
		return f.depth.buckets
	case f.span%size != 0:
		return -1
	}
	return int(f.span / size)
}

// fillable are the families that zero fill can give rows: amounts with labels.
func (d *Dataset) fillable(f *bucket.Family) bool {
	return f.Additive && len(f.Labels) > 0 && f.Name != d.Interval
}

// Earlier returns the window of the buckets that zero fill of the bucket at start depends on;
// ok is false if the dataset has no zero fill.
func (d *Dataset) Earlier(start bucket.Time) (w bucket.Window, ok bool) {
	return bucket.Window{Start: start.Add(-time.Duration(d.ZeroFill) * d.Size), End: start}, d.ZeroFill > 0
}

// FillZeros returns the families of a bucket that variant v made, with a row of 0 for each row
// that an earlier bucket has with a value other than 0, and the number of rows that were added.
// Earlier has the buckets of the same dataset, version and scope in [Dataset.Earlier], in any
// order, as far as they are stored.
//
// It fills what is known to be nothing: not in a bucket that is an estimate, of which the
// sample may lack what is rare; not in a family that the variant does not feed; and not a row
// that the limit summed into another. With the filled rows a family has no more than its limit
// keeps. What was seen last is preferred, then what was largest.
//
// The result depends on nothing else, and a filled row is no reason to fill another one.
func (d *Dataset) FillZeros(v *Variant, f *Folded, earlier []*bucket.Bucket) (families []bucket.Rows, filled int) {
	return d.fillFrom(v, f, earlier, func(value float64) bool { return value != 0 })
}

// KeepZeros returns the families of a bucket that takes the place of another one in a
// restatement, with the rows of 0 that the other has.
func (d *Dataset) KeepZeros(v *Variant, f *Folded, was *bucket.Bucket) []bucket.Rows {
	families, _ := d.fillFrom(v, f, []*bucket.Bucket{was}, func(value float64) bool { return value == 0 })
	return families
}

func (d *Dataset) fillFrom(v *Variant, f *Folded, earlier []*bucket.Bucket, counts func(value float64) bool) (families []bucket.Rows, filled int) {
	if d.ZeroFill == 0 || f.SampleInterval > 1 {
		return f.Families, 0
	}
	for i := range d.Families {
		family := &d.Families[i]
		fed := slices.ContainsFunc(v.Measures, func(m Measure) bool { return m.Family == family.Name })
		if !d.fillable(family) || !fed {
			continue
		}
		candidates := silent(family, f, earlier, counts)
		at := slices.IndexFunc(f.Families, func(r bucket.Rows) bool { return r.Family == family.Name })
		rows := bucket.Rows{Family: family.Name}
		if at >= 0 {
			rows = f.Families[at]
		}
		room := max(0, d.room(family)-len(rows.Values))
		candidates = candidates[:min(len(candidates), room)]
		if len(candidates) == 0 {
			continue
		}
		filled += len(candidates)
		out := bucket.Rows{Family: family.Name, Labels: slices.Clone(rows.Labels), Values: slices.Clone(rows.Values)}
		for _, c := range candidates {
			out.Labels, out.Values = append(out.Labels, c.labels...), append(out.Values, 0)
		}
		bucket.SortRows(&out)
		if families == nil {
			families = slices.Clone(f.Families)
		}
		if at = slices.IndexFunc(families, func(r bucket.Rows) bool { return r.Family == family.Name }); at >= 0 {
			families[at] = out
			continue
		}
		// In the order of the definition.
		before := 0
		for before < len(families) && d.family(families[before].Family) < i {
			before++
		}
		families = slices.Insert(families, before, out)
	}
	if filled == 0 {
		return f.Families, 0
	}
	return families, filled
}

// room is how many rows a family may have with the filled ones.
func (d *Dataset) room(f *bucket.Family) int {
	if l, ok := d.Limits[f.Name]; ok && l.Top > 0 {
		return l.Top + 1 // and other
	}
	return mostFilled
}

// seen is a row of an earlier bucket.
type seen struct {
	labels []string
	last   bucket.Time
	value  float64 // at that time
}

// silent are the rows of a family that earlier buckets have and this one has not, the ones to
// be preferred first.
func silent(family *bucket.Family, f *Folded, earlier []*bucket.Bucket, counts func(value float64) bool) []seen {
	n := len(family.Labels)
	here := map[string]bool{}
	for i := range f.Families {
		if r := &f.Families[i]; r.Family == family.Name {
			for j := range r.Values {
				here[joinKey(r.Labels[j*n:(j+1)*n])] = true
			}
		}
	}
	found := map[string]seen{}
	for _, b := range earlier {
		for i := range b.Families {
			r := &b.Families[i]
			if r.Family != family.Name || len(r.Labels) != n*len(r.Values) {
				continue
			}
			for j, value := range r.Values {
				labels := r.Labels[j*n : (j+1)*n]
				key := joinKey(labels)
				if had, again := found[key]; !counts(value) || here[key] || f.Beyond[family.Name][key] || again && had.last >= b.Start {
					continue
				}
				found[key] = seen{labels: labels, last: b.Start, value: value}
			}
		}
	}
	out := make([]seen, 0, len(found))
	for _, s := range found {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b seen) int {
		return cmp.Or(cmp.Compare(b.last, a.last), cmp.Compare(b.value, a.value), slices.Compare(a.labels, b.labels))
	})
	return out
}

// beyond records the rows that a limit sums into another one, by their labels as they would be
// stored.
func (f *Folded) beyond(family string, rest []row) {
	if len(rest) == 0 {
		return
	}
	if f.Beyond == nil {
		f.Beyond = map[string]map[string]bool{}
	}
	keys := make(map[string]bool, len(rest))
	for _, r := range rest {
		labels := make([]string, len(r.labels))
		for i, text := range r.labels {
			labels[i], _ = bucket.FitLabel(text)
		}
		keys[joinKey(labels)] = true
	}
	f.Beyond[family] = keys
}
