package poll_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/audit"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// asked is one zone and window of a query for an audit.
type asked struct {
	zone  string
	start bucket.Time
	age   string
}

// auditors is a world of two zones whose minutes Cloudflare keeps for days,
// with nothing but http_5m and no history, so that whatever is asked about a
// window of an hour ago is an audit. Queries for audits are noted with their
// time, and given to spoil.
func auditors(t *testing.T, change func(*cfsim.Config), spoil *between) (*world, map[asked]time.Time) {
	w := newWorld(t, func(c *cfsim.Config) {
		zones("shop.example", "checkout.example")(c)
		if change != nil {
			change(c)
		}
	})
	w.only("http_5m")
	w.config.Lookback = 0
	seen := map[asked]time.Time{}
	var of bool // the query at hand is an audit
	w.stand(&between{
		query: func(q cloudflare.Query) error {
			of = false
			for _, s := range q.Selections {
				age := bucket.TimeOf(w.clock.Now()).Sub(s.Window.End)
				if age < 50*time.Minute {
					continue
				}
				of = true
				for _, zone := range q.Zones {
					a := asked{zone, s.Window.Start, "1h"}
					if age > 12*time.Hour {
						a.age = "24h"
					}
					if s.Window.Len() != 5*time.Minute || !seen[a].IsZero() {
						t.Errorf("%+v is asked at %s, was asked at %s; the selection's window is %s", a, w.clock.Now(), seen[a], s.Window)
					}
					seen[a] = w.clock.Now()
				}
			}
			if of && spoil.query != nil {
				return spoil.query(q)
			}
			return nil
		},
		answer: func(a *cloudflare.Response) {
			if of && spoil.answer != nil {
				spoil.answer(a)
			}
		},
	})
	return w, seen
}

// drift is the report on http_5m.
func (w *world) drift() audit.Report {
	w.t.Helper()
	records, err := w.store.Records(w.t.Context(), audit.KindDrift)
	if err != nil {
		w.t.Fatal(err)
	}
	drifts, bad := audit.ReadDrifts(records)
	if bad != nil {
		w.t.Fatal(bad)
	}
	for _, r := range audit.Reports(drifts) {
		if r.Dataset == "http_5m" {
			return r
		}
	}
	return audit.Report{}
}

