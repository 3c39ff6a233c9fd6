package poll

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
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

	next bucket.Time // when to advance again; 0: at once
}

// countWhenDue advances the totals once an hour, and begins an epoch where there is none. It
// ends the term only if the log cannot be written: the totals can be advanced later, too.
func (c *counting) countWhenDue(ctx context.Context, now bucket.Time) error {
	if c.next == 0 {
		// The leader before may have advanced them a moment ago.
		if e, err := totals.EpochOf(ctx, c.store); err == nil {
			c.next = min(now.Add(countEvery), bucket.TimeOf(e.Settled.Add(totals.Behind+countEvery)))
		}
	}
	if now < c.next {
		return nil
	}
	c.next = now.Add(countEvery)
	began := time.Now()
	at := c.journal.Head()
	a, err := totals.Advance(ctx, c.store, at, now.Std(), func() error { return c.journal.RefreshStream(ctx) })
	if errors.Is(err, totals.ErrNone) || errors.Is(err, totals.ErrUnusable) {
		id := totals.NewID(now.Std(), c.rng.Uint32())
		level := slog.LevelInfo
		if errors.Is(err, totals.ErrUnusable) {
			level = slog.LevelWarn
		}
		c.log.Log(ctx, level, "counters begin at zero", "epoch", id, "after", at.Revision, "because", err)
		// Nobody has been told that the log is complete up to a later time.
		began := now.Std()
		if last := c.journal.Last(); last.After(began) {
			began = last
		}
		a, err = totals.Begin(ctx, c.store, id, at, began)
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
	c.log.Debug("totals of counters advanced", "epoch", a.Epoch.ID, "revision", a.Position.Revision, "entries", a.Entries, "series", a.Series, "took", time.Since(began))
	return nil
}
