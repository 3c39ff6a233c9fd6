package standalone_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/standalone"
)

// commands runs the program against a collector. The commands print to the process's stdout,
// as operators get it.
type commands struct {
	t       *testing.T
	environ []string
}

var stdout sync.Mutex // of the process, which one command has at a time

func (c *commands) run(ctx context.Context, args ...string) (out string, stderr string, code int) {
	c.t.Helper()
	stdout.Lock()
	defer stdout.Unlock()
	r, w, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	before := os.Stdout
	os.Stdout = w
	read := make(chan string)
	go func() {
		all, _ := io.ReadAll(r)
		read <- string(all)
	}()
	var errs bytes.Buffer
	code = cli.Program{Name: "weir", Commands: standalone.Commands(), Stderr: &errs, Environ: c.environ}.Main(ctx, args)
	os.Stdout = before
	_ = w.Close() // the other end reads until then
	return <-read, errs.String(), code
}

// startCollector runs a collector of a simulated Cloudflare, and returns commands for it.
func startCollector(t *testing.T) *commands {
	t.Helper()
	clk := clock.System()
	conf := cfsim.Demo(clk, 1)
	conf.Zones = conf.Zones[:2]
	sim, err := cfsim.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	var config collector.Config
	cli.Defaults(config.Settings())
	config.Token, config.Simulated, config.GRPCAdminToken = cli.NewSecret(cfsim.DemoToken), true, cli.NewSecret("operators-only-0123456789abcdef")
	config.SQLiteFile, config.Lookback = filepath.Join(t.TempDir(), "weir.db"), time.Hour
	feed := testkit.Listen(t)
	col, err := collector.New(t.Context(), config, collector.Deps{
		Logger: testkit.Logger(t), GRPC: feed, Ops: testkit.Listen(t), Transport: cfsimtest.Transport(sim),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- col.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &commands{t, []string{"WEIR_COLLECTOR_ADDRESS=" + feed.Addr().(*net.TCPAddr).String(), "WEIR_COLLECTOR_TOKEN=operators-only-0123456789abcdef"}}
}

// An operator plans, fetches, looks, and repeats each step, against a real collector.
func TestWeirBackfillFetch(t *testing.T) {
	ctx := t.Context()
	c := startCollector(t)
	start := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -2).Format(time.RFC3339)
	end := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1).Format(time.RFC3339)
	what := []string{"--start", start, "--end", end, "--zone", "shop.example", "--dataset", "http_5m,uniques_1h"}

	testkit.Eventually(t, func() error { // once the zones are listed and their settings read
		out, stderr, code := c.run(ctx, append([]string{"backfill", "plan"}, what...)...)
		if code != cli.ExitOK || !strings.Contains(out, "312: 0 final, 312 missing, 0 refused") {
			return errors.New(out + stderr)
		}
		if !strings.Contains(out, "nobody has wanted it yet") || !strings.Contains(out, "requests  1\n") {
			t.Errorf("the plan is\n%s", out)
		}
		return nil
	})
	if _, stderr, code := c.run(ctx, "backfill", "plan", "--start", start, "--zone", "shop.exampel"); code != cli.ExitError || !strings.Contains(stderr, `no zone is named "shop.exampel"`) {
		t.Errorf("an unknown zone: %d, %s", code, stderr)
	}
	if _, stderr, code := c.run(ctx, append([]string{"backfill", "fetch"}, what...)...); code != cli.ExitUsage || !strings.Contains(stderr, "--reason") {
		t.Errorf("without a reason: %d, %s", code, stderr)
	}
	fetch := append([]string{"backfill", "fetch", "--reason", "a test", "--requester", "ada", "--output", "json"}, what...)
	detached, stderr, code := c.run(ctx, append(fetch, "--detach")...)
	var created, done struct {
		ID      string `json:"id"`
		State   string `json:"state"`
		Windows struct {
			Filled  string `json:"filled"`
			Missing string `json:"missing"`
		} `json:"windows"`
	}
	if err := json.Unmarshal([]byte(detached), &created); err != nil || code != cli.ExitOK {
		t.Fatalf("fetch: %v, %d, %s%s", err, code, detached, stderr)
	}
	// The same command follows the same backfill.
	out, stderr, code := c.run(ctx, fetch...)
	if err := json.Unmarshal([]byte(out), &done); err != nil || code != cli.ExitOK {
		t.Fatalf("fetch again: %v, %d, %s%s", err, code, out, stderr)
	}
	if done.ID != created.ID || done.State != "BACKFILL_STATE_DONE" || done.Windows.Filled != "312" || done.Windows.Missing != "0" {
		t.Errorf("fetched %+v after %+v", done, created)
	}
	if out, stderr, code := c.run(ctx, "backfill", "status"); code != cli.ExitOK || !strings.Contains(out, created.ID+"  done") {
		t.Errorf("status: %d, %s%s", code, out, stderr)
	}
	if out, stderr, code := c.run(ctx, "backfill", "status", created.ID); code != cli.ExitOK || !strings.Contains(out, "312: 0 present before, 312 filled") {
		t.Errorf("status of one: %d, %s%s", code, out, stderr)
	}
	for _, name := range []string{"pause", "resume", "cancel"} {
		if _, stderr, code := c.run(ctx, "backfill", name, created.ID, "--reason", "too late"); code != cli.ExitError || !strings.Contains(stderr, "has ended") {
			t.Errorf("%s what has ended: %d, %s", name, code, stderr)
		}
	}
	// Ctrl-C ends the following, not the backfill.
	interrupted, cancel := context.WithCancel(ctx)
	cancel()
	_, stderr, code = c.run(interrupted, "backfill", "fetch", "--resume", created.ID)
	if code != 4 || !strings.Contains(stderr, "goes on in the collector") || !strings.Contains(stderr, "weir backfill cancel "+created.ID+" --reason ") {
		t.Errorf("an interrupted fetch ends with %d: %s", code, stderr)
	}
	// What Cloudflare does not have is an incomplete backfill.
	old := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -80).Format(time.RFC3339)
	oldEnd := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -78).Format(time.RFC3339)
	out, stderr, code = c.run(ctx, "backfill", "fetch", "--reason", "older", "--start", old, "--end", oldEnd, "--zone", "shop.example", "--dataset", "http_5m")
	if code != 3 || !strings.Contains(out, "CLOUDFLARE_RETENTION: Cloudflare keeps") {
		t.Errorf("a range that Cloudflare does not have: %d\n%s%s", code, out, stderr)
	}
}

// A Prometheus without samples is not verified while all samples are pending.
func TestVerifyAnEmptyPrometheus(t *testing.T) {
	c := startCollector(t)
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/query" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, `{"status":"success","data":{"resultType":"matrix","result":[]}}`)
	}))
	t.Cleanup(empty.Close)
	c.environ = append(c.environ, "WEIR_PROMETHEUS_URL="+empty.URL)
	start := time.Now().UTC().Add(-2 * time.Hour).Format(time.RFC3339)
	testkit.Eventually(t, func() error { // once there is something in the store
		out, stderr, code := c.run(t.Context(), "backfill", "verify", "--start", start)
		if !strings.Contains(out, "result: not verified: all ") || !strings.Contains(out, "samples are pending until ") || code != 2 {
			return fmt.Errorf("exit code %d: %s%s", code, out, stderr)
		}
		return nil
	})
}
