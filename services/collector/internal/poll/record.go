package poll

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

const dropEvery = time.Hour // of entitlements to which no scope refers

// recorder writes what is missing and why, decides what is lost, and writes the other
// records that changed.
type recorder struct {
	*env
	faults     *faults
	books      *books
	drift      *drift
	journal    *journal.Journal
	commit     func(context.Context, store.Batch) error
	writes     *writes.Watch
	unreadable *unreadable.Register

	began    bucket.Time  // of the term
	dropAt   bucket.Time  // when to look for entitlements to which no scope refers
	problems store.Record // as stored
	// Damage that the next record replaces.
	damagedGaps     []store.Unreadable
	damagedContents bool // records of entitlements
}

// record writes what is missing and why, and decides what is lost.
func (r *recorder) record(ctx context.Context, now bucket.Time, claims []roster.Claim) error {
	batch := store.Batch{Records: r.journal.Offer(now)} // first: of several with one key the last one counts
	for _, c := range claims {
		if !c.Scope.Listed() {
			r.books.settling[c.Dataset.Dataset].Forget(c.Scope.Scope)
		}
		r.faults.expireInvalid(c)
		if err := r.decideLost(ctx, &batch, c); err != nil {
			return err
		}
	}
	gaps := r.missing(now, claims)
	for _, gap := range r.damagedGaps { // before the others: one may be of the same key
		batch.Records = append(batch.Records, store.Record{Kind: gap.Kind, Key: gap.Key})
	}
	batch.Records = append(batch.Records, r.unreadable.Changed()...)
	batch.Records = append(batch.Records, ledger.Diff(r.books.coverage.AllGaps(), gaps)...)
	for sc := range r.books.changed {
		batch.Records = append(batch.Records, r.books.contents.Records(r.books.roster[sc])...)
	}
	if now >= r.dropAt {
		r.dropAt = now.Add(dropEvery)
		batch.Records = append(batch.Records, r.books.contents.Drop(r.books.roster)...)
	}
	batch.Records = append(batch.Records, r.drift.flush(now)...)
	problems := trouble.Record(r.journal.Term(), r.trouble.List(true))
	if !bytes.Equal(problems.Value, r.problems.Value) {
		batch.Records = append(batch.Records, problems)
	}
	// An empty append shows whether appends succeed again.
	if len(batch.Entries)+len(batch.Records) > 0 || r.writes.Failing(writes.Log) {
		if err := r.commit(ctx, batch); err != nil {
			return err
		}
	}
	r.countFilled(gaps)
	r.books.coverage.SetGaps(gaps)
	r.problems = problems
	if r.damagedGaps != nil {
		r.damagedGaps = nil
		r.unreadable.Records(ledger.KindGap, nil)
	}
	if r.damagedContents {
		r.damagedContents = false
		r.unreadable.Records(roster.KindEntitlements, nil)
	}
	clear(r.books.changed)
	return nil
}

// decideLost records the windows that Cloudflare no longer has.
func (r *recorder) decideLost(ctx context.Context, batch *store.Batch, c roster.Claim) error {
	of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
	r.books.settling[of.Dataset].Expire(of.Scope, c.Window.Start)
	if c.Variant == nil || c.Keeps == 0 {
		return nil
	}
	lost := r.books.coverage.Closed(c.Dataset, c.Scope).Missing(bucket.Window{Start: c.Wanted, End: c.Window.Start})
	if len(lost) == 0 {
		return nil
	}
	d, count := r.books.coverage.Decided[of], 0
	for _, w := range lost {
		count += int(w.Len() / c.Dataset.Size)
		reason := r.reasonBefore(of, w.Start)
		d = d.Decide(of, ledger.Decided{Window: w, Reason: reason}, r.books.coverage.Keep)
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
	}
	all := bucket.Window{Start: lost[0].Start, End: lost[len(lost)-1].End}
	level, what, counted := slog.LevelError, "windows are lost: Cloudflare no longer has them", r.metrics.lost
	if c.Dataset.State {
		level, what, counted = slog.LevelWarn, "a state was not read in time, and Cloudflare does not keep it", r.metrics.missed
	}
	counted.WithLabelValues(of.Dataset).Add(float64(count))
	r.quiet.Log(ctx, level, of.Dataset+" "+of.Scope.ID, what, "dataset", of.Dataset, inLog(of.Scope),
		"windows", count, "within", all.String(), "reason", r.reasonBefore(of, all.Start))
	r.books.coverage.Decided[of] = d
	batch.Records = append(batch.Records, d.Record())
	return nil
}
