package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
)

// holeDays is how long the collector of TestBinaryBackfillFromAHoleToProof was down.
const holeDays = 3

// The collector was down for three days, so that neither the store nor Prometheus has them,
// and Cloudflare still does. The hole is listed and planned, the store is filled, the files
// are exported, loaded and verified: what Prometheus holds then is what happened, sample by
// sample. The first hours of the range are older than the zones' start, so that nobody but
// the backfill wants them.
func TestBinaryBackfillFromAHoleToProof(t *testing.T) {
	t.Parallel()
	tools := promtest.Find(t)
	c := newChain(t, holeDays+1, 0, "", enterprise("shop.example", "news.example")...)
	const unwanted = 2 * time.Hour
	down := c.start.AddDate(0, 0, 1).Add(unwanted)
	c.lived(down)
	log, _ := c.stored(nil)
	began := c.start.AddDate(0, 0, 1) // of the hole in Prometheus, which was down first
	p := c.prometheus(tools, 0, func(series string, at int64) bool {
		return at >= c.start.Add(unwanted).UnixMilli() && at < began.UnixMilli()
	})

	// The collector is back, and Cloudflare does not answer about its minutes yet.
	silence, err := c.sim.Inject(cfsim.Fault{Kind: cfsim.FaultPartial, Dataset: "httpRequests1mGroups"})
	if err != nil {
		t.Fatal(err)
	}
	s := c.collector("collector-0")
	s.again()
	s.ready()
	plan := c.planned(false)
	present := plan.GetWindows().GetPresent()
	if most := uint64(len(c.zones)) * 288; present < most*9/10 || present > most || plan.GetWindows().GetMissing() != c.windows()-present {
		t.Errorf("the plan counts %v", plan.GetWindows())
	}
	gaps := new(adminv1.ListGapsResponse)
	testkit.Eventually(t, func() error {
		c.says(0, gaps, c.of("gaps", "list")...)
		if len(gaps.GetGaps()) < len(c.zones) {
			return constError("the hole is not listed yet")
		}
		return nil
	})
	for _, zone := range c.zones {
		// One range that nobody has wanted, and one that regular work requests.
		var unasked, hole bool
		for _, m := range plan.GetMissing() {
			start, end := time.Unix(m.GetStartUnixSeconds(), 0), time.Unix(m.GetEndUnixSeconds(), 0)
			if m.GetName() != zone {
				continue
			}
			if end.Before(down) {
				unasked = m.GetReason() == 0 && start.Equal(c.start) && end.Sub(start) >= unwanted-10*time.Minute
			} else {
				hole = m.GetReason() != 0 && start.Before(down) && start.After(down.Add(-time.Hour)) && end.Equal(c.end)
			}
		}
		if !unasked || !hole {
			t.Errorf("the plan does not say why %s lacks what: %v", zone, plan.GetMissing())
		}
		listed := false
		for _, g := range gaps.GetGaps() {
			listed = listed || g.GetName() == zone && time.Unix(g.GetStartUnixSeconds(), 0).Before(down) && time.Unix(g.GetEndUnixSeconds(), 0).Sub(c.end) >= 0
		}
		if !listed {
			t.Errorf("gaps list does not have the hole of %s: %v", zone, gaps.GetGaps())
		}
	}
	// Verify compares with the store, which has the hours in which Prometheus alone was down.
	before := c.verified(p, 1)
	if before.NotStored == 0 || !strings.Contains(strings.Join(before.Notes, "\n"), "the store itself lacks") {
		t.Errorf("verify does not say that the store has a hole, too: %+v", before)
	}
	for _, r := range before.Ranges {
		if r.Kind != "missing" || !r.Start.Equal(began) || !r.End.Before(down.Add(time.Minute)) {
			t.Errorf("verify found %+v before the repair, want what is missing from %s to %s", r, began, down)
		}
	}

	c.sim.Remove(silence)
	s.stop() // the next leader does not wait for the end of a back-off
	s.again()
	s.ready()
	c.planned(false)
	done := new(adminv1.Backfill)
	c.says(0, done, c.fetch()...)
	if got := done.GetWindows().GetPresent(); got < present { // regular work may have been faster
		t.Errorf("%d windows were present, and %d before", got, present)
	}
	c.reported(done, done.GetWindows().GetPresent(), 0)
	lacks := int64(0)
	for _, samples := range c.truth {
		for at := range samples {
			if at < c.start.Add(unwanted).UnixMilli() || at >= began.UnixMilli() {
				lacks++
			}
		}
	}
	if r := c.verified(p, 1); r.NotStored != 0 || r.Store != c.size() || r.Differing["missing"] != lacks || r.Equal != c.size()-lacks || r.Unserved != lacks-before.Differing["missing"] {
		t.Errorf("verify found %+v after the repair of the store; want %d of %d samples missing, which no scrape can have shown but %d", r, lacks, c.size(), before.Differing["missing"])
	}
	c.load(p, tools, c.of("--job", archiveJob, "--instance", archiveInstance)...) // no scrape of the last days tells them
	s.stop()
	if _, filled := c.stored(log); filled == 0 {
		t.Error("nothing was filled by the backfill alone")
	}
}

