package pipeline

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/prometheus/prometheus/promql/parser"
)

const root = "../../../"

func file(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(root + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What is shipped is what this package builds.
func TestShippedIsCurrent(t *testing.T) {
	want, err := Build()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"deploy/dashboards/weir-pipeline.json", "deploy/helm/weir/files/weir-pipeline.json"} {
		if !bytes.Equal(file(t, name), want) {
			t.Errorf("%s is out of date: run make generate and commit the result", name)
		}
	}
}

// Every panel has a unit, says what is normal, links to a heading of the runbook, and
// has a title of its own.
func TestPanelsExplainThemselves(t *testing.T) {
	anchors := headings(string(file(t, "docs/operations.md")))
	titles := map[string]bool{}
	for _, r := range rows() {
		for _, p := range r.panels {
			if titles[p.title] {
				t.Errorf("%s: two panels have this title", p.title)
			}
			titles[p.title] = true
			if p.unit == "" || p.shows == "" || p.normal == "" || len(p.queries) == 0 {
				t.Errorf("%s: unit, shows, normal and queries must be set", p.title)
			}
			if !anchors[p.runbook] {
				t.Errorf("%s links to #%s, and docs/operations.md has no such heading", p.title, p.runbook)
			}
			if p.stat && len(p.steps) == 0 {
				t.Errorf("%s shows a figure and no threshold", p.title)
			}
		}
	}
}

var fence = regexp.MustCompile("(?ms)^```.*?^```$")

// headings are the anchors of a document.
func headings(text string) set {
	out := set{}
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

// expanded is an expression with Grafana's variables filled in.
func expanded(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$job", ".*", "$dataset", ".*").Replace(expr)
}

var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// Expressions name only metrics and labels that exist, and legends only labels that
// the result has. Those of Weir are narrowed to the selected jobs.
func TestExpressionsNameWhatExists(t *testing.T) {
	metrics := documented(string(file(t, "docs/metrics.md")))
	if len(metrics) < 80 {
		t.Fatalf("docs/metrics.md has %d metrics of the processes; this test no longer understands it", len(metrics))
	}
	for name, has := range others {
		metrics[name] = has
	}
	promql := parser.NewParser(parser.Options{})
	for _, r := range rows() {
		for _, p := range r.panels {
			for _, q := range p.queries {
				expr := narrowed(q.expr)
				e, err := promql.ParseExpr(expanded(expr))
				if err != nil {
					t.Errorf("%s: %v\n%s", p.title, err, expr)
					continue
				}
				c := checker{metrics: metrics}
				result := c.result(e)
				for _, fault := range c.faults {
					t.Errorf("%s: %s\n%s", p.title, fault, expr)
				}
				for _, m := range legendLabel.FindAllStringSubmatch(q.legend, -1) {
					if !result[m[1]] {
						t.Errorf("%s: the legend names %s, which the result does not have\n%s", p.title, m[1], expr)
					}
				}
				if n := strings.Count(expr, `{namespace=~"$namespace",job=~"$job"`); n != len(regexp.MustCompile(`\b(weir|grpc_server|process)_[a-z_]+`).FindAllString(expr, -1)) {
					t.Errorf("%s: a metric is not narrowed to the selected jobs\n%s", p.title, expr)
				}
			}
		}
	}
}

// The check finds what it is there for.
func TestCheckerCatches(t *testing.T) {
	metrics := map[string]set{"weir_a": of("dataset"), "weir_b_bucket": of("le")}
	for expr, want := range map[string]string{
		`sum by (dataset) (weir_a)`:                                         "",
		`weir_c`:                                                            "no metric weir_c",
		`weir_a{zone="x"}`:                                                  "no label zone",
		`sum by (zone) (weir_a)`:                                            "no label zone to group by",
		`sum by (dataset) (max by (job) (weir_a))`:                          "no label dataset to group by",
		`sum by (dataset) (weir_a) / sum (weir_a)`:                          "nothing matches",
		`weir_a and on (reason) weir_a`:                                     "do not both have the label reason",
		`histogram_quantile(0.9, rate(weir_b_bucket[5m]))`:                  "",
		`histogram_quantile(0.9, sum(rate(weir_b_bucket[5m])))`:             "no label le",
		`sum by (reason) (label_replace(weir_a, "reason", "none", "", ""))`: "",
	} {
		e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
		if err != nil {
			t.Fatal(err)
		}
		c := checker{metrics: metrics}
		c.result(e)
		if got := strings.Join(c.faults, "; "); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", expr, got, want)
		}
	}
}
