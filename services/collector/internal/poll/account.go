package poll

import (
	"bytes"
	"context"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// settleLedger writes down what is missing and why, and decides what is lost.
func (s *state) settleLedger(ctx context.Context, now bucket.Time, claims []roster.Claim) error {
	batch := store.Batch{Records: s.journal.Offer(now)} // first: of several with one key the last one counts
	for _, c := range claims {
		if !c.Scope.Listed() {
			s.settling[c.Dataset.Dataset].Forget(c.Scope.Scope)
		}
		s.expireInvalid(c)
		if err := s.decideLost(&batch, c); err != nil {
			return err
		}
	}
	gaps := s.missing(now, claims)
	for _, r := range s.damaged.gaps { // before the others: one may be of the same key
		batch.Records = append(batch.Records, store.Record{Kind: r.Kind, Key: r.Key})
	}
	batch.Records = append(batch.Records, s.Unreadable.Changed()...)
	batch.Records = append(batch.Records, ledger.Diff(s.coverage.AllGaps(), gaps)...)
	for sc := range s.changed {
		batch.Records = append(batch.Records, s.contents.Records(s.roster[sc])...)
	}
	if now >= s.dropAt {
		s.dropAt = now.Add(dropEvery)
		batch.Records = append(batch.Records, s.contents.Drop(s.roster)...)
	}
	batch.Records = append(batch.Records, s.drift.flush(now)...)
	told := trouble.Record(s.journal.Term(), s.Trouble.List(true))
	if !bytes.Equal(told.Value, s.told.Value) {
		batch.Records = append(batch.Records, told)
	}
	// An append that has nothing to say shows whether appending works again.
	if len(batch.Entries)+len(batch.Records) > 0 || s.Writes.Failing(writes.Log) {
		if err := s.commit(ctx, batch); err != nil {
			return err
		}
	}
	s.countFilled(gaps)
	s.coverage.SetGaps(gaps)
	s.told = told
	if s.damaged.gaps != nil {
		s.damaged.gaps = nil
		s.Unreadable.Records(ledger.KindGap, nil)
	}
	if s.damaged.contents {
		s.damaged.contents = false
		s.Unreadable.Records(roster.KindEntitlements, nil)
	}
	clear(s.changed)
	return nil
}

// decideLost puts on record what Cloudflare no longer has.
func (b *books) decideLost(batch *store.Batch, c roster.Claim) error {
	of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
	b.settling[of.Dataset].Expire(of.Scope, c.Window.Start)
	if c.Variant == nil || c.Keeps == 0 {
		return nil
	}
	lost := b.coverage.Closed(c.Dataset, c.Scope).Missing(bucket.Window{Start: c.Wanted, End: c.Window.Start})
	if len(lost) == 0 {
		return nil
	}
	d, count := b.coverage.Decided[of], 0
	for _, w := range lost {
		count += int(w.Len() / c.Dataset.Size)
		reason := b.reasonBefore(of, w.Start)
		d = d.Decide(of, ledger.Decided{Window: w, Reason: reason}, b.coverage.Keep)
		payload, err := wire.EncodeGapDecision(&bucketv1.GapDecision{
			Kind: bucketv1.GapDecision_KIND_LOST, Dataset: of.Dataset, Scope: wire.ProtoScope(of.Scope),
			StartUnixSeconds: int64(w.Start), EndUnixSeconds: int64(w.End), Reason: reason.Proto(),
		})
		if err != nil {
			return err
		}
		batch.Entries = append(batch.Entries, store.NewEntry{
			Kind: bucket.KindGapDecision, Key: bucket.Key{Dataset: of.Dataset, Scope: of.Scope, Start: w.Start}, End: w.End, Payload: payload,
		})
		b.Metrics.lost.WithLabelValues(of.Dataset).Add(float64(w.Len() / c.Dataset.Size))
	}
	all := bucket.Window{Start: lost[0].Start, End: lost[len(lost)-1].End}
	b.often.Error(of.Dataset+" "+of.Scope.ID, "windows are lost: Cloudflare no longer has them", "dataset", of.Dataset, inLog(of.Scope),
		"windows", count, "within", all.String(), "reason", b.reasonBefore(of, all.Start))
	b.coverage.Decided[of] = d
	batch.Records = append(batch.Records, d.Record())
	return nil
}

// reasonBefore is why a window was missing, from the ledger as stored.
func (b *books) reasonBefore(of ledger.Series, start bucket.Time) ledger.Reason {
	if g := b.coverage.Gap(of, start); g != nil {
		return g.Reason
	}
	return ledger.Pending
}

// missing lists the gaps of the moment, and what waits to be believed. Windows
// that are inside their deadline and have nothing wrong with them are not gaps
// yet: coverage shows them as pending without a record.
func (b *books) missing(now bucket.Time, claims []roster.Claim) []ledger.Gap {
	var out []ledger.Gap
	for _, c := range claims {
		if c.Unread { // what is known of its windows goes on to hold
			out = append(out, b.coverage.View(c, now).Gaps()...)
		}
		if c.Variant == nil {
			continue
		}
		for _, span := range b.coverage.Closed(c.Dataset, c.Scope).Missing(c.Window) {
			for start := span.Start; start < span.End; start = start.Add(c.Dataset.Size) {
				if g, ok := b.gap(now, c, start); ok {
					out = ledger.Join(out, g)
				}
			}
		}
	}
	return out
}

// What a window that waits to be believed is given.
const (
	// waitOver is how long after it should have been believed it still waits: it is
	// read every ten minutes, and the budget may have to be waited for.
	waitOver = 30 * time.Minute
	// waitLost before Cloudflare drops it, a day's data, it waits no more. Silence
	// is believed two hours before that, so only a delay of the dataset can last
	// until then.
	waitLost = time.Hour
	// waitUnheard is how old the newest reading may be: what cannot be read does not
	// become final by itself. A leader gives what the last one left as long.
	waitUnheard = time.Hour
)

// gap is why a window is not final; false where that is not worth a record yet.
func (b *books) gap(now bucket.Time, c roster.Claim, start bucket.Time) (ledger.Gap, bool) {
	of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
	g := ledger.Gap{
		Dataset: of.Dataset, Scope: of.Scope, Window: bucket.Window{Start: start, End: start.Add(c.Dataset.Size)},
		Reason: ledger.Pending, Next: b.Again(of.Dataset, of.Scope, start),
	}
	if c.Keeps > 0 {
		g.LostAt = start.Add(c.Keeps)
	}
	overdue := now.Sub(g.Window.End) > c.Dataset.Deadline
	if t := b.tries[of]; t != nil && t.reason != "" {
		g.Reason, g.Detail, g.Attempts = t.reason, t.detail, t.Failures
	} else if outage, lasts := b.out(of.Scope); lasts {
		g.Reason, g.Detail = outage.Reason, outage.Detail // which keeps it from being asked
	}
	if w := b.invalid[of][start]; w != nil {
		g.Reason, g.Detail, g.Attempts = ledger.Invalid, w.detail, w.Failures
		return g, true
	}
	w := b.waiting(of, start)
	reason := ledger.Suspect
	switch w.Reason {
	case settle.Delayed:
		g.Doubted, reason = true, ledger.Delayed
	case settle.Suspect:
		g.Doubted = true
	case settle.Settling: // that something more is waited for is news only when it is late
		if !overdue {
			w = settle.Waiting{}
		}
	default:
	}
	if w.Believed != 0 {
		until := w.Believed.Add(waitOver)
		if c.Keeps > 0 {
			until = min(until, g.LostAt.Add(-min(waitLost, c.Keeps/24)))
		}
		switch heard := max(w.Heard, b.leads).Add(waitUnheard); {
		case now >= heard:
		case now >= until:
			if g.Reason == ledger.Pending {
				g.Reason = reason
			}
		default:
			g.Reason, g.Detail, g.WaitsUntil = reason, "", until
			return g, true
		}
	}
	return g, overdue || g.Doubted || g.Reason != ledger.Pending
}

// waiting is how a window waits to be believed, as far as readings tell; of a
// scope that was not read since this process leads, as far as the ledger does.
func (b *books) waiting(of ledger.Series, start bucket.Time) settle.Waiting {
	rules := b.settling[of.Dataset]
	if rules.Known(of.Scope) {
		w, _ := rules.Waiting(of.Scope, start)
		return w
	}
	g := b.coverage.Gap(of, start)
	if g == nil || g.WaitsUntil == 0 && !g.Suspected() {
		return settle.Waiting{}
	}
	w := settle.Waiting{Reason: settle.Settling}
	switch {
	case g.Suspected() && g.Reason == ledger.Delayed:
		w.Reason = settle.Delayed
	case g.Suspected():
		w.Reason = settle.Suspect
	default:
	}
	if g.WaitsUntil != 0 {
		w.Believed = g.WaitsUntil.Add(start.Sub(g.Window.Start) - waitOver)
	}
	return w
}

// countFilled compares the ledger before and after: what left it and is stored
// was filled, unless it only waited to be believed.
func (b *books) countFilled(after []ledger.Gap) {
	still := map[ledger.Series]bucket.Spans{}
	for _, g := range after {
		still[g.Of()] = still[g.Of()].Add(g.Window)
	}
	for of, gaps := range b.coverage.Gaps {
		size := b.sizeOf(of.Dataset)
		if size == 0 {
			continue
		}
		for _, g := range gaps {
			if g.WaitsUntil != 0 {
				continue
			}
			for _, left := range still[of].Missing(g.Window) {
				for _, filled := range b.coverage.Final[of].Within(left) {
					b.Metrics.filled.WithLabelValues(of.Dataset).Add(float64(filled.Len() / size))
				}
			}
		}
	}
}

// report sets the gauges that describe the moment.
func (r *reporter) report(now bucket.Time, claims []roster.Claim) {
	m := r.Metrics
	m.scopes.Reset()
	m.accounts.Reset()
	for _, sc := range r.roster {
		switch {
		case sc.Kind == bucket.Zone:
			m.scopes.WithLabelValues(string(sc.State), sc.Credential).Inc()
		case r.collects(sc.Kind):
			m.accounts.WithLabelValues(string(sc.State)).Inc()
		}
	}
	m.gaps.Reset()
	m.waiting.Reset()
	m.repairBy.Reset()
	leaves := map[string]bucket.Time{}
	for of, gaps := range r.coverage.Gaps {
		size := r.sizeOf(of.Dataset)
		if size == 0 {
			continue
		}
		for _, g := range gaps {
			n := float64(g.Window.Len() / size)
			if g.Waits(now) {
				m.waiting.WithLabelValues(g.Dataset, string(g.Reason)).Add(n)
				continue
			}
			m.gaps.WithLabelValues(g.Dataset, string(g.Reason)).Add(n)
			if g.LostAt != 0 && (leaves[g.Dataset] == 0 || g.LostAt < leaves[g.Dataset]) {
				leaves[g.Dataset] = g.LostAt
			}
		}
	}
	for dataset, at := range leaves {
		m.repairBy.WithLabelValues(dataset).Set(float64(at))
	}
	for dataset, rules := range r.settling {
		m.suspects.WithLabelValues(dataset).Set(float64(rules.Suspects()))
		_, delayed := rules.Delayed()
		m.delayed.WithLabelValues(dataset).Set(boolean(delayed))
	}
	r.reportComplete(now, claims)
}

// reportComplete tells of each dataset how far it is accounted for, of each
// series how it fares, and of each dataset how many scopes are refused.
func (r *reporter) reportComplete(now bucket.Time, claims []roster.Claim) {
	m := r.Metrics
	// Of what no zone is asked there is nothing to be complete.
	m.completeUntil.Reset()
	m.refused.Reset()
	complete, overdue, refused, refusedBy := map[string]bucket.Time{}, map[string]bucket.Time{}, map[string]int{}, map[string]int{}
	standings := make([]standing, 0, len(claims))
	for _, c := range claims {
		id, view := c.Dataset.Dataset, r.coverage.View(c, now)
		refused[id] += 0
		if c.Scope.End == 0 || c.Scope.Listed() || now.Sub(c.Scope.End) < goneFor {
			standings = append(standings, r.standing(now, c, view))
		}
		if c.Scope.State == roster.Active && c.Scope.RefusedByAnswers(id) {
			refusedBy[id]++
		}
		if c.Variant == nil {
			if c.Scope.State == roster.Active && !c.Unread {
				refused[id]++
			}
			continue
		}
		if c.Scope.End != 0 || c.Window.Empty() {
			continue
		}
		until := view.CompleteUntil()
		if until < c.Window.End {
			if due := until.Add(c.Dataset.Size + c.Dataset.Delay); overdue[id] == 0 || due < overdue[id] {
				overdue[id] = due
			}
		}
		if complete[id] == 0 || until < complete[id] {
			complete[id] = until
		}
	}
	m.overdue.Reset()
	for id, n := range refused {
		m.refused.WithLabelValues(id).Set(float64(n))
		m.refusedBy.WithLabelValues(id).Set(float64(refusedBy[id]))
		if complete[id] != 0 {
			m.completeUntil.WithLabelValues(id).Set(float64(complete[id]))
		}
		if overdue[id] != 0 {
			m.overdue.WithLabelValues(id).Set(float64(overdue[id]))
		}
	}
	m.standings.publish(standings)
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
