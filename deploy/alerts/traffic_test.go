package alerts

import (
	"os"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/promtest"
)

// The examples on traffic fire for what happened to it, and not for what happened to its
// collection.
func TestTraffic(t *testing.T) {
	if out, _, err := promtest.Promtool(t, "test", "rules", "traffic.test.yaml"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Without its guard the drop would fire while nothing is collected.
func TestTrafficNeedsItsGuard(t *testing.T) {
	rules, err := os.ReadFile("traffic.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	const guard = "and on (zone) zone:weir_bucket_age_seconds:max45m < 1200"
	if strings.Count(string(rules), guard) != 1 {
		t.Fatalf("traffic.rules.yaml has no %q", guard)
	}
	tests, err := os.ReadFile("traffic.test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"traffic.rules.yaml": strings.Replace(string(rules), guard, "", 1), "traffic.test.yaml": string(tests)} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := promtest.Promtool(t, "test", "rules", dir+"/traffic.test.yaml"); err == nil || !strings.Contains(err.Error(), "an hour without collection") {
		t.Errorf("without the guard: %v", err)
	}
}
