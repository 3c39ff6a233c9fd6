package poll_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// dying is a store on which a term ends at an append, before it is made or after.
type dying struct {
	store.Store
	appends int // until then; 0: never
	after   bool
}

func (d *dying) Append(ctx context.Context, term store.Term, at bucket.Position, b store.Batch) (bucket.Position, error) {
	d.appends--
	if d.appends == 0 && !d.after {
		return bucket.Position{}, errKilled
	}
	head, err := d.Store.Append(ctx, term, at, b)
	if d.appends == 0 && err == nil {
		return bucket.Position{}, errKilled
	}
	return head, err
}

var errKilled = fmt.Errorf("%w: killed", store.ErrUnavailable)

// A leader is killed again and again, at any append, also at the one that creates or ends the
// backfill: the same request leads to the same backfill, each window is stored once, and the
// report adds up.
func TestABackfillOutlivesItsLeaders(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			w := newWorld(t, zones("shop.example", "checkout.example", "blog.example"))
			w.only("http_5m", "uniques_1h")
			w.run(5 * time.Minute)
			sel := jobs.Selection{Datasets: []string{"http_5m", "uniques_1h"}, Window: daysAgo(48*time.Hour, 0)}
			store, kills := w.store, 0
			var id string
			for range 60 {
				w.config.Passed = nil
				w.config.Store = &dying{Store: store, appends: 1 + rng.IntN(6), after: rng.IntN(2) == 0}
				w.later(w.clock.Now(), func(ctx context.Context) {
					j, err := w.poller.CreateBackfill(ctx, sel, "key", ops)
					switch {
					case errors.Is(err, poll.ErrOutcomeUnknown) || errors.Is(err, poll.ErrNotLeading):
					case err != nil:
						t.Errorf("create: %v", err)
					case id != "" && j.ID != id:
						t.Errorf("a repeated request created %s beside %s", j.ID, id)
					default:
						id = j.ID
					}
				})
				if err := w.tryToRun(3 * time.Minute); errors.Is(err, errKilled) {
					kills++
				} else if err != nil {
					t.Fatal(err)
				}
				if all := w.allJobs(); len(all) == 1 && all[0].State == jobs.Done {
					break
				}
			}
			w.config.Store, w.config.Passed = store, nil
			w.run(5 * time.Minute)
			if kills < 5 {
				t.Errorf("only %d leaders were killed", kills)
			}
			if all := w.allJobs(); len(all) != 1 || all[0].ID != id {
				t.Fatalf("%d backfills, want one, %s", len(all), id)
			}
			done := w.ended(id)
			w.checkTruth()
			w.filled("http_5m", "shop.example", sel.Window)
			w.filled("uniques_1h", "checkout.example", sel.Window)
			backfilled := uint64(0)
			for _, b := range w.stored() {
				if b.Origin == bucket.Backfill {
					backfilled++
				}
			}
			if backfilled != done.Counts.Filled {
				t.Errorf("the report says that %d windows were filled; %d are stored", done.Counts.Filled, backfilled)
			}
			if got := actions(w.audited()); !slices.Equal(got, []string{"CREATED", "DONE"}) {
				t.Errorf("audit events are %v", got)
			}
		})
	}
}