// Cloudflare's retention ends inside the range of one zone. What is gone is named by plan,
// report and exit code; all else is filled, and comes to Prometheus (in make test-all).
func TestBinaryBackfillBeyondCloudflaresRetention(t *testing.T) {
	t.Parallel()
	c := newChain(t, 4, 0, "", cfsim.Zone{Name: "shop.example", Plan: cfsim.Enterprise}, cfsim.Zone{Name: "checkout.example", Plan: cfsim.Business}) // the minutes of the latter are kept for three days
	s := c.collector("collector-0")
	s.again()
	s.ready()
	gone := func(what string, all []*adminv1.RefusedRange) (end time.Time, windows uint64) {
		t.Helper()
		if len(all) != 1 {
			t.Fatalf("%s refuses %v, want one range", what, all)
		}
		r := all[0]
		start, end := time.Unix(r.GetStartUnixSeconds(), 0).UTC(), time.Unix(r.GetEndUnixSeconds(), 0).UTC()
		limit := time.Now().Add(-72 * time.Hour)
		if r.GetName() != "checkout.example" || r.GetReason() != adminv1.RefusedReason_REFUSED_REASON_CLOUDFLARE_RETENTION || r.GetLost() || !strings.Contains(r.GetDetail(), "3 days") ||
			!start.Equal(c.start) || end.Before(limit.Add(-10*time.Minute)) || end.After(limit.Add(30*time.Minute)) {
			t.Errorf("%s refuses %v, want checkout.example from %s to %s", what, r, c.start, limit)
		}
		return end, uint64(end.Sub(start) / (5 * time.Minute))
	}
	plan := c.planned(true)
	_, windows := gone("the plan", plan.GetRefused())
	if n := plan.GetWindows(); n.GetRefused() != windows || n.GetMissing() != c.windows()-windows || n.GetPresent() != 0 {
		t.Errorf("the plan counts %v; the refused range has %d windows", n, windows)
	}
	done := new(adminv1.Backfill)
	c.says(3, done, c.fetch()...)
	end, windows := gone("the report", done.GetRefused())
	c.reported(done, 0, windows)
	c.says(0, done, "backfill", "status", done.GetId())
	gone("the status", done.GetRefused())

	if testkit.All() {
		c.only(func(series string, at int64) bool {
			return !strings.Contains(series, "checkout.example") || at >= end.UnixMilli()
		})
		tools := promtest.Find(t)
		p := c.prometheus(tools, 0, func(_ string, at int64) bool { return at >= c.end.Add(-time.Hour).UnixMilli() })
		findings := filepath.Join(t.TempDir(), "findings")
		if code, _, _ := c.weir(p, c.of("verify", "--findings", findings)...); code != 1 {
			t.Fatalf("verify exits with %d, want 1", code)
		}
		c.load(p, tools, "--missing-only", findings)
	}
	s.stop()
	if _, filled := c.stored(nil); filled != c.windows()-windows {
		t.Errorf("a backfill stored %d windows; the report says %d", filled, c.windows()-windows)
	}
}
