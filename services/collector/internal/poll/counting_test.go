package poll_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// counters is what counters show at a time: with the stored totals, and with the whole log.
func (w *world) counters(at time.Time) (fromTotals, fromLog map[string]counter.Value, epoch counter.Epoch, behind bucket.Revision) {
	w.t.Helper()
	stored, err := totals.Read(w.t.Context(), w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	short, whole := counter.New(), counter.New()
	if err := stored.Each(func(m *bucketv1.CounterTotals) error {
		t, err := wire.DecodeCounterTotals(m)
		if err != nil {
			return err
		}
		return short.Load(t)
	}); err != nil {
		w.t.Fatal(err)
	}
	definitions := map[string]*bucket.Definition{}
	for _, e := range w.log(0) {
		entry := &bucket.Entry{Position: e.Position, CommittedAt: e.CommittedAt, Kind: e.Kind}
		switch e.Kind {
		case bucket.KindDatasetVersion:
			if entry.Definition, err = unreadable.Definition(&e); err == nil {
				definitions[e.Key.Dataset] = entry.Definition
			}
		case bucket.KindBucket:
			entry.Bucket, err = unreadable.Bucket(&e)
			entry.Definition = definitions[e.Key.Dataset]
		}
		if err != nil {
			w.t.Fatal(err)
		}
		for f, after := range map[*counter.Fold]bucket.Revision{short: stored.Position.Revision, whole: stored.Epoch.After} {
			if e.Revision > after {
				if err := f.Add(entry); err != nil {
					w.t.Fatal(err)
				}
			}
		}
	}
	return shownAt(short, at), shownAt(whole, at), stored.Epoch.Epoch, stored.Position.Revision
}

// shownAt is what a fold shows, by family, zone and labels.
func shownAt(f *counter.Fold, at time.Time) map[string]counter.Value {
	out := map[string]counter.Value{}
	for fam := range f.Families {
		for _, s := range fam.Series() {
			if v, shown := s.At(sample.MillisOf(at)); shown {
				out[strings.Join(append([]string{fam.Name, s.Zone}, s.Values...), "/")] = v
			}
		}
	}
	return out
}

// checkCounters: a reader that begins with the stored totals shows what one shows that has
// followed for weeks; and when all is played out a counter is exactly the sum of the buckets
// that were stored in time, and the other one that of the rest (G10).
func (w *weeks) checkCounters() {
	w.t.Helper()
	stored, err := totals.Read(w.t.Context(), w.world.store)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.log.whole == nil {
		w.log.whole, w.log.epoch = counter.New(), stored.Epoch.Epoch
	}
	if want := w.log.restarted; want != "" && stored.Epoch.ID != want {
		w.t.Fatalf("until %s: counters are in epoch %+v, and were restarted as %s", w.clock.Now(), stored.Epoch, want)
	}
	if stored.Epoch.ID != w.log.epoch.ID {
		w.t.Fatalf("until %s: counters began again: %+v, before %+v", w.clock.Now(), stored.Epoch, w.log.epoch)
	}
	short := counter.New()
	if err := stored.Each(func(m *bucketv1.CounterTotals) error {
		t, err := wire.DecodeCounterTotals(m)
		if err != nil {
			return err
		}
		return short.Load(t)
	}); err != nil {
		w.t.Fatal(err)
	}
	now := w.clock.Now()
	for _, e := range w.log.entries {
		if e.Revision > stored.Position.Revision {
			if err := short.Add(e); err != nil {
				w.t.Fatal(err)
			}
		}
		if e.Revision <= w.log.epoch.After || e.Revision <= w.log.counted {
			continue
		}
		w.log.counted = e.Revision
		if err := w.log.whole.Add(e); err != nil {
			w.t.Fatal(err)
		}
		of := e.Bucket.Dataset + e.Bucket.Zone
		if w.log.first[of].IsZero() {
			w.log.first[of] = e.CommittedAt
		}
		if e.Bucket.Window().End.Std().Add(e.Definition.Delay).Before(w.log.first[of]) {
			continue
		}
		if e.Bucket.Dataset == "http_5m" {
			w.log.due = append(w.log.due, e)
		}
	}
	got, want := shownAt(short, now), shownAt(w.log.whole, now)
	if !maps.Equal(got, want) {
		w.t.Fatalf("until %s (-whole log +from totals):\n%s", now, cmp.Diff(want, got))
	}
	for key, v := range shownAt(w.log.whole, now.Add(3*time.Hour)) {
		family, zone, _ := strings.Cut(key, "/")
		if family != "cloudflare_zone_requests" {
			continue
		}
		live, late := 0., 0.
		for _, e := range w.log.due {
			switch of := value(e.Bucket, family); {
			case e.Bucket.Zone != zone || sample.MillisOf(e.CommittedAt) < v.Began: // before an outage of more than a day
			case e.Bucket.Origin == bucket.Backfill:
			case inTime(e):
				live += of
			default:
				late += of
			}
		}
		if v.Live != live || v.Late != late {
			w.t.Errorf("until %s: the counters of %s end at %v and %v; its buckets have %v and %v", now, zone, v.Live, v.Late, live, late)
		}
	}
}

// inTime reports whether a bucket of five minutes with a delay of five counts live, by the rule
// and without the fold: 14 minutes after its window began, or 75 s later.
func inTime(e *bucket.Entry) bool {
	return !e.CommittedAt.Add(90 * time.Second).After(e.Bucket.Start.Std().Add(15*time.Minute + 15*time.Second))
}

// Over a day with an outage and changes of leader, the totals are at most about an hour behind
// the log, belong to one epoch, and continue as the log does; and the counters of a zone grow
// by the sums of its buckets (G10).
func TestTotalsFollowTheLog(t *testing.T) {
	w := newWorld(t, zones("shop.example", "blog.example"))
	w.only("http_5m")
	var epoch string
	for n := range 8 {
		w.run(3 * time.Hour) // another leader each time
		at := w.clock.Now()
		got, want, e, revision := w.counters(at)
		if len(got) == 0 || !maps.Equal(got, want) {
			t.Fatalf("after %d h the totals show %v, the log %v", 3*(n+1), got, want)
		}
		if epoch == "" {
			epoch = e.ID
		}
		if e.ID != epoch || e.After > 1 { // the definition of the dataset is before it
			t.Fatalf("epoch %+v, want %s, from the beginning of the log", e, epoch)
		}
		for _, entry := range w.log(revision) {
			if age := at.Sub(entry.CommittedAt); age > 65*time.Minute {
				t.Fatalf("after %d h, revision %d of %s ago is not in the totals", 3*(n+1), entry.Revision, age)
			}
		}
	}
	end := w.clock.Now()
	got, _, _, _ := w.counters(end)
	sum := map[string]float64{}
	first := map[string]time.Time{}
	for _, e := range w.log(0) {
		if e.Kind != bucket.KindBucket {
			continue
		}
		b, err := unreadable.Bucket(&e)
		if err != nil {
			t.Fatal(err)
		}
		if first[b.Zone].IsZero() {
			first[b.Zone] = e.CommittedAt
		}
		due := b.Window().End.Std().Add(5 * time.Minute)
		if inTime(&bucket.Entry{Bucket: b, CommittedAt: e.CommittedAt}) && !due.Before(first[b.Zone]) && b.Start.Std().Add(25*time.Minute).Before(end) {
			sum[b.Zone] += value(b, "cloudflare_zone_requests")
		}
	}
	for zone, least := range sum {
		if v := got["cloudflare_zone_requests/"+zone].Live; v < least || v > least*1.1 {
			t.Errorf("the counter of %s is %v; the buckets that are played out have %v", zone, v, least)
		}
	}
	if len(sum) != 2 {
		t.Errorf("sums of %d zones", len(sum))
	}
	// Without the totals a leader begins again.
	records, err := w.store.Records(t.Context(), totals.Kind)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		records[i].Value = nil
	}
	records = append(records, store.Record{Kind: totals.KindHeader, Key: "header"})
	lease, err := w.store.Acquire(t.Context(), "test", time.Minute)
	if err == nil {
		_, err = w.store.Append(t.Context(), lease.Term, lease.Head.Position, store.Batch{CommittedAt: end, Records: records})
	}
	if err != nil {
		t.Fatal(err)
	}
	head := w.head()
	w.run(time.Hour)
	if _, _, e, _ := w.counters(w.clock.Now()); e.ID == epoch || e.After != head {
		t.Errorf("epoch %+v, want another one after revision %d", e, head)
	}
}

