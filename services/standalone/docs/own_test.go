package docs

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
	"github.com/weir-metrics/weir/services/standalone/internal/push"
)

// metric is one of a service's own.
type metric struct {
	name, kind, help string
	labels           []string
	// occasional: it may have no series while nothing happens.
	occasional bool
}

// ownMetrics are the metrics that the two services register, by service. Both
// run and answer a scrape, so that every histogram has been seen and tells its
// type.
func ownMetrics(t *testing.T) map[string][]metric {
	t.Helper()
	registries := map[string]*prometheus.Registry{"collector": prometheus.NewRegistry(), "exposer": prometheus.NewRegistry()}
	run(t, registries["collector"], registries["exposer"])
	out := map[string][]metric{}
	pushed := prometheus.NewRegistry()
	push.NewMeter(pushed)
	registries["push"] = pushed
	for service, r := range registries {
		out[service] = registered(t, r)
		for i := range out[service] {
			// Not every installation pushes.
			out[service][i].occasional = out[service][i].occasional || service == "push"
		}
	}
	return out
}

// run runs both services for as long as the test, against a simulated
// Cloudflare, and returns where they listen when the exposer has answered a scrape.
func run(t *testing.T, forCollector, forExposer *prometheus.Registry) (collectors, exposers string) {
	t.Helper()
	sim, err := cfsim.New(cfsim.Demo(clock.System(), 1))
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(sim)
	t.Cleanup(api.Close)

	var c collector.Config
	cli.Defaults(c.Settings())
	c.Token, c.CloudflareURL, c.Simulated = cli.NewSecret(cfsim.DemoToken), api.URL+"/client/v4", true
	c.SQLiteFile, c.Drain = filepath.Join(t.TempDir(), "weir.db"), time.Second
	listener := testkit.Listen(t)
	quiet := slog.New(slog.DiscardHandler)
	served, err := collector.New(t.Context(), c, collector.Deps{Registry: forCollector, GRPC: listener, Ops: testkit.Listen(t), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	start(t, served.Run)

	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // its end is nobody's concern
	var x exposer.Config
	cli.Defaults(x.Settings())
	x.Drain = 0
	data := testkit.Listen(t)
	follower, err := exposer.New(x, exposer.Deps{Registry: forExposer, Conn: conn, Data: data, Ops: testkit.Listen(t), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	start(t, follower.Run)
	testkit.Eventually(t, func() error { return scrape("http://" + data.Addr().String() + "/metrics") })
	return listener.Addr().String(), data.Addr().String()
}

func scrape(url string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		return statusError(response.Status + ": " + string(body))
	}
	return err
}

type statusError string

func (e statusError) Error() string { return string(e) }

// start runs something until the test ends.
func start(t *testing.T, work func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- work(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// described is how a prometheus.Desc prints itself, the only way to read one.
var described = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*"), unit: "[^"]*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// registered lists what a registry has, also what has no value yet.
func registered(t *testing.T, r *prometheus.Registry) []metric {
	t.Helper()
	kinds := map[string]string{}
	gathered, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range gathered {
		kinds[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	descs := make(chan *prometheus.Desc)
	go func() { r.Describe(descs); close(descs) }()
	found := map[string]metric{}
	for d := range descs {
		parts := described.FindStringSubmatch(d.String())
		if parts == nil {
			t.Fatalf("client_golang describes a metric in a way that this test does not know: %s", d)
		}
		m := metric{name: unquote(t, parts[1]), help: unquote(t, parts[2])}
		if anyPrefix(m.name, "go_", "process_", "promhttp_") {
			continue
		}
		for _, constant := range strings.Split(parts[3], ",") {
			if name, _, ok := strings.Cut(constant, "="); ok {
				m.labels = append(m.labels, name)
			}
		}
		if parts[4] != "" {
			m.labels = append(m.labels, strings.Split(parts[4], ",")...)
		}
		m.occasional = parts[4] != "" || strings.Contains(m.help, "absent")
		m.kind = kind(t, m.name, kinds[m.name])
		if m.help == "" {
			t.Errorf("%s has no help text", m.name)
		}
		found[m.name] = m
	}
	names := make([]metric, 0, len(found))
	for _, m := range found {
		names = append(names, m)
	}
	slices.SortFunc(names, func(a, b metric) int { return strings.Compare(a.name, b.name) })
	return names
}

// kind is a metric's type. One without a value yet goes by its name, and the
// others show that names can be trusted.
func kind(t *testing.T, name, gathered string) string {
	t.Helper()
	byName := "gauge"
	if strings.HasSuffix(name, "_total") {
		byName = "counter"
	}
	switch gathered {
	case "", byName:
		return byName
	case "histogram":
		return gathered
	}
	t.Errorf("%s is a %s, which its name does not say", name, gathered)
	return gathered
}

func anyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

func unquote(t *testing.T, s string) string {
	t.Helper()
	out, err := strconv.Unquote(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
