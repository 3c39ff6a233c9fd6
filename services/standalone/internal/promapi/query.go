package promapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/sample"
)

// Sample is a stored sample.
type Sample struct {
	At    sample.Millis
	Value float64
}

// Series is a series and some of its samples, ascending in time.
type Series struct {
	Labels  map[string]string `json:"metric"`
	Samples []Sample          `json:"values"`
	Value   *Sample           `json:"value"` // of [Client.Vector]
}

// UnmarshalJSON reads [seconds, "value"]. Seconds have at most three decimals.
func (s *Sample) UnmarshalJSON(data []byte) error {
	p := &parser{b: data}
	*s = p.sample()
	return p.err
}

// Raw returns the samples of the series that match a selector, as stored, with times in
// [start, end). A range query would evaluate instead: repeat a value, or skip one.
// Both must be whole seconds. An answer that may lack samples is an error.
func (c *Client) Raw(ctx context.Context, selector string, start, end time.Time) ([]Series, error) {
	// The range (at - length, at] is closed at both ends before Prometheus 3; what is
	// older than start is dropped here.
	expr := fmt.Sprintf("%s[%ds]", selector, int64(end.Sub(start)/time.Second))
	var m *matrix
	err := c.ask(ctx, http.MethodPost, queryPath, instant(expr, sample.MillisOf(end)-1), func(body []byte) (err error) {
		switch m, err = parseMatrix(body); {
		case err != nil:
			return err
		case m.status != "success":
			return &Error{Path: queryPath, Status: http.StatusOK, Text: clip(fmt.Sprintf("status %q: %s", m.status, m.failure))}
		case m.partial || len(m.warnings) > 0:
			return &PartialError{m.warnings}
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("query %.200s: %w", expr, err)
	case m.kind != "matrix":
		return nil, fmt.Errorf("query %.200s: the result is a %s, want a matrix", expr, m.kind)
	case m.histograms:
		return nil, fmt.Errorf("query %.200s: a series has native histograms; Weir writes none", expr)
	}
	first := sample.MillisOf(start)
	kept := m.series[:0]
	for _, s := range m.series {
		for len(s.Samples) > 0 && s.Samples[0].At < first {
			s.Samples = s.Samples[1:]
		}
		if len(s.Samples) > 0 {
			kept = append(kept, s)
		}
	}
	return kept, nil
}

// PartialError means that the server answers with a part of the samples, or warns that it
// may be a part: of several stores that it asks, some did not answer.
type PartialError struct{ Warnings []string }

func (e *PartialError) Error() string {
	if len(e.Warnings) == 0 {
		return "the answer is partial: not all storage nodes answered"
	}
	return "the answer may lack samples: " + clip(strings.Join(e.Warnings, "; "))
}

// Vector evaluates an expression at a time.
func (c *Client) Vector(ctx context.Context, expr string, at time.Time) ([]Series, error) {
	return c.query(ctx, expr, sample.MillisOf(at), "vector")
}

func (c *Client) query(ctx context.Context, expr string, at sample.Millis, kind string) ([]Series, error) {
	var data struct {
		Type   string   `json:"resultType"`
		Result []Series `json:"result"`
	}
	if err := c.do(ctx, http.MethodPost, queryPath, instant(expr, at), &data); err != nil {
		return nil, fmt.Errorf("query %.200s: %w", expr, err)
	}
	if data.Type != kind {
		return nil, fmt.Errorf("query %.200s: the result is a %s, want a %s", expr, data.Type, kind)
	}
	return data.Result, nil
}

const queryPath = "/api/v1/query"

// instant are the arguments of a query at a time.
func instant(expr string, at sample.Millis) url.Values {
	return url.Values{"query": {expr}, "time": {strconv.FormatFloat(float64(at)/1000, 'f', 3, 64)}}
}

// Matcher returns a matcher of a selector: name="value", or name=~ for several values.
func Matcher(name string, values ...string) string {
	if len(values) == 1 {
		return name + "=" + strconv.Quote(values[0])
	}
	return name + "=~" + strconv.Quote(alternatives(values))
}

// Not returns a matcher for series whose label has none of the values.
func Not(name string, values ...string) string {
	return name + "!~" + strconv.Quote(alternatives(values))
}

// alternatives is a regular expression of literals. Zone names and metric names have
// dots, which are escaped; quoteMeta of package regexp would escape more than RE2 in
// every receiver accepts inside a PromQL string.
func alternatives(values []string) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte('|')
		}
		for _, r := range v {
			if strings.ContainsRune(`\.+*?()|[]{}^$`, r) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Selector joins matchers.
func Selector(matchers ...string) string { return "{" + strings.Join(matchers, ",") + "}" }

// errUnknown: the server does not tell.
var errUnknown = errors.New("the server does not tell")

// IsUnknown reports whether a server does not tell what was asked.
func IsUnknown(err error) bool { return errors.Is(err, errUnknown) || Unsupported(err) }
