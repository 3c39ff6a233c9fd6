package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// What verify finds is sent with remote write, exactly; and what the out-of-order window
// refuses is said before anything is sent.
func TestBackfillRemoteWrite(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		tools func(testing.TB) promtest.Tools
	}{{"newest", promtest.Find}, {"debian", promtest.Debian}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := newArchive(t, 3)
			from, to := a.start.Add(6*time.Hour), a.start.Add(54*time.Hour)
			// The window ends in the middle of the hole.
			middle := a.start.Add(30 * time.Hour)
			p := a.prometheus(tc.tools(t), time.Since(middle).Truncate(time.Second), without(from, to))
			findings := filepath.Join(t.TempDir(), "findings.jsonl")
			missing := a.verify(p, 1, "--findings", findings).Differing["missing"]
			send := []string{"import", "--to", "remote-write", "--remote-write-url", p.URL() + "/api/v1/write", "--missing-only", findings}
			code, _, errs := a.weir(p, send...)
			if code != 1 || !strings.Contains(errs, "and the receiver refuses them (its out-of-order window ends there)") {
				t.Fatalf("an import beyond the window exits with %d", code)
			}
			if again := a.verify(p, 1).Differing["missing"]; again != missing {
				t.Errorf("%d samples are missing after a refused import, want %d as before", again, missing)
			}
			if code, _, _ := a.weir(p, append(send, "--partial")...); code != 0 {
				t.Fatalf("an import of the rest exits with %d", code)
			}
			// What is left is what was said to be too old.
			for _, x := range a.verify(p, 1).Ranges {
				if x.Kind != "missing" || !x.Start.Equal(from) || x.End.Sub(middle).Abs() > 2*time.Hour {
					t.Errorf("left is %+v, want the part from %s to about %s", x, from, middle)
				}
			}
			window := fmt.Sprintf("storage: {tsdb: {out_of_order_time_window: %dh}}\nscrape_configs: []\n", 24*5)
			p.Reload(window)
			if code, out, _ := a.weir(p, send...); code != 0 || !strings.Contains(out, "0 refused, 0 left out as too old") {
				t.Fatalf("an import within the window exits with %d", code)
			}
			if err := a.holdsTruth(p, 0); err != nil {
				t.Error(err)
			}
			a.verify(p, 0)
			if code, out, _ := a.weir(p, send...); code != 0 || !strings.Contains(out, "the receiver lacks nothing") {
				t.Errorf("an import again exits with %d", code)
			}
		})
	}
}

// A receiver that refuses single samples for a reason of its own gets all others, and the
// refused ones are named.
func TestBackfillRemoteWriteOneRefusedSample(t *testing.T) {
	t.Parallel()
	a := newArchive(t, 1)
	p := a.prometheus(promtest.Find(t), 72*time.Hour, without(a.start.Add(6*time.Hour), a.start.Add(12*time.Hour)))
	refuse := fmt.Appendf(nil, "blog.example")
	proxy := refusing(t, p.URL(), refuse)
	code, out, _ := a.weir(p, "import", "--to", "remote-write", "--remote-write-url", proxy+"/api/v1/write", "--start", a.start.Format(time.DateOnly), "--end", a.end.Format(time.DateOnly))
	if code != 1 || !strings.Contains(out, `zone="blog.example"`) || !strings.Contains(out, "no such tenant") {
		t.Errorf("the import exits with %d", code)
	}
	for _, x := range a.verify(p, 1).Ranges {
		if x.Zone != "blog.example" || x.Kind != "missing" {
			t.Errorf("%s is %s, want only blog.example", x.Zone, x.Kind)
		}
	}
}

// VictoriaMetrics gets what it lacks, and holds the truth.
func TestBackfillVictoriaMetrics(t *testing.T) {
	t.Parallel()
	a := newArchive(t, 4)
	from, to := a.start.Add(12*time.Hour), a.start.Add(84*time.Hour)
	_, flags := promtest.ShippedVictoria(t)
	v := promtest.FindVictoria(t).Start(t, "scrape_configs: []\n", append(flags, "-retentionPeriod=60d")...)
	post(t, v.URL()+"/api/v1/import/prometheus", a.openMetrics(without(from, to)))
	get(t, v.URL()+"/internal/force_flush")
	findings := filepath.Join(t.TempDir(), "findings.jsonl")
	r := a.verify(v, 1, "--findings", findings)
	if r.Differing["missing"] == 0 || r.Equal+r.Differing["missing"] != a.size() || r.Differing["extra"]+r.Differing["different"]+r.Differing["repeated"] != 0 {
		t.Fatalf("the report is %+v of %d samples", r, a.size())
	}
	send := []string{"import", "--to", "victoriametrics", "--missing-only", findings}
	if code, out, _ := a.weir(v, append(send, "--dry-run")...); code != 0 || !strings.Contains(out, fmt.Sprintf("would send %d, ", r.Differing["missing"])) {
		t.Fatalf("import --dry-run exits with %d", code)
	}
	if code, _, _ := a.weir(v, send...); code != 0 {
		t.Fatalf("import exits with %d", code)
	}
	get(t, v.URL()+"/internal/force_flush")
	testkit.Eventually(t, func() error { return a.holdsTruth(v, 1e-12) })
	a.verify(v, 0)
}

// post sends a body that must be taken.
func post(t *testing.T, url string, body []byte) {
	t.Helper()
	response, err := http.Post(url, "text/plain", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || response.StatusCode/100 != 2 {
		t.Fatalf("POST %s: %s %s %v", url, response.Status, text, err)
	}
}
