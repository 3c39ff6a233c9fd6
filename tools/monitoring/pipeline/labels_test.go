package pipeline

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// set is a set of label names.
type set map[string]bool

func of(names ...string) set {
	out := set{}
	for _, n := range names {
		out[n] = true
	}
	return out
}

func (s set) plus(other set) set {
	out := maps.Clone(s)
	maps.Copy(out, other)
	return out
}

// target are the labels that every scraped series may have.
var target = of("namespace", "job", "instance")

var metricRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| (gauge|counter|histogram) \\| (.*?) \\| ")

// documented reads the processes' own metrics and their labels from docs/metrics.md.
func documented(text string) map[string]set {
	out := map[string]set{}
	for _, m := range metricRow.FindAllStringSubmatch(text, -1) {
		names := set{}
		for name := range strings.SplitSeq(strings.ReplaceAll(m[3], "`", ""), ", ") {
			if name != "" {
				names[name] = true
			}
		}
		if m[2] != "histogram" {
			out[m[1]] = names
			continue
		}
		out[m[1]+"_sum"], out[m[1]+"_count"], out[m[1]+"_bucket"] = names, names, names.plus(of("le"))
	}
	return out
}

// of others are metrics that docs/metrics.md does not have: of client_golang's
// collectors, which it mentions, and of Prometheus itself. That they exist is shown
// by the test that runs every expression.
var others = map[string]set{
	"process_resident_memory_bytes":                              {},
	"process_cpu_seconds_total":                                  {},
	"prometheus_target_scrapes_sample_out_of_order_total":        {},
	"prometheus_target_scrapes_sample_out_of_bounds_total":       {},
	"prometheus_target_scrapes_sample_duplicate_timestamp_total": {},
	"prometheus_tsdb_too_old_samples_total":                      of("type"),
}

// checker finds what an expression asks of metrics that do not have it.
type checker struct {
	metrics map[string]set
	faults  []string
}

func (c *checker) complain(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// result are the labels that the series of an expression may have.
func (c *checker) result(e parser.Expr) set {
	switch e := e.(type) {
	case *parser.VectorSelector:
		return c.selected(e)
	case *parser.MatrixSelector:
		return c.result(e.VectorSelector)
	case *parser.SubqueryExpr:
		return c.result(e.Expr)
	case *parser.ParenExpr:
		return c.result(e.Expr)
	case *parser.UnaryExpr:
		return c.result(e.Expr)
	case *parser.StepInvariantExpr:
		return c.result(e.Expr)
	case *parser.AggregateExpr:
		return c.aggregated(e)
	case *parser.BinaryExpr:
		return c.joined(e)
	case *parser.Call:
		return c.called(e)
	case *parser.NumberLiteral, *parser.StringLiteral:
		return set{}
	}
	c.complain("%s is an expression that this test does not know (%T)", e, e)
	return set{}
}

func (c *checker) selected(e *parser.VectorSelector) set {
	have, known := c.metrics[e.Name]
	if !known {
		c.complain("there is no metric %s", e.Name)
		return set{}
	}
	have = have.plus(target)
	for _, m := range e.LabelMatchers {
		if m.Name != labels.MetricName && !have[m.Name] {
			c.complain("%s has no label %s", e.Name, m.Name)
		}
	}
	return have
}

func (c *checker) aggregated(e *parser.AggregateExpr) set {
	inner := c.result(e.Expr)
	for _, name := range e.Grouping {
		if !inner[name] {
			c.complain("%s: there is no label %s to group by", e, name)
		}
	}
	switch {
	case e.Op == parser.TOPK || e.Op == parser.BOTTOMK:
		return inner
	case e.Without:
		out := maps.Clone(inner)
		for _, name := range e.Grouping {
			delete(out, name)
		}
		return out
	}
	out := of(e.Grouping...)
	if e.Op == parser.COUNT_VALUES {
		out[e.Param.(*parser.StringLiteral).Val] = true
	}
	return out
}

func (c *checker) joined(e *parser.BinaryExpr) set {
	left, right := c.result(e.LHS), c.result(e.RHS)
	if e.VectorMatching == nil {
		return left.plus(right)
	}
	if e.VectorMatching.On {
		for _, name := range e.VectorMatching.MatchingLabels {
			if !left[name] || !right[name] {
				c.complain("%s: the sides do not both have the label %s", e, name)
			}
		}
	}
	switch {
	case e.Op == parser.LOR:
		return left.plus(right)
	case e.VectorMatching.Card == parser.CardOneToMany:
		return right
	case e.VectorMatching.Card == parser.CardOneToOne && !e.Op.IsSetOperator() && !e.VectorMatching.On && len(right) != len(left):
		c.complain("%s: the sides have different labels, %v and %v, so nothing matches", e, slices.Sorted(maps.Keys(left)), slices.Sorted(maps.Keys(right)))
	}
	return left
}

func (c *checker) called(e *parser.Call) set {
	out := set{}
	for _, arg := range e.Args {
		out = out.plus(c.result(arg))
	}
	switch e.Func.Name {
	case "histogram_quantile":
		if !out["le"] {
			c.complain("%s: the buckets have no label le", e)
		}
		delete(out, "le")
	case "label_replace":
		out[e.Args[1].(*parser.StringLiteral).Val] = true
	case "scalar", "time":
		return set{}
	}
	return out
}