// Cloudflare's retention ends inside the range, and goes on to move while the backfill is
// paused: what was gone is refused, what goes meanwhile is lost, and both are named.
func TestCloudflaresRetentionEndsInsideABackfill(t *testing.T) {
	w := newWorld(t, zones("api.example")) // Pro: its minutes are kept for a day
	w.only("http_5m")
	sel := jobs.Selection{Window: bucket.Window{Start: bucket.TimeOf(began.Add(-30 * time.Hour)), End: bucket.TimeOf(began.Add(-3 * time.Hour))}}
	// A turn may come before the pause does.
	inner := w.config.Credentials[0].Client
	w.config.Credentials[0].Client = &choosy{Client: inner, zone: cfsim.Tag("zone:api.example"), before: sel.Window.End, err: func() error {
		return &cloudflare.Error{Class: cloudflare.Transient, Message: "not yet"}
	}}
	w.later(began.Add(2*time.Minute), func(ctx context.Context) {
		j, err := w.poller.CreateBackfill(ctx, sel, "", ops)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err = w.poller.ChangeBackfill(ctx, j.ID, jobs.Paused, ops); err != nil {
			t.Error(err)
		}
	})
	w.later(began.Add(4*time.Hour), func(ctx context.Context) {
		if _, err := w.poller.ChangeBackfill(ctx, w.allJobs()[0].ID, jobs.Running, ops); err != nil {
			t.Error(err)
		}
	})
	w.run(2 * time.Hour)
	id := w.allJobs()[0].ID
	if j := w.job(id); j.State != jobs.Paused || j.Requests > 1 || j.Counts.Filled != 0 {
		t.Fatalf("a paused backfill is %s, with %d requests and %+v", j.State, j.Requests, j.Counts)
	}
	w.config.Credentials[0].Client = inner
	w.run(3 * time.Hour) // another leader
	done := w.ended(id)
	// Six hours were gone, four more went; the margin is a window.
	within := func(what string, got uint64, hours int) {
		if got < uint64(hours*12-3) || got > uint64(hours*12+3) {
			t.Errorf("%d windows are %s; want about %d", got, what, hours*12)
		}
	}
	within("refused", done.Counts.Refused, 6)
	within("lost", done.Counts.Lost, 4)
	within("filled", done.Counts.Filled, 17)
	if len(done.Refused) != 2 || done.Refused[0].Lost || !done.Refused[1].Lost || done.Refused[0].Window.End != done.Refused[1].Window.Start {
		t.Errorf("the report names %+v", done.Refused)
	}
	for _, r := range done.Refused {
		if r.Reason != jobs.CloudflareRetention || r.Name != "api.example" || !strings.Contains(r.Detail, "24 hours") {
			t.Errorf("a range is refused as %+v", r)
		}
	}
	w.checkTruth()
	if got := actions(w.audited()); !slices.Equal(got, []string{"CREATED", "PAUSED", "RESUMED", "DONE"}) {
		t.Errorf("audit events are %v", got)
	}
	if n := w.missing(cfsim.Tag("zone:api.example"), began.Add(-3*time.Hour)); n > 0 {
		t.Errorf("%d windows of regular work are missing", n)
	}
}

// choosy is a client that refuses requests about old windows of one zone.
type choosy struct {
	upstream.Client
	zone   string
	before bucket.Time
	err    func() error
	asked  int
}

func (c *choosy) Query(ctx context.Context, q cloudflare.Query) (*cloudflare.Response, error) {
	old := slices.ContainsFunc(q.Selections, func(s cloudflare.Selection) bool { return s.Window.Start < c.before })
	if old && slices.Contains(q.Zones, c.zone) {
		c.asked++
		return nil, c.err()
	}
	return c.Client.Query(ctx, q)
}

// Old windows of a zone fail in every way that Cloudflare has: its new windows come as ever,
// no problem is reported, another backfill is done, and this one says the error and gives up
// after a day.
func TestAFailingBackfillDelaysNobody(t *testing.T) {
	for _, class := range []cloudflare.Class{cloudflare.Transient, cloudflare.BadResponse, cloudflare.Entitlement, cloudflare.Unknown, cloudflare.Denied, cloudflare.Auth} {
		t.Run(class.String(), func(t *testing.T) {
			w := newWorld(t, zones("shop.example", "checkout.example"))
			w.only("http_5m")
			log := w.config.Logger
			w.config.Trouble = trouble.New(log, w.clock.Now, w.registry)
			shop := cfsim.Tag("zone:shop.example")
			c := &choosy{Client: w.config.Credentials[0].Client, zone: shop, before: bucket.TimeOf(began.Add(-4 * time.Hour)), err: func() error {
				return &cloudflare.Error{Class: class, Message: "old windows are odd", Zone: shop}
			}}
			w.config.Credentials[0].Client = c
			bad := w.backfills(began.Add(2*time.Minute), jobs.Selection{Zones: []string{"shop.example"}, Window: daysAgo(24*time.Hour, 0)}, "bad")
			good := w.backfills(began.Add(3*time.Minute), jobs.Selection{Zones: []string{"checkout.example"}, Window: daysAgo(24*time.Hour, 0)}, "good")
			problems := map[string]bool{}
			passed := w.config.Passed
			w.config.Passed = func() {
				passed()
				for _, p := range w.config.Trouble.List(true) { // a term ends its problems
					problems[string(p.Code)+" "+p.About] = true
				}
			}
			w.run(2 * time.Hour)
			w.ended(good.ID)
			if j := w.job(bad.ID); j.State != jobs.Running || !strings.Contains(j.LastError, "old windows are odd") || j.Counts.Filled != 0 {
				t.Errorf("the failing backfill is %s with %+v, last error %q", j.State, j.Counts, j.LastError)
			}
			if c.asked < 5 || c.asked > 60 {
				t.Errorf("%d requests failed within two hours", c.asked)
			}
			for _, b := range w.stored() {
				if late := b.ReadAt.Sub(b.Window().End); b.Start > bucket.TimeOf(began) && late > 25*time.Minute {
					t.Errorf("%s was read last %s after its end", b.Key, late)
				}
			}
			if n := w.missing(shop, began.Add(-3*time.Hour)); n > 0 {
				t.Errorf("%d new windows of the zone are missing", n)
			}
			if len(problems) > 0 {
				t.Errorf("problems are reported: %v", problems)
			}
			if class != cloudflare.Transient {
				return
			}
			w.run(7 * time.Hour)
			if len(problems) != 1 || !problems[string(trouble.BackfillStalled)+" "+bad.ID] {
				t.Errorf("a backfill that fills nothing for hours is reported as %v", problems)
			}
			w.run(26 * time.Hour) // of one leader: failures are counted by it
			done := w.ended(bad.ID)
			if done.Counts.Refused != done.Counts.Total || len(done.Refused) == 0 || done.Refused[0].Reason != jobs.Failed || !strings.Contains(done.Refused[0].Detail, "odd") {
				t.Errorf("the report is %+v, %v", done.Counts, done.Refused)
			}
		})
	}
}

