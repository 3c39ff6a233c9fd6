package catalogue

import (
	"slices"
	"strings"
)

// Selection is what a query selects for one variant, in terms of the API. The planner adds
// the window, the limit and the alias.
type Selection struct {
	Node          string
	FilterField   string
	TimeDimension string
	Filter        map[string]any // shared with the catalogue: read only
	Dimensions    []string       // besides the time dimension
	Fields        []string       // paths outside "dimensions", sorted, each once: "sum.countryMap.requests"
	Confidence    string         // level of the confidence intervals in Fields; empty: none
	OrderBy       []string       // group key ascending: a stable order, whatever the server does
}

// Selection returns what to select for variant v.
func (d *Dataset) Selection(v *Variant) Selection {
	s := Selection{
		Node: v.Node, FilterField: v.FilterField, TimeDimension: v.TimeDimension, Filter: v.Filter,
		Dimensions: slices.Clone(v.Dimensions), Fields: v.paths(), Confidence: string(v.Level),
		OrderBy: []string{v.TimeDimension + "_ASC"},
	}
	for _, dim := range v.Dimensions {
		s.OrderBy = append(s.OrderBy, dim+"_ASC")
	}
	return s
}

// paths returns all selected fields except dimensions.
func (v *Variant) paths() []string {
	var out []string
	for i := range v.Measures {
		out = append(out, v.Measures[i].paths()...)
	}
	if v.Interval != "" {
		out = append(out, v.Interval)
	}
	for i := range v.Bounds {
		out = append(out, v.Bounds[i].paths()...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (m *Measure) paths() []string {
	if m.Map == "" {
		out := m.values()
		if m.Weight != "" {
			out = append(out, m.Weight)
		}
		return out
	}
	out := []string{m.Map + "." + m.Field}
	for _, source := range m.Labels {
		field, _ := labelSource(source)
		out = append(out, m.Map+"."+field)
	}
	return out
}

// values are the paths of the values in a group: one, or one for each quantile.
func (m *Measure) values() []string {
	if len(m.Quantiles) == 0 {
		return []string{m.Field}
	}
	out := make([]string, len(m.Quantiles))
	for i, q := range m.Quantiles {
		out[i] = m.Field + quantileField(q)
	}
	return out
}

// quantileField is how names of fields at Cloudflare end for a quantile: P50, P999.
func quantileField(quantile Quantile) string {
	digits := strings.TrimPrefix(string(quantile), "0.")
	if len(digits) == 1 {
		digits += "0"
	}
	return "P" + digits
}

// Fields returns the flattened names of all fields that the variant selects,
// in the spelling of the settings node's availableFields: "sum_requests",
// "dimensions_datetimeFiveMinutes". Sorted, without duplicates. Fields inside a
// map are written with the map's name, "sum_countryMap_requests"; whether
// Cloudflare lists those or the map alone is not documented, see
// [Variant.Missing].
func (v *Variant) Fields() []string {
	out := []string{"dimensions_" + v.TimeDimension}
	for _, dim := range v.Dimensions {
		out = append(out, "dimensions_"+dim)
	}
	for _, path := range v.paths() {
		out = append(out, flat(path))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func flat(path string) string { return strings.ReplaceAll(path, ".", "_") }

// setFiltered sets the Filtered of all variants.
func setFiltered(datasets []Dataset) {
	known := map[string]bool{} // node and dimension
	for i := range datasets {
		for _, v := range datasets[i].Variants {
			for _, dim := range v.Dimensions {
				known[v.Node+" "+dim] = true
			}
		}
	}
	for i := range datasets {
		for j := range datasets[i].Variants {
			v := &datasets[i].Variants[j]
			for _, name := range sortedKeys(v.Filter) {
				if dim, _, _ := strings.Cut(name, "_"); known[v.Node+" "+dim] {
					v.Filtered = append(v.Filtered, "dimensions_"+dim)
				}
			}
			v.Filtered = slices.Compact(v.Filtered)
		}
	}
}

// Missing returns those of [Variant.Fields] and of Filtered that are not in available, the settings node's
// availableFields. A field inside a map is available by its own name or by the map's. If
// the list is empty, fields are not restricted and none is missing.
func (v *Variant) Missing(available []string) []string {
	if len(available) == 0 {
		return nil
	}
	has := make(map[string]bool, len(available))
	for _, name := range available {
		has[name] = true
	}
	var out []string
	for _, name := range v.Fields() {
		granted := has[name]
		for i := range v.Measures {
			m := &v.Measures[i]
			if m.Map != "" && strings.HasPrefix(name, flat(m.Map)+"_") {
				granted = granted || has[flat(m.Map)]
			}
		}
		for i := range v.Bounds {
			b := &v.Bounds[i]
			if slices.ContainsFunc(b.paths(), func(path string) bool { return name == flat(path) }) {
				granted = granted || b.listed(has)
			}
		}
		if !granted {
			out = append(out, name)
		}
	}
	for _, name := range v.Filtered {
		if !has[name] && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// Without returns the variant without its optional parts that need one of the refused
// fields: optional measures, confidence intervals, and the sample interval of a node that is not
// sampled. Names
// are flattened and compared without regard to case, because Cloudflare's refusals are in
// lower case. It returns nil if a required part needs a refused field, and v itself if
// nothing does. So the variant for a scope is v.Without(v.Missing(available)).
func (v *Variant) Without(refused []string) *Variant {
	needs := func(path string) bool {
		return slices.ContainsFunc(refused, func(r string) bool { return strings.EqualFold(r, flat(path)) })
	}
	switch {
	case slices.ContainsFunc(v.Filtered, needs):
		return nil
	case !slices.ContainsFunc(v.Fields(), needs):
		return v
	}
	out := *v
	if out.Interval != "" && needs(out.Interval) && !out.Sampled {
		out.Interval = ""
	}
	out.Measures = slices.DeleteFunc(slices.Clone(v.Measures), func(m Measure) bool {
		return m.Optional && slices.ContainsFunc(m.paths(), needs)
	})
	out.Bounds = slices.DeleteFunc(slices.Clone(v.Bounds), func(b Bound) bool {
		fed := slices.ContainsFunc(out.Measures, func(m Measure) bool { return m.Family == b.Family })
		return !fed || slices.ContainsFunc(b.paths(), needs)
	})
	if v.Level != "" && len(out.Bounds) == 0 {
		return nil // the variant that follows is the same without
	}
	if len(out.Measures) == 0 || slices.ContainsFunc(out.Fields(), needs) {
		return nil
	}
	return &out
}

// Same reports whether two variants of one dataset select the same fields, so that one
// selection serves both: they are the same variant, without the same optional measures.
func (v *Variant) Same(o *Variant) bool {
	return v == o || v.Name == o.Name && v.Level == o.Level && slices.Equal(v.Bounds, o.Bounds) && slices.EqualFunc(v.Measures, o.Measures, func(a, b Measure) bool {
		return a.Family == b.Family && a.Field == b.Field && a.Map == b.Map && a.Weight == b.Weight && slices.Equal(a.Quantiles, b.Quantiles)
	})
}

// The functions of sources.
const (
	classOf = "class" // of a status code: 404 is 4xx
	pathOf  = "path"  // without ids; see [pathPattern]
)

// labelSource parses "field" and "function(field)".
func labelSource(source string) (field, function string) {
	if function, rest, ok := strings.Cut(source, "("); ok {
		if inner, ok := strings.CutSuffix(rest, ")"); ok {
			return inner, function
		}
	}
	return source, ""
}
