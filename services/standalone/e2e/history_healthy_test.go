package e2e

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// A healthy setup verifies clean right after its start, when a day of history is late and
// waits for its turn, and while the round goes on.
func TestBackfillHealthySetupVerifiesClean(t *testing.T) {
	t.Parallel()
	w := newWorldAtNow(t)
	w.lookback = 20 * time.Hour
	feed, shown := address(t), address(t)
	w.startCollector("collector", "", feed)
	w.startExposer("exposer", shown, feed)
	p := startPrometheusOf(t, promtest.Find(t), 30*time.Hour, shown)
	a := &archive{t: t, address: feed}
	verify := func() (r verified) {
		start := time.Now().UTC().Add(-20 * time.Hour).Format(time.RFC3339)
		code, out, _ := a.weir(p, "verify", "--start", start, "--output", "json")
		if code != 0 {
			t.Errorf("a healthy setup exits with %d", code)
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Error(err)
		}
		return r
	}
	testkit.Eventually(t, func() error {
		if len(p.Query(`last_over_time(cloudflare_zone_requests[1h])`, time.Now())) < 3 {
			return constError("Prometheus has no samples yet")
		}
		return nil
	})
	first := verify()
	if first.Pending == 0 || first.Equal == 0 {
		t.Errorf("right after the start %d samples are pending and %d equal", first.Pending, first.Equal)
	}
	// A page of the round is there when a sample older than the newest windows is; the page
	// in turn may have none of the last 20 hours.
	schedule := carousel.New(5*time.Minute, 24*time.Hour, 30)
	testkit.Eventually(t, func() error {
		now := time.Now()
		page := schedule.Windows(schedule.InTurn(carousel.TurnOf(now)))
		old := page.Intersect(bucket.Window{Start: bucket.TimeOf(now.Add(-19 * time.Hour)), End: bucket.TimeOf(now.Add(-70 * time.Minute))})
		if !old.Empty() && len(p.Query(`last_over_time(cloudflare_zone_requests[19h] offset 1h)`, now)) == 0 {
			return constError("Prometheus has got no page yet")
		}
		return nil
	})
	if r := verify(); r.Pending == 0 || r.Equal < first.Equal {
		t.Errorf("in the round %d samples are pending and %d equal, after %d", r.Pending, r.Equal, first.Equal)
	}
}
