package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// A three-day hole is found, filled with blocks, and proven filled: what Prometheus then
// holds is the truth, sample by sample. Nothing of the work stays.
func TestBackfillHoleToProof(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name             string
		server, promtool func(testing.TB) promtest.Tools
		all              bool
	}{
		{"newest", promtest.Find, promtest.Find, false},
		{"debian", promtest.Debian, promtest.Debian, false},
		{"newest with the oldest promtool", promtest.Find, promtest.Oldest, true},
		{"oldest", promtest.Oldest, promtest.Oldest, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.all {
				testkit.InAll(t)
			}
			t.Parallel()
			tools, promtool := tc.server(t), tc.promtool(t).Promtool
			a := newArchive(t, 6)
			from, to := a.start.AddDate(0, 0, 1), a.start.AddDate(0, 0, 4)
			p := a.prometheus(tools, 0, without(from, to))
			r := a.verify(p, 1)
			hole := int64(0)
			for _, samples := range a.truth {
				for at := range samples {
					if at >= from.UnixMilli() && at < to.UnixMilli() {
						hole++
					}
				}
			}
			if r.Store != a.size() || r.Differing["missing"] != hole || r.Equal != a.size()-hole || r.Differing["extra"]+r.Differing["different"] != 0 {
				t.Fatalf("the report is %+v; want %d samples of which %d are missing", r, a.size(), hole)
			}
			if len(r.Ranges) != 2*len(archiveZones) {
				t.Errorf("%d ranges, want one for each dataset and zone", len(r.Ranges))
			}
			for _, x := range r.Ranges {
				if x.Kind != "missing" || !x.Start.Equal(from) || !x.End.Equal(to) {
					t.Errorf("range %+v, want the hole from %s to %s", x, from, to)
				}
			}

			folder := filepath.Join(t.TempDir(), "export")
			code, out, _ := a.weir(p, "export", folder, "--start", from.Format(time.DateOnly), "--end", to.Format(time.DateOnly))
			if code != 0 || !strings.Contains(out, fmt.Sprintf("%d samples with the labels {instance=%q,job=%q}", hole, archiveInstance, archiveJob)) {
				t.Fatalf("export exits with %d", code)
			}
			load := []string{"import", folder, "--to", "blocks", "--data-dir", p.DataDir(), "--promtool", promtool}
			if code, out, _ := a.weir(p, append(load, "--dry-run")...); code != 0 || !strings.Contains(out, fmt.Sprintf("would load %d samples of 1 files", hole)) {
				t.Fatalf("import --dry-run exits with %d", code)
			}
			if code, _, _ := a.weir(p, load...); code != 0 {
				t.Fatalf("import exits with %d", code)
			}
			if code, out, _ := a.weir(p, load...); code != 0 || !strings.Contains(out, "all files have been loaded before") {
				t.Errorf("the second import exits with %d", code)
			}
			p.Restart() // it would load them within a minute
			testkit.Eventually(t, func() error { return a.holdsTruth(p, 0) })
			a.verify(p, 0)
			if code, _, _ := a.weir(nil, "clean", folder); code != 0 {
				t.Errorf("clean exits with %d", code)
			}
			if _, err := os.Stat(folder); !os.IsNotExist(err) {
				t.Errorf("%s is left: %v", folder, err)
			}
			if left, err := filepath.Glob(filepath.Join(p.DataDir(), ".weir*")); err != nil || len(left) > 0 {
				t.Errorf("the data folder has %v: %v", left, err)
			}
		})
	}
}

