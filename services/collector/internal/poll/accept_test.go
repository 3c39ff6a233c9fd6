package poll_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
)

// broken is a world in which one of two zones is never answered about, and the queries
// that name it are noted by window.
func broken(t *testing.T) (w *world, shop bucket.Scope, asked map[bucket.Time]int) {
	t.Helper()
	w = newWorld(t, func(c *cfsim.Config) {
		zones("shop.example", "checkout.example")(c)
		for _, z := range c.Zones {
			if z.Name == "shop.example" {
				shop = bucket.Scope{Kind: bucket.Zone, ID: z.ID}
			}
		}
		c.Faults = []cfsim.Fault{{Kind: cfsim.FaultPartial, Zone: shop.ID, Dataset: "httpRequests1mGroups"}}
	})
	w.only("http_5m")
	asked = map[bucket.Time]int{}
	w.stand(&between{query: func(q cloudflare.Query) error {
		for _, z := range q.Zones {
			for _, s := range q.Selections {
				for start := s.Window.Start; z == shop.ID && start < s.Window.End; start = start.Add(5 * time.Minute) {
					asked[start]++
				}
			}
		}
		return nil
	}})
	return w, shop, asked
}

// An accepted gap is one append with its audit event (G11). It is not requested any more,
// counted as missing by nobody, and stays accepted under the next leader, whatever
// Cloudflare could answer by then.
func TestAcceptedGaps(t *testing.T) {
	w, shop, asked := broken(t)
	hour := bucket.Window{Start: bucket.TimeOf(began).Floor(time.Hour).Add(-time.Hour), End: bucket.TimeOf(began).Floor(time.Hour)}
	req := poll.AcceptGaps{
		Selection: poll.Selection{Datasets: []string{"http_5m"}, Scopes: []bucket.Scope{shop}, Window: bucket.Window{Start: hour.Start - 100, End: hour.End + 100}},
		Asked:     poll.Asked{Requester: "ada", Reason: "the zone was being moved"},
	}
	before := bucket.Revision(0)
	w.leading(2*time.Hour, func(ctx context.Context, p *poll.Poller) {
		if n := w.coverage(shop.ID, hour)[bucketv1.CoverageState_COVERAGE_STATE_MISSING]; n != 12 {
			t.Fatalf("the story itself: %d windows of the hour are missing", n)
		}
		missing := w.metric("weir_collector_gap_windows", "")
		before = w.head()
		dry := req
		dry.DryRun = true
		if got, err := p.AcceptGaps(ctx, dry); err != nil || len(got.Gaps) != 1 || got.Gaps[0].Window != hour || got.Revision != 0 || w.head() != before {
			t.Fatalf("a dry run: %+v, %v; the head is %d after %d", got, err, w.head(), before)
		}
		got, err := p.AcceptGaps(ctx, req)
		if err != nil || len(got.Gaps) != 1 || got.Gaps[0].Window != hour || got.Gaps[0].Name != "shop.example" {
			t.Fatalf("%+v, %v", got, err)
		}
		log := w.log(before)
		if len(log) < 2 || log[0].Kind != bucket.KindGapDecision || log[1].Kind != bucket.KindAudit || log[1].Revision != got.Revision || !log[0].CommittedAt.Equal(log[1].CommittedAt) {
			t.Fatalf("the log went on with %+v", log)
		}
		event, err := wire.AuditEvent(log[1].Payload)
		if err != nil {
			t.Fatal(err)
		}
		if event.GetBefore() == "" || event.GetAfter() != "accepted: 12 windows in 1 ranges" {
			t.Errorf("before %q, after %q", event.GetBefore(), event.GetAfter())
		}
		want := &bucketv1.AuditEvent{
			Action: bucketv1.AuditEvent_ACTION_GAPS_ACCEPTED, Actor: "ada", Reason: "the zone was being moved", Datasets: []string{"http_5m"},
			Scopes: []*bucketv1.Scope{wire.ProtoScope(shop)}, StartUnixSeconds: int64(hour.Start - 100), EndUnixSeconds: int64(hour.End + 100),
			Before: event.GetBefore(), After: event.GetAfter(),
		}
		if d := cmp.Diff(want, event, protocmp.Transform()); d != "" {
			t.Errorf("the event (-want +got):\n%s", d)
		}
		if c := w.coverage(shop.ID, hour); c[bucketv1.CoverageState_COVERAGE_STATE_ACCEPTED] != 12 {
			t.Errorf("a standby says %v", c)
		}

		// Again: refused, on the record.
		before = w.head()
		_, err = p.AcceptGaps(ctx, req)
		var refusal *poll.Refusal
		if !errors.As(err, &refusal) || refusal.Why != poll.Refused {
			t.Errorf("accepted twice: %v", err)
		}
		if e := w.events(); len(e) != 2 || e[0].GetRefused() != "nothing of the selection is missing; 12 windows were accepted before" || e[0].GetActor() != "ada" || e[0].GetAfter() != "" {
			t.Errorf("events %v", e)
		}
		testkit.Eventually(t, func() error { // the loop counts after it has answered
			if n := w.metric("weir_collector_gap_windows", ""); n != missing-12 {
				return fmt.Errorf("%v gap windows are counted, %v before", n, missing)
			}
			return nil
		})
		if n := w.metric("weir_collector_accepted_windows_total", ""); n != 12 {
			t.Errorf("%v windows are counted as accepted", n)
		}
	})

	// Under the next leader, who could read them.
	w.sim.ClearFaults()
	w.run(30 * time.Minute) // one range over everything that is missing
	clear(asked)
	w.run(90 * time.Minute)
	for start := hour.Start; start < hour.End; start = start.Add(5 * time.Minute) {
		if asked[start] > 0 {
			t.Errorf("%s was accepted, and requested %d times", start, asked[start])
		}
	}
	if w.coverage(shop.ID, bucket.Window{Start: hour.End, End: hour.End.Add(time.Hour)})[bucketv1.CoverageState_COVERAGE_STATE_FINAL] != 12 {
		t.Error("the hour after it was not collected")
	}
	if c := w.coverage(shop.ID, hour); c[bucketv1.CoverageState_COVERAGE_STATE_ACCEPTED] != 12 {
		t.Errorf("in the end the hour is %v", c)
	}
}

// A request that is not right in itself leaves no trace.
func TestMalformedRequestsLeaveNoEvent(t *testing.T) {
	w, shop, _ := broken(t)
	w.leading(2*time.Hour, func(ctx context.Context, p *poll.Poller) {
		before := w.head()
		_, err := p.AcceptGaps(ctx, poll.AcceptGaps{
			Selection: poll.Selection{Scopes: []bucket.Scope{shop}, Window: bucket.Window{Start: 1, End: bucket.TimeOf(w.clock.Now())}}, Asked: poll.Asked{Requester: "ada"},
		})
		var refusal *poll.Refusal
		if !errors.As(err, &refusal) || refusal.Why != poll.Malformed || w.head() != before {
			t.Errorf("without a reason: %v, and the head is %d after %d", err, w.head(), before)
		}
		if c := w.coverage(shop.ID, bucket.Window{Start: 1, End: bucket.TimeOf(w.clock.Now())}); c[bucketv1.CoverageState_COVERAGE_STATE_ACCEPTED] != 0 {
			t.Errorf("it had an effect: %v", c)
		}
	})
	if _, err := poll.New(w.config).AcceptGaps(t.Context(), poll.AcceptGaps{}); !errors.Is(err, poll.ErrNotLeading) {
		t.Errorf("a process that does not lead: %v", err)
	}
}
