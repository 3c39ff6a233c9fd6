package e2e

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
)

// pair is a collector on a SQLite file and an exposer, in virtual time and connected in memory.
type pair struct {
	t                  *testing.T
	sim                *cfsim.Server
	collector, exposer *prometheus.Registry
	data               *bufconn.Listener
	began              time.Time
}

// inPair runs a story of both. Its time passes as the story sleeps.
func inPair(t *testing.T, began time.Time, sim func() cfsim.Config, change func(*collector.Config), story func(p *pair)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "weir.db")
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(began))
		p := &pair{
			t: t, sim: cfsimtest.New(t, sim()), collector: prometheus.NewRegistry(), exposer: prometheus.NewRegistry(),
			data: bufconn.Listen(1 << 20), began: began,
		}
		var c collector.Config
		cli.Defaults(c.Settings())
		c.Token, c.CloudflareURL, c.Simulated, c.SQLiteFile = cli.NewSecret(cfsim.DemoToken), "http://127.0.0.1:1"+cfsim.Prefix, true, file
		change(&c)
		quiet, ports := slog.New(slog.DiscardHandler), bufconn.Listen(1<<20)
		collecting, err := collector.New(t.Context(), c, collector.Deps{
			Clock: clock.System(), BudgetClock: clock.System(), Transport: cfsimtest.Transport(p.sim),
			GRPC: ports, Ops: bufconn.Listen(1 << 16), Logger: quiet, Registry: p.collector,
		})
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient("passthrough:///collector", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ports.DialContext(ctx) }))
		if err != nil {
			t.Fatal(err)
		}
		var x exposer.Config
		cli.Defaults(x.Settings())
		x.Drain = time.Second
		exposing, err := exposer.New(x, exposer.Deps{
			Clock: clock.System(), Logger: quiet, Conn: conn, Data: p.data, Ops: bufconn.Listen(1 << 16), Registry: p.exposer,
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		go func() { ended <- collecting.Run(ctx) }()
		go func() { ended <- exposing.Run(ctx) }()
		story(p)
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
}

// until lets time pass up to so long after the beginning.
func (p *pair) until(d time.Duration) { time.Sleep(time.Until(p.began.Add(d))) }

// scrape is the lines of samples of /metrics.
func (p *pair) scrape() (lines []string) {
	p.t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return p.data.DialContext(ctx) },
	}}
	r, err := client.Get("http://exposer/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		p.t.Fatalf("/metrics answers %d: %v %.300s", r.StatusCode, err, body)
	}
	for line := range bytes.Lines(body) {
		if line[0] != '#' {
			lines = append(lines, string(bytes.TrimSpace(line)))
		}
	}
	return lines
}

// values are those of a metric, by its labels.
func values(t *testing.T, of prometheus.Gatherer, name string) map[string]float64 {
	t.Helper()
	families, err := of.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			out[strings.Join(labels, " ")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

// Sixty zones of all plans with the default datasets: over a round of pages every final bucket of a
// day is served, in bodies below the soft limit, and nothing is left out of them.
func TestSixtyZonesServeTheirReplay(t *testing.T) {
	t.Parallel()
	const zones = 60
	inPair(t, time.Date(2026, time.June, 20, 11, 58, 0, 0, time.UTC), func() cfsim.Config {
		return cfsim.Sized(clock.System(), 7, zones, cfsim.Plans())
	}, func(c *collector.Config) { c.Lookback = 24 * time.Hour }, func(p *pair) {
		p.until(40 * time.Minute) // the day has been caught up
		most, shown := 0, map[string]map[string]bool{}
		var soft exposer.Config
		cli.Defaults(soft.Settings())
		for at := 40 * time.Minute; at < 2*time.Hour; at += 5 * time.Minute {
			p.until(at)
			lines := p.scrape()
			most = max(most, len(lines))
			for _, line := range lines {
				series, rest, _ := strings.Cut(line, "} ")
				if strings.HasPrefix(series, "cloudflare_zone_requests{") {
					if shown[series] == nil {
						shown[series] = map[string]bool{}
					}
					_, stamp, _ := strings.Cut(rest, " ")
					shown[series][stamp] = true
				}
			}
			for role, n := range values(t, p.exposer, "weir_exposer_replay_trimmed_windows") {
				if n > 0 {
					t.Errorf("%v: %g windows of %s are left out", at, n, role)
				}
			}
		}
		t.Logf("%d zones: at most %d samples, %d series of totals", zones, most, len(shown))
		if most > soft.SoftSamples || most < zones*100 {
			t.Errorf("a body has %d samples, the soft limit is %d", most, soft.SoftSamples)
		}
		whole := 0
		for _, stamps := range shown {
			if len(stamps) >= 24*12 {
				whole++
			}
		}
		if whole < zones-1 { // one has no traffic at all
			t.Errorf("a day of %d zones was served, want %d", whole, zones-1)
		}
	})
}