// counted reads a counter of audited buckets.
func (w *world) counted(age string, result audit.Result) (n float64) {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "weir_collector_audited_buckets_total" && labels["age"] == age && labels["result"] == string(result) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// payloads are the bytes of all stored buckets.
func (w *world) payloads() map[bucket.Key]string {
	out := map[bucket.Key]string{}
	for _, e := range w.entries(bucket.KindBucket) {
		out[e.Key] = string(e.Payload)
	}
	return out
}

// Cloudflare revises final buckets up and down. The report says exactly that,
// each window is asked about once at an age although the leader changes, and
// not a byte of what is stored does (G1).
func TestAuditsMeasureWhatMovedAndChangeNothing(t *testing.T) {
	w, seen := auditors(t, func(c *cfsim.Config) { c.Settling.Revisions, c.Settling.Downward = .04, .04 }, &between{})
	w.run(25 * time.Hour)
	before := w.payloads()
	for range 7 {
		w.run(time.Hour)
	}
	after := w.payloads()
	for key, payload := range before {
		if after[key] != payload {
			t.Errorf("%s was changed", key)
		}
	}
	type figures struct {
		same, moved uint64
		up, down    float64
	}
	want, stored := map[string]figures{}, w.stored()
	for a, at := range seen {
		b := stored[bucket.Key{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: a.zone}, Start: a.start}]
		later, err := w.sim.Shown(a.zone, "httpRequests1mGroups", b.Start.Std(), b.Window().End.Std(), at)
		if err != nil {
			t.Fatal(err)
		}
		f, by := want[a.age], float64(later.Requests)-value(b, "cloudflare_zone_requests")
		if by == 0 {
			f.same++
		} else {
			f.moved++
		}
		f.up, f.down = f.up+max(by, 0), f.down+max(-by, 0)
		want[a.age] = f
	}
	report, got := w.drift(), map[string]figures{}
	for _, a := range report.Audits {
		got[a.Age] = figures{same: a.Same, moved: a.Moved}
		if n := w.counted(a.Age, audit.Moved); n != float64(a.Moved) {
			t.Errorf("at %s the metric counts %v moved buckets, the report %d", a.Age, n, a.Moved)
		}
	}
	for _, f := range report.Families {
		if f.Family == "cloudflare_zone_requests" {
			g := got[f.Age]
			g.up, g.down = f.Up, f.Down
			got[f.Age] = g
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(figures{})); diff != "" {
		t.Errorf("what moved (-want +got):\n%s", diff)
	}
	if f := want["1h"]; f.moved == 0 || f.same == 0 || f.up == 0 || f.down == 0 || want["24h"].moved <= 3 {
		t.Errorf("the story has lost its subject: %+v", want)
	}
	for _, m := range report.Worst {
		at := seen[asked{m.Scope.ID, m.Start, m.Age}]
		if m.ReadAt != bucket.TimeOf(at) || m.Ratio <= 0 || m.Ratio > .05 || m.Zone != "shop.example" && m.Zone != "checkout.example" {
			t.Errorf("a movement that was read at %s is reported as %+v", at, m)
		}
	}
	if len(report.Worst) != 10 {
		t.Errorf("%d of the movements are named, want the worst ten", len(report.Worst))
	}
}

// Where nothing is revised nothing has moved, and the delay is found to do. What
// the plan no longer shows is not asked for.
func TestAuditsFindNothingWhereNothingMoved(t *testing.T) {
	w, seen := auditors(t, func(c *cfsim.Config) {
		*c = cfsim.Demo(c.Clock, 1)
		zones("shop.example", "checkout.example", "api.example", "media.example", "docs.example")(c)
		c.Settling.Stragglers = 0
	}, &between{})
	w.run(27 * time.Hour)
	report := w.drift()
	for _, a := range report.Audits {
		if a.Same < 5 || a.Moved+a.Gone+a.Unanswered > 0 {
			t.Errorf("audits: %+v", a)
		}
	}
	if len(report.Audits) != 2 || len(report.Worst) != 0 {
		t.Errorf("%d ages and %d movements are reported", len(report.Audits), len(report.Worst))
	}
	if report.RecommendedSeconds == nil || *report.RecommendedSeconds != 300 || report.DelaySeconds != 300 {
		t.Errorf("%s", audit.Text([]audit.Report{report}))
	}
	perHour := map[time.Time]map[time.Time]bool{}
	for a, at := range seen {
		kept := a.zone == cfsim.Tag("zone:shop.example") || a.zone == cfsim.Tag("zone:checkout.example")
		if a.age == "24h" && !kept {
			t.Errorf("%+v is asked for, though a Pro zone's minutes are kept for a day", a)
		}
		if a.zone == cfsim.Tag("zone:docs.example") {
			t.Errorf("%+v is asked for, though it is from a sampled dataset", a)
		}
		hour := at.Truncate(time.Hour)
		if perHour[hour] == nil {
			perHour[hour] = map[time.Time]bool{}
		}
		perHour[hour][at] = true
	}
	for hour, n := range perHour {
		if len(n) > audit.PerHour {
			t.Errorf("%d audits were sent in the hour from %s", len(n), hour)
		}
	}
}

// A budget that is nearly used up is for what matters; audits wait until it is
// free again, and what is too late by then is left out.
func TestAuditsLeaveABusyBudgetAlone(t *testing.T) {
	w, seen := auditors(t, nil, &between{})
	until := began.Add(6 * time.Hour)
	grant, err := w.store.Reserve(t.Context(), store.Permits{
		User: "u", Want: 80, Limit: 150, Now: began, UseBy: until, Span: 5 * time.Minute, Holder: "somebody else",
	})
	if err != nil || grant.N != 80 {
		t.Fatalf("granted %+v, %v", grant, err)
	}
	w.run(6 * time.Hour)
	if len(seen) != 0 {
		t.Errorf("%d audits were made with more than half of the budget spoken for", len(seen))
	}
	for _, zone := range []string{"shop.example", "checkout.example"} {
		if n := w.missing(cfsim.Tag("zone:"+zone), began); n != 0 {
			t.Errorf("%s: %d windows are missing", zone, n)
		}
	}
	w.run(3 * time.Hour)
	if len(seen) == 0 {
		t.Error("no audits were made after the budget was free again")
	}
	for a, at := range seen {
		if late := at.Sub(a.start.Add(5*time.Minute).Std()) - time.Hour; late > 31*time.Minute {
			t.Errorf("%+v was made %s late", a, late)
		}
	}
}

// What goes wrong with an audit costs the sample and nothing else.
func TestAFailedAuditDisturbsNobody(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  between
		result audit.Result
	}{
		"refused": {between{query: func(cloudflare.Query) error {
			return &cloudflare.Error{Class: cloudflare.Entitlement, Message: "zone does not have access to the path"}
		}}, audit.Unanswered},
		"failed": {between{query: func(cloudflare.Query) error {
			return &cloudflare.Error{Class: cloudflare.Transient, Message: "busy"}
		}}, audit.Unanswered},
		"without the zones": {between{answer: func(a *cloudflare.Response) { clear(a.Zones) }}, audit.Unanswered},
		"empty": {between{answer: func(a *cloudflare.Response) {
			for _, zone := range a.Zones {
				for alias := range zone {
					zone[alias] = nil
				}
			}
		}}, audit.Gone},
	} {
		w, seen := auditors(t, nil, &c.spoil)
		w.run(4 * time.Hour)
		if len(seen) == 0 {
			t.Fatalf("%s: no audit was made", name)
		}
		if n := w.counted("1h", c.result); n != float64(len(seen)) {
			t.Errorf("%s: %v of %d audits count as %s", name, n, len(seen), c.result)
		}
		if r := w.drift(); len(r.Worst) != 0 || len(r.Families) != 0 {
			t.Errorf("%s: it is reported as a movement: %+v", name, r)
		}
		for _, zone := range []string{"shop.example", "checkout.example"} {
			id := cfsim.Tag("zone:" + zone)
			if n, gaps := w.missing(id, began), w.gaps("http_5m", id); n != 0 || len(gaps) != 0 {
				t.Errorf("%s: %s: %d windows are missing, gaps %v", name, zone, n, gaps)
			}
		}
	}
}

