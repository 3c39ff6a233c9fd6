package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone"
)

// replay is one series with n samples, one every step, the newest a minute old.
func replay(n int, step time.Duration) string {
	newest := time.Now().Add(-time.Minute)
	var b strings.Builder
	b.WriteString("# TYPE cliff gauge\n")
	for i := n - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "cliff %d %d\n", i, newest.Add(-time.Duration(i)*step).UnixMilli())
	}
	return b.String()
}

// replayer serves it.
func replayer(t *testing.T, n int, step time.Duration) string {
	t.Helper()
	body := replay(n, step)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// scrapes waits for so many more scrapes of the job weir.
func scrapes(t *testing.T, p *promtest.Server, n int) {
	t.Helper()
	for range n {
		last := target(p).LastScrape
		testkit.Eventually(t, func() error {
			if now := target(p).LastScrape; !now.After(last) {
				return constError("no further scrape yet")
			}
			return nil
		})
	}
}

// target is the one of the job weir; the zero target before Prometheus has
// discovered it.
func target(p *promtest.Server) promtest.Target {
	for _, target := range p.Targets() {
		if target.ScrapePool == "weir" {
			return target
		}
	}
	return promtest.Target{}
}

// onEachPrometheus runs a test with the newest version and with the older one of
// Debian's package, which is skipped where it is not.
func onEachPrometheus(t *testing.T, test func(*testing.T, promtest.Tools)) {
	for name, find := range map[string]func(testing.TB) promtest.Tools{"pinned": promtest.Find, "Debian's": promtest.Debian} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, find(t))
		})
	}
}

const outOfOrder = "prometheus_tsdb_head_out_of_order_samples_appended_total"

// Why the replay never has more than 30 samples a series: from 33 on,
// Prometheus appends every repeat again, for ever.
func TestPrometheusAppendsRepeatsAgainFrom33Samples(t *testing.T) {
	t.Parallel()
	onEachPrometheus(t, func(t *testing.T, tools promtest.Tools) {
		for n, want := range map[int]bool{30: false, 33: true} {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				p := startPrometheusOf(t, tools, 30*time.Hour, replayer(t, n, 5*time.Minute))
				scrapes(t, p, 3)
				before := p.Own(outOfOrder)
				scrapes(t, p, 3)
				if grew := p.Own(outOfOrder) > before; grew != want {
					t.Errorf("%d samples: repeats appended again is %t, want %t", n, grew, want)
				}
			})
		}
	})
}

// Why age is cut against the clock at serving: one sample beyond the window
// costs the whole scrape.
func TestOneSampleTooOldFailsTheWholeScrape(t *testing.T) {
	t.Parallel()
	onEachPrometheus(t, func(t *testing.T, tools promtest.Tools) {
		for oldest, want := range map[time.Duration]string{29 * time.Hour: "up", 31 * time.Hour: "down"} {
			t.Run(oldest.String(), func(t *testing.T) {
				t.Parallel()
				p := startPrometheusOf(t, tools, 30*time.Hour, replayer(t, 2, oldest))
				scrapes(t, p, 2)
				got := target(p)
				if got.Health != want {
					t.Errorf("with a sample %s old the target is %s (%s), want %s", oldest, got.Health, got.LastError, want)
				}
				if want == "down" && !strings.Contains(got.LastError, "too old sample") {
					t.Errorf("the error is %q, want one that says too old sample", got.LastError)
				}
				if n := p.Own("prometheus_tsdb_too_old_samples_total"); (n > 0) != (want == "down") {
					t.Errorf("with a sample %s old prometheus_tsdb_too_old_samples_total is %v", oldest, n)
				}
			})
		}
	})
}

