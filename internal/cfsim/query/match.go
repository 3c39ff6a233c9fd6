package query

import (
	"cmp"
	"slices"
	"time"
)

// Hull is a span of event time outside of which nothing matches. It is exact
// for the usual filter, with one lower and one upper bound.
func (f Filter) Hull() Interval {
	h := Forever
	cut := func(i Interval) { h.From, h.To = max(h.From, i.From), min(h.To, i.To) }
	for _, l := range f.Leaves {
		if l.Spans == nil && l.Times != nil { // an _in list with labels of no bucket
			return Interval{}
		}
		if n := len(l.Spans); n > 0 {
			cut(Interval{l.Spans[0].From, l.Spans[n-1].To})
		}
	}
	for _, sub := range f.And {
		cut(sub.Hull())
	}
	for _, list := range f.Or {
		union := Interval{Forever.To, Forever.From}
		for _, sub := range list {
			if i := sub.Hull(); i.To > i.From {
				union = Interval{min(union.From, i.From), max(union.To, i.To)}
			}
		}
		cut(union)
	}
	h.To = max(h.From, h.To)
	return h
}

// Bounds are the outermost time values that the client gave, for checks of
// range and age: ok tells which of the two exist. In an OR list every member
// must have the bound.
func (f Filter) Bounds() (lower, upper time.Time, hasLower, hasUpper bool) {
	low := func(t time.Time) {
		if !hasLower || t.After(lower) {
			lower, hasLower = t, true
		}
	}
	high := func(t time.Time) {
		if !hasUpper || t.Before(upper) {
			upper, hasUpper = t, true
		}
	}
	for _, l := range f.Leaves {
		if len(l.Times) == 0 {
			continue
		}
		first, last := slices.MinFunc(l.Times, time.Time.Compare), slices.MaxFunc(l.Times, time.Time.Compare)
		switch l.Op {
		case "", "in":
			low(first)
			high(last)
		case "geq", "gt":
			low(first)
		case "leq", "lt":
			high(last)
		}
	}
	for _, sub := range f.And {
		lo, hi, hasLo, hasHi := sub.Bounds()
		if hasLo {
			low(lo)
		}
		if hasHi {
			high(hi)
		}
	}
	for _, list := range f.Or {
		var los, his []time.Time
		for _, sub := range list {
			lo, hi, hasLo, hasHi := sub.Bounds()
			if hasLo {
				los = append(los, lo)
			}
			if hasHi {
				his = append(his, hi)
			}
		}
		if len(los) == len(list) {
			low(slices.MinFunc(los, time.Time.Compare))
		}
		if len(his) == len(list) {
			high(slices.MaxFunc(his, time.Time.Compare))
		}
	}
	return lower, upper, hasLower, hasUpper
}

// WithoutHull is the filter without the time bounds that the hull expresses
// exactly: those that must hold in any case, at the top or in an AND list.
func (f Filter) WithoutHull() Filter {
	out := Filter{Or: f.Or}
	for _, sub := range f.And {
		out.And = append(out.And, sub.WithoutHull())
	}
	for _, l := range f.Leaves {
		if len(l.Spans) != 1 {
			out.Leaves = append(out.Leaves, l)
		}
	}
	return out
}

// Edges are the times at which the filter's answer may change, ascending. Between
// two of them it does not depend on time.
func (f Filter) Edges() []int64 {
	var out []int64
	f.edges(&out)
	slices.Sort(out)
	return slices.Compact(out)
}

func (f Filter) edges(out *[]int64) {
	for _, l := range f.Leaves {
		for _, i := range l.Spans {
			*out = append(*out, i.From, i.To)
		}
	}
	for _, sub := range f.And {
		sub.edges(out)
	}
	for _, list := range f.Or {
		for _, sub := range list {
			sub.edges(out)
		}
	}
}

// Match reports whether an event at Unix second t with these attributes (each
// a string or uint64) passes.
func (f Filter) Match(t int64, attribute func(name string) any) bool {
	for i := range f.Leaves {
		if !f.Leaves[i].match(t, attribute) {
			return false
		}
	}
	for _, sub := range f.And {
		if !sub.Match(t, attribute) {
			return false
		}
	}
	for _, list := range f.Or {
		if !slices.ContainsFunc(list, func(sub Filter) bool { return sub.Match(t, attribute) }) {
			return false
		}
	}
	return true
}

func (l *Leaf) match(t int64, attribute func(string) any) bool {
	if l.Times != nil {
		return slices.ContainsFunc(l.Spans, func(i Interval) bool { return t >= i.From && t < i.To })
	}
	have := attribute(l.Field)
	if l.like != nil {
		s, _ := have.(string)
		return l.like.MatchString(s) == (l.Op == "like")
	}
	equal := func(want any) bool { return compare(have, want) == 0 }
	switch l.Op {
	case "in":
		return slices.ContainsFunc(l.Values, equal)
	case "notin":
		return !slices.ContainsFunc(l.Values, equal)
	case "has", "hasall", "hasany":
		return false // list dimensions are always empty here
	case "nothas", "isempty":
		return true
	}
	if len(l.Values) == 0 {
		return false
	}
	c := compare(have, l.Values[0])
	switch l.Op {
	case "neq":
		return c != 0
	case "gt":
		return c > 0
	case "geq":
		return c >= 0
	case "lt":
		return c < 0
	case "leq":
		return c <= 0
	}
	return c == 0
}

// compare orders two attribute values of the same type; a value that is not
// modelled (nil) is the type's zero.
func compare(a, b any) int {
	switch want := b.(type) {
	case string:
		have, _ := a.(string)
		return cmp.Compare(have, want)
	case uint64:
		have, _ := a.(uint64)
		return cmp.Compare(have, want)
	}
	return 0
}
