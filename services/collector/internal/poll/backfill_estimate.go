package poll

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/jobs"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// EstimateBackfill returns what a backfill of a selection would do.
func (p *Poller) EstimateBackfill(ctx context.Context, sel jobs.Selection) (*BackfillEstimate, error) {
	e, err := answer(ctx, &p.reception, func(ctx context.Context, s *state) (*BackfillEstimate, error) {
		return s.backfiller.estimate(ctx, sel)
	})
	if err != nil {
		return nil, err
	}
	// Planning months of a thousand zones takes seconds, which the loop does not wait for.
	return e, e.finish(ctx, p.config.Store)
}

// MissingRange is a range that an estimate lists as missing.
type MissingRange struct {
	coverage.Range
	Of   ledger.Series
	Name string
	// Regular work wants it; otherwise only a backfill does.
	Regular bool
}

// BackfillEstimate is what a backfill would do.
type BackfillEstimate struct {
	Counts    jobs.Counts
	Rows      uint64
	Requests  int
	Duration  time.Duration
	Missing   []MissingRange
	Refused   []jobs.Refusal
	Truncated bool

	work   *jobs.Work
	leaves []budgetLeft // by group
	sample []sampled
}

// budgetLeft is what regular work leaves of the budget of a credential's user.
type budgetLeft struct {
	user string
	most int
}

// sampled is a series from whose newest buckets the number of rows is estimated.
type sampled struct {
	of   ledger.Series
	keys []bucket.Key
}

const (
	mostMissing = 10_000 // ranges of an estimate
	mostSampled = 200    // series of it
)

func (b *backfiller) estimate(ctx context.Context, sel jobs.Selection) (*BackfillEstimate, error) {
	now, err := b.now(ctx)
	if err != nil {
		return nil, err
	}
	j, _, all, err := b.draft(now, sel)
	if err != nil {
		return nil, err
	}
	e := &BackfillEstimate{Counts: j.Counts, Refused: j.Refused, Truncated: j.Truncated}
	e.work = jobs.Evaluate(j, now, cloned(all))
	b.explain(now, e)
	for _, l := range b.lines {
		e.leaves = append(e.leaves, budgetLeft{l.User, l.Budget.Leaves(quota.History)})
	}
	return e, nil
}

// explain lists the missing ranges with their reasons, and chooses the series whose rows are
// counted.
func (b *backfiller) explain(now bucket.Time, e *BackfillEstimate) {
	views := map[ledger.Series]coverage.View{}
	for _, c := range b.books.claims(now) {
		views[ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}] = b.books.coverage.View(c, now)
	}
	var series []*jobs.Series
	e.work.Missing(func(s *jobs.Series, wanted, regular bucket.Spans) {
		series = append(series, s)
		of := s.Of()
		add := func(r coverage.Range, regular bool) {
			if len(e.Missing) < mostMissing {
				e.Missing = append(e.Missing, MissingRange{Range: r, Of: of, Name: s.Name, Regular: regular})
			} else {
				e.Truncated = true
			}
		}
		for _, r := range b.decided(of, wanted) {
			r.Detail = b.own.whyOf(of)
			add(r, false)
		}
		for _, w := range regular {
			for _, r := range views[of].Ranges(w) {
				add(r, true)
			}
		}
	})
	slices.SortStableFunc(e.Missing, func(x, y MissingRange) int {
		return bucket.Key{Dataset: x.Of.Dataset, Scope: x.Of.Scope, Start: x.Start}.Compare(bucket.Key{Dataset: y.Of.Dataset, Scope: y.Of.Scope, Start: y.Start})
	})
	for i, s := range series {
		if len(series) > mostSampled && i*mostSampled/len(series) == (i+1)*mostSampled/len(series) {
			continue
		}
		of := s.Of()
		one, end := sampled{of: of}, b.books.coverage.Newest(of)
		for _, w := range b.books.coverage.Final[of].Within(bucket.Window{Start: end.Add(-pastLevels * s.Dataset.Size), End: end}) {
			for start := w.Start; start < w.End; start = start.Add(s.Dataset.Size) {
				one.keys = append(one.keys, bucket.Key{Dataset: of.Dataset, Scope: of.Scope, Start: start})
			}
		}
		e.sample = append(e.sample, one)
	}
}

// decided divides windows that only a backfill wants by what was decided about them: accepted,
// lost, or nothing.
func (b *backfiller) decided(of ledger.Series, wanted bucket.Spans) (out []coverage.Range) {
	rest := wanted
	if d := b.books.coverage.Decided[of]; d != nil {
		for _, span := range d.Spans {
			state := coverage.Lost
			if span.Accepted {
				state = coverage.Accepted
			}
			for _, part := range rest.Within(span.Window) {
				out = append(out, coverage.Range{Window: part, State: state, Reason: span.Reason})
			}
			rest = rest.Remove(span.Window)
		}
	}
	for _, w := range rest {
		out = append(out, coverage.Range{Window: w, State: coverage.Missing})
	}
	return out
}

// whyOf is the last error of a series.
func (b *books) whyOf(of ledger.Series) string {
	if t := b.faults.tries[of]; t != nil {
		return t.detail
	}
	return ""
}

// finish computes what takes long. It does not use the loop.
func (e *BackfillEstimate) finish(ctx context.Context, from interface {
	Buckets(ctx context.Context, keys []bucket.Key, emit func(store.Entry) error) error
},
) error {
	rows, buckets := map[ledger.Series]int{}, map[ledger.Series]int{}
	all, count := map[string]int{}, map[string]int{} // by dataset
	for _, one := range e.sample {
		if len(one.keys) == 0 {
			continue
		}
		if err := from.Buckets(ctx, one.keys, func(b store.Entry) error {
			rows[one.of] += b.Rows
			buckets[one.of]++
			all[one.of.Dataset] += b.Rows
			count[one.of.Dataset]++
			return nil
		}); err != nil {
			return fmt.Errorf("read the newest buckets of %s: %w", one.of.Dataset, err)
		}
	}
	many := len(e.sample) >= mostSampled
	e.Rows = e.work.Rows(func(of ledger.Series) float64 {
		switch {
		case buckets[of] > 0:
			return float64(rows[of]) / float64(buckets[of])
		case many && count[of.Dataset] > 0:
			return float64(all[of.Dataset]) / float64(count[of.Dataset])
		}
		return 0
	})
	requests, most := map[string]int{}, map[string]int{} // by user: credentials of one user share its budget
	for group, n := range e.work.Requests() {
		user := e.leaves[group].user
		requests[user] += n
		most[user] = e.leaves[group].most
		e.Requests += n
	}
	for user, n := range requests {
		e.Duration = max(e.Duration, jobs.Duration(n, most[user], span))
	}
	return nil
}
