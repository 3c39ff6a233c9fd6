package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
	"github.com/weir-metrics/weir/services/standalone/truth"
)

// world is everything outside Weir: time, Cloudflare, Prometheus.
type world struct {
	t      *testing.T
	clock  clock.Clock
	began  time.Time
	sim    *cfsim.Server
	simURL string
	zones  []truth.Zone
	// lookback is the history that zones get; short enough for every window to
	// be in the replay when Prometheus comes for the first time.
	lookback time.Duration
	// adminToken is that of operators; empty: nobody has admin access.
	adminToken string
	profile    string            // of datasets; empty: the default one
	ops        map[string]string // operations listeners, by process
}

// newWorld starts a clock back hours ago at the given speed and a simulated
// Cloudflare on it.
func newWorld(t *testing.T, back time.Duration, speed float64, faults func(began time.Time) []cfsim.Fault) *world {
	t.Helper()
	w := &world{t: t, began: time.Now().Add(-back).UTC().Truncate(time.Second)}
	w.clock = clock.Chasing(w.began, speed)
	w.simulate(back, faults)
	return w
}

// newWorldAtNow is a world in step with the machine's clock.
func newWorldAtNow(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, began: time.Now().UTC(), clock: clock.System()}
	w.simulate(time.Hour, nil)
	return w
}

// simulate starts the simulated Cloudflare. One zone is created after a third
// of the time.
func (w *world) simulate(back time.Duration, faults func(began time.Time) []cfsim.Fault) {
	t := w.t
	t.Helper()
	w.lookback = 30 * time.Minute
	c := cfsim.Demo(w.clock, 7)
	added := cfsim.Zone{
		ID: cfsim.Tag("zone:added.example"), Name: "added.example", Account: c.Accounts[1].ID, Plan: cfsim.Business,
		Created: w.began.Add(back / 3).Truncate(time.Minute), Traffic: c.Zones[1].Traffic,
	}
	c.Zones = append(c.Zones, added)
	if faults != nil {
		c.Faults = faults(w.began)
	}
	w.serve(c)
}

