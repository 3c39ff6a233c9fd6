package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/testkit"
)

// deployed is deploy/, seen from this package.
const deployed = "../../../deploy"

// runbook is where alerts lead.
const runbook = "https://github.com/weir-metrics/weir/blob/main/docs/operations.md"

// rule is an alert as far as the documents repeat it.
type rule struct {
	Alert  string            `yaml:"alert"`
	Expr   string            `yaml:"expr"`
	For    string            `yaml:"for"`
	Labels map[string]string `yaml:"labels"`

	Annotations map[string]string `yaml:"annotations"`
}

func readRules(t *testing.T) (text []byte, rules []rule) {
	t.Helper()
	text = content(t, filepath.Join(deployed, "alerts/weir.rules.yaml"))
	var file struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	return text, rules
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A chart can read no file outside its folder, so it has a copy.
func TestGeneratedAlertsOfTheChart(t *testing.T) {
	text, _ := readRules(t)
	testkit.Golden(t, filepath.Join(deployed, "helm/weir/files/weir.rules.yaml"), text)
}

// The Prometheus of compose.yaml and the shipped prometheus.yml load the same file.
func TestShippedConfigurationsLoadTheAlerts(t *testing.T) {
	rules := filepath.Join(deployed, "alerts/weir.rules.yaml")
	type prometheus struct {
		RuleFiles []string `yaml:"rule_files"`
	}
	var plain prometheus
	if err := yaml.Unmarshal(content(t, filepath.Join(deployed, "prometheus/prometheus.yml")), &plain); err != nil {
		t.Fatal(err)
	}
	if len(plain.RuleFiles) != 1 || filepath.Join(deployed, "prometheus", plain.RuleFiles[0]) != rules {
		t.Errorf("prometheus.yml loads %q, want the path of %s", plain.RuleFiles, rules)
	}
	var compose struct {
		Services map[string]struct {
			Configs []struct {
				Source string `yaml:"source"`
				Target string `yaml:"target"`
			} `yaml:"configs"`
		} `yaml:"services"`
		Configs map[string]struct {
			File    string `yaml:"file"`
			Content string `yaml:"content"`
		} `yaml:"configs"`
	}
	if err := yaml.UnmarshalWithOptions(content(t, filepath.Join(deployed, "compose.yaml")), &compose, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	var inside prometheus
	if err := yaml.Unmarshal([]byte(compose.Configs["prometheus"].Content), &inside); err != nil {
		t.Fatal(err)
	}
	for _, c := range compose.Services["prometheus"].Configs {
		if slices.Contains(inside.RuleFiles, c.Target) && filepath.Join(deployed, compose.Configs[c.Source].File) == rules {
			return
		}
	}
	t.Errorf("the Prometheus of compose.yaml loads %q, and none of its configs is %s", inside.RuleFiles, rules)
}

// Every alert has its heading in operations.md and a row in its table, with what
// the rule says, and every heading its alert. Each begins with a command and what
// it should print.
func TestEveryAlertHasItsRunbook(t *testing.T) {
	_, rules := readRules(t)
	_, text, _ := strings.Cut(string(content(t, filepath.Join(folder, "operations.md"))), "\n## Alerts\n")
	text, _, _ = strings.Cut(text, "\n## ")
	var names []string
	for _, r := range rules {
		names = append(names, r.Alert)
		if want := runbook + "#" + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s has the runbook_url %q, want %s", r.Alert, r.Annotations["runbook_url"], want)
		}
		row := regexp.MustCompile(`(?m)^\| \[` + r.Alert + `\]\(#` + strings.ToLower(r.Alert) + `\) \| .+ \| ` + r.For + ` \| ` + r.Labels["severity"] + ` \|$`)
		if !row.MatchString(text) {
			t.Errorf("operations.md: the table of alerts has no row for %s, after %s, severity %s", r.Alert, r.For, r.Labels["severity"])
		}
	}
	var headings []string
	for _, section := range strings.Split(text, "\n### ")[1:] {
		name, body, _ := strings.Cut(section, "\n")
		headings = append(headings, name)
		if !regexp.MustCompile("^\n```sh (?:look|needs=account)\n[^`]+\n```\n\nExpected: ").MatchString(body) {
			t.Errorf("operations.md: %s does not begin with a command and what to expect", name)
		}
	}
	if diff := cmp.Diff(names, headings); diff != "" {
		t.Errorf("headings of alerts (-rules +operations.md):\n%s", diff)
	}
}

// The rules look at metrics that exist, and every code of a problem has an alert.
func TestAlertsLookAtWhatExists(t *testing.T) {
	_, rules := readRules(t)
	metrics := string(content(t, filepath.Join(folder, "metrics.md")))
	for _, r := range rules {
		for _, name := range regexp.MustCompile(`\bweir_[a-z_]+`).FindAllString(r.Expr, -1) {
			if !strings.Contains(metrics, "| `"+name+"` |") {
				t.Errorf("%s looks at %s, which metrics.md does not have", r.Alert, name)
			}
		}
		// The chart narrows each selector to its release by its brace.
		if bare := regexp.MustCompile(`\bweir_[a-z_]+[^a-z_{]`).FindString(r.Expr); bare != "" {
			t.Errorf("%s: %q has no braces", r.Alert, bare)
		}
	}
	codes := regexp.MustCompile(`Code = "([A-Z_]+)"`).FindAllSubmatch(content(t, "../../collector/internal/trouble/trouble.go"), -1)
	if len(codes) == 0 {
		t.Fatal("package trouble has no codes that this test can read")
	}
	for _, c := range codes {
		if !slices.ContainsFunc(rules, func(r rule) bool {
			return strings.Contains(r.Expr, `max(weir_collector_problems{code="`+string(c[1])+`"}) > 0`)
		}) {
			t.Errorf("no alert fires for problems of code %s", c[1])
		}
	}
}
