package query

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/schema"
)

// Filter is a checked filter: a conjunction of leaves and of nested AND and OR
// lists.
type Filter struct {
	Leaves []Leaf
	And    []Filter
	Or     [][]Filter // each element is one OR list; a filter satisfies one member of each
}

// Leaf compares one field with a value or a list.
type Leaf struct {
	Field  string
	Op     string      // "", neq, gt, geq, lt, leq, in, notin, like, notlike, has, …
	Values []any       // string or uint64; empty for time fields
	Spans  []Interval  // time fields: the spans of event time that match
	Times  []time.Time // time fields: the values as they were given
	like   *regexp.Regexp
}

// Interval is [From, To) in seconds of Unix time.
type Interval struct{ From, To int64 }

// Forever has no bounds.
var Forever = Interval{math.MinInt64 / 4, math.MaxInt64 / 4}

// Steps are the time dimensions with their lengths in seconds. "datetime" is
// missing: its step is the dataset's own.
var Steps = map[string]int64{
	"datetimeMinute": 60, "datetimeFiveMinutes": 300, "datetimeFifteenMinutes": 900, "datetimeHalfOfHour": 1800,
	"datetimeHour": 3600, "datetimeSixHours": 21600, "datetimeDay": 86400, "date": 86400, "datetimeTenSeconds": 10,
}

var operators = []string{"neq", "geq", "gt", "leq", "lt", "notin", "in", "notlike", "like", "nothas", "hasall", "hasany", "has", "isempty"}

// ParseFilter checks v, the value of a filter argument, against the dataset.
// step is the length of the dataset's "datetime" in seconds. Errors are
// worded for the client.
func ParseFilter(d *schema.Dataset, scope schema.Scope, step int64, v any) (Filter, error) {
	object, ok := v.(map[string]any)
	if !ok {
		return Filter{}, fmt.Errorf(`error parsing args for %q: filter must be an object`, d.Name)
	}
	var f Filter
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	sort.Strings(names) // so that the first error is always the same one
	for _, name := range names {
		if name == "AND" || name == "OR" {
			list, err := parseList(d, scope, step, name, object[name])
			if err != nil {
				return Filter{}, err
			}
			if name == "AND" {
				f.And = append(f.And, list...)
			} else if len(list) > 0 {
				f.Or = append(f.Or, list)
			}
			continue
		}
		leaf, err := parseLeaf(d, scope, step, name, object[name])
		if err != nil {
			return Filter{}, err
		}
		f.Leaves = append(f.Leaves, leaf)
	}
	return f, nil
}

func parseList(d *schema.Dataset, scope schema.Scope, step int64, name string, v any) ([]Filter, error) {
	items, ok := v.([]any)
	if !ok {
		items = []any{v}
	}
	var out []Filter
	for _, item := range items {
		f, err := ParseFilter(d, scope, step, item)
		if err != nil {
			return nil, fmt.Errorf("%w (in %s)", err, name)
		}
		out = append(out, f)
	}
	return out, nil
}

