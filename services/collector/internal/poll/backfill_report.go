package poll

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// failing is the last error of a series that a job wants, the first of several.
func (b *backfiller) failing(w *jobs.Work) (detail string) {
	w.Missing(func(s *jobs.Series, _, regular bucket.Spans) {
		for _, from := range []*faults{b.faults, b.books.faults} {
			if t := from.tries[s.Of()]; detail == "" && t != nil && t.reason != "" && (from == b.faults || len(regular) > 0) {
				detail = fmt.Sprintf("%s of %s: %s", s.Dataset.Dataset, s.Name, t.detail)
			}
		}
		for start, w := range b.faults.invalid[s.Of()] {
			if detail == "" {
				detail = fmt.Sprintf("%s of %s at %s: %s", s.Dataset.Dataset, s.Name, start, w.detail)
			}
		}
	})
	return detail
}

// giveUp gives up windows that kept failing. A failure of everything is none of theirs.
func (b *backfiller) giveUp(now bucket.Time) {
	lasts := func(failures int, since bucket.Time) bool {
		return failures >= giveUpFailures && now.Sub(since) >= giveUpAfter
	}
	for _, j := range jobs.Open(b.jobs) {
		w := b.works[j]
		if w == nil || j.State != jobs.Running {
			continue
		}
		w.Missing(func(s *jobs.Series, wanted, _ bucket.Spans) {
			of := s.Of()
			t := b.faults.tries[of]
			_, out := b.books.out(s.Scope)
			whole := t != nil && t.reason != "" && lasts(t.Failures, t.Since) && !out
			for _, span := range wanted {
				if whole {
					b.fail(j, of, span, t.detail)
				}
				for start, bad := range b.faults.invalid[of] {
					if !whole && span.Contains(start) && lasts(bad.Failures, bad.Since) {
						b.fail(j, of, bucket.Window{Start: start, End: start.Add(s.Dataset.Size)}, bad.detail)
					}
				}
			}
		})
	}
}

func (b *backfiller) fail(j *jobs.Job, of ledger.Series, w bucket.Window, detail string) {
	b.quiet.Warn(j.ID+of.Dataset+of.Scope.ID, "backfill gives up windows that kept failing", "backfill", j.ID, "dataset", of.Dataset, inLog(of.Scope), "within", w.String(), "err", detail)
	j.Failed = append(j.Failed, jobs.GivenUp{Dataset: of.Dataset, Scope: of.Scope, Window: w, Detail: detail})
	b.unsaved[j] = true
}

// save writes what changed, at most every few seconds.
func (b *backfiller) save(ctx context.Context, now bucket.Time) error {
	if len(b.unsaved) == 0 || now < b.savedAt.Add(saveEvery) {
		return nil
	}
	var records []store.Record
	for j := range b.unsaved {
		if w := b.works[j]; w != nil {
			if refused, truncated := w.Refused(); !slices.Equal(refused, j.Refused) {
				j.Refused, j.Truncated = refused, truncated
				records = append(records, j.Records()...)
				continue
			}
		}
		records = append(records, j.ProgressRecord())
	}
	if err := b.commit(ctx, store.Batch{Records: records}); err != nil {
		return err
	}
	clear(b.unsaved)
	b.savedAt = now
	return nil
}

// report sets the gauges and problems of jobs.
func (b *backfiller) report(now bucket.Time) {
	m := b.metrics
	states, windows := map[jobs.State]int{}, jobs.Counts{}
	stalled := map[string]string{}
	for _, j := range jobs.Open(b.jobs) {
		states[j.State]++
		c := j.Counts
		windows.Present += c.Present
		windows.Filled += c.Filled
		windows.Missing += c.Missing
		windows.Refused += c.Refused
		windows.Lost += c.Lost
		if j.State == jobs.Running && now.Sub(j.Moved) >= stalledAfter {
			why := j.LastError
			if why == "" {
				why = "no request fails; regular work may need the whole share of the budget, or the windows wait for confirmation"
			}
			stalled[j.ID] = fmt.Sprintf("the backfill has filled nothing since %s, and %d of its %d windows are missing: %s", j.Moved, c.Missing, c.Total, why)
		}
	}
	for _, s := range []jobs.State{jobs.Running, jobs.Paused} {
		m.backfills.WithLabelValues(string(s)).Set(float64(states[s]))
	}
	for state, n := range map[string]uint64{
		"present": windows.Present, "filled": windows.Filled, "missing": windows.Missing, "refused": windows.Refused, "lost": windows.Lost,
	} {
		m.backfillWindows.WithLabelValues(state).Set(float64(n))
	}
	b.trouble.Replace(trouble.BackfillStalled, stalled)
}

// wake is when the next pass can do something for a job; zero: there is nothing to do.
func (b *backfiller) wake(now bucket.Time) (next bucket.Time) {
	if b.more {
		next = now.Add(time.Second)
	}
	for _, l := range b.lines {
		if len(b.works) > 0 && l.noHistory > now && (next == 0 || l.noHistory < next) {
			next = l.noHistory
		}
	}
	return next
}

// eventOf records a change of a job, or why it was refused.
func eventOf(j *jobs.Job, action bucketv1.AuditEvent_Action, by Asked) *bucketv1.AuditEvent {
	e := &bucketv1.AuditEvent{
		Action: action, Actor: by.Requester, Reason: by.Reason, Datasets: j.Selection.Datasets, BackfillId: j.ID,
		StartUnixSeconds: int64(j.Selection.Window.Start), EndUnixSeconds: int64(j.Selection.Window.End),
	}
	for _, sc := range j.Over {
		e.Scopes = append(e.Scopes, wire.ProtoScope(sc))
	}
	return e
}

// describeJob is the state of a job for people.
func describeJob(j *jobs.Job) string {
	c := j.Counts
	return fmt.Sprintf("%s: %d windows: %d present before, %d filled, %d missing, %d refused, %d lost; %d requests", j.State, c.Total, c.Present, c.Filled, c.Missing, c.Refused, c.Lost, j.Requests)
}
