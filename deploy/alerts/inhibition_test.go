package alerts

import (
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
)

// Where two alerts fire for one cause, alertmanager.yml says which one inhibits the
// other. Module tools/monitoring asks Alertmanager itself whether it does.
func TestTwoAlertsAreOneNotification(t *testing.T) {
	text, err := os.ReadFile("alertmanager.yml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Rules []struct {
			Source []string `yaml:"source_matchers"`
			Target []string `yaml:"target_matchers"`
		} `yaml:"inhibit_rules"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	matcher := regexp.MustCompile(`^alertname=~?"([\w|]+)"$`)
	matches := func(matchers []string, alert string) bool {
		m := matcher.FindStringSubmatch(matchers[0])
		if m == nil || len(matchers) != 1 {
			t.Fatalf("this test does not know matchers like %q", matchers)
		}
		return regexp.MustCompile("^(" + m[1] + ")$").MatchString(alert)
	}
	two := 0
	for _, s := range stories() {
		if len(s.fires) != 2 {
			continue
		}
		two++
		named := false
		for _, r := range config.Rules {
			for _, pair := range [][]string{s.fires, {s.fires[1], s.fires[0]}} {
				named = named || matches(r.Source, pair[0]) && matches(r.Target, pair[1])
			}
		}
		if !named {
			t.Errorf("%s: no inhibition rule is about %v", s.name, s.fires)
		}
	}
	if two == 0 || slices.ContainsFunc(stories(), func(s story) bool { return len(s.fires) > 2 }) {
		t.Errorf("%d stories fire two alerts, or one fires more: the test has lost its subject", two)
	}
}
