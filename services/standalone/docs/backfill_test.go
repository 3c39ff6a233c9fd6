package docs

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// The requests of docs/backfill.md are answered as it says, by the services as
// they are by default; promtool reads the files.
func TestBackfillRequestsOfThePage(t *testing.T) {
	text := read(t).page(t, "docs/backfill.md")
	// The page's 8th is today.
	today := time.Now().UTC()
	text = regexp.MustCompile(`2026-11-0\d`).ReplaceAllStringFunc(text, func(day string) string {
		n, err := strconv.Atoi(day[len(day)-1:])
		if err != nil {
			t.Fatal(err)
		}
		return today.AddDate(0, 0, n-8).Format(time.DateOnly)
	})
	_, exposer := run(t, prometheus.NewRegistry(), prometheus.NewRegistry())
	ask := func(method, path string) (*http.Response, string, error) {
		request, err := http.NewRequest(method, "http://"+exposer+path, nil)
		if err != nil {
			return nil, "", err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return response, string(body), err
	}
	// Of every default dataset something has come.
	testkit.Eventually(t, func() error {
		_, body, err := ask(http.MethodGet, "/backfill?hours=24")
		for _, family := range []string{"cloudflare_zone_requests", "cloudflare_zone_unique_visitors", "cloudflare_zone_requests_by_country"} {
			if !strings.Contains(body, "\n"+family+"{") {
				return fmt.Errorf("no samples of %s (%w)", family, err)
			}
		}
		return err
	})

	examples := 0
	for _, block := range blocks(text, "sh") {
		for _, m := range regexp.MustCompile(`curl -fsS(I?) (-o \S+ )?'http://127\.0\.0\.1:9810([^']*)'`).FindAllStringSubmatch(block, -1) {
			examples++
			path := m[3]
			if m[1] != "" {
				if got, _, err := ask(http.MethodHead, path); err != nil || got.StatusCode != http.StatusOK || got.Header.Get("X-Weir-Lacks") == "" || got.Header.Get("X-Weir-Range") == "" {
					t.Errorf("HEAD %s: %v %+v", path, err, got)
				}
				continue
			}
			got, body, err := ask(http.MethodGet, path)
			if err != nil || got.StatusCode != http.StatusOK || !strings.HasPrefix(body, "# HELP weir_note_1 weir backfill of ") || !strings.Contains(body, "coverage of http_5m: ") {
				t.Errorf("GET %s: %v %s %.300s", path, err, got.Status, body)
				continue
			}
			if strings.Contains(path, "format=text") {
				continue
			}
			if strings.Contains(path, "step_seconds=3600") {
				// The original's URL on a default install: sums, what is an hour already, and what cannot be had.
				for _, want := range []string{
					"\ncloudflare_zone_requests_summed{", "\ncloudflare_zone_unique_visitors{", "\ncloudflare_zone_requests_by_country{",
					"left out: cloudflare_sample_interval of http_5m: its values cannot be added up",
				} {
					if !strings.Contains(body, want) {
						t.Errorf("GET %s lacks %q", path, want)
					}
				}
				if got := got.Header.Get("X-Weir-Left-Out"); got != "cloudflare_sample_interval" {
					t.Errorf("GET %s: X-Weir-Left-Out is %q", path, got)
				}
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "history.om")
			testkit.WriteFile(t, file, []byte(body))
			if _, stderr, err := promtest.Promtool(t, "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h", file, filepath.Join(dir, "blocks")); err != nil && strings.Contains(body, "} ") { // an empty file is none to promtool
				t.Errorf("GET %s: promtool: %v\n%s", path, err, stderr)
			}
		}
	}
	refusals := regexp.MustCompile("(?m)^\\| `(/[^`]*)` \\| `([^`]*)` \\|$").FindAllStringSubmatch(text, -1)
	for _, m := range refusals {
		if got, body, err := ask(http.MethodGet, m[1]); err != nil || got.StatusCode != http.StatusBadRequest || !strings.Contains(body, m[2]) {
			t.Errorf("GET %s: %v %s %q, want 400 with %q", m[1], err, got.Status, body, m[2])
		}
	}
	if examples < 5 || len(refusals) < 5 {
		t.Errorf("%d examples and %d refusals were found", examples, len(refusals))
	}
}