// What operators ask is carried out or refused, and recorded either way.
func TestBackfillRequests(t *testing.T) {
	w := newWorld(t, zones("shop.example", "blog.example"))
	w.only("uniques_1d")
	w.config.Trouble = trouble.New(w.config.Logger, w.clock.Now, w.registry)
	client := w.config.Credentials[0].Client
	w.config.Credentials[0].Client = &choosy{Client: client, zone: cfsim.Tag("zone:shop.example"), before: bucket.TimeOf(began.Add(-5 * 24 * time.Hour)), err: func() error {
		return &cloudflare.Error{Class: cloudflare.Transient, Message: "not now"} // so that none is done before it is paused
	}}
	sel := jobs.Selection{Zones: []string{"shop.example"}, Window: daysAgo(20*24*time.Hour, 10*24*time.Hour)}
	why := func(err error) poll.Why {
		var r *poll.Refusal
		if errors.As(err, &r) {
			return r.Why
		}
		return 0
	}
	w.leading(3*time.Minute, func(ctx context.Context, p *poll.Poller) {
		past := bucket.TimeOf(began.Add(-time.Hour))
		for text, bad := range map[string]jobs.Selection{
			`dataset "dns_5m" is not collected`:                      {Datasets: []string{"dns_5m"}, Window: sel.Window},
			`no zone is named "shop.exampel"`:                        {Zones: []string{"shop.exampel"}, Window: sel.Window},
			"is not known to this collector":                         {Scopes: []bucket.Scope{{Kind: bucket.Zone, ID: strings.Repeat("a", 32)}}, Window: sel.Window},
			"is due yet":                                             {Window: bucket.Window{Start: bucket.TimeOf(began.Add(time.Hour)), End: bucket.TimeOf(began.Add(72 * time.Hour))}},
			"no whole window":                                        {Window: bucket.Window{Start: past, End: past.Add(time.Second)}},
			"than the retention of the store, 90d":                   {Window: daysAgo(100*24*time.Hour, 0)},
			"[1970-01-02T00:00:00Z, 9999-12-31T00:00:00Z) is longer": {Window: bucket.Window{Start: 86400, End: 253402214400}},
		} {
			if _, err := p.CreateBackfill(ctx, bad, "", ops); why(err) != poll.Malformed || !strings.Contains(err.Error(), text) {
				t.Errorf("%v; want it refused with %q", err, text)
			}
		}
		e, err := p.EstimateBackfill(ctx, sel)
		if err != nil {
			t.Fatal(err)
		}
		if e.Counts.Total != 10 || e.Counts.Missing != 10 || e.Requests != 1 || e.Duration <= 0 || len(e.Missing) != 1 || e.Missing[0].Regular {
			t.Errorf("the estimate is %+v", e)
		}
		first, err := p.CreateBackfill(ctx, sel, "k", ops)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := p.CreateBackfill(ctx, sel, "k", ops); err != nil || again.ID != first.ID {
			t.Errorf("the same key: %v, %v", again, err)
		}
		other := sel
		other.Zones = nil
		if _, err := p.CreateBackfill(ctx, other, "k", ops); why(err) != poll.Malformed {
			t.Errorf("the key of another selection: %v", err)
		}
		for range jobs.MaxOpen - 1 {
			if _, err := p.CreateBackfill(ctx, sel, "", ops); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.CreateBackfill(ctx, sel, "", ops); why(err) != poll.TooMany {
			t.Errorf("more than %d: %v", jobs.MaxOpen, err)
		}
		for _, to := range []jobs.State{jobs.Paused, jobs.Paused, jobs.Running, jobs.Cancelled, jobs.Cancelled} {
			if j, err := p.ChangeBackfill(ctx, first.ID, to, ops); err != nil || j.State != to {
				t.Errorf("change to %s: %v, %v", to, j, err)
			}
		}
		if _, err := p.ChangeBackfill(ctx, first.ID, jobs.Paused, ops); why(err) != poll.Refused {
			t.Errorf("pause what was cancelled: %v", err)
		}
		if _, err := p.ChangeBackfill(ctx, "nobody", jobs.Paused, ops); why(err) != poll.NotFound {
			t.Errorf("pause what is not there: %v", err)
		}
	})
	want := slices.Concat(slices.Repeat([]string{"CREATED"}, jobs.MaxOpen), []string{"CREATED refused", "PAUSED", "RESUMED", "CANCELLED", "PAUSED refused", "PAUSED refused"})
	events := w.audited()
	if got := actions(events); !slices.Equal(got, want) {
		t.Errorf("audit events are %v; want %v", got, want)
	}
	for _, e := range events {
		if e.GetActor() != ops.Requester || e.GetReason() != ops.Reason || e.GetBackfillId() == "nobody" != (e.GetStartUnixSeconds() == 0) {
			t.Errorf("an event says %v", e)
		}
	}
	if c := events[0]; !strings.Contains(c.GetAfter(), "10 missing") || c.GetStartUnixSeconds() != int64(sel.Window.Start) || len(c.GetScopes()) != 1 {
		t.Errorf("the first event is %v", c)
	}
	w.config.Credentials[0].Client = client
	w.run(10 * time.Minute) // the nine others share the windows of one
	if done, cancelled := w.metric("weir_collector_backfill_jobs_ended_total", "done"), w.metric("weir_collector_backfill_jobs_ended_total", "cancelled"); done != jobs.MaxOpen-1 || cancelled != 1 {
		t.Errorf("%v backfills were done and %v cancelled, says the counter", done, cancelled)
	}
	filled := 0
	for _, j := range w.allJobs() {
		if j.State == jobs.Done {
			filled++
			w.ended(j.ID)
		}
	}
	if filled != jobs.MaxOpen-1 {
		t.Errorf("%d backfills are done", filled)
	}
	done := actions(w.audited())
	if n := len(slices.DeleteFunc(done, func(a string) bool { return a != "DONE" })); n != filled {
		t.Errorf("%d backfills ended with an event", n)
	}
}

// A job has so many windows that it can be planned; retention alone allows more.
func TestABackfillHasNotTooManyWindows(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		for i := range 30 {
			z := c.Zones[0]
			z.Name = fmt.Sprintf("more%d.example", i)
			z.ID = cfsim.Tag("zone:" + z.Name)
			c.Zones = append(c.Zones, z)
		}
	})
	w.only("http_5m")
	w.config.Retention = 3650 * 24 * time.Hour
	w.leading(3*time.Minute, func(ctx context.Context, p *poll.Poller) {
		sel := jobs.Selection{Window: daysAgo(3600*24*time.Hour, 24*time.Hour)}
		if _, err := p.CreateBackfill(ctx, sel, "", ops); err == nil || !strings.Contains(err.Error(), "windows; at most 20000000") {
			t.Errorf("ten years of all zones: %v", err)
		}
		sel.Zones = []string{"more1.example"}
		if j, err := p.CreateBackfill(ctx, sel, "", ops); err != nil || j.Total != 3599*288 {
			t.Errorf("ten years of one: %+v, %v", j, err)
		}
	})
}

