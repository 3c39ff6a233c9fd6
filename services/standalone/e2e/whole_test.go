package e2e

import (
	"bytes"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// How long the stories are told, and how fast. Prometheus comes once a second,
// so a 5-minute bucket stays in the replay for 2.5 h / 240 = 37 scrapes.
const (
	back  = 9 * time.Hour
	speed = 240
	// settleFor is how long before the end a window must have ended to be final
	// for certain, whatever happened to it shortly before.
	settleFor = 75 * time.Minute
)

// Leader, standby, two exposers, Postgres, Prometheus. Prometheus is down for
// an hour, both exposers are restarted. What Prometheus holds in the end is
// the truth, whole and alone (G1, G2, G3, G5).
func TestWhatPrometheusHoldsIsTheTruth(t *testing.T) {
	dsn := pgtest.DSN(t)
	data := []string{address(t), address(t)}
	prometheus := startPrometheus(t, back+30*time.Hour, data...)
	w := newWorld(t, back, speed, nil)
	grpc := []string{address(t), address(t)}
	w.startCollector("leader", dsn, grpc[0])
	w.startCollector("standby", dsn, grpc[1])
	exposers := []*actor{w.startExposer("exposer-1", data[0], grpc...), w.startExposer("exposer-2", data[1], grpc...)}

	w.until(4 * time.Hour)
	sameBytes(t, data[0], data[1])
	prometheus.Stop()
	w.until(5 * time.Hour)
	prometheus.Start()
	w.until(6 * time.Hour)
	for _, x := range exposers {
		x.stop()
		x.start()
	}
	w.until(back)

	until := w.clock.Now().Add(-settleFor)
	want := expected(t, w.sim, w.zones, until)
	testkit.Eventually(t, 20*time.Second, func() error { return lacks(held(t, prometheus, w.began.Add(-50*time.Hour)), want) })
	compare(t, held(t, prometheus, w.began.Add(-50*time.Hour)), want, until)
	quiet(t, prometheus)
	budget(t, w)
}

// lacks is nil when everything wanted is there.
func lacks(got, want map[point]float64) error {
	for p := range want {
		if _, there := got[p]; !there {
			return missingError(p)
		}
	}
	return nil
}

type missingError point

func (e missingError) Error() string { return "missing: " + point(e).String() }

// sameBytes checks G5: at one revision, one body.
func sameBytes(t *testing.T, a, b string) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, func() error {
		_, ha, ba := get(t, "http://"+a+"/metrics")
		_, hb, bb := get(t, "http://"+b+"/metrics")
		if ha.Get("X-Weir-Revision") != hb.Get("X-Weir-Revision") || ha.Get("X-Weir-Revision") == "" {
			return errRevisions
		}
		if !bytes.Equal(ba, bb) {
			t.Fatalf("two exposers at revision %s serve different bytes (%d and %d)", ha.Get("X-Weir-Revision"), len(ba), len(bb))
		}
		return nil
	})
}

type constError string

func (e constError) Error() string { return string(e) }

const errRevisions = constError("the exposers are not at one revision")

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
