package kube

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/scenario"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone/truth"
)

// Tokens of testdata/world.yaml, and one that nobody knows.
const (
	firstToken   = "first-token-0123456789abcdef0123456789abcd"
	secondToken  = "second-token-0123456789abcdef0123456789abc"
	unknownToken = "unknown-token-0123456789abcdef0123456789ab"
)

// Minutes are collected and shown instead of five minutes, so that many windows pass
// during a test.
const common = `
cloudflare: {tokenSecret: {name: cloudflare}}
collector:
  settings:
    WEIR_CLOUDFLARE_URL: http://cloudflare.%[1]s.svc:9830/client/v4
    WEIR_INITIAL_LOOKBACK: 30m
    CF_BUCKET_SECONDS: 60
    CF_DELAY_SECONDS: 60
`

// round is more than the exposers' round takes: with minutes and an hour of replay they show
// the ten newest windows always, and each of four pages of older ones for five minutes.
const round = 25 * time.Minute

// world is what runs beside a release, and what is known to be true of it.
type world struct {
	*namespace
	sim   *cfsim.Server // the twin of the pod, for its truth
	zones []truth.Zone
	seen  time.Time // when the zones have been listed, at the latest
}

// newWorld starts the simulated Cloudflare.
func newWorld(t *testing.T, name string) *world {
	t.Helper()
	w := &world{namespace: newNamespace(t, name)}
	text, err := os.ReadFile("testdata/world.yaml")
	if err != nil {
		t.Fatal(err)
	}
	config, err := scenario.Read(text, clock.System())
	if err != nil {
		t.Fatal(err)
	}
	if w.sim, err = cfsim.New(config); err != nil {
		t.Fatal(err)
	}
	accounts := map[string]string{}
	for _, a := range config.Accounts {
		accounts[a.ID] = a.Name
	}
	for _, z := range config.Zones {
		w.zones = append(w.zones, truth.Zone{Zone: z, AccountName: accounts[z.Account], From: time.Now().Add(-2 * time.Hour)})
	}
	w.step("simulated Cloudflare")
	w.k("create", "configmap", "world", "--from-file=testdata/world.yaml")
	neighbours, err := os.ReadFile("testdata/neighbours.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w.apply(strings.ReplaceAll(string(neighbours), "IMAGE", w.image()))
	w.k("rollout", "status", "deployment/cloudflare", "--timeout=5m")
	return w
}

// image is the image of weir that the chart uses without further values.
func (w *world) image() string {
	w.t.Helper()
	text, err := os.ReadFile(chart + "/Chart.yaml")
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if version, found := strings.CutPrefix(line, "appVersion: "); found {
			return "docker.io/weir/weir:" + strings.TrimSpace(version)
		}
	}
	w.t.Fatal("Chart.yaml has no appVersion")
	return ""
}

// startPrometheus starts a Prometheus with the scrape jobs that the install notes of the
// release have, of which so many operations ports are targets.
func (w *world) startPrometheus(operations int) *promtest.Server {
	w.t.Helper()
	jobs, err := printedJobs(w.helm("get", "notes", "weir"))
	if err != nil {
		w.t.Fatal(err)
	}
	// It scrapes itself, as the configuration does that it comes with.
	jobs = strings.TrimRight(jobs, "\n") + "\n  - job_name: prometheus\n    static_configs: [{targets: ['127.0.0.1:9090']}]\n"
	w.k("create", "configmap", "prometheus", "--from-literal=prometheus.yml="+jobs)
	w.k("scale", "deployment/prometheus", "--replicas=1")
	w.k("rollout", "status", "deployment/prometheus", "--timeout=5m")
	url := w.service("prometheus", 9090)
	w.says(url+"/-/ready", 200, "") // a Service follows its pods by up to a second
	p := promtest.At(w.t, strings.TrimPrefix(url, "http://"))
	testkit.Eventually(w.t, func() error {
		targets := p.Targets()
		for _, target := range targets {
			if target.Health != "up" {
				return fmt.Errorf("%s is %s: %s", target.ScrapeURL, target.Health, target.LastError)
			}
		}
		// Replay, counters, each operations port, itself.
		if want := 3 + operations; len(targets) != want {
			return fmt.Errorf("Prometheus has %d targets, want %d", len(targets), want)
		}
		return nil
	})
	return p
}

