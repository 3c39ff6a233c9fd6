package catalogue

import (
	"fmt"
	"strconv"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/weir-metrics/weir/internal/bucket"
)

// spec is one dataset as declared, before a bucket size is chosen. Nil and zero
// mean "not said", so that a user's file can say only what differs.
type spec struct {
	place
	name        string
	description *string
	enabled     *bool
	scope       bucket.ScopeKind
	sizes       []time.Duration // that it can be collected at, ascending
	size        time.Duration   // that it is collected at
	delay       *time.Duration
	deadline    *time.Duration
	confirm     *int
	depth       *int
	level       string
	families    []familySpec
	variants    []variantSpec
	limits      map[string]limitSpec
	drop        []string // families that are not asked for
}

type familySpec struct {
	place
	bucket.Family
}

type limitSpec struct {
	place
	Limit
}

type variantSpec struct {
	place
	Variant
	// times gives the time dimension for each length of group that the node can
	// make; the longest that divides the bucket size is used.
	times map[time.Duration]string
	// sizes restricts the variant to these bucket sizes; empty: all.
	sizes    []time.Duration
	measures []measureSpec
}

type measureSpec struct {
	place
	Measure
}

// specs decodes a whole file: {datasets: [...]}.
func (r reader) specs(text []byte) []*spec {
	root := r.parse(text)
	if root == nil {
		return nil
	}
	var out []*spec
	r.mapping(root, "file", map[string]field{
		"datasets": r.list("datasets", func(n ast.Node) {
			if s := r.spec(n); s != nil {
				out = append(out, s)
			}
		}),
	})
	return out
}

func (r reader) spec(n ast.Node) *spec {
	s := &spec{place: r.at(n)}
	r.mapping(n, "dataset", map[string]field{
		"name":        r.text("name", func(v string) { s.name = v }),
		"description": r.text("description", func(v string) { s.description = &v }),
		"enabled":     r.boolean("enabled", func(v bool) { s.enabled = &v }),
		"scope":       r.scope("scope", &s.scope),
		"sizes":       r.durations("sizes", &s.sizes),
		"size":        r.duration("size", func(v time.Duration) { s.size = v }),
		"delay":       r.duration("delay", func(v time.Duration) { s.delay = &v }),
		"deadline":    r.duration("deadline", func(v time.Duration) { s.deadline = &v }),
		"confirm":     r.number("confirm", func(v int) { s.confirm = &v }),
		"depth":       r.number("depth", func(v int) { s.depth = &v }),
		"level":       r.text("level", func(v string) { s.level = v }),
		"families":    r.list("families", func(n ast.Node) { s.families = append(s.families, r.family(n)) }),
		"variants":    r.list("variants", func(n ast.Node) { s.variants = append(s.variants, r.variant(n)) }),
		"limits": func(n ast.Node) {
			s.limits = map[string]limitSpec{}
			for _, e := range r.entries(n, "limits") {
				s.limits[e.key] = r.limit(e)
			}
		},
		"drop": r.texts("drop", &s.drop),
	})
	if s.name == "" {
		r.add(s.place, "dataset without a name")
		return nil
	}
	return s
}

func (r reader) scope(what string, to *bucket.ScopeKind) field {
	return r.choice(what, map[string]func(){
		"zone":    func() { *to = bucket.Zone },
		"account": func() { *to = bucket.Account },
	}, "zone or account")
}

func (r reader) choice(what string, of map[string]func(), allowed string) field {
	return func(n ast.Node) {
		r.text(what, func(v string) {
			if set, ok := of[v]; ok {
				set()
				return
			}
			r.add(r.at(n), "%s is %q; it must be %s", what, v, allowed)
		})(n)
	}
}

func (r reader) durations(what string, to *[]time.Duration) field {
	return r.list(what, func(n ast.Node) {
		r.duration(what+" element", func(d time.Duration) { *to = append(*to, d) })(n)
	})
}