func parseLeaf(d *schema.Dataset, scope schema.Scope, step int64, name string, v any) (Leaf, error) {
	leaf := Leaf{Field: name}
	field, ok := d.Filterable(scope, name)
	for i := 0; !ok && i < len(operators); i++ {
		if base, cut := strings.CutSuffix(name, "_"+operators[i]); cut {
			leaf.Field, leaf.Op = base, operators[i]
			field, ok = d.Filterable(scope, base)
		}
	}
	if !ok {
		return leaf, fmt.Errorf(`error parsing args for %q: filter: unknown arg %s`, d.Name, name)
	}
	bad := func(want string) error {
		return fmt.Errorf(`error parsing args for %q: filter: %s: %s expected, got %v`, d.Name, name, want, v)
	}
	if strings.Contains(leaf.Op, "like") && (field.Type != "string" || field.List) ||
		(strings.Contains(leaf.Op, "has") || leaf.Op == "isempty") && !field.List {
		return leaf, fmt.Errorf(`error parsing args for %q: filter: unknown arg %s`, d.Name, name)
	}
	items := []any{v}
	if list, isList := v.([]any); isList {
		if leaf.Op != "in" && leaf.Op != "notin" && !strings.Contains(leaf.Op, "has") {
			return leaf, bad(field.Type)
		}
		items = list
	}
	for _, item := range items {
		switch field.Type {
		case "Time", "Date":
			t, ok := parseTime(field.Type, item)
			if !ok {
				return leaf, bad(field.Type)
			}
			leaf.Times = append(leaf.Times, t)
		case "string":
			s, ok := item.(string)
			if !ok {
				return leaf, bad(field.Type)
			}
			leaf.Values = append(leaf.Values, s)
		default:
			n, ok := parseUint(field.Type, item)
			if !ok {
				return leaf, bad(field.Type)
			}
			leaf.Values = append(leaf.Values, n)
		}
	}
	if field.Type == "Time" || field.Type == "Date" {
		if s, ok := Steps[leaf.Field]; ok {
			step = s
		}
		leaf.Spans = spans(leaf.Op, step, leaf.Times)
	}
	if strings.Contains(leaf.Op, "like") {
		parts := strings.Split(leaf.Values[0].(string), "%")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		leaf.like = regexp.MustCompile(`(?s)^` + strings.Join(parts, `.*`) + `$`)
	}
	return leaf, nil
}

func parseTime(typ string, v any) (time.Time, bool) {
	s, ok := v.(string)
	if !ok {
		return time.Time{}, false
	}
	layout := time.RFC3339Nano
	if typ == "Date" {
		layout = time.DateOnly
	}
	t, err := time.Parse(layout, s)
	return t.UTC(), err == nil
}

func parseUint(typ string, v any) (uint64, bool) {
	if b, ok := v.(bool); ok && typ == "uint8" { // flags are uint8 in the schema; both spellings are in use
		if b {
			return 1, true
		}
		return 0, true
	}
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	size, err := strconv.Atoi(strings.TrimLeft(typ, "uintflo"))
	if err != nil {
		size = 64
	}
	u, err := strconv.ParseUint(n.String(), 10, size)
	return u, err == nil
}

// spans are the event times for which a time truncated to step satisfies the
// comparison. Truncation makes every bound a multiple of step.
func spans(op string, step int64, times []time.Time) []Interval {
	floor := func(t time.Time) int64 {
		s := t.Unix()
		return s - ((s%step)+step)%step
	}
	ceil := func(t time.Time) int64 {
		f := floor(t)
		if t.Equal(time.Unix(f, 0)) {
			return f
		}
		return f + step
	}
	one := func(t time.Time) Interval { // the bucket that has this label, if any
		if f := floor(t); t.Equal(time.Unix(f, 0)) {
			return Interval{f, f + step}
		}
		return Interval{}
	}
	t := times[:min(1, len(times))]
	switch op {
	case "":
		return []Interval{one(t[0])}
	case "geq":
		return []Interval{{ceil(t[0]), Forever.To}}
	case "gt":
		return []Interval{{floor(t[0]) + step, Forever.To}}
	case "lt":
		return []Interval{{Forever.From, ceil(t[0])}}
	case "leq":
		return []Interval{{Forever.From, floor(t[0]) + step}}
	}
	// in, and the complements neq and notin
	var in []Interval
	for _, each := range times {
		if i := one(each); i.To > i.From {
			in = append(in, i)
		}
	}
	slices.SortFunc(in, func(a, b Interval) int { return int((a.From - b.From) / step) })
	if op == "in" {
		return in
	}
	at := Forever.From
	var out []Interval
	for _, i := range in {
		if i.From > at {
			out = append(out, Interval{at, i.From})
		}
		at = max(at, i.To)
	}
	return append(out, Interval{at, Forever.To})
}
