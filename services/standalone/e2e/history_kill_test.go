package e2e

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// Each step of a backfill behind fetch is killed at random moments and run again. At the end
// the files are those of an export that nobody killed, what the receivers hold is the truth,
// and nothing of the work is left. TestBinaryFetchIsContinuedAfterAKill kills fetch; plan and
// status leave nothing behind.
func TestBackfillIsContinuedAfterAKill(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	kills := 2
	if testkit.All() {
		kills = 12
	}
	tools := promtest.Find(t)
	a := newArchive(t, 3)
	from, to := a.start.Add(6*time.Hour), a.start.Add(54*time.Hour)
	p := a.prometheus(tools, 0, without(from, to))
	of := func(args ...string) []string {
		return append(args, "--start", from.Format(time.RFC3339), "--end", to.Format(time.RFC3339))
	}

	whole, folder := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "export")
	began := time.Now()
	if code, _, _ := a.weir(p, of("export", whole)...); code != 0 {
		t.Fatalf("export exits with %d", code)
	}
	a.kill(r, p, kills, time.Since(began)/2, of("export", folder)...)
	for _, e := range entries(t, whole) {
		want, got := readFile(t, filepath.Join(whole, e)), readFile(t, filepath.Join(folder, e))
		if string(want) != string(got) {
			t.Errorf("%s differs from that of an export that was not killed", e)
		}
	}
	if len(entries(t, whole)) != len(entries(t, folder)) {
		t.Errorf("the export has %v, want %v", entries(t, folder), entries(t, whole))
	}

	load := []string{"import", folder, "--to", "blocks", "--data-dir", p.DataDir(), "--promtool", tools.Promtool}
	a.kill(r, p, kills, 3*time.Second, load...)
	p.Restart()
	testkit.Eventually(t, func() error { return a.holdsTruth(p, 0) })
	a.kill(r, p, kills, time.Second, of("verify", "--findings", filepath.Join(t.TempDir(), "findings"))...)
	clean := launch(t, "weir backfill clean", command(t, program(t, "weir"), a.environment(nil), "backfill", "clean", folder))
	select {
	case <-time.After(time.Duration(r.Int64N(int64(100 * time.Millisecond)))):
		clean.kill()
	case <-clean.exited:
	}
	if _, err := os.Stat(folder); err == nil { // it was killed before its end
		if code, _, _ := a.weir(nil, "clean", folder); code != 0 {
			t.Errorf("clean exits with %d", code)
		}
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}

	p = a.prometheus(tools, 120*time.Hour, without(from, to))
	a.kill(r, p, kills, 2*time.Second, of("import", "--to", "remote-write", "--remote-write-url", p.URL()+"/api/v1/write")...)
	if err := a.holdsTruth(p, 0); err != nil {
		t.Error(err)
	}

	_, flags := promtest.ShippedVictoria(t)
	v := promtest.FindVictoria(t).Start(t, "scrape_configs: []\n", append(flags, "-retentionPeriod=60d")...)
	post(t, v.URL()+"/api/v1/import/prometheus", a.openMetrics(without(from, to)))
	get(t, v.URL()+"/internal/force_flush")
	a.kill(r, v, kills, 2*time.Second, of("import", "--to", "victoriametrics")...)
	get(t, v.URL()+"/internal/force_flush")
	testkit.Eventually(t, func() error { return a.holdsTruth(v, 1e-12) })
}

// kill runs "weir backfill …" and kills it after a random time, so many times, and then runs
// it to its end. A run that ends before it is killed says how long one lasts.
func (a *archive) kill(r *rand.Rand, p *promtest.Server, kills int, within time.Duration, args ...string) {
	a.t.Helper()
	killed := 0
	for range 20 * kills {
		if killed == kills {
			break
		}
		began := time.Now()
		cmd := command(a.t, program(a.t, "weir"), a.environment(p), append([]string{"backfill"}, args...)...)
		w := launch(a.t, "weir backfill", cmd)
		timer := time.NewTimer(time.Duration(r.Int64N(int64(within))))
		select {
		case <-timer.C:
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				a.t.Fatal(err)
			}
			killed++
			<-w.exited
		case <-w.exited:
			timer.Stop()
			if code := cmd.ProcessState.ExitCode(); code != 0 {
				a.t.Fatalf("weir backfill %s exits with %d: %s", strings.Join(args, " "), code, w.log)
			}
			within = max(time.Since(began)/2, time.Millisecond)
		}
	}
	if code, _, _ := a.weir(p, args...); code != 0 {
		a.t.Fatalf("after %d kills weir backfill %s exits with %d", killed, strings.Join(args, " "), code)
	}
	if killed < kills {
		a.t.Errorf("weir backfill %s was killed %d times, want %d", args[0], killed, kills)
	}
}

func entries(t *testing.T, folder string) (names []string) {
	t.Helper()
	all, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