// serve starts a simulated Cloudflare.
func (w *world) serve(c cfsim.Config) {
	w.t.Helper()
	w.sim = cfsimtest.New(w.t, c)
	w.zones = stories(c)
	w.simURL = cfsimtest.Start(w.t, w.sim)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// until waits for the clock to reach a time so long after the beginning.
func (w *world) until(d time.Duration) {
	w.t.Helper()
	if err := w.clock.WaitUntil(w.t.Context(), w.began.Add(d)); err != nil {
		w.t.Fatal(err)
	}
}

// actor is a part of Weir that can be stopped and started again.
type actor struct {
	t      *testing.T
	name   string
	run    func(context.Context) error
	cancel context.CancelFunc
	done   chan error
}

func (a *actor) start() {
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel, a.done = cancel, make(chan error, 1)
	go func() { a.done <- a.run(ctx) }()
}

func (a *actor) stop() {
	a.t.Helper()
	if a.cancel == nil {
		return
	}
	a.cancel()
	a.cancel = nil
	select {
	case err := <-a.done:
		if err != nil {
			a.t.Errorf("%s ended with: %v", a.name, err)
		}
	case <-time.After(testkit.Patience):
		a.t.Fatalf("%s did not stop within %s", a.name, testkit.Patience)
	}
}

// startActor starts and stops with the test.
func startActor(t *testing.T, name string, run func(context.Context) error) *actor {
	a := &actor{t: t, name: name, run: run}
	a.start()
	t.Cleanup(a.stop)
	return a
}

// address is a loopback address that nobody has now and that a restarted process can take again.
func address(t *testing.T) string {
	t.Helper()
	return testkit.Address(t)
}

// free waits until nobody listens on addresses. A listener that this process has closed lives on
// for an instant in a child that another goroutine has forked and that has not begun its program.
func free(addresses ...string) error {
	return testkit.Poll(testkit.Patience, func() error {
		for _, a := range addresses {
			l, err := net.Listen("tcp", a)
			if err != nil {
				return fmt.Errorf("an address of a process that was stopped: %w", err)
			}
			_ = l.Close()
		}
		return nil
	})
}

// collectorConfig is the default one, pointed at the simulator.
func (w *world) collectorConfig(name, dsn string) collector.Config {
	var c collector.Config
	cli.Defaults(c.Settings())
	c.Token, c.CloudflareURL, c.Simulated = cli.NewSecret(cfsim.DemoToken), w.simURL, true
	c.Holder, c.Lookback, c.Drain = name, w.lookback, 2*time.Second
	if dsn != "" {
		c.DatabaseURL, c.Migrate = cli.NewSecret(dsn), true
	}
	c.SQLiteFile = filepath.Join(w.t.TempDir(), "weir.db")
	if w.profile != "" {
		c.Profile = w.profile
	}
	if w.adminToken != "" {
		c.GRPCAdminToken = cli.NewSecret(w.adminToken)
	}
	return c
}

func exposerConfig(collectors ...string) exposer.Config {
	var x exposer.Config
	cli.Defaults(x.Settings())
	x.Collector.Addresses, x.Drain = collectors, 100*time.Millisecond
	return x
}

// opsAddress reserves the address of a process's operations listener.
func (w *world) opsAddress(name string) string {
	if w.ops == nil {
		w.ops = map[string]string{}
	}
	w.ops[name] = address(w.t)
	return w.ops[name]
}

// startCollector starts a collector that serves on a fixed address. Where the
// store is away at start, it tries again, as its supervisor would.
func (w *world) startCollector(name, dsn, listen string) *actor {
	config := w.collectorConfig(name, dsn)
	config.Listen, config.OpsListen = listen, w.opsAddress(name)
	log := testkit.Logger(w.t).With("process", name)
	return startActor(w.t, name, func(ctx context.Context) error {
		if err := free(config.Listen, config.OpsListen); err != nil {
			return err
		}
		c, err := collector.New(ctx, config, collector.Deps{Clock: w.clock, BudgetClock: w.clock, Logger: log})
		if err != nil {
			return fmt.Errorf("start: %w", err)
		}
		return c.Run(ctx)
	})
}

func (w *world) startExposer(name, listen string, collectors ...string) *actor {
	config := exposerConfig(collectors...)
	config.Listen, config.OpsListen = listen, w.opsAddress(name)
	log := testkit.Logger(w.t).With("process", name)
	return startActor(w.t, name, func(ctx context.Context) error {
		if err := free(config.Listen, config.OpsListen); err != nil {
			return err
		}
		x, err := exposer.New(config, exposer.Deps{Clock: w.clock, Logger: log, Backoff: client.Backoff{Min: 20 * time.Millisecond, Max: 500 * time.Millisecond}})
		if err != nil {
			return fmt.Errorf("start: %w", err)
		}
		return x.Run(ctx)
	})
}

// rounds are the parameters of a scrape that asks for one round after another.
var rounds = map[string][]string{"round": {"5m"}}

// prometheusConfig is the shipped configuration with other targets, an
// out-of-order window that reaches back to where the clock began, and an
// interval in which no clock passes a turn of the carousel. Where the clock began long
// ago, one round follows another: a test lasts less than half a day. A second target,
// Prometheus itself, keeps the head of the database at the machine's now.
func prometheusConfig(t *testing.T, window time.Duration, targets ...string) string {
	t.Helper()
	shipped := testkit.RepoFile(t, "deploy/prometheus/prometheus.yml")
	var config struct {
		Storage map[string]map[string]any `yaml:"storage"`
		Scrape  []map[string]any          `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(shipped, &config); err != nil {
		t.Fatal(err)
	}
	config.Storage["tsdb"]["out_of_order_time_window"] = fmt.Sprintf("%ds", int(window.Seconds()))
	job := config.Scrape[0]
	if job["job_name"] != "weir" {
		t.Fatalf("the shipped configuration's first job is %v, want weir", job["job_name"])
	}
	job["scrape_interval"], job["scrape_timeout"] = "500ms", "500ms"
	if window > 30*time.Hour {
		job["params"] = rounds
	}
	job["static_configs"] = []any{map[string]any{"targets": targets}}
	config.Scrape = []map[string]any{job, {
		"job_name": "self", "scrape_interval": "1s", "static_configs": []any{map[string]any{"targets": []string{"PROMETHEUS"}}},
	}}
	out, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// startPrometheus starts Prometheus with that configuration.
func startPrometheus(t *testing.T, window time.Duration, targets ...string) *promtest.Server {
	t.Helper()
	return startPrometheusOf(t, promtest.Find(t), window, targets...)
}

// startPrometheusOf does the same with the Prometheus of one's choice.
func startPrometheusOf(t *testing.T, tools promtest.Tools, window time.Duration, targets ...string) *promtest.Server {
	t.Helper()
	return startPrometheusAs(t, tools, prometheusConfig(t, window, targets...), len(targets))
}

// startPrometheusAs does the same with a configuration of so many targets and PROMETHEUS itself.
func startPrometheusAs(t *testing.T, tools promtest.Tools, config string, targets int) *promtest.Server {
	t.Helper()
	p := tools.Start(t, strings.ReplaceAll(config, "PROMETHEUS", "127.0.0.1:1"))
	p.Reload(strings.ReplaceAll(config, "PROMETHEUS", strings.TrimPrefix(p.URL(), "http://")))
	// Discovering targets takes seconds, in which a fast clock would run on.
	testkit.Eventually(t, func() error {
		if len(p.Targets()) < targets+1 || target(p).LastScrape.IsZero() {
			return constError("Prometheus has not tried its targets yet")
		}
		return nil
	})
	return p
}

// held is what Prometheus has stored of Weir's families.
func held(t *testing.T, p *promtest.Server, since time.Time) map[truth.Point]float64 {
	t.Helper()
	out := map[truth.Point]float64{}
	for _, s := range p.Samples(`{__name__=~"cloudflare_.*"}`, since, time.Now()) {
		f, known := truth.Families[s.Labels["__name__"]]
		if !known {
			t.Fatalf("Prometheus holds a family that nothing is known of: %s", s.Name())
		}
		for _, sample := range s.Samples {
			p := truth.Of(s.Labels["__name__"], s.Labels["zone"], s.Labels["account"], s.Labels[f.Label], sample.Time.Add(time.Millisecond))
			if _, twice := out[p]; twice {
				t.Fatalf("Prometheus holds two series for %s", p)
			}
			out[p] = sample.Value
		}
	}
	return out
}

// quiet checks that Prometheus has nothing to complain about.
func quiet(t *testing.T, p *promtest.Server) {
	t.Helper()
	for _, complaint := range complaints(p) {
		t.Error(complaint)
	}
	for _, target := range p.Targets() {
		if target.Health != "up" {
			t.Errorf("target %s is %s: %s", target.ScrapeURL, target.Health, target.LastError)
		}
	}
}

// complaints are what Prometheus has counted against what it was given.
func complaints(p *promtest.Server) (out []string) {
	for _, name := range []string{
		"prometheus_target_scrapes_sample_out_of_bounds_total", "prometheus_target_scrapes_sample_out_of_order_total",
		"prometheus_target_scrapes_sample_duplicate_timestamp_total", "prometheus_target_scrapes_exceeded_sample_limit_total",
		"prometheus_tsdb_too_old_samples_total",
	} {
		if n := p.Own(name); n != 0 {
			out = append(out, fmt.Sprintf("%s is %v", name, n))
		}
	}
	return out
}

// get fetches a page of Weir that must be there.
func get(t *testing.T, url string) (int, http.Header, []byte) {
	t.Helper()
	status, header, body, err := fetch(url)
	if err != nil {
		t.Fatal(err)
	}
	return status, header, body
}

// fetch fetches a page of Weir that may not be served yet.
func fetch(url string) (int, http.Header, []byte, error) {
	response, err := http.Get(url)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, body, err
}
