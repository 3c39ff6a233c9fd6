package poll_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// revised is a world in which Cloudflare revises final buckets for two days.
func revised(t *testing.T, b *between) (w *world, of bucket.Window) {
	t.Helper()
	w = newWorld(t, func(c *cfsim.Config) {
		zones("shop.example", "checkout.example")(c)
		c.Settling.Revisions, c.Settling.Downward = .2, .2
	})
	w.only("http_5m")
	if b != nil {
		w.stand(b)
	}
	return w, bucket.Window{Start: bucket.TimeOf(began).Floor(time.Hour), End: bucket.TimeOf(began).Floor(time.Hour).Add(4 * time.Hour)}
}

// restated lists the store as restated.
func (w *world) restated() map[bucket.Key]*bucket.Bucket {
	w.t.Helper()
	out := map[bucket.Key]*bucket.Bucket{}
	if err := w.store.List(w.t.Context(), store.ListQuery{Window: bucket.Window{Start: 0, End: 1 << 40}, Restated: true}, func(e store.Entry) error {
		decode := wire.DecodeBucket
		if e.Kind == bucket.KindRestatement {
			decode = wire.DecodeRestatement
		}
		b, err := decode(e.Payload)
		if err == nil {
			out[e.Key] = b
		}
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// A restatement reads final windows again and records what differs, in one append with its
// audit event (G11). Not a byte of what was first stored changes (G1); the list as
// restated is what Cloudflare shows now. What did not move is not restated, and doing it
// again finds everything equal.
func TestRestate(t *testing.T) {
	b := &between{}
	w, of := revised(t, b)
	w.run(4*time.Hour + 30*time.Minute)
	req := poll.Restate{
		Selection: poll.Selection{Datasets: []string{"http_5m"}, Window: of},
		Asked:     poll.Asked{Requester: "ada", Reason: "Cloudflare corrected itself"},
	}
	payloads := w.payloads()
	w.leading(4*time.Hour, func(ctx context.Context, p *poll.Poller) {
		before, sent := w.head(), b.sent
		dry := req
		dry.DryRun = true
		would, err := p.Restate(ctx, dry)
		if err != nil || len(would.Windows) != 2*48 || would.Revision != 0 || w.head() != before {
			t.Fatalf("a dry run: %d windows, %v; the head is %d after %d", len(would.Windows), err, w.head(), before)
		}
		if n := b.sent - sent; n == 0 || n > 20 {
			t.Errorf("%d requests were sent for 48 windows of two zones", n)
		}
		got, err := p.Restate(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		restated, equal := map[bucket.Key]poll.RestatedWindow{}, 0
		for _, win := range got.Windows {
			switch win.Outcome {
			case poll.OutcomeRestated:
				restated[win.Key] = win
			case poll.OutcomeEqual:
				equal++
			default:
				t.Errorf("%s was not read: %s", win.Key, win.Detail)
			}
		}
		if len(restated) == 0 || equal == 0 || len(got.Windows) != 2*48 {
			t.Fatalf("the story has lost its subject: %d windows are restated, %d equal", len(restated), equal)
		}
		// One append: the restatements, and the event last.
		log := w.log(before)
		log = log[:len(restated)+1]
		for i, e := range log {
			want := bucket.KindRestatement
			if i == len(restated) {
				want = bucket.KindAudit
			}
			if e.Kind != want || !e.CommittedAt.Equal(log[0].CommittedAt) {
				t.Fatalf("entry %d of the append has kind %d, and was committed at %s; the first at %s", i, e.Kind, e.CommittedAt, log[0].CommittedAt)
			}
		}
		if last := log[len(restated)].Revision; last != got.Revision {
			t.Errorf("the event has revision %d; the result says %d", last, got.Revision)
		}
		event := w.events()[0]
		if event.GetAction() != bucketv1.AuditEvent_ACTION_RESTATED || event.GetActor() != "ada" || event.GetReason() != req.Reason || event.GetRefused() != "" ||
			event.GetStartUnixSeconds() != int64(of.Start) || event.GetEndUnixSeconds() != int64(of.End) ||
			!strings.Contains(event.GetBefore(), "cloudflare_zone_requests") || !strings.Contains(event.GetAfter(), "restated: ") {
			t.Errorf("the event is %v", event)
		}
		// What is stored, and what it is restated to.
		first, now := w.stored(), w.restated()
		for key, b := range now {
			shown, err := w.sim.Shown(key.Scope.ID, "httpRequests1mGroups", b.Start.Std(), b.Window().End.Std(), w.clock.Now())
			if err != nil {
				t.Fatal(err)
			}
			was, is := value(first[key], "cloudflare_zone_requests"), value(b, "cloudflare_zone_requests")
			win, moved := restated[key]
			switch {
			case key.Start < of.Start || key.Start >= of.End:
				if was != is {
					t.Errorf("%s was not selected, and is restated from %v to %v", key, was, is)
				}
			case is != float64(shown.Requests):
				t.Errorf("%s is restated to %v; Cloudflare shows %v", key, is, shown.Requests)
			case moved && (win.Before["cloudflare_zone_requests"] != was || win.After["cloudflare_zone_requests"] != is):
				t.Errorf("%s from %v to %v; the result says %v to %v", key, was, is, win.Before, win.After)
			}
			if b.Zone != first[key].Zone || b.Account != first[key].Account {
				t.Errorf("%s is restated under the name %s/%s", key, b.Zone, b.Account)
			}
		}
		// Again: nothing differs from what is in force now, and that is on the record too.
		again, err := p.Restate(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		for _, win := range again.Windows {
			if win.Outcome != poll.OutcomeEqual {
				t.Errorf("again: %+v", win)
			}
		}
		if e := w.events(); len(e) != 2 || !strings.HasPrefix(e[0].GetAfter(), "restated: 0 windows; equal: 96") {
			t.Errorf("events %v", e)
		}
	})
	after := w.payloads()
	for key, payload := range payloads {
		if after[key] != payload {
			t.Errorf("%s was changed", key)
		}
	}
}

// What cannot be read is told window by window, and nothing is restated to it: a refusal
// of one zone, no rows for a window that had some, a window that is not there any more.
func TestRestateFailsByWindow(t *testing.T) {
	var spoil bool
	var shop string
	b := &between{}
	b.answer = func(a *cloudflare.Response) {
		for zone := range a.Zones {
			for alias := range a.Zones[zone] {
				if spoil && zone == shop {
					a.Zones[zone][alias] = []map[string]any{}
				}
			}
		}
	}
	w, of := revised(t, b)
	for _, z := range w.sim.Zones() {
		if z.Name == "shop.example" {
			shop = z.ID
		}
	}
	w.run(4*time.Hour + 30*time.Minute)
	req := poll.Restate{Selection: poll.Selection{Window: of}, Asked: poll.Asked{Requester: "ada", Reason: "test"}}
	w.leading(4*time.Hour, func(ctx context.Context, p *poll.Poller) {
		spoil = true
		got, err := p.Restate(ctx, req)
		spoil = false
		if err != nil {
			t.Fatal(err)
		}
		for _, win := range got.Windows {
			if failed := win.Outcome == poll.OutcomeFailed; failed != (win.Scope.ID == shop) || failed && !strings.Contains(win.Detail, "no rows") {
				t.Errorf("%+v", win)
			}
		}
		for key, b := range w.restated() {
			if key.Scope.ID == shop && value(b, "cloudflare_zone_requests") != value(w.stored()[key], "cloudflare_zone_requests") {
				t.Errorf("%s is restated to an empty answer", key)
			}
		}

		// One zone is refused: the request is split, and the other is read all the same.
		if _, err := w.sim.Inject(cfsim.Fault{Kind: cfsim.FaultZonesDenied, Zone: shop, Dataset: "httpRequests1mGroups"}); err != nil {
			t.Fatal(err)
		}
		if got, err = p.Restate(ctx, req); err != nil {
			t.Fatal(err)
		}
		for _, win := range got.Windows {
			if failed := win.Outcome == poll.OutcomeFailed; failed != (win.Scope.ID == shop) {
				t.Errorf("%+v", win)
			}
		}
		w.sim.ClearFaults()

		// Another replica answers, which lacks what followed the middle of a window two hours
		// after the first: half of a window is no correction.
		if _, err := w.sim.Inject(cfsim.Fault{Kind: cfsim.FaultZoneDelayed, Zone: shop, Delay: w.clock.Now().Sub(of.Start.Add(2*time.Hour + 150*time.Second).Std())}); err != nil {
			t.Fatal(err)
		}
		stored := w.restated()
		if got, err = p.Restate(ctx, req); err != nil {
			t.Fatal(err)
		}
		late := 0
		for _, win := range got.Windows {
			if win.Scope.ID == shop && strings.Contains(win.Detail, "no data from after the window") {
				late++
			}
		}
		if late == 0 {
			t.Error("no window waits for data from after it: the story has lost its subject")
		}
		w.sim.ClearFaults()
		for key, b := range w.restated() { // a revision is a matter of per cent
			if was, is := value(stored[key], "cloudflare_zone_requests"), value(b, "cloudflare_zone_requests"); is < .8*was {
				t.Errorf("%s was restated from %v to %v, which a replica that is behind had of it", key, was, is)
			}
		}

		// Nothing to restate: refused, on the record.
		n := len(w.events())
		later := req
		later.Window = bucket.Window{Start: of.Start.Add(1000 * time.Hour), End: of.End.Add(1000 * time.Hour)}
		var refusal *poll.Refusal
		if _, err := p.Restate(ctx, later); !errors.As(err, &refusal) || refusal.Why != poll.Refused {
			t.Errorf("windows that are not final: %v", err)
		}
		many := req
		many.Window = bucket.Window{Start: 1, End: bucket.TimeOf(w.clock.Now())}
		many.Datasets = nil
		if _, err := p.Restate(ctx, many); err != nil && (!errors.As(err, &refusal) || refusal.Why != poll.Refused) {
			t.Errorf("everything: %v", err)
		}
		if e := w.events(); len(e) < n+1 || e[len(e)-n-1].GetRefused() != "nothing of the selection is final" {
			t.Errorf("%d events after %d", len(e), n)
		}
	})
}

// One restatement is carried out at a time. Another one is refused meanwhile, on the record.
func TestRestateIsCarriedOutAlone(t *testing.T) {
	b := &between{}
	w, of := revised(t, b)
	w.run(4*time.Hour + 30*time.Minute)
	req := poll.Restate{Selection: poll.Selection{Window: of}, Asked: poll.Asked{Requester: "ada", Reason: "the first"}}
	w.leading(4*time.Hour, func(ctx context.Context, p *poll.Poller) {
		sent := make(chan struct{})
		once := sync.OnceFunc(func() { close(sent) })
		b.query = func(cloudflare.Query) error { // the first waits to send it again, while the clock stands still
			once()
			return &cloudflare.Error{Class: cloudflare.Transient, Message: "not now"}
		}
		waits, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			_, err := p.Restate(waits, req)
			ended <- err
		}()
		<-sent
		n := len(w.events())
		var refusal *poll.Refusal
		dry, second := req, req
		dry.DryRun, second.Requester, second.Reason = true, "bob", "the second"
		if _, err := p.Restate(ctx, dry); !errors.As(err, &refusal) || refusal.Why != poll.TooMany || len(w.events()) != n {
			t.Errorf("a dry run: %v, %d events", err, len(w.events())-n)
		}
		if _, err := p.Restate(ctx, second); !errors.As(err, &refusal) || refusal.Why != poll.TooMany {
			t.Errorf("a second one: %v", err)
		}
		if e := w.events(); len(e) != n+1 || e[0].GetActor() != "bob" || e[0].GetReason() != "the second" || e[0].GetAction() != bucketv1.AuditEvent_ACTION_RESTATED || e[0].GetRefused() != refusal.Text {
			t.Errorf("%d events after %d: %v", len(e), n, e)
		}
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the first: %v", err)
		}
	})
}

// What a backfill has brought from before the start of a zone can be restated like any other
// window, as long as Cloudflare has it.
func TestRestateWhatABackfillBrought(t *testing.T) {
	w := newWorld(t, zones("api.example")) // Pro: its minutes are kept for a day
	w.only("http_5m")
	brought := bucket.Window{Start: bucket.TimeOf(began).Floor(time.Hour).Add(-20 * time.Hour), End: bucket.TimeOf(began).Floor(time.Hour).Add(-16 * time.Hour)}
	j := w.backfills(began.Add(2*time.Minute), jobs.Selection{Window: brought}, "")
	w.run(10 * time.Minute)
	if filled := w.ended(j.ID).Counts.Filled; filled != 48 {
		t.Fatalf("%d windows were filled, want 48", filled)
	}
	w.leading(6*time.Hour, func(ctx context.Context, p *poll.Poller) {
		got, err := p.Restate(ctx, poll.Restate{Selection: poll.Selection{Window: brought}, Asked: poll.Asked{Requester: "ada", Reason: "test"}})
		if err != nil {
			t.Fatal(err)
		}
		limit, equal := bucket.TimeOf(w.clock.Now()).Add(-24*time.Hour), 0
		for _, win := range got.Windows {
			switch {
			case win.Outcome == poll.OutcomeEqual && win.Start >= limit:
				equal++
			case win.Outcome != poll.OutcomeFailed || win.Start > limit.Add(10*time.Minute) || !strings.Contains(win.Detail, "keeps the dataset for 1d and no longer has it"):
				t.Errorf("Cloudflare has what begins at %s or later: %+v", limit, win)
			}
		}
		if len(got.Windows) != 48 || equal == 0 || equal == 48 {
			t.Errorf("%d windows were read again, of which %d are equal", len(got.Windows), equal)
		}
	})
}