// What a Prometheus without the out-of-order window shows of it: the target is up
// and has no error. What is refused is only counted, and logged, at every scrape;
// docs/prometheus.md names the counters, and deploy/alerts looks at them.
func TestWithoutTheWindowPrometheusDropsWhileAllLooksWell(t *testing.T) {
	t.Parallel()
	onEachPrometheus(t, func(t *testing.T, tools promtest.Tools) {
		job := func(name, target string) string {
			return fmt.Sprintf("- {job_name: %s, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{targets: [%q]}]}\n", name, target)
		}
		p := tools.Start(t, "scrape_configs:\n"+job("self", "127.0.0.1:1"))
		self := job("self", strings.TrimPrefix(p.URL(), "http://"))
		p.Reload("scrape_configs:\n" + self)
		// The head of the database is at now before Weir's samples come, as it is
		// in a Prometheus that scrapes anything else.
		testkit.Eventually(t, func() error {
			if len(p.Query("up{job=\"self\"} == 1", time.Now())) == 0 {
				return constError("Prometheus has not scraped itself yet")
			}
			return nil
		})
		const served = 30
		p.Reload("scrape_configs:\n" + self + job("weir", replayer(t, served, 5*time.Minute)))
		testkit.Eventually(t, func() error {
			if target(p).LastScrape.IsZero() {
				return constError("no scrape yet")
			}
			return nil
		})
		scrapes(t, p, 3)
		if got := target(p); got.Health != "up" || got.LastError != "" {
			t.Errorf("the target is %s (%s), want up without an error", got.Health, got.LastError)
		}
		series := p.Samples("cliff", time.Now().Add(-3*time.Hour), time.Now())
		if len(series) != 1 || len(series[0].Samples) < 10 || len(series[0].Samples) > 12 {
			t.Errorf("Prometheus holds %v, want the samples of the last hour", series)
		}
		for _, name := range []string{
			"prometheus_target_scrapes_sample_out_of_order_total", "prometheus_target_scrapes_sample_out_of_bounds_total",
			"prometheus_tsdb_out_of_order_samples_total", "prometheus_tsdb_out_of_bound_samples_total",
		} {
			n := p.Own(name)
			if n < 10 {
				t.Errorf("%s is %v, want it to tell of each refused sample of each scrape", name, n)
			}
		}
		if n := p.Own("prometheus_tsdb_too_old_samples_total"); n != 0 {
			t.Errorf("prometheus_tsdb_too_old_samples_total is %v; it is for a window that is too short", n)
		}
		for _, line := range []string{"Error on ingesting out-of-order samples", "Error on ingesting samples that are too old or are too far into the future"} {
			if !strings.Contains(p.Log(), line) {
				t.Errorf("the log does not say %q:\n%s", line, p.Log())
			}
		}
	})
}

// The shipped configuration as it is, in real time: a first run with a day of
// history, scraped under the shipped 30 h window by a Prometheus whose head is
// at now. All of the replay arrives, and repeats cost nothing.
func TestShippedConfigurationInRealTime(t *testing.T) {
	t.Parallel()
	data := address(t)
	w := newWorldAtNow(t)
	c := w.collectorConfig("real-time", "")
	c.Lookback = 24 * time.Hour
	x := exposerConfig("127.0.0.1:9820")
	x.Listen, x.OpsListen, c.OpsListen = data, address(t), address(t)
	startActor(t, "weir run", func(ctx context.Context) error {
		return standalone.Run(ctx, c, x, standalone.Deps{Clock: w.clock, Logger: testkit.Logger(t)})
	})
	lines := 0
	testkit.Eventually(t, func() error {
		status, _, body, err := fetch("http://" + data + "/metrics")
		if err != nil {
			return err
		}
		if lines = strings.Count(string(body), "\ncloudflare_"); status != http.StatusOK || lines < 1000 { // the newest windows, whatever is in turn
			return fmt.Errorf("/metrics is %d with %d samples", status, lines)
		}
		return nil
	})
	p := startPrometheus(t, 30*time.Hour, data)
	var body []byte
	testkit.Eventually(t, func() error {
		_, was, shown, err := fetch("http://" + data + "/metrics")
		if err != nil {
			return err
		}
		body = shown
		scrapes(t, p, 3)
		before := p.Own(outOfOrder)
		scrapes(t, p, 3)
		after := p.Own(outOfOrder)
		_, is, _, err := fetch("http://" + data + "/metrics")
		if err != nil {
			return err
		}
		if position(is) != position(was) {
			return fmt.Errorf("%s went to %s meanwhile", position(was), position(is))
		}
		if after != before { // once after a compaction of the head, which begins within a minute
			return fmt.Errorf("out-of-order samples appended went from %v to %v on repeats", before, after)
		}
		return nil
	})
	got := held(t, p, time.Now().Add(-49*time.Hour))
	if lines = strings.Count(string(body), "\ncloudflare_"); len(got) < lines {
		t.Errorf("Prometheus holds %d samples of %d that were served", len(got), lines)
	}
	for at, v := range got {
		if v < 0 {
			t.Errorf("%s is %v", at, v)
		}
	}
	quiet(t, p)
}