// aheadToo is a store on a machine whose clock is ahead.
type aheadToo struct {
	store.Store
	clock *aheadUntil
}

func (a *aheadToo) Head(ctx context.Context) (store.Head, error) {
	head, err := a.Store.Head(ctx)
	head.Now = head.Now.Add(a.clock.off())
	return head, err
}

// atLast is a Cloudflare that cannot be reached before a time.
type atLast struct {
	http.RoundTripper
	clock *aheadUntil
}

func (a *atLast) RoundTrip(r *http.Request) (*http.Response, error) {
	if a.clock.off() > 0 {
		return nil, errors.New("network is unreachable")
	}
	return a.RoundTripper.RoundTrip(r)
}

// aheadUntil is the story's clock on a machine whose own is ahead until it is set.
type aheadUntil struct {
	*leaping
	until time.Time
	by    time.Duration
}

func (a *aheadUntil) off() time.Duration {
	if a.leaping.Now().Before(a.until) {
		return a.by
	}
	return 0
}

func (a *aheadUntil) Now() time.Time { return a.leaping.Now().Add(a.off()) }

func (a *aheadUntil) WaitUntil(ctx context.Context, t time.Time) error {
	return a.leaping.WaitUntil(ctx, t.Add(-a.off()))
}

// A machine begins with a clock that is a day ahead, and nobody contradicts: a SQLite file has
// the same clock, and Cloudflare is not reached. When the clock is right again, in the same term
// or in another, nothing waits for a day: neither counters nor a dataset (G1, G10).
func TestAClockThatWasAheadUntilCloudflareAnswered(t *testing.T) {
	for _, tc := range []struct {
		name          string
		before, again bool // there were counters; another process leads when the clock is right
	}{{"new", false, false}, {"new, another term", false, true}, {"known", true, false}, {"known, another term", true, true}} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, zones("shop.example"))
			w.only("http_5m")
			w.config.Trouble = trouble.New(w.config.Logger, w.clock.Now, nil)
			if tc.before {
				w.run(2 * time.Hour)
			}
			machine := &aheadUntil{leaping: w.clock, until: w.clock.Now().Add(3 * time.Hour), by: 25 * time.Hour}
			w.config.Clock, w.config.Store = machine, &aheadToo{w.store, machine}
			client, err := cloudflare.New(cloudflare.Config{
				BaseURL: "https://simulator.example" + cfsim.Prefix, Transport: &atLast{cfsimtest.Transport(w.sim), machine},
				Token: func() (string, error) { return w.token, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			w.config.Credentials[0].Client = client
			var e totals.Epoch
			w.config.Passed = func() {
				if machine.off() == 0 {
					return
				}
				if e, err = totals.EpochOf(t.Context(), w.store); err != nil {
					t.Error(err)
				}
			}
			if tc.again {
				w.run(machine.until.Sub(w.clock.Now()))
			} else if err := w.tryToRun(4 * time.Hour); !errors.Is(err, journal.ErrAhead) || w.clock.Now().Sub(machine.until) > 2*time.Minute {
				t.Fatalf("at %s the term ended with %v; the clock was right since %s", w.clock.Now(), err, machine.until)
			}
			w.run(time.Hour)
			if !e.Settled.After(machine.until.Add(20 * time.Hour)) {
				t.Fatalf("while the clock was ahead the epoch was %+v: the story has lost its subject", e)
			}
			now := w.clock.Now()
			if e, err = totals.EpochOf(t.Context(), w.store); err != nil || e.Settled.After(now) || e.Began.After(now) || e.Reason != totals.Ahead {
				t.Errorf("at %s the epoch is %+v, %v", now, e, err)
			}
			if got := w.problems(trouble.CountersRestarted); len(got) != 1 || got[0] != "epoch "+e.ID {
				t.Errorf("problems about %q, want one about epoch %s", got, e.ID)
			}
			w.run(3 * time.Hour)
			if got, want, now, _ := w.counters(w.clock.Now()); now.ID != e.ID || len(got) == 0 || !maps.Equal(got, want) {
				t.Errorf("epoch %s after %s: the totals show %v, the log %v", now.ID, e.ID, got, want)
			}
			for _, e := range w.entries(bucket.KindBucket) {
				if e.CommittedAt.After(w.clock.Now()) {
					t.Fatalf("%s is dated %s at %s", e.Key, e.CommittedAt, w.clock.Now())
				}
			}
			if n := w.missing(cfsim.Tag("zone:shop.example"), w.clock.Now().Add(-4*time.Hour)); n != 0 {
				t.Errorf("%d windows of the last hours are missing", n)
			}
		})
	}
}