func (r reader) family(n ast.Node) familySpec {
	f := familySpec{place: r.at(n)}
	f.Additive = true // most are: the exception is worth a word, the rule is not
	r.mapping(n, "family", map[string]field{
		"name":     r.text("name", func(v string) { f.Name = v }),
		"help":     r.text("help", func(v string) { f.Help = v }),
		"unit":     r.text("unit", func(v string) { f.Unit = v }),
		"labels":   r.texts("labels", &f.Labels),
		"additive": r.boolean("additive", func(v bool) { f.Additive = v }),
	})
	// A family with labels of its own has several series per scope: nothing
	// else makes it a breakdown, so nobody has to say it.
	f.Role = bucket.Total
	if len(f.Labels) > 0 {
		f.Role = bucket.Breakdown
	} else {
		f.Labels = nil
	}
	return f
}

func (r reader) limit(e yamlEntry) limitSpec {
	l := limitSpec{place: r.at(e.node), Limit: Limit{Other: "other"}}
	r.mapping(e.value, "limit", map[string]field{
		"top":   r.number("top", func(v int) { l.Top = v }),
		"other": r.text("other", func(v string) { l.Other = v }),
		"by":    r.text("by", func(v string) { l.By = v }),
		"allow": r.texts("allow", &l.Allow),
		"deny":  r.texts("deny", &l.Deny),
	})
	return l
}

func (r reader) variant(n ast.Node) variantSpec {
	v := variantSpec{place: r.at(n), times: map[time.Duration]string{}}
	r.mapping(n, "variant", map[string]field{
		"name":         r.text("name", func(s string) { v.Name = s }),
		"node":         r.text("node", func(s string) { v.Node = s }),
		"filter_field": r.text("filter_field", func(s string) { v.FilterField = s }),
		"times": func(n ast.Node) {
			for _, e := range r.entries(n, "times") {
				step, ok := parseDuration(e.key)
				if !ok {
					r.add(r.at(e.node), "key of times is %q; it must be a duration such as 5m", e.key)
					continue
				}
				r.text("times "+e.key, func(s string) { v.times[step] = s })(e.value)
			}
		},
		"sizes":      r.durations("sizes", &v.sizes),
		"sampled":    r.boolean("sampled", func(b bool) { v.Sampled = b }),
		"interval":   r.text("interval", func(s string) { v.Interval = s }),
		"filter":     func(n ast.Node) { v.Filter = r.filter(n) },
		"dimensions": r.texts("dimensions", &v.Dimensions),
		"rows":       r.number("rows", func(i int) { v.Rows = i }),
		"measures":   r.list("measures", func(n ast.Node) { v.measures = append(v.measures, r.measure(n)) }),
	})
	return v
}

func (r reader) measure(n ast.Node) measureSpec {
	m := measureSpec{place: r.at(n)}
	r.mapping(n, "measure", map[string]field{
		"family":   r.text("family", func(s string) { m.Family = s }),
		"field":    r.text("field", func(s string) { m.Field = s }),
		"map":      r.text("map", func(s string) { m.Map = s }),
		"optional": r.boolean("optional", func(b bool) { m.Optional = b }),
		"labels": func(n ast.Node) {
			m.Labels = map[string]string{}
			for _, e := range r.entries(n, "labels") {
				r.text("labels "+e.key, func(s string) { m.Labels[e.key] = s })(e.value)
			}
		},
		"when": func(n ast.Node) {
			m.When = map[string][]string{}
			for _, e := range r.entries(n, "when") {
				var values []string
				r.texts("when "+e.key, &values)(e.value)
				m.When[e.key] = values
			}
		},
	})
	return m
}

// filter decodes fixed filter values: text, whole numbers, and lists of them.
func (r reader) filter(n ast.Node) map[string]any {
	out := map[string]any{}
	for _, e := range r.entries(n, "filter") {
		if seq, ok := e.value.(*ast.SequenceNode); ok {
			list := []any{}
			for _, v := range seq.Values {
				if value, ok := r.filterValue(e.key, v); ok {
					list = append(list, value)
				}
			}
			out[e.key] = list
		} else if value, ok := r.filterValue(e.key, e.value); ok {
			out[e.key] = value
		}
	}
	return out
}

func (r reader) filterValue(key string, n ast.Node) (any, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode:
		if i, err := strconv.ParseInt(fmt.Sprint(n.Value), 10, 64); err == nil {
			return i, true
		}
	}
	r.add(r.at(n), "filter %s is %s; it must be text or a whole number", key, describe(n))
	return nil, false
}
