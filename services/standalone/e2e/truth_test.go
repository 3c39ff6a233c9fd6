package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/standalone/truth"
)

// stories are the zones of a simulated Cloudflare, with the names of their accounts.
func stories(c cfsim.Config) (zones []truth.Zone) {
	accounts := map[string]string{}
	for _, a := range c.Accounts {
		accounts[a.ID] = a.Name
	}
	for _, z := range c.Zones {
		zones = append(zones, truth.Zone{Zone: z, AccountName: accounts[z.Account]})
	}
	return zones
}

func expected(t *testing.T, sim *cfsim.Server, zones []truth.Zone, until time.Time) truth.Samples {
	t.Helper()
	want, err := truth.Expected(sim, zones, until)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// compare reports every sample of windows that end at or before until which is
// missing, extra or wrong.
func compare(t *testing.T, got map[truth.Point]float64, want truth.Samples, until time.Time) {
	t.Helper()
	missing, wrong := truth.Missing(got, want.Must), want.Wrong(got, until)
	for _, p := range missing[:min(10, len(missing))] {
		t.Errorf("missing: %s, %v", p, want.May[p])
	}
	for _, w := range wrong[:min(10, len(wrong))] {
		t.Error(w)
	}
	t.Logf("%d samples compared with the truth; %d are missing, %d wrong or extra", len(want.Must), len(missing), len(wrong))
	if len(want.Must) < 500 {
		t.Errorf("only %d samples were expected: the test has lost its subject", len(want.Must))
	}
}

// lacks is nil when everything that must be there is.
func lacks(got map[truth.Point]float64, want truth.Samples) error {
	for p := range want.Must {
		if _, there := got[p]; !there {
			return missingError(p)
		}
	}
	return nil
}

type missingError truth.Point

func (e missingError) Error() string { return "missing: " + truth.Point(e).String() }

// expected is what must be held of the world: history may begin at the lookback
// before the story does, and must begin at the lookback before the zone was
// first listed.
func (w *world) expected(until time.Time) truth.Samples {
	w.t.Helper()
	for i := range w.zones {
		z := &w.zones[i]
		z.From = later(w.began.Add(-w.lookback), z.Created)
		z.Must = later(w.listed(z.Created).Add(-w.lookback), z.Created)
	}
	return expected(w.t, w.sim, w.zones, until)
}

// listed is when the zones were listed for the first time at or after a time.
func (w *world) listed(after time.Time) time.Time {
	w.t.Helper()
	for _, r := range w.sim.Requests() {
		if r.Kind == "rest" && strings.Contains(r.Path, "/zones") && !r.Time.Before(after) {
			return r.Time
		}
	}
	w.t.Fatalf("nobody listed the zones after %s", after)
	return time.Time{}
}
