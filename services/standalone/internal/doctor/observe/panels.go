package observe

import (
	"context"
	_ "embed" // for occasional
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
)

// Expression is one of a dashboard or a file of rules.
type Expression struct {
	Text  string
	Alert bool // it is the condition of an alert
}

// Expressions returns the expressions of a Grafana dashboard (JSON) or a file of rules
// (YAML), each once.
func Expressions(text []byte) (list []Expression, err error) {
	var document any
	if json.Unmarshal(text, &document) != nil {
		if err := yaml.Unmarshal(text, &document); err != nil {
			return nil, errors.New("it is neither a dashboard (JSON) nor a file of rules (YAML)")
		}
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if expr, ok := v["expr"].(string); ok && strings.TrimSpace(expr) != "" && !slices.ContainsFunc(list, func(e Expression) bool { return e.Text == expr }) {
				_, alert := v["alert"].(string)
				list = append(list, Expression{expr, alert})
			}
			for _, name := range slices.Sorted(keys(v)) {
				walk(v[name])
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(document)
	if len(list) == 0 {
		return nil, errors.New("it has no expression (expr)")
	}
	return list, nil
}

func keys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

var (
	variable = regexp.MustCompile(`\$\{?(\w+)(?::[^}]*)?\}?`)
	quoted   = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'`)
	// bracketed are matchers and ranges; clauses are labels, not metrics.
	bracketed = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]`)
	clause    = regexp.MustCompile(`(?i)\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	name      = regexp.MustCompile(`\b[a-zA-Z_:][\w:]*\b(\s*\()?`)
)

// concrete replaces Grafana's variables: those of time by durations, others by a pattern
// that matches every label value.
func concrete(expr string) string {
	return variable.ReplaceAllStringFunc(expr, func(v string) string {
		switch id := variable.FindStringSubmatch(v)[1]; {
		case id == "__range":
			return "1h"
		case id == "__range_s", id == "__interval_ms", id == "__range_ms":
			return "3600"
		case strings.HasPrefix(id, "__"):
			return "5m"
		}
		return ".*"
	})
}

// words of PromQL and MetricsQL that are neither metrics nor functions. An aggregation may
// stand before its clause, and an alert's state is a series while it is active alone.
var words = []string{
	"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "inf", "nan", "atan2", "start", "end",
	"default", "if", "ifnot", "keep_metric_names", "limit", "alerts", "alerts_for_state",
}

// names are those of the metrics in an expression.
func names(expr string) (list []string) {
	expr = quoted.ReplaceAllString(expr, `""`)
	expr = clause.ReplaceAllString(bracketed.ReplaceAllString(expr, " "), " ")
	for _, n := range name.FindAllString(expr, -1) {
		if !strings.HasSuffix(n, "(") && !slices.Contains(words, strings.ToLower(n)) {
			list = append(list, n)
		}
	}
	return list
}

// occasional are the metrics of Weir that may have no series in a healthy installation:
// those with labels, of which nothing may have happened yet. All others always have one.
//
//go:embed occasional.txt
var occasional string

// Metrics that each collector and each exposer has.
const (
	ofCollector = "weir_collector_leader"
	ofExposer   = "weir_exposer_ready"
)

// mayBeAbsent reports whether a metric may have no series while the processes that have it
// are scraped.
func mayBeAbsent(n string, collectors, exposers bool) bool {
	if !slices.Contains(strings.Fields(occasional), n) {
		return false
	}
	switch {
	case strings.HasPrefix(n, "weir_exposer_"):
		return exposers
	case strings.HasPrefix(n, "weir_collector_"):
		return collectors
	}
	return collectors || exposers
}

// Panels runs the expressions, and looks for each metric that they name. An expression that
// returns nothing may be right, as that of an alert is while nothing is wrong.
func (p *Prometheus) Panels(ctx context.Context, from string, expressions []Expression) *doctor.Panels {
	o := &doctor.Panels{From: from, Expressions: len(expressions)}
	var all []string
	for _, expr := range expressions {
		found, err := p.query(ctx, concrete(expr.Text))
		var refused apiError
		switch {
		case errors.As(err, &refused):
			o.Broken = append(o.Broken, fmt.Sprintf("%s (%s)", clip(expr.Text), refused.text))
		case err != nil:
			o.Err = fmt.Errorf("run the expressions of %s: %w", from, err)
			return o
		case len(found) > 0:
			o.WithData++
		}
		if expr.Alert {
			o.Alerts++
		}
		if err == nil {
			all = append(all, names(concrete(expr.Text))...)
		}
	}
	if o.WithData == 0 {
		if o.WithData, o.Err = p.lately(ctx, expressions); o.Err != nil {
			o.Err = fmt.Errorf("run the expressions of %s: %w", from, o.Err)
			return o
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	held, err := p.held(ctx, append([]string{ofCollector, ofExposer}, all...))
	var buckets []string
	if err == nil {
		buckets, err = p.held(ctx, []string{"cloudflare_.+"})
	}
	if err != nil {
		o.Err = fmt.Errorf("look for the metrics of %s: %w", from, err)
		return o
	}
	o.Buckets = len(buckets) > 0
	collectors, exposers := slices.Contains(held, ofCollector), slices.Contains(held, ofExposer)
	for _, n := range all {
		// A Prometheus has no metrics of a VictoriaMetrics, nor the other way round.
		foreign := p.victoria && strings.HasPrefix(n, "prometheus_") || !p.victoria && strings.HasPrefix(n, "vm_")
		if !foreign && !slices.Contains(held, n) && !mayBeAbsent(n, collectors, exposers) {
			o.Absent = append(o.Absent, n)
		}
	}
	return o
}

// lately counts the expressions other than alerts that have returned data in the last hour,
// as a panel shows it: a bucket has the time of its end, so none is there now.
func (p *Prometheus) lately(ctx context.Context, expressions []Expression) (n int, err error) {
	for _, expr := range expressions {
		if expr.Alert {
			continue
		}
		var data struct {
			Result []json.RawMessage `json:"result"`
		}
		err := p.data(ctx, "/api/v1/query_range", url.Values{
			"query": {concrete(expr.Text)}, "start": {unix(p.now.Add(-time.Hour))}, "end": {unix(p.now)}, "step": {"60"},
		}, &data)
		var refused apiError
		switch {
		case errors.As(err, &refused): // it is broken: that was found before
		case err != nil:
			return 0, err
		case len(data.Result) > 0:
			n++
		}
	}
	return n, nil
}

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

// held returns which metrics had samples in the last hour, of those whose names match.
func (p *Prometheus) held(ctx context.Context, of []string) (list []string, err error) {
	for some := range slices.Chunk(of, 50) { // a URL has a length
		var found []string
		err := p.data(ctx, "/api/v1/label/__name__/values", url.Values{
			"match[]": {fmt.Sprintf(`{__name__=~"%s"}`, strings.Join(some, "|"))}, "start": {unix(p.now.Add(-time.Hour))}, "end": {unix(p.now)},
		}, &found)
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	return list, nil
}