// printedJobs is the configuration of Prometheus in the install notes.
func printedJobs(notes string) (string, error) {
	_, rest, found := strings.Cut(notes, "Add to the configuration of Prometheus:\n\n")
	if !found {
		return "", fmt.Errorf("the notes have no configuration of Prometheus:\n%s", notes)
	}
	block, _, _ := strings.Cut(rest, "\n\n")
	var out strings.Builder
	for line := range strings.Lines(block) {
		text, indented := strings.CutPrefix(line, "     ")
		if !indented {
			return "", fmt.Errorf("the configuration in the notes has the line %q", line)
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

// postgres is a database at the node's address, with its URL for pods.
func (w *world) postgres() (server *pgtest.Server, url string) {
	w.t.Helper()
	server = pgtest.Start(w.t, "listen_addresses=127.0.0.1,"+nodeIP, "fsync=on", "full_page_writes=on")
	server.Authenticate("host all all 127.0.0.1/32 trust", "host all all 10.0.0.0/8 scram-sha-256")
	dsn := server.DSN()
	pgtest.Exec(w.t, dsn, "CREATE ROLE weir LOGIN PASSWORD 'wide-open'")
	pgtest.Exec(w.t, dsn, "GRANT CREATE ON SCHEMA public TO weir")
	url = strings.Replace(dsn, "postgres@127.0.0.1", "weir:wide-open@"+nodeIP, 1)
	if url == dsn {
		w.t.Fatalf("the database's URL is %s, which is not as expected", dsn)
	}
	return server, url
}

// holdsTruth waits until Prometheus holds every minute from one time to another, and
// compares all that it holds with what happened. What became final late, in the first
// catch-up or after an outage, comes with its page.
func (w *world) holdsTruth(p *promtest.Server, from, until time.Time) {
	w.t.Helper()
	families := truth.Minutes()
	for i := range w.zones {
		w.zones[i].Must = from
	}
	want, err := truth.ExpectedOf(families, w.sim, w.zones, until)
	if err != nil {
		w.t.Fatal(err)
	}
	// An hour is shown when it has ended, with others in turn.
	for point := range want.Must {
		if families[point.Family()].Size() > time.Minute {
			delete(want.Must, point)
		}
	}
	var got map[truth.Point]float64
	err = testkit.Poll(round, func() error {
		time.Sleep(time.Second)
		got = w.held(p)
		if missing := truth.Missing(got, want.Must); len(missing) > 0 {
			return fmt.Errorf("%d samples are missing, the first %s, the last %s", len(missing), missing[0], missing[len(missing)-1])
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
	wrong := want.Wrong(got, until)
	for _, text := range wrong[:min(10, len(wrong))] {
		w.t.Error(text)
	}
	w.t.Logf("%d samples compared with the truth, of which %d had to be there; %d are wrong", len(got), len(want.Must), len(wrong))
	if len(want.Must) < 300 {
		w.t.Errorf("only %d samples were expected: the test has lost its subject", len(want.Must))
	}
	for _, name := range []string{
		"prometheus_target_scrapes_sample_out_of_bounds_total", "prometheus_target_scrapes_sample_out_of_order_total",
		"prometheus_target_scrapes_sample_duplicate_timestamp_total", "prometheus_tsdb_too_old_samples_total",
	} {
		if n := p.Own(name); n != 0 {
			w.t.Errorf("%s is %v", name, n)
		}
	}
}

// held is what Prometheus has stored of the replay.
func (w *world) held(p *promtest.Server) map[truth.Point]float64 {
	w.t.Helper()
	out := map[truth.Point]float64{}
	for _, s := range p.Samples(`{__name__=~"cloudflare_.*",job="weir"}`, time.Now().Add(-50*time.Hour), time.Now()) {
		f, known := truth.Families[s.Labels["__name__"]]
		if !known {
			w.t.Fatalf("Prometheus holds a family that nothing is known of: %s", s.Name())
		}
		for _, sample := range s.Samples {
			point := truth.Of(s.Labels["__name__"], s.Labels["zone"], s.Labels["account"], s.Labels[f.Label], sample.Time.Add(time.Millisecond))
			if _, twice := out[point]; twice {
				w.t.Fatalf("Prometheus holds two series for %s", point)
			}
			out[point] = sample.Value
		}
	}
	return out
}
