package docs

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
	"github.com/weir-metrics/weir/services/standalone"
)

var (
	// held is how guarantees.md names a test: folder and test, the test perhaps
	// with the name of a case, or folder and a question of an exam.
	held     = regexp.MustCompile("`((?:internal|client|services|migrations)[a-z0-9/]*): ([^`]+)`")
	function = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w*)\(`)
	named    = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`)
)

// Every test that a document names exists, so that a promise cannot outlive
// what holds it.
func TestNamedTestsExist(t *testing.T) {
	tr := read(t)
	everywhere := map[string]bool{}
	for _, files := range tr.sources {
		for _, f := range files {
			for _, m := range function.FindAllStringSubmatch(f.text, -1) {
				everywhere[m[1]] = true
			}
		}
	}
	for _, p := range tr.pages {
		for _, name := range named.FindAllString(p.text, -1) {
			if !everywhere[name] && name != "TestGenerated" { // a prefix, in CONTRIBUTING.md
				t.Errorf("%s names the test %s, which does not exist", p.path, name)
			}
		}
	}
	n := 0
	for _, m := range held.FindAllStringSubmatch(tr.page(t, "docs/guarantees.md"), -1) {
		n++
		if problem := tr.lacks(m[1], m[2]); problem != "" {
			t.Errorf("docs/guarantees.md names %q: %s", m[0], problem)
		}
	}
	if n < 30 {
		t.Errorf("docs/guarantees.md names %d tests; either it has become thin or this test no longer understands it", n)
	}
}

// lacks says what of a named test is missing in a folder; empty: nothing.
func (tr *tree) lacks(dir, name string) string {
	files := tr.sources[dir]
	if len(files) == 0 {
		return "no such package"
	}
	has := func(part string) bool {
		return slices.ContainsFunc(files, func(f page) bool { return strings.Contains(f.text, part) })
	}
	question := name
	if named.MatchString(name) {
		function, sub, cut := strings.Cut(name, "/")
		switch {
		case !has("func " + function + "("):
			return "no such test in that package"
		case !cut:
			return ""
		}
		question = sub
	}
	if !has(fmt.Sprintf("%q", question)) {
		return fmt.Sprintf("nothing in that package is called %q", question)
	}
	return ""
}

// Each guarantee names what holds it, or says that it is not held yet.
func TestEveryGuaranteeIsAccountedFor(t *testing.T) {
	text := read(t).page(t, "docs/guarantees.md")
	sections := strings.Split(text, "\n## ")[1:]
	for i := range 12 {
		id := fmt.Sprintf("G%d ", i+1)
		at := slices.IndexFunc(sections, func(s string) bool { return strings.HasPrefix(s, id) })
		switch {
		case at < 0:
			t.Errorf("docs/guarantees.md has no section %s", id)
		case !held.MatchString(sections[at]) && !strings.Contains(sections[at], "**Not built yet"):
			t.Errorf("docs/guarantees.md: %s names neither a test nor that it is not built yet", id)
		}
	}
}

func TestArchitectureNamesEveryPackage(t *testing.T) {
	tr := read(t)
	text := tr.page(t, "ARCHITECTURE.md")
	for _, dir := range slices.Sorted(maps.Keys(tr.sources)) {
		if !strings.Contains(text, "`"+dir+"`") {
			t.Errorf("ARCHITECTURE.md does not say what %s is for", dir)
		}
	}
	for _, m := range regexp.MustCompile("`((?:internal|client|services|migrations|proto|deploy|docs|tools)(?:/[a-z0-9_.]+)*)`").FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(tr.root, m[1])); err != nil {
			t.Errorf("ARCHITECTURE.md names %s, which does not exist", m[1])
		}
	}
}

// Settings and metrics that a document names exist.
func TestNamesInProse(t *testing.T) {
	tr := read(t)
	known := map[string]bool{}
	for _, c := range flat("", slices.Concat(collector.Commands(), exposer.Commands(), standalone.Commands())) {
		for _, s := range c.Settings {
			known[s.Env], known[s.Env+"_FILE"] = true, true // the latter of secrets alone; good enough here
		}
	}
	for _, name := range regexp.MustCompile("(?m)^\\| `(\\w+)`(?:.* \\| (yes) \\|)?").FindAllStringSubmatch(tr.page(t, "docs/metrics.md"), -1) {
		known[name[1]] = true
		if name[2] == "yes" { // may be added up, so it is a counter too
			known[name[1]+"_total"], known[name[1]+"_late_total"] = true, true
		}
	}
	names := regexp.MustCompile(`\b(?:(?:CF|WEIR)_[A-Z_]+[A-Z]|(?:weir|cloudflare)_[a-z_]+[a-z])\b`)
	for _, p := range tr.pages {
		if strings.HasPrefix(p.path, "docs/decisions/") || strings.Contains(p.text, notice) {
			continue // the former speak of their time, the latter are generated
		}
		theirs := map[string]bool{}
		if p.path == "docs/migration.md" {
			for _, names := range peerFamilies(t) {
				for _, name := range names {
					theirs[name] = true
				}
			}
		}
		for _, name := range names.FindAllString(p.text, -1) {
			base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
			if !known[name] && !known[base] && !notNames[name] && !theirs[name] {
				t.Errorf("%s names %s, which is neither a setting nor a metric", p.path, name)
			}
		}
	}
}