// Counters that begin again without anybody's wish are told for a day, by every leader (G10).
func TestCountersThatBeginAgainAreTold(t *testing.T) {
	w := newWorld(t, zones("shop.example"))
	w.only("http_5m")
	w.config.Trouble = trouble.New(w.config.Logger, w.clock.Now, nil)
	var shown float64
	seen := func(reason totals.Reason, problems int) {
		t.Helper()
		// While the process leads: the gauge ends with the term.
		w.config.Passed = func() { shown = w.metric("weir_collector_counter_epoch_begin_timestamp_seconds", string(reason)) }
		w.run(10 * time.Minute)
		w.config.Passed = nil
		_, _, e, _ := w.counters(w.clock.Now())
		if want := float64(e.Began.UnixMilli()) / 1e3; shown != want {
			t.Errorf("the gauge of reason %q is %v, want %v", reason, shown, want)
		}
		if got := w.problems(trouble.CountersRestarted); len(got) != problems || problems > 0 && got[0] != "epoch "+e.ID {
			t.Errorf("problems about %q, want %d, about epoch %s", got, problems, e.ID)
		}
	}
	seen(totals.First, 0)
	w.run(2 * time.Hour)
	seen(totals.First, 0)
	write := func(records ...store.Record) {
		t.Helper()
		lease, err := w.store.Acquire(t.Context(), "test", time.Minute)
		if err == nil {
			_, err = w.store.Append(t.Context(), lease.Term, lease.Head.Position, store.Batch{CommittedAt: w.clock.Now(), Records: records})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	write(store.Record{Kind: totals.KindHeader, Key: "header", Value: []byte(`{}`)})
	w.run(time.Hour)
	seen(totals.Damaged, 1)
	w.run(20 * time.Hour)
	seen(totals.Damaged, 1)
	w.run(4 * time.Hour)
	seen(totals.Damaged, 0)
	// As after releases that do not count.
	records, err := w.store.Records(t.Context(), totals.Kind)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		records[i].Value = nil
	}
	write(append(records, store.Record{Kind: totals.KindHeader, Key: "header"})...)
	w.run(time.Hour)
	seen(totals.None, 0)
	// As after a release that counts by other rules: at once, and nobody is alarmed.
	if records, err = w.store.Records(t.Context(), totals.KindHeader); err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	records[0].Value = bytes.Replace(records[0].Value, fmt.Appendf(nil, `"rules":%d`, counter.Rules), []byte(`"rules":1`), 1)
	write(records...)
	seen(totals.Rules, 0)
	_, _, before, _ := w.counters(w.clock.Now())
	w.run(2 * time.Hour)
	if _, _, now, _ := w.counters(w.clock.Now()); now.ID != before.ID {
		t.Errorf("counting began again in %s, although %s is of the same rules", now.ID, before.ID)
	}
}
