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

// replayer serves one series with n samples, one every step, the newest a
// minute old.
func replayer(t *testing.T, n int, step time.Duration) string {
	t.Helper()
	newest := time.Now().Add(-time.Minute)
	var b strings.Builder
	b.WriteString("# TYPE cliff gauge\n")
	for i := n - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "cliff %d %d\n", i, newest.Add(-time.Duration(i)*step).UnixMilli())
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, b.String())
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// scrapes waits for so many more scrapes of the job weir.
func scrapes(t *testing.T, p *promtest.Server, n int) {
	t.Helper()
	for range n {
		last := target(p).LastScrape
		testkit.Eventually(t, 15*time.Second, func() error {
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

const outOfOrder = "prometheus_tsdb_head_out_of_order_samples_appended_total"

// Why the replay never has more than 30 samples a series: from 33 on,
// Prometheus appends every repeat again, for ever.
func TestPrometheusAppendsRepeatsAgainFrom33Samples(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]bool{30: false, 33: true} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			p := startPrometheus(t, 30*time.Hour, replayer(t, n, 5*time.Minute))
			scrapes(t, p, 3)
			before := p.Own(outOfOrder)
			scrapes(t, p, 3)
			if grew := p.Own(outOfOrder) > before; grew != want {
				t.Errorf("%d samples: repeats appended again is %t, want %t", n, grew, want)
			}
		})
	}
}

// Why age is cut against the clock at serving: one sample beyond the window
// costs the whole scrape.
func TestOneSampleTooOldFailsTheWholeScrape(t *testing.T) {
	t.Parallel()
	for oldest, want := range map[time.Duration]string{29 * time.Hour: "up", 31 * time.Hour: "down"} {
		t.Run(oldest.String(), func(t *testing.T) {
			t.Parallel()
			p := startPrometheus(t, 30*time.Hour, replayer(t, 2, oldest))
			scrapes(t, p, 2)
			got := target(p)
			if got.Health != want {
				t.Errorf("with a sample %s old the target is %s (%s), want %s", oldest, got.Health, got.LastError, want)
			}
			if want == "down" && !strings.Contains(got.LastError, "too old sample") {
				t.Errorf("the error is %q, want one that says too old sample", got.LastError)
			}
		})
	}
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
	testkit.Eventually(t, 30*time.Second, func() error {
		status, _, body, err := fetch("http://" + data + "/metrics")
		if err != nil {
			return err
		}
		if lines = strings.Count(string(body), "\ncloudflare_"); status != http.StatusOK || lines < 3000 {
			return fmt.Errorf("/metrics is %d with %d samples", status, lines)
		}
		return nil
	})
	p := startPrometheus(t, 30*time.Hour, data)
	scrapes(t, p, 3)
	before := p.Own(outOfOrder)
	_, _, body := get(t, "http://"+data+"/metrics")
	scrapes(t, p, 3)
	if after := p.Own(outOfOrder); after != before {
		t.Errorf("out-of-order samples appended went from %v to %v on repeats", before, after)
	}
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
