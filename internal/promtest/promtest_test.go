package promtest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestScrape follows two timestamped samples from a target into the database
// and through a restart.
func TestScrape(t *testing.T) {
	testkit.InAll(t)
	testkit.NoLeaks(t)
	now := time.Now().UTC().Truncate(time.Second)
	want := []Sample{{now.Add(-10 * time.Minute), 41}, {now.Add(-5 * time.Minute), 42}}
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintln(w, "# TYPE cloudflare_zone_requests gauge")
		for _, s := range want {
			fmt.Fprintf(w, "cloudflare_zone_requests{zone=\"a.example\"} %g %d\n", s.Value, s.Time.UnixMilli())
		}
	}))
	t.Cleanup(target.Close)

	s := Start(t, config(target.URL), "--log.level=debug")
	stored := func() error {
		series := s.Samples(`{__name__=~"cloudflare_.*"}`, now.Add(-time.Hour), now.Add(time.Hour))
		if len(series) != 1 {
			return fmt.Errorf("got %d series, want 1; targets %+v", len(series), s.Targets())
		}
		if diff := cmp.Diff(want, series[0].Samples); diff != "" {
			return fmt.Errorf("samples (-want +got):\n%s", diff)
		}
		if name := series[0].Name(); !strings.HasPrefix(name, "cloudflare_zone_requests{instance=") {
			return fmt.Errorf("series is called %s", name)
		}
		return nil
	}
	testkit.Eventually(t, 30*time.Second, stored)
	if got := s.Value(`sum_over_time(cloudflare_zone_requests{zone="a.example"}[1h])`, now); got != 83 {
		t.Errorf("sum is %v, want 83", got)
	}
	if got := s.Value("scalar(vector(7))", now); got != 7 {
		t.Errorf("scalar is %v, want 7", got)
	}
	if got := s.QueryRange("vector(1)", now.Add(-time.Minute), now, 30*time.Second); len(got) != 1 || len(got[0].Samples) != 3 {
		t.Errorf("range query gave %v, want one series of 3", got)
	}
	targets := s.Targets()
	if len(targets) != 1 || targets[0].Health != "up" || targets[0].Labels["job"] != "weir" {
		t.Errorf("targets are %+v, want one that is up", targets)
	}
	if got := s.Own("prometheus_tsdb_head_samples_appended_total", `type="float"`); got < 2 {
		t.Errorf("Prometheus counts %v appended samples, want at least 2", got)
	}
	if got := s.Own("prometheus_no_such_metric"); got != 0 {
		t.Errorf("a metric that does not exist is %v", got)
	}

	url := s.URL()
	s.Restart()
	if s.URL() != url {
		t.Errorf("moved from %s to %s", url, s.URL())
	}
	if err := stored(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if strings.Count(s.Log(), "Server is ready to receive web requests") != 1 {
		t.Errorf("the log is not that of the present process:\n%s", s.Log())
	}
	s.Reload("scrape_configs: []\n")
	testkit.Eventually(t, 30*time.Second, func() error {
		if n := len(s.Targets()); n != 0 {
			return fmt.Errorf("%d targets after a reload without any", n)
		}
		return nil
	})
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
	testkit.WriteFile(t, mod, []byte("require github.com/prometheus/common v0.73.1\n"))
	if _, _, err := prometheus.pinned(root); err == nil {
		t.Error("a module file without Prometheus was accepted")
	}
	testkit.WriteFile(t, filepath.Join(root, "tools", "victoriametrics.mod"), []byte("require (\n\tgithub.com/VictoriaMetrics/VictoriaMetrics v1.151.0 // indirect\n)\n"))
	if version, _, err := victoriaMetrics.pinned(root); err != nil || version != "1.151.0" {
		t.Errorf("got version %q, error %v, want 1.151.0", version, err)
	}
}

func TestWithDefaults(t *testing.T) {
	got := withDefaults([]string{"--a=1", "--no-b"}, []string{"--a=2", "--b", "--c=3"})
	if diff := cmp.Diff([]string{"--a=1", "--no-b", "--c=3"}, got); diff != "" {
		t.Error(diff)
	}
}

// The programs of all versions store and tell the same.
func TestVictoria(t *testing.T) {
	testkit.InAll(t)
	testkit.NoLeaks(t)
	now := time.Now().UTC().Truncate(time.Second)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "cloudflare_zone_requests 42 %d\n", now.Add(-5*time.Minute).UnixMilli())
	}))
	t.Cleanup(target.Close)
	for name, find := range map[string]func(testing.TB) Victoria{"pinned": FindVictoria, "Debian's": DebianVictoria} {
		t.Run(name, func(t *testing.T) {
			s := find(t).Start(t, config(target.URL), "-dedup.minScrapeInterval=1ms")
			stored := func() error {
				series := s.Samples("cloudflare_zone_requests", now.Add(-time.Hour), now)
				if len(series) != 1 {
					return fmt.Errorf("got %d series, want 1; targets %+v", len(series), s.Targets())
				}
				if diff := cmp.Diff([]Sample{{now.Add(-5 * time.Minute), 42}}, series[0].Samples); diff != "" {
					return fmt.Errorf("samples (-want +got):\n%s", diff)
				}
				return nil
			}
			testkit.Eventually(t, 30*time.Second, stored)
			s.Restart()
			if err := stored(); err != nil {
				t.Errorf("after a restart: %v", err)
			}
		})
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
