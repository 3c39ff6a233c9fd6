package catalogue

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Confidence is the level of a confidence interval as it is written: between 0 and 1, without
// zeros at its end. It is a label value.
type Confidence string

// UnmarshalText reads 0.95.
func (c *Confidence) UnmarshalText(text []byte) error {
	if !quantilePattern.Match(text) {
		return errors.New("a level between 0 and 1 without zeros at its end, such as 0.95")
	}
	*c = Confidence(text)
	return nil
}

// YAMLSchema describes a level.
func (*Confidence) YAMLSchema() map[string]any { return (*Quantile)(nil).YAMLSchema() }

// Bound is the confidence interval of one measure: two families besides that of the measure,
// which have a row where the measure's row is one group, and none where it is several: bounds
// cannot be added up.
type Bound struct {
	Family       string // of the measure
	Path         string // confidence.count
	Lower, Upper string // families
}

const (
	lowerSuffix = "_estimate_lower"
	upperSuffix = "_estimate_upper"
	// confidenceLabel has the level, so that series of two levels are not mistaken for one.
	confidenceLabel = "confidence"
	// boundsVariant is the suffix of variants that also ask for confidence intervals. Each is
	// followed by the one that does not, for scopes that may not query them.
	boundsVariant = "_confidence"
)

// boundName matches names of families of bounds: the suffix stands before the unit.
var boundName = regexp.MustCompile(`_estimate_(lower|upper)(_|$)`)

// boundsOf are the fields below confidence that are selected.
var boundsOf = []string{"isValid", "lower", "upper"}

// bounds returns the families of the bounds of a family.
func (f *familySpec) bounds(level Confidence) (lower, upper bucket.Family) {
	of := func(suffix, which string) bucket.Family {
		name := f.Name + suffix
		if f.Unit != "" {
			name = strings.TrimSuffix(f.Name, "_"+f.Unit) + suffix + "_" + f.Unit
		}
		return bucket.Family{
			Name: name, Unit: f.Unit, Labels: append(slices.Clone(f.Labels), confidenceLabel), Role: bucket.Breakdown,
			Help: fmt.Sprintf("%s bound of the confidence interval that Cloudflare gives for %s, by level. Equal to it where all events were counted.", which, f.Name),
		}
	}
	return of(lowerSuffix, "Lower"), of(upperSuffix, "Upper")
}

// boundless returns why a measure of a variant has no confidence interval; empty if it has one.
func (s *spec) boundless(v *variantSpec, at *Variant, size int64, m *measureSpec, f *familySpec) string {
	first, rest, nested := strings.Cut(m.Field, ".")
	switch {
	case !f.additive() || m.kind() != amountField:
		return "is not an amount"
	case m.Map != "":
		return "comes from a map"
	case nested && (first != "sum" || strings.Contains(rest, ".")) || !nested && first != "count":
		return "is neither count nor a sum"
	case !slices.Contains(v.Bounds, first):
		return fmt.Sprintf("node %s has no confidence intervals of %s", v.Node, first)
	case int64(at.Step) != size:
		return fmt.Sprintf("groups of %s make buckets of another size", short(at.Step))
	}
	sources := m.sources()
	for _, dim := range v.Dimensions {
		if !slices.Contains(sources, dim) {
			return fmt.Sprintf("dimension %s is not one of its labels, so a row is the sum of several groups", dim)
		}
	}
	for _, label := range f.Labels {
		if label == confidenceLabel {
			return "it has the label " + confidenceLabel + " itself"
		}
		if slices.ContainsFunc(s.Values, func(v valueSpec) bool { return v.Label == label }) {
			return fmt.Sprintf("values of label %s are replaced, so a row may be the sum of several groups", label)
		}
	}
	return ""
}

// addBounds adds the families of bounds, and before each variant that has confidence intervals
// the same one with them. If there are none, it returns why.
func (s *spec) addBounds(d *Dataset) (why []string) {
	level := or(s.Confidence, "")
	if level == "" {
		return nil
	}
	var variants []Variant
	added := map[string]bool{}
	for i := range d.Variants {
		plain := &d.Variants[i]
		of := &s.Variants[slices.IndexFunc(s.Variants, func(v variantSpec) bool { return v.Name == plain.Name })]
		with := *plain
		with.Name += boundsVariant
		with.Level = level
		for j := range plain.Measures {
			m := &measureSpec{Measure: plain.Measures[j]}
			f := s.family(m.Family)
			if f == nil {
				continue // which is a problem already
			}
			if no := s.boundless(of, plain, int64(d.Size), m, f); no != "" {
				why = append(why, fmt.Sprintf("%s of variant %s: %s", f.Name, plain.Name, no))
				continue
			}
			lower, upper := f.bounds(level)
			if !added[f.Name] {
				added[f.Name] = true
				d.Families = append(d.Families, lower, upper)
			}
			with.Bounds = append(with.Bounds, Bound{Family: f.Name, Path: "confidence." + m.Field, Lower: lower.Name, Upper: upper.Name})
		}
		if len(with.Bounds) > 0 {
			variants = append(variants, with)
		}
		variants = append(variants, *plain)
	}
	d.Variants = variants
	if len(added) > 0 {
		return nil
	}
	return why
}