// A value that was changed in Prometheus and one that was deleted are both named, and so
// are a sample that the store never had, and a series beside the scraped one.
func TestBackfillVerifyNamesWhatDiffers(t *testing.T) {
	t.Parallel()
	a := newArchive(t, 1)
	at := func(h int) int64 { return a.start.Add(time.Duration(h)*time.Hour).UnixMilli() - 1 }
	const shop, blog = `account="Acme \"1\"",instance="weir.example:9810",job="weir",zone="shop.example"`, `account="Acme \"1\"",instance="weir.example:9810",job="weir",zone="blog.example"`
	truth := a.truth["cloudflare_zone_requests{"+shop+"}"][at(5)]
	next := truth * (1 + 1e-15) // one bit
	if next == truth {
		t.Fatal("the values do not differ")
	}
	whole := a.truth
	a.truth = map[string]map[int64]float64{}
	for series, samples := range whole {
		own := map[int64]float64{}
		for at, v := range samples {
			own[at] = v
		}
		a.truth[series] = own
	}
	a.truth["cloudflare_zone_requests{"+shop+"}"][at(5)] = next
	a.truth["cloudflare_zone_unique_visitors{"+shop+"}"][at(7)-60_000] = 1
	a.truth[`cloudflare_zone_requests{account="Acme \"1\"",instance="other:9810",job="weir",zone="docs.example"}`] = map[int64]float64{at(9): 4}
	a.truth[`cloudflare_zone_requests{account="Acme \"1\"",instance="weir.example:9810",job="weir",zone="unknown.example"}`] = map[int64]float64{at(3): 4}
	// What exposers have left out is not known, but that they have is.
	a.truth[`weir_exposer_replay_trimmed_windows{dataset="http_5m",job="weir-operations",role="breakdown"}`] = map[int64]float64{at(3): 2, at(4): 0}
	a.truth[`weir_exposer_replay_trimmed_windows{dataset="uniques_1h",job="weir-operations",role="total"}`] = map[int64]float64{at(3): 0}
	p := a.prometheus(promtest.Find(t), 0, func(series string, when int64) bool {
		return series != "cloudflare_zone_requests{"+blog+"}" || when != at(6)
	})
	a.truth = whole
	r := a.verify(p, 1)
	if want := "exposers left out windows of http_5m (breakdown) in this time"; len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], want) {
		t.Errorf("the notes are %q, want one with %q", r.Notes, want)
	}
	for kind, n := range map[string]int64{"missing": 1, "different": 1, "extra": 2, "parallel": 1} {
		if r.Differing[kind] != n {
			t.Errorf("%d samples are %s, want %d", r.Differing[kind], kind, n)
		}
	}
	for _, want := range []struct{ kind, zone, example string }{
		{"different", "shop.example", fmt.Sprintf("the store has %v, Prometheus %v", truth, next)},
		{"missing", "blog.example", `cloudflare_zone_requests{zone="blog.example",account="Acme \"1\""} at ` + time.UnixMilli(at(6)).UTC().Format("2006-01-02T15:04:05.000Z")},
		{"extra", "shop.example", "cloudflare_zone_unique_visitors{"},
		{"extra", "unknown.example", "Prometheus has 4, the store nothing"},
		{"parallel", "docs.example", "a further series has 4 at the same time"},
	} {
		found := false
		for _, x := range r.Ranges {
			found = found || x.Kind == want.kind && x.Zone == want.zone && strings.Contains(x.Example, want.example)
		}
		if !found {
			t.Errorf("no range is %s of %s with %q: %+v", want.kind, want.zone, want.example, r.Ranges)
		}
	}
	// What is left out is not compared, and nothing to compare is no success.
	if r := a.verify(p, 0, "--match", `instance="weir.example:9810"`, "--zone", "docs.example"); r.Equal == 0 {
		t.Error("nothing was compared of docs.example")
	}
	a.verify(p, 2, "--ignore-label", "job")
	a.verify(p, 2, "--zone", "nowhere.example")
	// An import over other values is refused.
	code, _, errs := a.weir(p, "import", "--to", "remote-write", "--remote-write-url", p.URL()+"/api/v1/write", "--start", a.start.Format(time.DateOnly), "--end", a.end.Format(time.DateOnly), "--job", archiveJob, "--instance", archiveInstance)
	if code != 1 || !strings.Contains(errs, "samples with other values") {
		t.Errorf("an import over other values exits with %d", code)
	}
}

