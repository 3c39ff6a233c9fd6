package e2e

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone"
)

// What Prometheus holds of accounts is what their Workers did, in series with the label
// account and none for a zone; the zones beside them are as they were. A backfill of the
// account says the same.
func TestPrometheusHoldsTheTruthOfAccounts(t *testing.T) {
	t.Parallel()
	data := address(t)
	const back = 150 * time.Minute
	prometheus := startPrometheus(t, back+30*time.Hour, data)
	w := newWorld(t, back, 2*speed, nil)
	c := w.collectorConfig("all-in-one", "")
	c.Enable = []string{"workers_5m"}
	x := exposerConfig("127.0.0.1:9820")
	x.Listen, x.OpsListen, c.OpsListen = data, address(t), address(t)
	startActor(t, "weir run", func(ctx context.Context) error {
		return standalone.Run(ctx, c, x, standalone.Deps{Clock: w.clock, Logger: testkit.Logger(t)})
	})
	w.until(back)

	until := w.clock.Now().Add(-settleFor)
	// What is older came too late for the newest windows, and a round takes hours.
	want := w.invocations(w.began, until)
	if len(want) < 100 {
		t.Fatalf("only %d samples were expected: the test has lost its subject", len(want))
	}
	var got map[string]float64
	testkit.Eventually(t, func() error {
		got = workers(t, prometheus, w.began, until)
		for series := range want {
			if _, there := got[series]; !there {
				return fmt.Errorf("missing: %s, %v", series, want[series])
			}
		}
		return nil
	})
	if !maps.Equal(got, want) {
		for series, v := range got {
			if truth, there := want[series]; !there || v != truth {
				t.Errorf("%s is %v; the truth is %v (there: %t)", series, v, truth, there)
			}
		}
	}
	if n := len(prometheus.Samples(`cloudflare_zone_requests{zone="shop.example",account="Example Retail"}`, w.began.Add(-time.Hour), time.Now())); n != 1 {
		t.Errorf("Prometheus holds %d series of a zone's requests", n)
	}
	quiet(t, prometheus)
	budget(t, w)

	_, _, body := get(t, "http://"+data+"/backfill?hours=2&dataset=workers_5m&account=Example%20Retail")
	if text := string(body); !strings.Contains(text, `cloudflare_account_worker_requests{account="Example Retail",script="checkout",status="success"} `) || strings.Contains(text, "zone=") {
		t.Errorf("a backfill of the account is\n%.2000s", text)
	}
	if _, _, page := get(t, "http://"+data+"/"); !strings.Contains(string(page), "workers_5m") || strings.Contains(string(page), "no account is collected") {
		t.Error("the landing page does not show the dataset, or says that no account is collected")
	}
}

// invocations are the samples of what Workers did in windows of a span.
func (w *world) invocations(from, until time.Time) map[string]float64 {
	w.t.Helper()
	want := map[string]float64{}
	for start := from.Truncate(5 * time.Minute); !start.Add(5 * time.Minute).After(until); start = start.Add(5 * time.Minute) {
		end := start.Add(5 * time.Minute)
		all, err := w.sim.TrueWorkers(cfsim.Tag("account:retail"), start, end)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, one := range all {
			add := func(family string, v uint64) {
				want[workerSample(family, "Example Retail", one.Script, one.Status, end.Add(-time.Millisecond))] = float64(v)
			}
			add("cloudflare_account_worker_requests", one.Requests)
			add("cloudflare_account_worker_errors", one.Errors)
			add("cloudflare_account_worker_subrequests", one.Subrequests)
		}
	}
	return want
}

func workerSample(family, account, script, status string, at time.Time) string {
	return fmt.Sprintf("%s{%s,%s,%s} at %d", family, account, script, status, at.UnixMilli())
}

// workers are the samples that Prometheus holds of accounts' families, of windows that
// end at or before until.
func workers(t *testing.T, p *promtest.Server, since, until time.Time) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for _, s := range p.Samples(`{__name__=~"cloudflare_account_.*"}`, since, time.Now()) {
		if zone, there := s.Labels["zone"]; there {
			t.Errorf("a series about an account has the zone %q", zone)
		}
		for _, one := range s.Samples {
			if one.Time.Before(until) {
				out[workerSample(s.Labels["__name__"], s.Labels["account"], s.Labels["script"], s.Labels["status"], one.Time)] = one.Value
			}
		}
	}
	return out
}
