package promtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
)

// config scrapes one target every second.
func config(target string) string {
	return fmt.Sprintf(`
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: weir
    honor_timestamps: true
    static_configs:
      - targets: [%q]
`, strings.TrimPrefix(target, "http://"))
}

func TestPromtool(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prometheus.yml")
	testkit.WriteFile(t, path, []byte(config("127.0.0.1:1")))
	if out, _, err := Promtool(t, "check", "config", path); err != nil || !strings.Contains(out, "SUCCESS") {
		t.Errorf("a good configuration: %v, %s", err, out)
	}
	testkit.WriteFile(t, path, []byte("scrape_config: []\n"))
	if _, stderr, err := Promtool(t, "check", "config", path); err == nil || !strings.Contains(stderr, "scrape_config") {
		t.Errorf("a misspelt key: error %v, stderr %q", err, stderr)
	}
	if _, stderr, err := PromtoolIn(t, strings.NewReader("# TYPE a_total gauge\na_total 1\n"), "check", "metrics"); err == nil {
		t.Errorf("a gauge called total passed; stderr %q", stderr)
	}
	if version, _, err := Promtool(t, "--version"); err != nil || !strings.Contains(version, "version "+Find(t).Version) {
		t.Errorf("version: %v, %s", err, version)
	}
}

func TestPinned(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "tools"), 0o755); err != nil {
		t.Fatal(err)
	}
	mod := filepath.Join(root, "tools", "prometheus.mod")
	testkit.WriteFile(t, mod, []byte("require (\n\tgithub.com/prometheus/prometheus v0.309.2 // indirect\n)\n"))
	version, key, err := prometheus.pinned(root)
	if err != nil || version != "3.9.2" {
		t.Errorf("got version %q, error %v, want 3.9.2", version, err)
	}
	testkit.WriteFile(t, mod, []byte("require github.com/prometheus/prometheus v0.310.0\n"))
	next, nextKey, err := prometheus.pinned(root)
	if err != nil || next != "3.10.0" || nextKey == key {
		t.Errorf("got version %q with key %q, error %v, want 3.10.0 with another key than %q", next, nextKey, err, key)
	}
	testkit.WriteFile(t, mod, []byte("require github.com/prometheus/prometheus v0.39.2\n"))
	if version, _, err := prometheus.pinned(root); err != nil || version != "2.39.2" {
		t.Errorf("got version %q, error %v, want 2.39.2", version, err)
	}
	testkit.WriteFile(t, mod, []byte("require github.com/prometheus/common v0.73.1\n"))
	if _, _, err := prometheus.pinned(root); err == nil {
		t.Error("a module file without Prometheus was accepted")
	}
	testkit.WriteFile(t, filepath.Join(root, "tools", "victoriametrics.mod"), []byte("require (\n\tgithub.com/VictoriaMetrics/VictoriaMetrics v1.151.0 // indirect\n)\n"))
	if version, _, err := victoriaMetrics.pinned(root); err != nil || version != "1.151.0" {
		t.Errorf("got version %q, error %v, want 1.151.0", version, err)
	}
}

// Debian's Prometheus is the version that its package says.
func TestDebian(t *testing.T) {
	testkit.InAll(t)
	tools := Debian(t)
	if out, _, err := tools.Run("--version"); err != nil || !strings.Contains(out, "version "+tools.Version) {
		t.Errorf("version: %v, %s", err, out)
	}
}