// What would do harm is refused before anything is written, with the reason.
func TestBackfillRefusesHazards(t *testing.T) {
	t.Parallel()
	a := newArchive(t, 2)
	from, to := a.start.Add(6*time.Hour), a.start.Add(30*time.Hour)
	tools := promtest.Find(t)
	p := a.prometheus(tools, 0, without(from, to))
	folder := filepath.Join(t.TempDir(), "export")
	if code, _, _ := a.weir(p, "export", folder, "--start", from.Format(time.RFC3339), "--end", to.Format(time.RFC3339)); code != 0 {
		t.Fatalf("export exits with %d", code)
	}
	dir := p.DataDir()
	before := entries(t, dir)
	load := func(folder string, more ...string) []string {
		return append([]string{"import", folder, "--to", "blocks", "--data-dir", dir, "--promtool", tools.Promtool}, more...)
	}
	refused := func(what, want string, prom *promtest.Server, args ...string) {
		t.Helper()
		if code, out, errs := a.weir(prom, args...); code == 0 || !strings.Contains(errs, want) || strings.Contains(out, "loaded") {
			t.Errorf("%s: exit code %d, want an error with %q", what, code, want)
		}
	}

	refused("other labels", "would make series beside those that are scraped", p, "export", folder+"2", "--start", from.Format(time.RFC3339), "--end", to.Format(time.RFC3339), "--job", "other")
	refused("no labels", "labels job and instance are required", nil, "export", folder+"2", "--start", from.Format(time.RFC3339))
	refused("another export in the folder", "has another export", p, "export", folder, "--start", a.start.Format(time.RFC3339), "--end", to.Format(time.RFC3339))
	release, err := export.Hold(folder)
	if err != nil {
		t.Fatal(err)
	}
	refused("an export that is still at work", "folder "+folder+" is in use", p, "export", folder, "--start", from.Format(time.RFC3339), "--end", to.Format(time.RFC3339))
	refused("an export that is still at work", "folder "+folder+" is in use", p, load(folder)...)
	release()
	release, err = export.Hold(dir)
	if err != nil {
		t.Fatal(err)
	}
	refused("another import at work", "folder "+dir+" is in use", p, load(folder)...)
	release()
	refused("no data folder", "is not a data folder of Prometheus", p, "import", folder, "--to", "blocks", "--data-dir", t.TempDir(), "--promtool", tools.Promtool)
	refused("no promtool", "find promtool", p, "import", folder, "--to", "blocks", "--data-dir", dir, "--promtool", "no-such-promtool")

	// A Prometheus that keeps less than the range, and one whose memory may begin inside it.
	short := tools.Start(t, "scrape_configs: []\n", "--storage.tsdb.retention.time=1d")
	refused("the data folder of another server", "and --data-dir is "+dir, short, load(folder, "--dry-run")...)
	refused("retention", "and the receiver keeps samples for 1d: it would delete what was imported", short,
		"import", folder, "--to", "blocks", "--data-dir", short.DataDir(), "--promtool", tools.Promtool)
	early := a.prometheus(tools, 0, without(from, a.end))
	refused("memory", "a block that reaches into them makes it drop its own at the next restart", nil,
		"import", folder, "--to", "blocks", "--data-dir", early.DataDir(), "--promtool", tools.Promtool, "--offline")

	// The file is not what was exported.
	m := entries(t, folder)
	file := filepath.Join(folder, m[len(m)-1])
	whole := readFile(t, file)
	testkit.WriteFile(t, file, whole[:len(whole)-100])
	refused("cut off", "has changed since it was exported", p, load(folder)...)
	testkit.WriteFile(t, file, whole)
	if after := entries(t, dir); strings.Join(after, " ") != strings.Join(before, " ") {
		t.Errorf("the data folder has %v, before it had %v", after, before)
	}
	if code, _, _ := a.weir(p, load(folder)...); code != 0 {
		t.Errorf("what is right is refused: %d", code)
	}
}

// A comparison that is told to stop has not verified anything, and says so.
func TestBackfillVerifyInterrupted(t *testing.T) {
	t.Parallel()
	a := newArchive(t, 1)
	asked, end := make(chan struct{}, 100), make(chan struct{})
	stuck := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(end); stuck.Close() })
	cmd := command(t, program(t, "weir"), []string{"WEIR_COLLECTOR_ADDRESS=" + a.address, "WEIR_PROMETHEUS_URL=" + stuck.URL}, "backfill", "verify", "--start", a.start.Format(time.DateOnly))
	w := launch(t, "weir backfill verify", cmd)
	<-asked
	w.signal(syscall.SIGTERM)
	if code := w.wait(testkit.Patience).ExitStatus(); code != 2 {
		t.Errorf("the exit code is %d, want 2", code)
	}
	w.says("interrupted; run the same command again")
}
