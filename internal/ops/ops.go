// Package ops is the operations listener of a service: its own metrics, health,
// readiness and, if enabled, profiles. [Serve] is also used for a service's data port.
//
// Nothing here causes a request to Cloudflare (guarantee G6).
package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/weir-metrics/weir/internal/quiet"
)

// Config of an operations listener.
type Config struct {
	// Service is the name of the process: weir-collector.
	Service string
	// Summary is one sentence for the landing page.
	Summary string
	// Version and Revision identify the build; they are also labels of
	// weir_build_info.
	Version, Revision string
	// Registry holds the service's own metrics. New adds the collectors for
	// the Go runtime and the process.
	Registry *prometheus.Registry
	// Ready returns nil, or why the service cannot do its work yet. It is called for
	// each probe, concurrently, so it must only read memory. Everyone who reaches the
	// port can read its text. Nil: always ready.
	Ready func() error
	// Pprof serves profiles under /debug/pprof/. Off by default, since they
	// expose memory and use processor time.
	Pprof bool
	// Links are added to the landing page.
	Links  []Link
	Logger *slog.Logger
}

// Link is a link of the landing page.
type Link struct{ Address, Text, Description string }

// Ops is the handler of an operations listener.
type Ops struct {
	mux      http.ServeMux
	service  string
	ready    func() error
	draining atomic.Bool
}

// New registers the standard collectors with cfg.Registry and returns the handler. It
// fails if cfg.Registry already has metrics with the same names.
func New(cfg Config) (*Ops, error) {
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "weir_build_info",
		Help: "Always 1. The labels have the version, revision and Go version of this process.",
		ConstLabels: prometheus.Labels{
			"version": cfg.Version, "revision": cfg.Revision, "goversion": runtime.Version(),
		},
	})
	build.Set(1)
	for _, c := range []prometheus.Collector{
		build,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := cfg.Registry.Register(c); err != nil {
			return nil, fmt.Errorf("register the standard metrics of %s: %w", cfg.Service, err)
		}
	}
	landing, err := landingPage(cfg)
	if err != nil {
		return nil, fmt.Errorf("make the landing page of %s: %w", cfg.Service, err)
	}
	o := &Ops{service: cfg.Service, ready: cfg.Ready}
	o.mux.Handle("GET /{$}", landing)
	o.mux.Handle("GET /metrics", promhttp.InstrumentMetricHandler(cfg.Registry, promhttp.HandlerFor(cfg.Registry, promhttp.HandlerOpts{
		ErrorLog:            scrapeErrors{quiet.New(cfg.Logger, time.Minute)},
		Registry:            cfg.Registry,
		MaxRequestsInFlight: 10, // far more than Prometheus servers need
		Timeout:             30 * time.Second,
		EnableOpenMetrics:   true,
	})))
	o.mux.HandleFunc("GET /-/healthy", o.serveHealthy)
	o.mux.HandleFunc("GET /-/ready", o.serveReady)
	if cfg.Pprof {
		o.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		o.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		o.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		o.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		o.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return o, nil
}

// scrapeErrors logs the errors that promhttp reports at each scrape.
type scrapeErrors struct{ log *quiet.Log }

// Println implements [promhttp.Logger].
func (e scrapeErrors) Println(words ...any) {
	text := strings.TrimSuffix(fmt.Sprintln(words...), "\n")
	if hungUp(text) {
		e.log.Log(context.Background(), slog.LevelDebug, "", "client disconnected during a scrape of own metrics", "err", text)
		return
	}
	e.log.Error("", "cannot gather or send own metrics", "err", text)
}

// hungUp reports whether the client disconnected, by the text of the error, since
// promhttp reports only text.
func hungUp(text string) bool {
	return slices.ContainsFunc([]string{context.Canceled.Error(), "broken pipe", "connection reset by peer", "i/o timeout"},
		func(part string) bool { return strings.Contains(text, part) })
}

func landingPage(cfg Config) (http.Handler, error) {
	links := []web.LandingLinks{
		{Address: "metrics", Text: "Metrics", Description: "of this process itself"},
		{Address: "-/ready", Text: "Readiness", Description: "with the reason when it is not ready"},
		{Address: "-/healthy", Text: "Health"},
	}
	for _, l := range cfg.Links {
		links = append(links, web.LandingLinks{Address: l.Address, Text: l.Text, Description: l.Description})
	}
	profiling := "false"
	if cfg.Pprof {
		profiling = "true"
	}
	return web.NewLandingPage(web.LandingConfig{
		Name: cfg.Service, Description: cfg.Summary, Version: cfg.Version, Links: links, Profiling: profiling,
	})
}

// ServeHTTP serves GET and HEAD of /, /metrics, /-/healthy, /-/ready and, if
// enabled, /debug/pprof/.
func (o *Ops) ServeHTTP(w http.ResponseWriter, r *http.Request) { o.mux.ServeHTTP(w, r) }

// Drain makes the service unready from now on. Call it first at shutdown and then continue
// to serve for a while, so that no new requests are sent to a closing listener.
func (o *Ops) Drain() { o.draining.Store(true) }

var errDraining = errors.New("shutting down")

// Ready returns nil, or why the service is not ready.
func (o *Ops) Ready() error {
	switch {
	case o.draining.Load():
		return errDraining
	case o.ready == nil:
		return nil
	}
	return o.ready()
}

// serveHealthy reports that the process responds, and nothing else: a condition that a
// restart does not fix must not cause a restart.
func (o *Ops) serveHealthy(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "%s is healthy\n", o.service)
}

func (o *Ops) serveReady(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := o.Ready(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintf(w, "%s is not ready: %v\n", o.service, err)
		return
	}
	fmt.Fprintf(w, "%s is ready\n", o.service)
}
