package cfsim

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-metrics/weir/internal/cfsim/query"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

// selection is one dataset asked for, checked against the schema.
type selection struct {
	field   query.Field
	scope   schema.Scope
	dataset *schema.Dataset
	filter  query.Filter
	limit   int
	order   []orderTerm
	dims    []string       // the dimensions selected: the group key
	types   []schema.Field // of dims
	flat    []string       // all fields used, flattened, each once
	level   float64        // of confidence
	since   int64          // Unix time of the oldest data of an open range; 0 when it has a bound
}

// orderTerm is one element of orderBy.
type orderTerm struct {
	dim     int    // position in dims, or -1
	measure string // flattened name when dim is -1
	desc    bool
}

// datetimeStep is the length of the dataset's "datetime" in seconds.
func datetimeStep(dataset string) int64 {
	switch dataset {
	case "httpRequests1mGroups":
		return 60
	case "httpRequests1hGroups":
		return 3600
	case "httpRequests1dGroups":
		return 86400
	}
	return 1
}

func isRollup(dataset string) bool { return datetimeStep(dataset) > 1 }

// newSelection checks a dataset field. Errors have no path yet.
func (s *rules) newSelection(scope schema.Scope, f query.Field) (*selection, *gqlError) {
	d := schema.Lookup(scope, f.Name)
	if d == nil {
		return nil, unknownField(f.Name)
	}
	sel := &selection{field: f, scope: scope, dataset: d}
	if f.Fields == nil {
		return nil, badRequest("object field must have selections")
	}
	for name := range f.Args {
		if !slices.Contains([]string{"filter", "limit", "orderBy"}, name) {
			return nil, badRequest("error parsing args for %q: unknown arg %s", d.Name, name)
		}
	}
	if err := sel.readFields(f.Fields); err != nil {
		return nil, err
	}
	filter, ok := f.Args["filter"]
	if !ok || filter == nil {
		return nil, badRequest("error parsing args for %q: filter argument is required", d.Name)
	}
	var err error
	if sel.filter, err = query.ParseFilter(d, scope, datetimeStep(d.Name), filter); err != nil {
		return nil, badRequest("%s", err)
	}
	if gerr := sel.readLimit(f.Args["limit"]); gerr != nil {
		return nil, gerr
	}
	return sel, sel.readOrder(f.Args["orderBy"])
}

func (sel *selection) readLimit(v any) *gqlError {
	if v == nil {
		return badRequest("error parsing args for %q: limit argument is required", sel.dataset.Name)
	}
	n, ok := v.(json.Number)
	if !ok {
		return badRequest("error parsing args for %q: limit: uint64 expected, got %v", sel.dataset.Name, v)
	}
	limit, err := strconv.ParseInt(n.String(), 10, 64)
	if err != nil {
		return badRequest("error parsing args for %q: limit: uint64 expected, got %v", sel.dataset.Name, v)
	}
	sel.limit = int(max(limit, -1))
	return nil
}

func (sel *selection) readOrder(v any) *gqlError {
	if v == nil {
		return nil
	}
	items, ok := v.([]any)
	if !ok {
		items = []any{v}
	}
	for _, item := range items {
		text, _ := item.(string)
		name, desc := strings.CutSuffix(text, "_DESC")
		if !desc {
			if name, ok = strings.CutSuffix(text, "_ASC"); !ok {
				return badRequest("error parsing args for %q: orderBy: unknown value %v", sel.dataset.Name, item)
			}
		}
		if i := slices.Index(sel.dims, name); i >= 0 {
			sel.order = append(sel.order, orderTerm{dim: i, desc: desc})
			continue
		}
		if f, ok := sel.dataset.Field(sel.scope, "raw", name); ok && f.Fields == nil { // rows are ordered by what they need not show
			sel.order = append(sel.order, orderTerm{dim: len(sel.dims), desc: desc})
			sel.dims, sel.types = append(sel.dims, name), append(sel.types, f)
			continue
		}
		container, field, _ := strings.Cut(name, "_")
		_, known := sel.dataset.Field(sel.scope, container, field)
		if container == "dimensions" || !known && (name != "count" || !sel.dataset.Has("count")) {
			return badRequest("error parsing args for %q: orderBy: %v is no measure and no selected dimension", sel.dataset.Name, item)
		}
		sel.order = append(sel.order, orderTerm{dim: -1, measure: name, desc: desc})
	}
	return nil
}

