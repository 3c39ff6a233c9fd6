package cfsim

import (
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

// check decides whether a plan may ask the selection of the zone or account
// with this tag at now. Errors have no path yet.
func (s *rules) check(sel *selection, tag string, plan Plan, now time.Time) *gqlError {
	scope := string(sel.scope)
	e := s.entitled(sel.scope, sel.dataset, plan)
	if !e.Enabled {
		return noPath(scope, tag)
	}
	if err := s.checkFields(sel, tag, plan, e); err != nil {
		return err
	}
	if sel.limit <= 0 || sel.limit > e.MaxPageSize {
		return badRequest("limit must be positive number and not greater than %d", e.MaxPageSize)
	}
	return s.checkRange(sel, tag, e, now)
}

func (s *rules) checkFields(sel *selection, tag string, plan Plan, e Entitlement) *gqlError {
	if len(sel.flat) > e.MaxFields {
		return badRequest("number of fields can't be more than %d", e.MaxFields)
	}
	rank := 0
	for i, p := range planOrder {
		if p == plan {
			rank = i
		}
	}
	refuse := func(flat, name string) *gqlError {
		if refusedByPlan(sel.dataset.Name, flat, rank) || s.config.Switches.Refused[sel.dataset.Name] == flat {
			return noField(string(sel.scope), tag, name, s.config.Switches.RefusalSuffix)
		}
		return nil
	}
	for _, flat := range sel.flat {
		if err := refuse(flat, leafName(flat)); err != nil {
			return err
		}
	}
	for _, name := range filterNames(sel.filter) {
		if err := refuse("dimensions_"+name, name); err != nil {
			return err
		}
	}
	return nil
}

// leafName is a flattened name without its container.
func leafName(flat string) string {
	for i := range len(flat) {
		if flat[i] == '_' {
			return flat[i+1:]
		}
	}
	return flat
}

// checkRange enforces width and age. A missing upper bound is now, a missing
// lower bound the beginning of time.
func (s *rules) checkRange(sel *selection, tag string, e Entitlement, now time.Time) *gqlError {
	lower, upper, hasLower, hasUpper := sel.filter.Bounds()
	if !hasUpper {
		upper = now
	}
	if !hasLower {
		lower = time.Unix(0, 0)
		if s.config.Switches.OpenRange {
			lower = now.Add(-e.NotOlderThan)
			sel.since = lower.Unix()
		}
	}
	if width := upper.Sub(lower); width > e.MaxDuration && !(s.config.Switches.OpenRange && !hasLower) {
		return tooWide(string(sel.scope), tag, e.MaxDuration, width)
	}
	if age := now.Sub(lower); age > e.NotOlderThan {
		return tooOld(string(sel.scope), tag, e.NotOlderThan, age)
	}
	return nil
}

// settings is the value of one dataset below "settings".
func (s *rules) settings(scope schema.Scope, d *schema.Dataset, plan Plan) map[string]any {
	e := s.entitled(scope, d, plan)
	return map[string]any{
		"enabled":           e.Enabled,
		"availableFields":   e.AvailableFields,
		"maxDuration":       int64(e.MaxDuration / time.Second),
		"maxNumberOfFields": e.MaxFields,
		"maxPageSize":       e.MaxPageSize,
		"notOlderThan":      int64(e.NotOlderThan / time.Second),
	}
}
