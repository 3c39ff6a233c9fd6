package catalogue

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// operators are what names of filter fields end in, and whether the value is a list.
var operators = map[string]bool{
	"": false, "neq": false, "gt": false, "geq": false, "lt": false, "leq": false, "like": false, "notlike": false,
	"in": true, "notin": true, "has": false, "hasall": true, "hasany": true, "nothas": false,
}

// badFilter returns what is wrong with a condition of a filter; empty if nothing is.
func badFilter(name string, value any) string {
	_, operator, _ := strings.Cut(name, "_")
	list, known := operators[operator]
	values, isList := value.([]any)
	switch {
	case !known:
		return fmt.Sprintf("ends in _%s; the operators are %s", operator, "_"+strings.Join(sortedKeys(operators)[1:], ", _"))
	case list && !isList:
		return fmt.Sprintf("is %v; it must be a list", value)
	case list && len(values) == 0:
		return "is an empty list, which nothing matches"
	case !list && isList:
		return fmt.Sprintf("is a list; it must be one value, or the filter %s_in", strings.TrimSuffix(name, "_"+operator))
	}
	return ""
}

// scaledField are names of fields whose unit is known from their name.
var scaledField = regexp.MustCompile(`(Ms|Us)$`)

// averages are fields whose values of several groups have an average.
var averages = regexp.MustCompile(`^(avg|ratio|dimensions)\.`)

func (s *spec) checkMeasure(v *variantSpec, m *measureSpec, wrong func(format string, args ...any)) {
	f := s.family(m.Family)
	if f == nil {
		wrong("is not a family of the dataset")
		return
	}
	if m.Map != "" && strings.Contains(m.Field, ".") {
		wrong("map is %q and field %q; they must be a path and a name, such as sum.countryMap and requests", m.Map, m.Field)
	}
	switch first, rest, _ := strings.Cut(m.Field, "."); {
	case m.Map != "" || m.Field == "" || v.REST != "":
	case first == "confidence":
		wrong("field is %s; the bounds of estimates come with confidence of the dataset", m.Field)
	case first == "count" && rest != "":
		wrong("field is %s; it must be count, which has no parts", m.Field)
	case rest == "" && (first == "sum" || kindOfField(first) != amountField):
		wrong("field is %s; it must be a path such as %s.requests", m.Field, first)
	}
	if m.Optional && m.Family == s.Level {
		wrong("is the level and cannot be optional")
	}
	s.checkSources(v, m, f, wrong)
	if m.Map != "" && len(f.Labels) == 0 {
		wrong("a map feeds a family without labels")
	}
	for _, dim := range sortedKeys(m.When) {
		if !slices.Contains(v.Dimensions, strings.TrimPrefix(dim, "!")) {
			wrong("condition on %q, which is not a dimension of the variant", dim)
		}
		if len(m.When[dim]) == 0 {
			wrong("condition on %q without values", dim)
		}
	}
	if dim, ok := strings.CutPrefix(m.Field, "dimensions."); ok && !slices.Contains(v.Dimensions, dim) {
		wrong("field is %s; %s must be a dimension of the variant", m.Field, dim)
	}
	s.checkKind(m, f, wrong)
	s.checkScale(m, f, wrong)
	if !f.additive() && !m.joins() {
		s.checkRows(v, m, wrong)
	}
}

// checkSources checks that each label has a source.
func (s *spec) checkSources(v *variantSpec, m *measureSpec, f *familySpec, wrong func(format string, args ...any)) {
	labels := f.Labels
	if at := slices.Index(labels, quantileLabel); at >= 0 {
		labels = slices.Delete(slices.Clone(labels), at, at+1)
		if len(m.Quantiles) == 0 {
			wrong("the family has the label quantile, so the measure needs quantiles, such as [0.5, 0.99]")
		}
	} else if len(m.Quantiles) > 0 {
		wrong("has quantiles, so the last label of the family must be quantile; its labels are %v", f.Labels)
	}
	if len(m.Labels) != len(labels) {
		wrong("gives %d labels; the family has %v", len(m.Labels), labels)
	}
	for _, label := range sortedKeys(m.Labels) {
		field, _ := labelSource(m.Labels[label])
		if !slices.Contains(labels, label) {
			wrong("gives label %q; the family has %v", label, labels)
		}
		if m.Map == "" && !slices.Contains(v.Dimensions, field) {
			wrong("label %s comes from %q, which is not a dimension of the variant", label, field)
		}
	}
}