// notNames look like settings or metrics and are something else.
var notNames = map[string]bool{
	"weir_note":  true,                                           // a note of a backfill's file
	"weir_owner": true, "weir_writer": true, "weir_reader": true, // database roles that operations.md proposes
	"weir_restored":     true,                       // and the database of its restore drill
	"weir_push_control": true,                       // a series that a push sends to its destination
	"WEIR_SECRETS":      true, "WEIR_VERSION": true, // variables of deploy/compose.yaml
	"cloudflare_zone_requests_by_device": true, // the family that add-a-dataset.md declares
}

// The scrape configuration in the document is the file that is shipped and
// that the end-to-end test runs. The newest Prometheus loads it, and the older one
// of Debian, which refuses settings that it does not know.
func TestPrometheusConfiguration(t *testing.T) {
	tr := read(t)
	file := filepath.Join(tr.root, "deploy", "prometheus", "prometheus.yml")
	shipped := string(content(t, file))
	shown := blocks(tr.page(t, "docs/prometheus.md"), "yaml")
	if len(shown) == 0 || shown[0] != shipped {
		t.Error("the first yaml block of docs/prometheus.md is not deploy/prometheus/prometheus.yml")
	}
	for name, find := range map[string]func(testing.TB) promtest.Tools{"pinned": promtest.Find, "Debian's": promtest.Debian} {
		t.Run(name, func(t *testing.T) {
			if stdout, stderr, err := find(t).Run("check", "config", file); err != nil {
				t.Errorf("promtool check config: %v\n%s%s", err, stdout, stderr)
			}
		})
	}
}

// The same for VictoriaMetrics, with the flags that belong to it.
func TestVictoriaMetricsConfiguration(t *testing.T) {
	tr := read(t)
	shipped, flags := promtest.ShippedVictoria(t)
	if !slices.Contains(blocks(tr.page(t, "docs/prometheus.md"), "yaml"), shipped) {
		t.Error("docs/prometheus.md does not show deploy/victoriametrics/scrape.yml")
	}
	file := filepath.Join(tr.root, "deploy", "victoriametrics", "scrape.yml")
	for name, find := range map[string]func(testing.TB) promtest.Victoria{"pinned": promtest.FindVictoria, "Debian's": promtest.DebianVictoria} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(find(t).Path, append(flags, "-promscrape.config="+file, "-dryRun")...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", cmd, err, out)
			}
		})
	}
}

// Prometheus understands every expression that a document advises.
func TestQueries(t *testing.T) {
	tr := read(t)
	rules, n := "groups:\n- name: documents\n  rules:\n", 0
	for _, p := range tr.pages {
		for _, block := range blocks(p.text, "promql") {
			for line := range strings.Lines(block) {
				expr, _, _ := strings.Cut(line, "#")
				if expr = strings.TrimSpace(expr); expr != "" {
					n++
					rules += fmt.Sprintf("  - {record: document:%d, expr: %q}\n", n, expr)
				}
			}
		}
	}
	if n < 5 {
		t.Fatalf("only %d expressions were found", n)
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	testkit.WriteFile(t, file, []byte(rules))
	if stdout, stderr, err := promtest.Promtool(t, "check", "rules", file); err != nil {
		t.Errorf("promtool check rules: %v\n%s%s\n%s", err, stdout, stderr, rules)
	}
}

// Postgres understands every statement that a document advises.
func TestSQL(t *testing.T) {
	dsn := pgtest.DSN(t)
	var config collector.Config
	config.DatabaseURL = cli.NewSecret(dsn)
	if err := collector.Migrate(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, p := range read(t).pages {
		for _, block := range blocks(p.text, "sql") {
			n++
			pgtest.Exec(t, dsn, "BEGIN; "+block+" ROLLBACK") // a role would outlive the database
		}
	}
	if n == 0 {
		t.Error("no block of SQL was found")
	}
}
