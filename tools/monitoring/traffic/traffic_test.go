package traffic

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/tools/monitoring/exprs"
)

const root = "../../../"

func file(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(root + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// families reads the catalogue's from docs/metrics.md.
func families(t *testing.T) map[string]exprs.Family {
	t.Helper()
	out := exprs.Families(file(t, "docs/metrics.md"))
	if len(out) < 150 {
		t.Fatalf("docs/metrics.md has %d families; this test no longer understands it", len(out))
	}
	return out
}

// Every panel has a unit, says what is normal and what must be collected, and has a title
// of its own in its dashboard.
func TestPanelsExplainThemselves(t *testing.T) {
	datasets := file(t, "docs/datasets.md")
	document := exprs.Headings(file(t, "docs/dashboards.md"))
	for _, b := range boards() {
		if b.shows == "" || !document[b.name] {
			t.Errorf("%s: shows must be set, and docs/dashboards.md needs a section %s", b.title, b.name)
		}
		titles := map[string]bool{}
		for _, r := range b.rows {
			for _, p := range r.panels {
				if titles[p.title] {
					t.Errorf("%s: two panels have the title %s", b.title, p.title)
				}
				titles[p.title] = true
				if p.unit == "" || p.shows == "" || p.normal == "" || len(p.queries) == 0 || len(p.datasets) == 0 {
					t.Errorf("%s, %s: unit, shows, normal, queries and datasets must be set", b.title, p.title)
				}
				if strings.HasSuffix(p.normal, ".") == false || strings.HasSuffix(p.shows, ".") == false && !strings.Contains(p.shows, "**There:**") {
					t.Errorf("%s, %s: the description is not made of sentences", b.title, p.title)
				}
				for _, d := range p.datasets {
					if !strings.Contains(datasets, "\n## `"+d+"`\n") {
						t.Errorf("%s, %s: docs/datasets.md has no dataset %s", b.title, p.title, d)
					}
				}
			}
		}
	}
}

// The profiles that panels name are those of the collector.
func TestProfiles(t *testing.T) {
	datasets := file(t, "docs/datasets.md")
	for _, p := range profiles {
		m := regexp.MustCompile("(?m)^\\| `" + p.name + "` \\| (.*) \\|$").FindStringSubmatch(datasets)
		if m == nil {
			t.Fatalf("docs/datasets.md has no profile %s", p.name)
		}
		if want := strings.Split(strings.ReplaceAll(m[1], "`", ""), ", "); !slices.Equal(p.datasets, want) {
			t.Errorf("profile %s is %v, panels say %v", p.name, want, p.datasets)
		}
	}
}

// filled is an expression as Grafana sends it.
func filled(expr string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$__interval_ms", "300000", "$__interval", "5m", "$__range", "6h",
		"$zone", ".*", "$account", ".*", "$source", fromReplay).Replace(expr)
}

var (
	legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)
	anyFamily   = regexp.MustCompile(`\bcloudflare_[a-z0-9_]+`)
)

// Expressions name only families and labels that the catalogue has, as amounts only what
// may be added up, and only of the datasets that the panel says. Legends name only labels
// that the result has.
func TestExpressionsNameWhatExists(t *testing.T) {
	known := families(t)
	metrics := map[string]exprs.Set{"weir_bucket_end_timestamp_seconds": exprs.Of("dataset", "zone", "account", "__source")}
	for name, f := range known {
		labels := maps.Clone(f.Labels)
		labels["__source"] = true
		metrics[name] = labels
		if f.AddsUp {
			metrics[name+"_total"], metrics[name+"_late_total"] = labels, labels
		}
	}
	for _, b := range boards() {
		for _, r := range b.rows {
			for _, p := range r.panels {
				var of []string
				for _, q := range p.queries {
					expr := spelled(q.expr)
					result, faults := exprs.Check(filled(expr), metrics)
					for _, fault := range faults {
						t.Errorf("%s, %s: %s\n%s", b.title, p.title, fault, expr)
					}
					for _, m := range legendLabel.FindAllStringSubmatch(q.legend, -1) {
						if !result[m[1]] {
							t.Errorf("%s, %s: the legend names %s, which the result does not have\n%s", b.title, p.title, m[1], expr)
						}
					}
					for _, name := range anyFamily.FindAllString(q.expr, -1) {
						of = append(of, known[name].Dataset)
						if known[name].AddsUp == strings.Contains(q.expr, "LEVEL("+name) {
							t.Errorf("%s, %s: %s is taken for an amount and is none, or is one and is not\n%s", b.title, p.title, name, q.expr)
						}
					}
					for _, variable := range regexp.MustCompile(`\$\w+`).FindAllString(filled(expr), -1) {
						t.Errorf("%s, %s: nothing fills in %s\n%s", b.title, p.title, variable, expr)
					}
					if n := len(anyFamily.FindAllString(expr, -1)); strings.Count(expr, `account=~"$account"`) < n {
						t.Errorf("%s, %s: a family is not narrowed to the selected accounts\n%s", b.title, p.title, expr)
					}
				}
				slices.Sort(of)
				want := slices.DeleteFunc(slices.Compact(of), func(d string) bool { return d == "any" })
				if got := slices.Sorted(slices.Values(p.datasets)); len(want) > 0 && !slices.Equal(got, want) {
					t.Errorf("%s, %s says that it needs %v, its families are of %v", b.title, p.title, got, want)
				}
			}
		}
	}
}

// The least step is no shorter than the buckets.
func TestSteps(t *testing.T) {
	for want, datasets := range map[string][]string{
		"$bucket": {"http_5m"},
		"5m":      {"workers_5m", "worker_durations_5m"},
		"1h":      {"http_5m", "uniques_1h"},
		"1d":      {"uniques_1d", "uniques_1h"},
	} {
		for range 2 {
			if got := (panel{datasets: datasets}).step(); got != want {
				t.Errorf("the least step of a panel of %v is %s, want %s", datasets, got, want)
			}
			slices.Reverse(datasets)
		}
	}
}

// Selecting one source leaves the other side of each expression empty.
func TestSpelled(t *testing.T) {
	for expr, want := range map[string]string{
		`sum(RATE(cloudflare_zone_bytes))`: `sum((sum_over_time(cloudflare_zone_bytes{zone=~"$zone",account=~"$account",__source=~"$source"}[$__interval]) / ($__interval_ms / 1000)` +
			` or rate(cloudflare_zone_bytes_total{zone=~"$zone",account=~"$account",__source!~"$source"}[$__rate_interval])))`,
		`LEVEL(cloudflare_account_r2_objects{bucket="a"})`: `cloudflare_account_r2_objects{account=~"$account",bucket="a"}`,
	} {
		if got := spelled(expr); got != want {
			t.Errorf("%s is spelled\n%s, want\n%s", expr, got, want)
		}
	}
}
