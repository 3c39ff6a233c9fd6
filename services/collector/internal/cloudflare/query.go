package cloudflare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// MaxZones is the maximum number of zones in one query.
const MaxZones = 10

// Selection queries one node for one window.
type Selection struct {
	Alias string // name of the result; unique within the query
	Node  string
	// FilterField is the field that limits the window: "datetime", or "date", whose
	// windows must be whole days.
	FilterField string
	Window      bucket.Window
	// Filter is added to these bounds: strings, integers, booleans and lists of
	// them, by filter field ("requestSource", "edgeResponseStatus_geq").
	Filter        map[string]any
	Dimensions    []string // besides the time dimension
	TimeDimension string   // empty: the whole window is one group
	Fields        []string // paths: "count", "sum.requests", "sum.countryMap.clientCountryName"
	Confidence    string   // level of the intervals in Fields below confidence: "0.95"
	Limit         int      // maximum number of groups; a result with this many may be truncated
	OrderBy       []string // "datetime_ASC"; required, since the order is undefined otherwise
}

// Query is one request.
type Query struct {
	// AccountID alone queries the account. With Zones it nests them below
	// the account, which account-based rate limiting requires and the other
	// kind accepts.
	AccountID  string
	Zones      []string // tags, at most [MaxZones]
	Selections []Selection
	// Meter also queries the cost of the query and the remaining budget, in
	// Cloudflare's undocumented units.
	Meter bool
}

// Response is a complete, validated response.
type Response struct {
	// Zones has, for each visible zone of the query, every selection's groups by
	// alias. An absent zone is not visible to the token; an empty list means no
	// groups. Numbers are json.Number.
	Zones map[string]map[string][]map[string]any
	// Account is the same for an account query; nil: the account is not visible.
	Account map[string][]map[string]any
	// Date is Cloudflare's clock, from the Date header; zero if there was none.
	Date time.Time
	Ray  string
	// Cost and Budget are set if [Query.Meter] is.
	Cost, Budget uint64
}

// Query sends a query and validates the response. Errors are of type [*Error], except
// those of ctx.
func (c *Client) Query(ctx context.Context, q Query) (*Response, error) {
	document, err := q.document()
	if err != nil {
		return nil, &Error{Class: Ours, Message: err.Error()}
	}
	r, err := c.graphql(ctx, document, c.queryBounds(&q))
	if err != nil {
		return nil, err
	}
	a, err := r.response(&q)
	if err != nil {
		return nil, err
	}
	return a, nil
}