// paths are the fields that are selected.
func (b *Bound) paths() []string {
	out := make([]string, len(boundsOf))
	for i, field := range boundsOf {
		out[i] = b.Path + "." + field
	}
	return out
}

// listed reports whether the available fields have an interval. How the settings list
// confidence is not documented, so a container that is listed in part or as a whole counts, and
// settings that do not mention it restrict nothing: a refusal does.
func (b *Bound) listed(available map[string]bool) bool {
	mentioned := false
	for name := range available {
		mentioned = mentioned || name == "confidence" || strings.HasPrefix(name, "confidence_")
	}
	if !mentioned {
		return true
	}
	for path := flat(b.Path + ".lower"); path != ""; {
		if available[path] {
			return true
		}
		cut := strings.LastIndex(path, "_")
		if cut < 0 {
			break
		}
		path = path[:cut]
	}
	return false
}

// OnlyBounds reports whether a field, in lower case as Cloudflare's refusals have it, is one that
// the variant selects for confidence intervals alone.
func (v *Variant) OnlyBounds(field string) bool {
	return len(v.Bounds) > 0 && (strings.EqualFold(field, "confidence") || slices.ContainsFunc(boundsOf, func(b string) bool { return strings.EqualFold(field, b) }))
}

// interval is a [Bound] with parsed paths and the indices of its families.
type interval struct {
	path         []string
	lower, upper int
}

func newInterval(d *Dataset, b *Bound) (interval, error) {
	out := interval{path: strings.Split(b.Path, "."), lower: d.family(b.Lower), upper: d.family(b.Upper)}
	if out.lower < 0 || out.upper < 0 {
		return interval{}, fmt.Errorf("bounds %s and %s are not families of the dataset", b.Lower, b.Upper)
	}
	return out, nil
}

// takeInterval adds a group's confidence interval of a measure. A row that has several groups,
// or an interval that Cloudflare does not call valid, gets none; see [folder.boundRows].
func (f *folder) takeInterval(m *measure, win *window, group, dims map[string]any) error {
	object, ok := at(group, m.interval.path).(map[string]any)
	if !ok {
		return fmt.Errorf("field %s is %s; it must be an object", strings.Join(m.interval.path, "."), kindOf(at(group, m.interval.path)))
	}
	valid, ok := object["isValid"].(bool)
	if !ok {
		return fmt.Errorf("field %s.isValid is %s; it must be a boolean", strings.Join(m.interval.path, "."), kindOf(object["isValid"]))
	}
	var ends [2]float64
	for i, name := range []string{"lower", "upper"} {
		n, isNumber := object[name].(json.Number)
		v, err := n.Float64()
		if valid && (!isNumber || err != nil || math.IsInf(v, 0) || math.IsNaN(v)) {
			return fmt.Errorf("field %s.%s is %s; it must be a finite number", strings.Join(m.interval.path, "."), name, kindOf(object[name]))
		}
		ends[i] = max(v, 0) // no amount is less
	}
	if valid && ends[0] > ends[1] {
		return fmt.Errorf("field %s has the lower bound %v above the upper one, %v", strings.Join(m.interval.path, "."), ends[0], ends[1])
	}
	for i, family := range []int{m.interval.lower, m.interval.upper} {
		t := &win.tables[family]
		start := len(t.labels)
		labels, err := m.rowLabels(t, dims)
		if err != nil {
			return err
		}
		at, have := t.index[joinKey(labels)]
		if have {
			t.labels = t.labels[:start]
		} else {
			at = len(t.rows)
			t.put(row{labels: labels, sum: amount{part: ends[i]}})
		}
		r := &t.rows[at]
		r.joined = append(r.joined, weighted{value: ends[i]})
		if !valid {
			r.joined = append(r.joined, weighted{})
		}
	}
	return nil
}

// boundRows are the rows of a family of bounds: of one valid interval each, where the measure
// has the row, and not where the limit summed others into it.
func (f *folder) boundRows(rows []row, kept []row, summed []string) (out []row) {
	stays := make(map[string]bool, len(kept))
	for i := range kept {
		stays[joinKey(kept[i].labels)] = summed == nil || !slices.Equal(kept[i].labels, summed)
	}
	for _, r := range rows {
		if len(r.joined) == 1 && stays[joinKey(r.labels)] {
			out = append(out, row{labels: append(slices.Clone(r.labels), string(f.v.Level)), sum: r.sum})
		}
	}
	return out
}
