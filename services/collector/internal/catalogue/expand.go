package catalogue

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// kinds are the kinds of scope by their name in a file.
var kinds = map[string]bucket.ScopeKind{bucket.Zone.String(): bucket.Zone, bucket.Account.String(): bucket.Account}

// id is the dataset's id at a size. The name of a dataset with one size may include it.
func (s *spec) id(size time.Duration) string {
	suffix := "_" + bucket.SizeName(size)
	if len(s.can) == 1 && strings.HasSuffix(s.Name, "_"+bucket.SizeName(s.can[0])) {
		if size == s.can[0] {
			return s.Name
		}
		return strings.TrimSuffix(s.Name, "_"+bucket.SizeName(s.can[0])) + suffix
	}
	return s.Name + suffix
}

// expand returns the dataset at one size. It does not validate it.
func (s *spec) expand(size, delay time.Duration) Dataset {
	d := Dataset{
		Definition: bucket.Definition{
			Dataset: s.id(size), ScopeKind: kinds[s.Scope], Size: size, Delay: or(s.Delay, delay),
			Depth: or(s.Depth, depth{span: 24 * time.Hour}).at(size), Description: or(s.Description, ""),
		},
		Name: s.Name, Sizes: s.can, Enabled: or(s.Enabled, true), Own: !s.builtIn, Confirm: or(s.Confirm, defaultConfirm), Level: s.Level,
		Limits: map[string]Limit{}, Variants: s.variants(size),
	}
	if d.State = s.state(); d.State {
		d.Delay = or(s.Delay, 0)
	}
	for i := range s.Values {
		d.Values = append(d.Values, s.Values[i].Value)
	}
	d.Deadline = or(s.Deadline, d.Delay+graceAfterDelay)
	for i := range s.Families {
		if f := &s.Families[i]; !slices.Contains(s.Drop, f.Name) {
			d.Families = append(d.Families, f.family())
		}
	}
	for name, l := range s.Limits {
		if !slices.Contains(s.Drop, name) {
			limit := l.Limit
			if limit.Other == "" {
				limit.Other = "other"
			}
			d.Limits[name] = limit
		}
	}
	if s.ZeroFill != nil {
		d.ZeroFill = s.ZeroFill.buckets(size)
	}
	d.boundless = s.addBounds(&d)
	if slices.ContainsFunc(d.Variants, func(v Variant) bool { return v.Interval != "" }) {
		d.Interval = SampleInterval
		d.Families = append(d.Families, sampleInterval)
	}
	return d
}

func (f *familySpec) family() bucket.Family {
	out := bucket.Family{Name: f.Name, Help: f.Help, Unit: f.Unit, Role: bucket.Total, Additive: f.additive()}
	// A family with labels of its own has several series per scope, so it is a
	// breakdown.
	if len(f.Labels) > 0 {
		out.Labels, out.Role = f.Labels, bucket.Breakdown
	}
	return out
}

// additive is true by default.
func (f *familySpec) additive() bool { return or(f.Additive, true) }

// variants returns the variants that support a size.
func (s *spec) variants(size time.Duration) (out []Variant) {
	for i := range s.Variants {
		if v, ok := s.Variants[i].at(size, s.Drop); ok {
			out = append(out, v)
		}
	}
	return out
}

// at returns the variant at a bucket size if it supports it: with the longest step of its
// node, so that more windows fit into a page.
func (vs *variantSpec) at(size time.Duration, drop []string) (Variant, bool) {
	if len(vs.Sizes) > 0 && !slices.Contains(vs.Sizes, size) {
		return Variant{}, false
	}
	v := Variant{
		Name: vs.Name, Node: vs.Node, FilterField: vs.FilterField, Sampled: or(vs.Sampled, false), Interval: vs.Interval,
		Filter: vs.Filter, Dimensions: vs.Dimensions, Plan: vs.Plan, Product: vs.Product,
		REST: vs.REST, Calls: vs.Calls, Permission: vs.Permission,
	}
	if v.REST != "" {
		v.Step, v.TimeDimension = size, stateTime
	}
	for step, dimension := range vs.Times {
		if step > v.Step && size%step == 0 {
			v.Step, v.TimeDimension = step, dimension
		}
	}
	if v.Step == 0 {
		return Variant{}, false
	}
	v.Rows = vs.Rows * int(size/v.Step)
	for _, m := range vs.Measures {
		if !slices.Contains(drop, m.Family) {
			v.Measures = append(v.Measures, m.Measure)
		}
	}
	return v, len(v.Measures) > 0
}

// stateTime is the dimension with the window of a state, which the reader adds.
const stateTime = "datetime"

// Placed gives the groups of a state, which have no time, that of a window. It alters them.
func (v *Variant) Placed(groups []map[string]any, start bucket.Time) []map[string]any {
	for _, g := range groups {
		if dims, ok := g["dimensions"].(map[string]any); ok {
			dims[v.TimeDimension] = start.Std().Format(time.RFC3339)
		}
	}
	return groups
}

// state reports whether the dataset is a state.
func (s *spec) state() bool {
	return slices.ContainsFunc(s.Variants, func(v variantSpec) bool { return v.REST != "" })
}

// unaddable returns why a variant cannot combine its groups into buckets of a size; empty
// if it can.
func (s *spec) unaddable(v *Variant, size time.Duration) string {
	for i := range v.Measures {
		m := &v.Measures[i]
		if f := s.family(m.Family); f != nil && !f.additive() && v.Step != size && !m.joins() {
			return fmt.Sprintf("groups of %s make buckets of %s, but family %s cannot be added up", short(v.Step), short(size), f.Name)
		}
	}
	return ""
}

func (s *spec) family(name string) *familySpec {
	for i := range s.Families {
		if s.Families[i].Name == name {
			return &s.Families[i]
		}
	}
	return nil
}

func or[T any](p *T, def T) T {
	if p != nil {
		return *p
	}
	return def
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