var (
	namePattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	pathPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,3}$`)
	tagPattern   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	levelPattern = regexp.MustCompile(`^0\.[0-9]{1,6}$`)
)

// sortedZones returns the query's zones as they are sent: ascending, as Cloudflare sorts
// its response, so that a position in an error's path is unambiguous.
func (q *Query) sortedZones() []string { return slices.Sorted(slices.Values(q.Zones)) }

// check returns every problem that makes the query invalid.
func (q *Query) check() error {
	errs := []error{q.checkScopes()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(q.Selections) == 0 {
		bad("query has no selection")
	}
	aliases := map[string]bool{"zoneTag": true, "accountTag": true, "zones": true, "settings": true}
	for i := range q.Selections {
		s := &q.Selections[i]
		if !namePattern.MatchString(s.Alias) || aliases[s.Alias] {
			bad("alias is %q; it must be a name that is used once", s.Alias)
		}
		aliases[s.Alias] = true
		if err := s.check(); err != nil {
			bad("selection %s: %w", s.Alias, err)
		}
	}
	return errors.Join(errs...)
}

// checkScopes returns the problems of the zones and the account.
func (q *Query) checkScopes() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if q.AccountID == "" && len(q.Zones) == 0 {
		bad("query names neither zones nor an account")
	}
	if q.AccountID != "" && !tagPattern.MatchString(q.AccountID) {
		bad("account is %q; it must be 32 lower-case hexadecimal digits", q.AccountID)
	}
	if len(q.Zones) > MaxZones {
		bad("query has %d zones; the maximum is %d", len(q.Zones), MaxZones)
	}
	for i, z := range q.Zones {
		if !tagPattern.MatchString(z) || slices.Contains(q.Zones[:i], z) {
			bad("zone is %q; it must be 32 lower-case hexadecimal digits and occur once", z)
		}
	}
	return errors.Join(errs...)
}

func (s *Selection) check() error {
	names := append([]string{s.Node, s.FilterField}, s.Dimensions...)
	names = append(names, s.OrderBy...)
	if s.TimeDimension != "" {
		names = append(names, s.TimeDimension)
	}
	names = slices.AppendSeq(names, maps.Keys(s.Filter))
	for _, n := range names {
		if !namePattern.MatchString(n) {
			return fmt.Errorf("%q is not a name", n)
		}
	}
	confident := false
	for _, f := range s.Fields {
		if !pathPattern.MatchString(f) {
			return fmt.Errorf("field %q is not a path", f)
		}
		confident = confident || strings.HasPrefix(f, confidence+".")
	}
	switch {
	case confident != (s.Confidence != "") || confident && !levelPattern.MatchString(s.Confidence):
		return fmt.Errorf("level of confidence is %q; it must be a number between 0 and 1 if a field is below confidence, and empty otherwise", s.Confidence)
	case len(s.Fields) == 0:
		return errors.New("selects no field")
	case s.Window.Empty():
		return fmt.Errorf("window %s is empty", s.Window)
	case s.FilterField == "date" && (s.Window.Start != s.Window.Start.Floor(day) || s.Window.End != s.Window.End.Floor(day)):
		return fmt.Errorf("window %s is filtered by date; it must be whole days", s.Window)
	case s.Limit < 1:
		return fmt.Errorf("limit is %d; it must be at least 1", s.Limit)
	case len(s.OrderBy) == 0:
		return errors.New("has no order")
	}
	return nil
}

const day = 24 * time.Hour

// Document returns the query's text as it is sent, on one line.
func (q *Query) Document() (string, error) { return q.document() }

// document returns the query's text, on one line. Values are literals: names and tags are
// checked against patterns, and everything else is a JSON value, whose strings are valid
// GraphQL strings.
func (q *Query) document() (string, error) {
	if err := q.check(); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("{")
	if q.Meter {
		b.WriteString("cost ")
	}
	b.WriteString("viewer{")
	if q.Meter {
		b.WriteString("budget ")
	}
	err := q.scope(&b, func() error {
		for i := range q.Selections {
			b.WriteByte(' ')
			if err := q.Selections[i].write(&b); err != nil {
				return fmt.Errorf("selection %s: %w", q.Selections[i].Alias, err)
			}
		}
		return nil
	})
	b.WriteString("}}")
	return b.String(), err
}

// scope writes the objects that contain the selections.
func (q *Query) scope(b *strings.Builder, inner func() error) error {
	if q.AccountID != "" {
		fmt.Fprintf(b, `accounts(filter:{accountTag:%q}){accountTag `, q.AccountID)
		defer b.WriteByte('}')
	}
	if len(q.Zones) > 0 {
		b.WriteString(`zones(filter:{zoneTag_in:["`)
		b.WriteString(strings.Join(q.sortedZones(), `","`))
		b.WriteString(`"]}){zoneTag`)
		defer b.WriteByte('}')
	}
	return inner()
}

func (s *Selection) write(b *strings.Builder) error {
	fmt.Fprintf(b, "%s:%s(limit:%d,filter:{", s.Alias, s.Node, s.Limit)
	from, to := s.Window.Start.String(), s.Window.End.String()
	if s.FilterField == "date" {
		from, to = s.Window.Start.Std().Format(time.DateOnly), s.Window.End.Std().Format(time.DateOnly)
	}
	// Always both bounds: a missing upper bound counts as "now", which makes the range
	// wider than intended.
	fmt.Fprintf(b, "%s_geq:%q,%s_lt:%q", s.FilterField, from, s.FilterField, to)
	for _, name := range slices.Sorted(maps.Keys(s.Filter)) {
		b.WriteString("," + name + ":")
		if err := writeLiteral(b, s.Filter[name]); err != nil {
			return fmt.Errorf("filter %s: %w", name, err)
		}
	}
	fmt.Fprintf(b, "},orderBy:[%s]){", strings.Join(s.OrderBy, ","))
	var root fieldTree
	for _, path := range s.Fields {
		root.add(strings.Split(path, "."))
	}
	for _, dim := range append([]string{s.TimeDimension}, s.Dimensions...) {
		if dim != "" {
			root.add([]string{"dimensions", dim})
		}
	}
	for _, sub := range root.sub {
		if sub.name == confidence {
			sub.args = "(level:" + s.Confidence + ")"
		}
	}
	root.write(b)
	b.WriteByte('}')
	return nil
}

// confidence is the container of confidence intervals, which has an argument.
const confidence = "confidence"

// writeLiteral writes a filter value.
func writeLiteral(b *strings.Builder, v any) error {
	switch v := v.(type) {
	case string:
		text, err := quote(v)
		if err != nil {
			return err
		}
		b.Write(text)
	case int:
		b.WriteString(strconv.Itoa(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case uint64:
		b.WriteString(strconv.FormatUint(v, 10))
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case []string:
		list := make([]any, len(v))
		for i := range v {
			list[i] = v[i]
		}
		return writeLiteral(b, list)
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if _, nested := e.([]any); nested {
				return errors.New("list within a list")
			}
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeLiteral(b, e); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	default:
		return fmt.Errorf("value %v has type %T; it must be text, a whole number, a boolean or a list of them", v, v)
	}
	return nil
}

// quote writes a GraphQL string: JSON's escapes are a subset of GraphQL's.
// Unlike strconv.Quote, it never writes \x or \a.
func quote(s string) ([]byte, error) {
	text, err := json.Marshal(s)
	// DEL is not a source character of GraphQL, and JSON does not escape it.
	return bytes.ReplaceAll(text, []byte{0x7f}, []byte(`\u007f`)), err
}

// fieldTree nests paths into selection sets, in order of first occurrence.
type fieldTree struct {
	name string
	args string
	sub  []*fieldTree
}

func (t *fieldTree) add(path []string) {
	if len(path) == 0 {
		return
	}
	i := slices.IndexFunc(t.sub, func(s *fieldTree) bool { return s.name == path[0] })
	if i < 0 {
		i = len(t.sub)
		t.sub = append(t.sub, &fieldTree{name: path[0]})
	}
	t.sub[i].add(path[1:])
}

func (t *fieldTree) write(b *strings.Builder) {
	for i, s := range t.sub {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s.name + s.args)
		if len(s.sub) > 0 {
			b.WriteByte('{')
			s.write(b)
			b.WriteByte('}')
		}
	}
}
