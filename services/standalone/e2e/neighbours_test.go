package e2e

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// neighbour is one who scrapes Weir, and what he goes through.
type neighbour struct {
	name string
	// away is when he ends, and how; he begins again at once, which takes an hour
	// or so of the world's clock.
	away time.Duration
	end  func(*promtest.Server)
	// find skips the test where the program is not to be had.
	find func(testing.TB) launcher
}

// launcher starts a program that scrapes one target.
type launcher func(t *testing.T, target string) *promtest.Server

// Everybody of whom docs/prometheus.md says that he was tested scrapes the same
// two exposers, behind one address as a Service has it, with the shipped
// configuration. The exposers are away for a while, each scraper is at another
// time, by a signal or by SIGKILL. In the end each holds the truth, whole and
// alone, and so all hold the same: two that are alike are an HA pair.
func TestEveryNeighbourHoldsTheTruth(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	const (
		back  = 6 * time.Hour
		speed = 300
	)
	stop, kill := (*promtest.Server).Stop, (*promtest.Server).Kill
	neighbours := []neighbour{
		{"Prometheus", 60 * time.Minute, stop, func(t testing.TB) launcher { return prometheusOf(promtest.Find(t), back) }},
		{"Prometheus, the other of the pair", 180 * time.Minute, kill, func(t testing.TB) launcher { return prometheusOf(promtest.Find(t), back) }},
		{"Debian's Prometheus", 180 * time.Minute, stop, func(t testing.TB) launcher { return prometheusOf(promtest.Debian(t), back) }},
		{"VictoriaMetrics", 180 * time.Minute, stop, func(t testing.TB) launcher { return victoriaOf(promtest.FindVictoria(t)) }},
		{"Debian's VictoriaMetrics", 180 * time.Minute, kill, func(t testing.TB) launcher { return victoriaOf(promtest.DebianVictoria(t)) }},
	}
	data := []string{address(t), address(t)}
	service := startService(t, data...)
	servers := make([]*promtest.Server, len(neighbours))
	for i, n := range neighbours {
		var start launcher
		t.Run("find "+n.name, func(t *testing.T) { start = n.find(t) }) // skips where there is none
		if start != nil {
			servers[i] = start(t, service)
		}
	}
	w := &world{t: t, began: time.Now().Add(-back).UTC().Truncate(time.Second), lookback: 30 * time.Minute}
	w.clock = clock.Chasing(w.began, speed)
	c := cfsim.Demo(w.clock, 7)
	// A zone with a visitor now and then has true zeros, which may wait for hours
	// to be believed.
	c.Zones = slices.DeleteFunc(c.Zones, func(z cfsim.Zone) bool { return z.Name == "quiet.example" })
	w.serve(c)
	collector := address(t)
	w.startCollector("collector", "", collector)
	exposers := []*actor{w.startExposer("exposer-1", data[0], collector), w.startExposer("exposer-2", data[1], collector)}
	leave := func(at time.Duration) {
		w.until(at)
		for i, n := range neighbours {
			if servers[i] != nil && n.away == at {
				n.end(servers[i])
				servers[i].Start()
			}
		}
	}
	leave(60 * time.Minute)
	w.until(120 * time.Minute)
	for _, x := range exposers {
		x.stop()
	}
	w.until(150 * time.Minute)
	for _, x := range exposers {
		x.start()
	}
	leave(180 * time.Minute)
	w.until(270 * time.Minute)
	exposers[0].stop() // the Service goes on with one, and loses some scrapes
	exposers[0].start()
	w.until(back)

	until := w.clock.Now().Add(-settleFor)
	want := w.expected(until)
	since := w.began.Add(-50 * time.Hour)
	for i, n := range neighbours {
		if servers[i] == nil {
			continue
		}
		t.Run(n.name, func(t *testing.T) {
			_ = testkit.Poll(testkit.Patience, func() error { return lacks(held(t, servers[i], since), want) })
			compare(t, held(t, servers[i], since), want, until)
			quiet(t, servers[i])
		})
	}
}

// prometheusOf scrapes with the shipped configuration, at the pace of the world.
func prometheusOf(tools promtest.Tools, back time.Duration) launcher {
	return func(t *testing.T, target string) *promtest.Server {
		return startPrometheusOf(t, tools, back+30*time.Hour, target)
	}
}