// Right after a backfill of the oldest days, retention drops them: whoever follows the log from
// before the backfill can go on (no COMPACTED), and the report counts what was filled.
func TestRetentionAfterABackfillCompactsNobody(t *testing.T) {
	w := newWorld(t, zones("shop.example"))
	w.only("uniques_1d")
	w.config.Retention = 20 * 24 * time.Hour
	w.run(10 * time.Minute)
	follower := w.head()
	j := w.backfills(w.clock.Now(), jobs.Selection{Window: daysAgo(20*24*time.Hour, 24*time.Hour)}, "")
	w.run(10 * time.Minute)
	done := w.ended(j.ID)
	if done.Counts.Filled < 16 || done.Counts.Refused < 1 || done.Refused[0].Reason != jobs.StoreRetention {
		t.Fatalf("the backfill brought %+v, refused %v", done.Counts, done.Refused)
	}
	oldest := bucket.Time(1 << 40)
	for key := range w.stored() {
		oldest = min(oldest, key.Start)
	}
	w.clock.Set(oldest.Std().Add(w.config.Retention + 4*24*time.Hour)) // four days of it are over
	w.run(5 * time.Minute)
	dropped := 0
	for _, e := range w.log(follower) { // fails if it is compacted
		if e.Kind == bucket.KindDropped {
			dropped++
		}
	}
	if dropped < 3 {
		t.Errorf("retention dropped %d buckets of the backfill", dropped)
	}
	if after := w.ended(j.ID); after.Counts != done.Counts {
		t.Errorf("the report was %+v and is %+v", done.Counts, after.Counts)
	}
}
