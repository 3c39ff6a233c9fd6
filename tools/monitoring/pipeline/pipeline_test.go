package pipeline

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/tools/monitoring/exprs"
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

// Every panel has a unit, says what is normal, links to a heading of the runbook, and
// has a title of its own.
func TestPanelsExplainThemselves(t *testing.T) {
	anchors := exprs.Headings(string(file(t, "docs/operations.md")))
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

// expanded is an expression with Grafana's variables filled in.
func expanded(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$job", ".*", "$dataset", ".*").Replace(expr)
}

var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// others are metrics that docs/metrics.md does not have: of client_golang's
// collectors, which it mentions, and of Prometheus itself. That they exist is shown
// by the test that runs every expression.
var others = map[string]exprs.Set{
	"process_resident_memory_bytes":                              {},
	"process_cpu_seconds_total":                                  {},
	"prometheus_target_scrapes_sample_out_of_order_total":        {},
	"prometheus_target_scrapes_sample_out_of_bounds_total":       {},
	"prometheus_target_scrapes_sample_duplicate_timestamp_total": {},
	"prometheus_tsdb_too_old_samples_total":                      exprs.Of("type"),
}

// Expressions name only metrics and labels that exist, and legends only labels that
// the result has. Those of Weir are narrowed to the selected jobs.
func TestExpressionsNameWhatExists(t *testing.T) {
	metrics := exprs.Documented(string(file(t, "docs/metrics.md")))
	if len(metrics) < 80 {
		t.Fatalf("docs/metrics.md has %d metrics of the processes; this test no longer understands it", len(metrics))
	}
	for name, has := range others {
		metrics[name] = has
	}
	for _, r := range rows() {
		for _, p := range r.panels {
			for _, q := range p.queries {
				expr := narrowed(q.expr)
				result, faults := exprs.Check(expanded(expr), metrics)
				for _, fault := range faults {
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