// victoriaOf scrapes with the shipped configuration and the flags that it asks
// for, at the pace of the world.
func victoriaOf(victoria promtest.Victoria) launcher {
	return func(t *testing.T, target string) *promtest.Server {
		shipped, flags := promtest.ShippedVictoria(t)
		return victoria.Start(t, victoriaConfig(t, shipped, target), flags...)
	}
}

// victoriaConfig is the shipped configuration with another target and an interval
// that fits the test.
func victoriaConfig(t *testing.T, shipped, target string) string {
	t.Helper()
	var config struct {
		Scrape []map[string]any `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal([]byte(shipped), &config); err != nil {
		t.Fatal(err)
	}
	job := config.Scrape[0]
	job["scrape_interval"], job["scrape_timeout"], job["params"] = "500ms", "500ms", rounds
	job["static_configs"] = []any{map[string]any{"targets": []string{target}}}
	config.Scrape = config.Scrape[:1]
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Why the flags say -promscrape.noStaleMarkers: without it one scrape that fails
// puts stale markers over the samples of the last one, at their own timestamps.
// Newer versions prefer the value where both are stored.
func TestAnOutageMarksNoSampleStaleInVictoriaMetrics(t *testing.T) {
	t.Parallel()
	shipped, flags := promtest.ShippedVictoria(t)
	without := slices.DeleteFunc(slices.Clone(flags), func(f string) bool { return f == "-promscrape.noStaleMarkers" })
	for name, tc := range map[string]struct {
		find  func(testing.TB) promtest.Victoria
		flags []string
		stale bool
	}{
		"Debian's as shipped":       {promtest.DebianVictoria, flags, false},
		"Debian's without the flag": {promtest.DebianVictoria, without, true},
		"pinned as shipped":         {promtest.FindVictoria, flags, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const n = 30
			if tc.stale && time.Now().Add(-n*5*time.Minute).Month() != time.Now().Month() {
				t.Skip("in the first hours of a month the samples are in two partitions, and the older VictoriaMetrics shows no marker")
			}
			var away atomic.Bool
			var asked atomic.Int64
			body := replay(n, 5*time.Minute)
			exposer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				if away.Load() {
					http.Error(w, "away", http.StatusServiceUnavailable)
					return
				}
				fmt.Fprint(w, body)
			}))
			t.Cleanup(exposer.Close)
			p := tc.find(t).Start(t, victoriaConfig(t, shipped, strings.TrimPrefix(exposer.URL, "http://")), tc.flags...)
			samples := func() (values, stale int) {
				get(t, p.URL()+"/internal/force_flush")
				for _, s := range p.Samples("cliff", time.Now().Add(-4*time.Hour), time.Now()) {
					for _, sample := range s.Samples {
						if math.IsNaN(sample.Value) {
							stale++
						} else {
							values++
						}
					}
				}
				return values, stale
			}
			scrapes := func() { // two whole ones, and the beginning of the next
				t.Helper()
				from := asked.Load()
				testkit.Eventually(t, func() error {
					if n := asked.Load() - from; n < 4 {
						return fmt.Errorf("%d scrapes", n)
					}
					return nil
				})
			}
			scrapes()
			if values, stale := samples(); values != n || stale != 0 {
				t.Fatalf("%d values and %d stale markers after the first scrapes, want %d and none", values, stale, n)
			}
			away.Store(true)
			scrapes()
			if values, stale := samples(); tc.stale != (stale > 0) || values+stale != n {
				t.Errorf("%d values and %d stale markers after an outage; markers are expected: %t", values, stale, tc.stale)
			}
		})
	}
}

// startService is one address in front of several, as a Service of Kubernetes is:
// each request goes to the next.
func startService(t *testing.T, backends ...string) string {
	t.Helper()
	var n atomic.Uint64
	transport := &http.Transport{DisableCompression: true}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: backends[n.Add(1)%uint64(len(backends))]})
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, fmt.Sprintf("no exposer: %v", err), http.StatusBadGateway)
		},
	})
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	return strings.TrimPrefix(server.URL, "http://")
}
