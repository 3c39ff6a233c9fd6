package poll_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// What two equal readings a minute apart cannot see, so that a change of it is
// noticed: a straggler stands still until it is six minutes old, and a node that
// is a minute and a half late moves that past the readings. docs/reliability.md
// says so.
func TestALimitAStragglerBehindALateNodeIsStoredShort(t *testing.T) {
	short := func(delay time.Duration) (short, stored int) {
		w := newWorld(t, func(c *cfsim.Config) {
			c.Settling.Stragglers = .05
			c.Faults = []cfsim.Fault{{Kind: cfsim.FaultZoneDelayed, Dataset: "httpRequests1mGroups", Delay: delay}}
		})
		w.only("http_5m")
		w.run(5 * time.Hour)
		for key, b := range w.stored() {
			truth, err := w.sim.True(key.Scope.ID, key.Start.Std(), key.Start.Add(b.Size).Std())
			if err != nil {
				t.Fatal(err)
			}
			got, want := value(b, "cloudflare_zone_requests"), float64(truth.Requests)
			switch stored++; {
			case got > want || got < want*.85: // a minute of five at half
				t.Errorf("%s: %v requests, truth is %v", key, got, want)
			case got < want:
				short++
			}
		}
		return short, stored
	}
	for delay, limited := range map[time.Duration]bool{0: false, 90 * time.Second: true, 2 * time.Minute: false, 15 * time.Minute: false} {
		n, of := short(delay)
		t.Logf("with a node %s late %d of %d buckets are short", delay, n, of)
		if (n > 0) != limited {
			t.Errorf("with a node %s late %d of %d buckets are short", delay, n, of)
		}
	}
}
