package cfsim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/query"
	"github.com/weir-metrics/weir/internal/cfsim/schema"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// Question asks for the truth of any modelled dataset.
type Question struct {
	Scope   schema.Scope
	Tag     string // id of the zone or account
	Dataset string
	// Start and End are the window [Start, End), both at whole minutes.
	Start, End time.Time
	// Filter has the form of the filter argument, without times, for example
	// {"requestSource": "eyeball"}; nil selects all.
	Filter map[string]any
	// Dimensions are the group key; none makes one group.
	Dimensions []string
	// Measures are flattened names, as in availableFields: "count", "sum_requests",
	// "quantiles_cpuTimeP50". The maps of roll-ups are not measures; see [Server.True].
	Measures []string
}

// Truth is one group of the answer to a [Question].
type Truth struct {
	Key    []any `json:"key"`    // the dimensions' values: strings or uint64
	Values []any `json:"values"` // the measures' values: uint64 or float64 after the schema's type, or a time's text
}

// Truth is what a query of the dataset answers in the end, at age infinity, unsampled
// and without faults, ordered by the dimensions. What did not happen is absent. Plans
// and limits do not matter. The zones of an account are those that it has at the
// question's end.
func (s *Server) Truth(q Question) ([]Truth, error) {
	sel, rows, err := s.trueRows(q)
	if err != nil {
		return nil, err
	}
	out := make([]Truth, 0, len(rows))
	for i := range rows {
		t := Truth{Key: rows[i].key}
		for _, flat := range q.Measures {
			container, name, _ := strings.Cut(flat, "_")
			f, _ := sel.dataset.Field(sel.scope, container, name)
			t.Values = append(t.Values, s.field(sel, &rows[i], container, f))
		}
		out = append(out, t)
	}
	return out, nil
}

// trueRows evaluates a question far enough in the future for every revision to be over.
func (s *world) trueRows(q Question) (*selection, []row, error) {
	if _, _, err := minutes(q.Start, q.End); err != nil {
		return nil, nil, err
	}
	d := schema.Lookup(q.Scope, q.Dataset)
	if d == nil || !modelled(q.Dataset) {
		return nil, nil, fmt.Errorf("cfsim: dataset %q is not modelled below a %s", q.Dataset, q.Scope)
	}
	sel, err := q.selection(d)
	if err != nil {
		return nil, nil, err
	}
	zones, err := s.zonesOf(q)
	if err != nil {
		return nil, nil, err
	}
	var rows []row
	for _, z := range zones {
		r, refused := s.zoneRows(sel, z, q.End.Add(100*day))
		if refused != nil {
			return nil, nil, fmt.Errorf("cfsim: truth of %s: %s", q.Dataset, refused.message)
		}
		rows = append(rows, r...)
	}
	rows = whole(sel, zones, rows)
	if len(sel.order) > 0 {
		s.sortRows(sel, rows)
	}
	return sel, rows, nil
}

// zonesOf are the places in which the question's events happened.
func (s *world) zonesOf(q Question) ([]*zoneState, error) {
	if q.Scope == schema.Zone {
		z, _, _, err := s.window(q.Tag, q.Start, q.End)
		return []*zoneState{{zone: z}}, err
	}
	place := s.places[q.Tag]
	switch {
	case place == nil:
		return nil, fmt.Errorf("cfsim: account %q is not configured", q.Tag)
	case !traffic.SourceOf(q.Dataset).Union:
		return []*zoneState{{zone: place}}, nil
	}
	var out []*zoneState
	for _, z := range s.alive(q.End) {
		if z.account == q.Tag {
			out = append(out, z)
		}
	}
	return out, nil
}

// selection is the question as a client would have put it.
func (q Question) selection(d *schema.Dataset) (*selection, error) {
	sel := &selection{scope: q.Scope, dataset: d, flat: slices.Clone(q.Measures), limit: 1 << 62}
	for _, name := range q.Dimensions {
		f, ok := d.Filterable(q.Scope, name)
		if !ok {
			return nil, fmt.Errorf("cfsim: dataset %s has no dimension %q", q.Dataset, name)
		}
		sel.dims, sel.types = append(sel.dims, name), append(sel.types, f)
		sel.order = append(sel.order, orderTerm{dim: len(sel.order)})
	}
	for _, flat := range q.Measures {
		container, name, _ := strings.Cut(flat, "_")
		f, known := d.Field(q.Scope, container, name)
		if (!known || f.Type == "" || f.List || container == "dimensions") && (flat != "count" || !d.Has("count")) {
			return nil, fmt.Errorf("cfsim: dataset %s has no measure %q", q.Dataset, flat)
		}
	}
	full := map[string]any{}
	for _, name := range []string{"datetime", "datetimeMinute", "datetimeHour", "date"} { // the finest that it has
		if f, ok := d.Filterable(q.Scope, name); ok {
			layout := time.RFC3339
			if f.Type == "Date" {
				layout = time.DateOnly
			}
			full[name+"_geq"], full[name+"_lt"] = q.Start.UTC().Format(layout), q.End.UTC().Format(layout)
			break
		}
	}
	if q.Filter != nil {
		full["AND"] = []any{numbers(q.Filter)}
	}
	var err error
	sel.filter, err = query.ParseFilter(d, q.Scope, datetimeStep(q.Dataset), full)
	return sel, err
}
