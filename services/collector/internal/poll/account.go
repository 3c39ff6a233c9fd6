package poll

import (
	"bytes"
	"context"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
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
