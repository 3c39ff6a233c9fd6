package poll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// countEvery is how often the totals of counters are advanced. A reader that begins with them
// reads the log of that time.
const countEvery = time.Hour

// countAgain is the pause after a failure. A bucket that is committed before counting begins
// is never counted.
const countAgain = time.Minute

// counting keeps the totals of counters.
type counting struct {
	*env
	store   totals.Source
	journal *journal.Journal
	commit  func(context.Context, store.Batch) error

	next  bucket.Time  // when to advance again; 0: at once
	epoch totals.Epoch // as last read or written
	shown string       // the epoch of the gauge
}

// toldFor is how long it is a problem that counters began again.
const toldFor = 24 * time.Hour

// tell reports since when counters are sums, and why.
func (c *counting) tell(now bucket.Time) {
	e := c.epoch
	if e.ID == "" {
		return
	}
	if c.shown != e.ID {
		c.metrics.epochBegan.Reset()
		c.shown = e.ID
	}
	c.metrics.epochBegan.WithLabelValues(string(e.Reason)).Set(float64(e.Began.UnixMilli()) / 1e3)
	told := map[string]string{}
	if e.Reason.Fault() && now.Std().Sub(e.Began) < toldFor {
		told["epoch "+e.ID] = "counters began again at zero, without some buckets that were stored before, since " + map[totals.Reason]string{
			totals.Damaged:   "their totals could not be read",
			totals.History:   "their totals were of another history than the log",
			totals.Compacted: "retention dropped entries that had not been counted",
			totals.Ahead:     "their totals were settled by a clock that was ahead",
		}[e.Reason]
	}
	c.trouble.Replace(trouble.CountersRestarted, told)
}

// countWhenDue advances the totals once an hour, and begins an epoch where there is none. It
// ends the term only if the log cannot be written: the totals can be advanced later, too.
func (c *counting) countWhenDue(ctx context.Context, now bucket.Time) error {
	defer func() { c.tell(now) }()
	// By our own clock too: the trusted one may be wrong for a moment.
	latest := now.Std()
	if own := c.clock.Now(); own.After(latest) {
		latest = own
	}
	if c.next == 0 {
		// The leader before may have advanced them a moment ago.
		if e, err := totals.EpochOf(ctx, c.store); err == nil && !e.Far(latest) {
			c.epoch = e
			c.next = min(now.Add(countEvery), bucket.TimeOf(e.Settled.Add(totals.Behind+countEvery)))
		}
	}
	if now < c.next {
		return nil
	}
	c.next = now.Add(countEvery)
	began := time.Now()
	at := c.journal.Head()
	var a *totals.Advanced
	e, err := totals.EpochOf(ctx, c.store)
	if err == nil && e.Far(latest) {
		err = fmt.Errorf("%w: at %s", totals.ErrAhead, e.Settled.UTC().Format(time.RFC3339))
	} else {
		a, err = totals.Advance(ctx, c.store, at, now.Std(), func() error { return c.journal.RefreshStream(ctx) })
	}
	if errors.Is(err, totals.ErrAhead) || errors.Is(err, totals.ErrNone) || errors.Is(err, totals.ErrUnusable) {
		a, err = c.begin(ctx, now, err)
	}
	switch {
	case err == nil:
	case errors.Is(err, store.ErrDeposed) || ctx.Err() != nil:
		return err
	default: // the store's own trouble is told by whoever needs it
		c.next = now.Add(countAgain)
		c.quiet.Warn("", "the totals of counters are not advanced", "err", err)
		return nil
	}
	for _, records := range a.Batches {
		if err := c.commit(ctx, store.Batch{Records: records}); err != nil {
			return err
		}
	}
	c.epoch = a.Epoch
	c.log.Debug("totals of counters advanced", "epoch", a.Epoch.ID, "revision", a.Position.Revision, "entries", a.Entries, "series", a.Series, "took", time.Since(began))
	return nil
}

// begin begins an epoch because of an error.
func (c *counting) begin(ctx context.Context, now bucket.Time, because error) (*totals.Advanced, error) {
	at := c.journal.Head()
	why, err := totals.ReasonOf(ctx, c.store, because, at)
	if err != nil {
		return nil, err
	}
	id := totals.NewID(now.Std(), c.rng.Uint32())
	c.log.Info("counters begin at zero", "epoch", id, "after", at.Revision, "reason", why, "because", because)
	// Nobody has been told that the log is complete up to a later time.
	began := now.Std()
	if last := c.journal.Last(); last.After(began) {
		began = last
	}
	return totals.Begin(ctx, c.store, id, why, at, began)
}
