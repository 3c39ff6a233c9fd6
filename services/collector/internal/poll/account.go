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
)

// settleLedger writes down what is missing and why, and decides what is lost.
func (s *state) settleLedger(ctx context.Context, now bucket.Time, claims []roster.Claim) error {
	var batch store.Batch
	for _, c := range claims {
		if st := c.Scope.State; st != roster.Active && st != roster.Paused {
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
	batch.Records = append(batch.Records, ledger.Diff(s.gaps, gaps)...)
	for sc := range s.changed {
		batch.Records = append(batch.Records, s.roster[sc].Record())
	}
	batch.Records = append(batch.Records, s.drift.flush(now)...)
	told := trouble.Record(s.Trouble.List(true))
	if !bytes.Equal(told.Value, s.told.Value) {
		batch.Records = append(batch.Records, told)
	}
	if len(batch.Entries)+len(batch.Records) > 0 {
		if err := s.commit(ctx, batch); err != nil {
			return err
		}
	}
	s.countFilled(gaps)
	s.gaps, s.told = gaps, told
	if s.damaged.gaps != nil {
		s.damaged.gaps = nil
		s.Unreadable.Records(ledger.KindGap, nil)
	}
	clear(s.changed)
	return nil
}

// decideLost puts on record what Cloudflare no longer has.
func (s *state) decideLost(batch *store.Batch, c roster.Claim) error {
	of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
	s.settling[of.Dataset].Expire(of.Scope, c.Window.Start)
	if c.Variant == nil || c.Keeps == 0 {
		return nil
	}
	lost := s.closed(c.Dataset, c.Scope).Missing(bucket.Window{Start: c.Wanted, End: c.Window.Start})
	if len(lost) == 0 {
		return nil
	}
	d := s.decided[of]
	for _, w := range lost {
		reason := s.reasonBefore(of, w.Start)
		d = d.Decide(of, ledger.Decided{Window: w, Reason: reason}, s.kept)
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
		s.Metrics.lost.WithLabelValues(of.Dataset).Add(float64(w.Len() / c.Dataset.Size))
		s.Logger.Warn("windows are lost: Cloudflare no longer has them", "dataset", of.Dataset, "zone", of.Scope.ID, "window", w.String(), "reason", reason)
	}
	s.decided[of] = d
	batch.Records = append(batch.Records, d.Record())
	return nil
}

// reasonBefore is why a window was missing, from the ledger as stored.
func (s *state) reasonBefore(of ledger.Series, start bucket.Time) ledger.Reason {
	for _, g := range s.gaps {
		if g.Of() == of && g.Window.Contains(start) {
			return g.Reason
		}
	}
	return ledger.Pending
}

// missing lists the gaps of the moment. Windows that are inside their deadline
// and have nothing wrong with them are not gaps yet: coverage shows them as
// pending without a record.
func (s *state) missing(now bucket.Time, claims []roster.Claim) []ledger.Gap {
	var out []ledger.Gap
	for _, c := range claims {
		if c.Variant == nil {
			continue
		}
		of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
		for _, span := range s.closed(c.Dataset, c.Scope).Missing(c.Window) {
			for start := span.Start; start < span.End; start = start.Add(c.Dataset.Size) {
				if g, ok := s.gap(now, c, of, start); ok {
					out = ledger.Join(out, g)
				}
			}
		}
	}
	return out
}

func (s *state) gap(now bucket.Time, c roster.Claim, of ledger.Series, start bucket.Time) (ledger.Gap, bool) {
	g := ledger.Gap{
		Dataset: of.Dataset, Scope: of.Scope, Window: bucket.Window{Start: start, End: start.Add(c.Dataset.Size)},
		Reason: ledger.Pending, Next: s.Again(of.Dataset, of.Scope, start),
	}
	if t := s.tries[of]; t != nil && t.reason != "" {
		g.Reason, g.Detail, g.Attempts = t.reason, t.detail, t.failures
	}
	switch s.settling[of.Dataset].Reason(of.Scope, start) {
	case settle.Suspect:
		g.Reason, g.Detail = ledger.Suspect, ""
	case settle.Delayed:
		g.Reason, g.Detail = ledger.Delayed, ""
	default:
	}
	if w := s.invalid[of][start]; w != nil {
		g.Reason, g.Detail, g.Attempts = ledger.Invalid, w.detail, w.failures
	}
	if g.Reason == ledger.Pending && now.Sub(g.Window.End) <= c.Dataset.Deadline {
		return g, false
	}
	if c.Keeps > 0 {
		g.LostAt = start.Add(c.Keeps)
	}
	return g, true
}

// countFilled compares the ledger before and after: what left it and is stored
// was filled.
func (s *state) countFilled(after []ledger.Gap) {
	still := map[ledger.Series]bucket.Spans{}
	for _, g := range after {
		still[g.Of()] = still[g.Of()].Add(g.Window)
	}
	for _, g := range s.gaps {
		size := s.sizeOf(g.Dataset)
		if size == 0 {
			continue
		}
		for _, left := range still[g.Of()].Missing(g.Window) {
			for _, filled := range s.have[g.Of()].Within(left) {
				s.Metrics.filled.WithLabelValues(g.Dataset).Add(float64(filled.Len() / size))
			}
		}
	}
}

func (s *state) sizeOf(dataset string) time.Duration {
	for i := range s.Catalogue.Datasets {
		if s.Catalogue.Datasets[i].Dataset == dataset {
			return s.Catalogue.Datasets[i].Size
		}
	}
	return 0
}

// report sets the gauges that describe the moment.
func (s *state) report(claims []roster.Claim) {
	m := s.Metrics
	m.scopes.Reset()
	for _, sc := range s.roster {
		m.scopes.WithLabelValues(string(sc.State)).Inc()
	}
	m.gaps.Reset()
	m.repairBy.Reset()
	leaves := map[string]bucket.Time{}
	for _, g := range s.gaps {
		if size := s.sizeOf(g.Dataset); size > 0 {
			m.gaps.WithLabelValues(g.Dataset, string(g.Reason)).Add(float64(g.Window.Len() / size))
		}
		if g.LostAt != 0 && (leaves[g.Dataset] == 0 || g.LostAt < leaves[g.Dataset]) {
			leaves[g.Dataset] = g.LostAt
		}
	}
	for dataset, at := range leaves {
		m.repairBy.WithLabelValues(dataset).Set(float64(at))
	}
	for dataset, rules := range s.settling {
		m.suspects.WithLabelValues(dataset).Set(float64(rules.Suspects()))
		_, delayed := rules.Delayed()
		m.delayed.WithLabelValues(dataset).Set(boolean(delayed))
	}
	complete, refused := map[string]bucket.Time{}, map[string]int{}
	for _, c := range claims {
		id := c.Dataset.Dataset
		refused[id] += 0
		if c.Variant == nil {
			if c.Scope.State == roster.Active {
				refused[id]++
			}
			continue
		}
		if c.Scope.End != 0 || c.Window.Empty() {
			continue
		}
		until := c.Window.End
		if gaps := s.closed(c.Dataset, c.Scope).Missing(c.Window); len(gaps) > 0 {
			until = gaps[0].Start
		}
		if complete[id] == 0 || until < complete[id] {
			complete[id] = until
		}
	}
	for id, n := range refused {
		m.refused.WithLabelValues(id).Set(float64(n))
		if complete[id] != 0 {
			m.completeUntil.WithLabelValues(id).Set(float64(complete[id]))
		}
	}
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