func (sel *selection) use(name string) {
	if !slices.Contains(sel.flat, name) {
		sel.flat = append(sel.flat, name)
	}
}

// readFields checks the containers and leaves and collects what is used.
func (sel *selection) readFields(fields []query.Field) *gqlError {
	d := sel.dataset
	for _, c := range fields {
		if c.Name == "__typename" {
			continue
		}
		if d.Raw {
			if err := sel.readLeaves("raw", "", c); err != nil {
				return err
			}
			continue
		}
		if !d.Has(c.Name) {
			return unknownField(c.Name)
		}
		switch {
		case c.Name == "count":
			if c.Fields != nil {
				return badRequest("scalar fields must have no selections")
			}
			sel.use("count")
			continue
		case len(c.Fields) == 0:
			return badRequest("object field must have selections")
		case c.Name == "confidence":
			if err := sel.readConfidence(c); err != nil {
				return err
			}
			continue
		}
		for _, leaf := range c.Fields {
			if err := sel.readLeaves(c.Name, c.Name+"_", leaf); err != nil {
				return err
			}
		}
	}
	return nil
}

func (sel *selection) readLeaves(container, prefix string, leaf query.Field) *gqlError {
	if leaf.Name == "__typename" {
		return nil
	}
	f, ok := sel.dataset.Field(sel.scope, container, leaf.Name)
	if !ok {
		return unknownField(leaf.Name)
	}
	if f.Fields == nil {
		if leaf.Fields != nil {
			return badRequest("scalar fields must have no selections")
		}
		sel.use(prefix + leaf.Name)
		if (container == "dimensions" || container == "raw") && !slices.Contains(sel.dims, leaf.Name) {
			sel.dims, sel.types = append(sel.dims, leaf.Name), append(sel.types, f)
		}
		return nil
	}
	if len(leaf.Fields) == 0 {
		return badRequest("object field must have selections")
	}
	for _, sub := range leaf.Fields {
		if sub.Name == "__typename" {
			continue
		}
		if !slices.ContainsFunc(f.Fields, func(x schema.Field) bool { return x.Name == sub.Name }) {
			return unknownField(sub.Name)
		}
		sel.use(prefix + leaf.Name + "_" + sub.Name)
	}
	return nil
}

var (
	boundFields = []string{"estimate", "lower", "upper", "sampleSize", "isValid"}
	boundTypes  = map[string]string{"estimate": "float64", "lower": "float64", "upper": "float64", "sampleSize": "uint64", "isValid": "bool"}
)

func (sel *selection) readConfidence(c query.Field) *gqlError {
	v, ok := c.Args["level"]
	if !ok {
		return badRequest("error parsing args for %q: level argument is required", "confidence")
	}
	n, _ := v.(json.Number)
	level, err := n.Float64()
	if err != nil || level <= 0 || level >= 1 {
		return badRequest("error parsing args for %q: level: number between 0 and 1 expected, got %v", "confidence", v)
	}
	sel.level = level
	bounds := func(f query.Field) *gqlError {
		if len(f.Fields) == 0 {
			return badRequest("object field must have selections")
		}
		for _, b := range f.Fields {
			if !slices.Contains(boundFields, b.Name) && b.Name != "__typename" {
				return unknownField(b.Name)
			}
		}
		return nil
	}
	for _, part := range c.Fields {
		covered := slices.ContainsFunc(sel.dataset.Fields(sel.scope, "confidence"), func(f schema.Field) bool { return f.Name == part.Name })
		switch {
		case part.Name == "level" || part.Name == "__typename":
		case part.Name == "count" && covered:
			if err := bounds(part); err != nil {
				return err
			}
			sel.use("confidence_count")
		case part.Name == "sum" && covered:
			for _, f := range part.Fields {
				if known, ok := sel.dataset.Field(sel.scope, "sum", f.Name); !ok || known.Type == "" || known.List {
					return unknownField(f.Name)
				}
				if err := bounds(f); err != nil {
					return err
				}
				sel.use("confidence_sum_" + f.Name)
			}
		default:
			return unknownField(part.Name)
		}
	}
	return nil
}

// filterNames are the fields that the filter compares, wherever they stand.
func filterNames(f query.Filter) []string {
	var out []string
	for _, l := range f.Leaves {
		out = append(out, l.Field)
	}
	for _, sub := range f.And {
		out = append(out, filterNames(sub)...)
	}
	for _, list := range f.Or {
		for _, sub := range list {
			out = append(out, filterNames(sub)...)
		}
	}
	return out
}
