package e2e

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone"
)

// How long the stories are told, and how fast. Prometheus comes twice a second, so a
// turn of the carousel lasts 5 min / 240 = 2 scrapes.
const (
	back  = 9 * time.Hour
	speed = 240
	// settleFor is how long before the end a window must have ended to be final
	// for certain, whatever happened to it shortly before.
	settleFor = 75 * time.Minute
)

// Two collectors, two exposers, Postgres, Prometheus, and trouble of every kind on
// the way: ten minutes of budget errors, an hour of a dataset that is empty although
// there is traffic, an hour of one zone's data that is late, half an hour of errors;
// both collectors are restarted in the middle of both hours, both exposers are
// restarted, the database is away for twenty minutes, and Prometheus for an hour. What
// Prometheus holds in the end is the truth, whole and alone (G1, G2, G3, G5).
func TestWhatPrometheusHoldsIsTheTruth(t *testing.T) {
	t.Parallel()
	database := pgtest.Start(t)
	dsn := database.DSN()
	data := []string{address(t), address(t)}
	prometheus := startPrometheus(t, back+30*time.Hour, data...)
	w := newWorld(t, back, speed, func(began time.Time) []cfsim.Fault {
		at := func(h float64) time.Time { return began.Add(time.Duration(h * float64(time.Hour))) }
		return []cfsim.Fault{
			{Kind: cfsim.FaultBudget, Path: "/graphql", From: at(1), To: at(1).Add(10 * time.Minute)},
			{Kind: cfsim.FaultDatasetEmpty, From: at(2), To: at(3)},
			{Kind: cfsim.FaultZoneDelayed, Zone: cfsim.Tag("zone:shop.example"), Delay: 30 * time.Minute, From: at(4), To: at(5)},
			{Kind: cfsim.FaultHTML, Status: 522, Path: "/graphql", Probability: .3, From: at(5.5), To: at(6)},
		}
	})
	grpc := []string{address(t), address(t)}
	collectors := []*actor{w.startCollector("one", dsn, grpc[0]), w.startCollector("two", dsn, grpc[1])}
	exposers := []*actor{w.startExposer("exposer-1", data[0], grpc...), w.startExposer("exposer-2", data[1], grpc...)}
	restart := func(all []*actor) {
		for _, a := range all {
			a.stop()
			a.start()
		}
	}

	w.until(150 * time.Minute)
	restart(collectors)
	w.until(210 * time.Minute)
	sameBytes(t, data[0], data[1])
	w.until(270 * time.Minute)
	restart(collectors)
	w.until(5 * time.Hour)
	prometheus.Stop()
	w.until(6 * time.Hour)
	prometheus.Start()
	restart(exposers)
	w.until(390 * time.Minute)
	database.Stop()
	w.until(410 * time.Minute)
	database.Start()
	w.until(back)

	theEnd(t, w, prometheus)
}

// theEnd compares what Prometheus holds with the truth, and checks that nobody
// had anything to complain about.
func theEnd(t *testing.T, w *world, prometheus *promtest.Server) {
	t.Helper()
	until := w.clock.Now().Add(-settleFor)
	want := w.expected(until)
	since := w.began.Add(-50 * time.Hour) // the first day's bucket may begin that early
	// What is missing after that is told by the comparison.
	_ = testkit.Poll(testkit.Patience, func() error { return lacks(held(t, prometheus, since), want) })
	compare(t, held(t, prometheus, since), want, until)
	quiet(t, prometheus)
	settled(t, prometheus)
	budget(t, w)
}

// settled checks that repeats cost Prometheus nothing: while the view stands
// still, no sample is appended again.
func settled(t *testing.T, p *promtest.Server) {
	t.Helper()
	const appended = "prometheus_tsdb_head_out_of_order_samples_appended_total"
	testkit.Eventually(t, func() error {
		before, scrapes := p.Own(appended), p.Own("prometheus_tsdb_head_samples_appended_total")
		testkit.Eventually(t, func() error {
			if p.Own("prometheus_tsdb_head_samples_appended_total") < scrapes+100 {
				return constError("Prometheus has not scraped yet")
			}
			return nil
		})
		if after := p.Own(appended); after != before {
			return fmt.Errorf("out-of-order samples appended went from %v to %v", before, after)
		}
		return nil
	})
}

// The same through "weir run": one process, one SQLite file, and a restart in
// the middle.
func TestAllInOneHoldsTheTruth(t *testing.T) {
	t.Parallel()
	data := address(t)
	const back = 6 * time.Hour
	prometheus := startPrometheus(t, back+30*time.Hour, data)
	w := newWorld(t, back, 2*speed, nil)
	c := w.collectorConfig("all-in-one", "")
	x := exposerConfig("127.0.0.1:9820")
	x.Listen, x.OpsListen, c.OpsListen = data, address(t), address(t)
	weir := startActor(t, "weir run", func(ctx context.Context) error {
		return standalone.Run(ctx, c, x, standalone.Deps{Clock: w.clock, Logger: testkit.Logger(t)})
	})
	w.until(back / 2)
	weir.stop()
	weir.start()
	w.until(back)
	theEnd(t, w, prometheus)
}

// sameBytes checks G5: at one revision and in one turn, one body.
func sameBytes(t *testing.T, a, b string) {
	t.Helper()
	testkit.Eventually(t, func() error {
		_, ha, ba := get(t, "http://"+a+"/metrics")
		_, hb, bb := get(t, "http://"+b+"/metrics")
		if position(ha) != position(hb) || ha.Get("X-Weir-Revision") == "" || ha.Get("X-Weir-Pages-Missing")+hb.Get("X-Weir-Pages-Missing") != "" {
			return errPositions
		}
		if !bytes.Equal(ba, bb) {
			t.Fatalf("two exposers at %s serve different bytes (%d and %d)", position(ha), len(ba), len(bb))
		}
		return nil
	})
}

type constError string

func (e constError) Error() string { return string(e) }

const errPositions = constError("the exposers are not at one revision, in one turn and with all pages")

// budget checks G7 against the simulator's own count: never more than the
// share in any five minutes.
func budget(t *testing.T, w *world) {
	t.Helper()
	counters := w.sim.Counters()
	if counters.PeakQueries > 150 {
		t.Errorf("%d requests to Cloudflare within five minutes; the share is 150", counters.PeakQueries)
	}
	if counters.MaxZones > 10 {
		t.Errorf("a request asked for %d zones", counters.MaxZones)
	}
	t.Logf("requests to Cloudflare: %+v", counters)
}
