package exposer_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// line is the exposers' connection to a collector, which may be away.
type line struct {
	grpc.ClientConnInterface
	away atomic.Bool
}

func (l *line) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if l.away.Load() {
		return nil, status.Error(codes.Unavailable, "the collector is away")
	}
	return l.ClientConnInterface.NewStream(ctx, desc, method, opts...)
}

// service is one address in front of several exposers, as a Service of Kubernetes is:
// each scrape of a job goes to the next one. While there is none, scrapes are empty.
type service struct {
	address string

	mu       sync.Mutex
	backends []string
	asked    map[string]int // by job
}

func startService(t testing.TB) *service {
	s := &service{asked: map[string]int{}}
	transport := &http.Transport{DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host})
			r.Out.URL.Path = "/metrics"
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, fmt.Sprintf("no exposer: %v", err), http.StatusBadGateway)
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host = s.next(r.URL.Path); r.Host == "" {
			w.Header().Set("Content-Type", "text/plain; version=0.0.4")
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	s.address = strings.TrimPrefix(server.URL, "http://")
	return s
}

// add has an exposer scraped from now on.
func (s *service) add(x *running) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backends = append(s.backends, strings.TrimPrefix(x.data, "http://"))
}

func (s *service) next(job string) (backend string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[job]++
	if len(s.backends) == 0 {
		return ""
	}
	return s.backends[s.asked[job]%len(s.backends)]
}

// scraper is a real Prometheus with one or more jobs that scrape a service.
type scraper struct {
	*promtest.Server
	t    testing.TB
	name string
	jobs []string
	away bool
}

// interval is the time between two scrapes, and what one may take.
const interval = 200 * time.Millisecond

// startScraper starts a Prometheus, the jobs of which are the keys of settings.
func startScraper(t testing.TB, tools promtest.Tools, s *service, window time.Duration, settings map[string]string) *scraper {
	p := &scraper{t: t, name: tools.Version, jobs: slices.Sorted(maps.Keys(settings))}
	config := fmt.Sprintf("global: {scrape_interval: %[1]s, scrape_timeout: %[1]s}\nstorage: {tsdb: {out_of_order_time_window: %[2]dh}}\nscrape_configs:\n", interval, window/time.Hour)
	for _, job := range p.jobs {
		config += fmt.Sprintf("- {job_name: %[1]s, metrics_path: /%[1]s, %[2]s static_configs: [{targets: [%[3]q]}]}\n", job, settings[job], s.address)
	}
	p.Server = tools.Start(t, config)
	return p
}

// scraped waits until a scrape that begins after a time has succeeded in each job, and
// returns when the last of them began. Its samples are stored when the next one has
// succeeded, at the latest.
func (p *scraper) scraped(after time.Time) (began time.Time) {
	testkit.Eventually(p.t, func() error {
		began = after
		targets := p.Targets()
		if len(targets) != len(p.jobs) {
			return fmt.Errorf("%s has targets %+v, want %v", p.name, targets, p.jobs)
		}
		for _, target := range targets {
			if target.Health != "up" || !target.LastScrape.After(after) {
				return fmt.Errorf("%s: job %s was scraped at %s, is %s: %s", p.name, target.ScrapePool, target.LastScrape, target.Health, target.LastError)
			}
			if target.LastScrape.After(began) {
				began = target.LastScrape
			}
		}
		return nil
	})
	return began
}

// appended is how many samples it has appended out of order.
func (p *scraper) appended() float64 {
	return p.Own("prometheus_tsdb_head_out_of_order_samples_appended_total")
}

// quiet checks that it has rejected no sample, and that each scrape since a time has
// succeeded, but for those that the machine was too busy for.
func (p *scraper) quiet(since time.Time) {
	t := p.t
	t.Helper()
	for _, name := range []string{
		"prometheus_target_scrapes_sample_duplicate_timestamp_total", "prometheus_target_scrapes_sample_out_of_order_total",
		"prometheus_target_scrapes_sample_out_of_bounds_total", "prometheus_target_scrapes_exceeded_sample_limit_total",
		"prometheus_tsdb_too_old_samples_total", "prometheus_tsdb_out_of_bound_samples_total", "prometheus_tsdb_out_of_order_samples_total",
	} {
		if got := p.Own(name); got != 0 {
			t.Errorf("%s is %g", name, got)
		}
	}
	now := time.Now().Add(time.Second)
	took := map[string]float64{}
	for _, s := range p.Samples("scrape_duration_seconds", since, now) {
		for _, sample := range s.Samples {
			took[s.Labels["job"]+sample.Time.String()] = sample.Value
		}
	}
	scrapes, slow := 0, 0
	for _, s := range p.Samples("up", since, now) {
		for _, sample := range s.Samples {
			scrapes++
			switch took := took[s.Labels["job"]+sample.Time.String()]; {
			case sample.Value == 1:
			case took >= interval.Seconds()/2: // a refusal takes milliseconds; Prometheus 2.42 gives up a little early
				slow++
			default:
				t.Errorf("%s: a scrape at %s failed after %g s: targets are now %+v", s.Labels["job"], sample.Time, took, p.Targets())
			}
		}
	}
	t.Logf("%d scrapes by %s, %d of them given up after %s; %g samples appended out of order", scrapes, p.name, slow, interval, p.appended())
}