// checkKind checks that a field is used as what it is.
func (s *spec) checkKind(m *measureSpec, f *familySpec, wrong func(format string, args ...any)) {
	kind := m.kind()
	if kind != amountField && f.additive() {
		wrong("field %s is %s, so the family must be additive: false", m.Field, kind)
	}
	if kind != statisticField && (m.joins() || len(m.Quantiles) > 0) {
		wrong("field %s is %s; weight, join and quantiles are for statistics: avg, max, min, quantiles, ratio", m.Field, kind)
	}
	quantiles := strings.HasPrefix(m.Field, "quantiles.") || strings.HasPrefix(m.Field, "avgWeighted.")
	switch {
	case quantiles && len(m.Quantiles) == 0:
		wrong("field %s is one quantile; it must be the path before P50 with quantiles, such as field: quantiles.cpuTime and quantiles: [0.5]", m.Field)
	case !quantiles && len(m.Quantiles) > 0:
		wrong("quantiles of field %s; the field must be a path such as quantiles.cpuTime", m.Field)
	case quantiles && m.joins():
		wrong("quantiles of several groups cannot be joined, so neither weight nor join may be there")
	case m.Weight != "" && m.Join != "":
		wrong("has weight and join %s; groups are joined in one way", m.Join)
	case m.Weight != "" && kindOfField(m.Weight) != amountField:
		wrong("weight is %s, which is %s; it must be an amount, such as count", m.Weight, kindOfField(m.Weight))
	case m.Weight != "" && !averages.MatchString(m.Field):
		wrong("field %s has a weight; only averages, ratios and dimensions are joined by weight", m.Field)
	}
	for i, q := range m.Quantiles {
		if slices.Contains(m.Quantiles[:i], q) {
			wrong("quantile %s is there twice", q)
		}
	}
	if m.Family == s.Level && (m.Scale != "" || len(m.Quantiles) > 0 || m.Weight != "") {
		wrong("is the level, which is compared as Cloudflare reports it: neither scale, quantiles nor weight may be there")
	}
}

func (s *spec) checkScale(m *measureSpec, f *familySpec, wrong func(format string, args ...any)) {
	if to := scales[m.Scale].unit; m.Scale != "" && to != f.Unit && to+"_per_second" != f.Unit {
		wrong("scale %s converts to %s; the family has unit %q", m.Scale, to, f.Unit)
	}
	if unit := scaledField.FindString(m.Field); unit != "" && m.Scale != strings.ToLower(unit) {
		wrong("field %s is in %s; it must be scale: %s, with unit: seconds of the family", m.Field, strings.ToLower(unit), strings.ToLower(unit))
	}
}

// checkRows checks that every group is a row of its own.
func (s *spec) checkRows(v *variantSpec, m *measureSpec, wrong func(format string, args ...any)) {
	sources := m.sources()
	for _, dim := range v.Dimensions {
		if !slices.Contains(sources, dim) {
			wrong("the family is not additive, so dimension %s must be one of its labels", dim)
		}
	}
	for _, label := range sortedKeys(m.Labels) {
		if _, function := labelSource(m.Labels[label]); function != "" {
			wrong("the family is not additive, so label %s cannot be a %s", label, function)
		}
		if slices.ContainsFunc(s.Values, func(v valueSpec) bool { return v.Label == label }) {
			wrong("the family is not additive, so values of label %s cannot be replaced", label)
		}
	}
}

// sources returns the sources of the labels.
func (m *Measure) sources() (out []string) {
	for _, source := range m.Labels {
		out = append(out, source)
	}
	return out
}