// dated is a budget that remembers when its last permit was taken.
type dated struct {
	upstream.Budget
	now   func() time.Time
	taken time.Time
}

func (d *dated) TryTake(ctx context.Context, lane quota.Lane) (bool, time.Duration, error) {
	ok, wait, err := d.Budget.TryTake(ctx, lane)
	if ok {
		d.taken = d.now()
	}
	return ok, wait, err
}

// An audit writes down that it begins before it asks. Should that take long, its permit
// no longer counts, and is not used.
func TestAnAuditDoesNotUseAnOldPermit(t *testing.T) {
	var budget *dated
	audits := 0
	spoil := between{}
	w, _ := auditors(t, nil, &spoil)
	budget = &dated{Budget: w.config.Credentials[0].Budget, now: w.clock.Now}
	w.config.Credentials[0].Budget = budget
	spoil.query = func(cloudflare.Query) error {
		audits++
		if age := w.clock.Now().Sub(budget.taken); age > 5*time.Second {
			t.Errorf("an audit is sent %s after its permit was taken", age)
		}
		return nil
	}
	var since time.Time
	refused, _ := w.refuse(func(what string, b *store.Batch) error {
		if what != "append" || !slices.ContainsFunc(b.Records, func(r store.Record) bool { return r.Kind == audit.KindLane }) {
			return nil
		}
		if since.IsZero() {
			since = w.clock.Now()
		}
		if w.clock.Now().Sub(since) < 30*time.Minute {
			return store.ErrNoSpace
		}
		return nil
	})
	w.run(5 * time.Hour)
	if refused.failed < 20 || audits == 0 {
		t.Errorf("%d writes were refused and %d audits sent: the story did not happen", refused.failed, audits)
	}
}
