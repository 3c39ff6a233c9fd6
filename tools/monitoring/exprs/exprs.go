// Package exprs finds what a PromQL expression asks of metrics that do not have it: a name,
// a label, a label to group or to join by. The tests of the dashboards use it.
package exprs

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Set is a set of label names.
type Set map[string]bool

// Of is the set of some names.
func Of(names ...string) Set {
	out := Set{}
	for _, n := range names {
		out[n] = true
	}
	return out
}

func (s Set) plus(other Set) Set {
	out := maps.Clone(s)
	maps.Copy(out, other)
	return out
}

// target are the labels that every scraped series may have.
var target = Of("namespace", "job", "instance")

var metricRow = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| (gauge|counter|histogram) \\| (.*?) \\| ")

// Documented reads the processes' own metrics and their labels from docs/metrics.md.
func Documented(text string) map[string]Set {
	out := map[string]Set{}
	for _, m := range metricRow.FindAllStringSubmatch(text, -1) {
		names := Set{}
		for name := range strings.SplitSeq(strings.ReplaceAll(m[3], "`", ""), ", ") {
			if name != "" {
				names[name] = true
			}
		}
		if m[2] != "histogram" {
			out[m[1]] = names
			continue
		}
		out[m[1]+"_sum"], out[m[1]+"_count"], out[m[1]+"_bucket"] = names, names, names.plus(Of("le"))
	}
	return out
}

var fence = regexp.MustCompile("(?ms)^```.*?^```$")

// Headings are the anchors of a document.
func Headings(text string) Set {
	out := Set{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		out[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return out
}

// Family is one of the catalogue's.
type Family struct {
	Labels  Set
	Dataset string // that has it; "any" for the one of all datasets
	AddsUp  bool   // buckets may be added, so that the counters have it too
}

var familyRow = regexp.MustCompile("(?m)^\\| `(cloudflare_[a-z0-9_]+)` \\| (.*?) \\| .*? \\| (yes|\\*\\*no\\*\\*) \\| `(\\w+)` \\| ")

// Families reads the catalogue's families from docs/metrics.md.
func Families(text string) map[string]Family {
	out := map[string]Family{}
	for _, m := range familyRow.FindAllStringSubmatch(text, -1) {
		out[m[1]] = Family{Labels: Of(strings.Split(strings.ReplaceAll(m[2], "`", ""), ", ")...), Dataset: m[4], AddsUp: m[3] == "yes"}
	}
	return out
}

// Check returns the labels that the result of an expression may have, and what it asks of
// the metrics that they do not have. Variables of Grafana must be filled in.
func Check(expr string, metrics map[string]Set) (Set, []string) {
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return nil, []string{err.Error()}
	}
	c := checker{metrics: metrics}
	return c.result(e), c.faults
}

// checker finds what an expression asks of metrics that do not have it.
type checker struct {
	metrics map[string]Set
	faults  []string
}

func (c *checker) complain(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// result are the labels that the series of an expression may have.
func (c *checker) result(e parser.Expr) Set {
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
		return Set{}
	}
	c.complain("%s is an expression that this test does not know (%T)", e, e)
	return Set{}
}

func (c *checker) selected(e *parser.VectorSelector) Set {
	have, known := c.metrics[e.Name]
	if !known {
		c.complain("there is no metric %s", e.Name)
		return Set{}
	}
	have = have.plus(target)
	for _, m := range e.LabelMatchers {
		if m.Name != labels.MetricName && !have[m.Name] {
			c.complain("%s has no label %s", e.Name, m.Name)
		}
	}
	return have
}

func (c *checker) aggregated(e *parser.AggregateExpr) Set {
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
	out := Of(e.Grouping...)
	if e.Op == parser.COUNT_VALUES {
		out[e.Param.(*parser.StringLiteral).Val] = true
	}
	return out
}

func (c *checker) joined(e *parser.BinaryExpr) Set {
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

func (c *checker) called(e *parser.Call) Set {
	out := Set{}
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
		return Set{}
	}
	return out
}
