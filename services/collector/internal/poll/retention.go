package poll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

const (
	retireEvery = time.Hour
	// resumable is how long a client that follows the log can resume, even if retention drops
	// entries: an internal tool may be down over a weekend.
	resumable  = 7 * 24 * time.Hour
	retireLate = 24 * time.Hour // after which a failure is a warning
)

// retention drops old buckets from the store.
type retention struct {
	*env
	store interface {
		Retire(ctx context.Context, term store.Term, before bucket.Time, forget time.Time) (bucket.Time, error)
		Size(ctx context.Context) (int64, error)
	}
	keep       time.Duration
	term       store.Term
	commit     func(context.Context, store.Batch) error
	writes     *writes.Watch
	unreadable *unreadable.Register

	retireAt bucket.Time // when to drop again
	putOff   bucket.Time // since when it fails; 0: it does not
	retired  bucket.Time // nothing before may be stored; as stored
	damaged  bool        // the record of it cannot be read
}

// retireWhenDue drops what is older than the retention, once an hour.
func (r *retention) retireWhenDue(ctx context.Context, now bucket.Time) error {
	if now >= r.retireAt {
		r.retireAt = now.Add(retireEvery)
		err := r.retire(ctx, now)
		switch {
		case err == nil:
			r.putOff = 0
			r.writes.Works(writes.Retention)
		case store.NeedsRepair(err) && ctx.Err() == nil:
			r.writes.Failed(writes.Retention, err) // collecting continues
		case errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil:
			// Most likely a snapshot is reading what would be dropped. If the
			// store is unavailable, the next append fails.
			if r.putOff == 0 {
				r.putOff = now
			}
			level := slog.LevelInfo
			if now.Sub(r.putOff) >= retireLate {
				level = slog.LevelWarn
			}
			r.quiet.Log(ctx, level, "", "retention is postponed", "since", r.putOff.String(), "err", err)
		default:
			return err
		}
	}
	return nil
}

// retire drops what is older than the retention.
func (r *retention) retire(ctx context.Context, now bucket.Time) error {
	before := now.Add(-r.keep)
	if mark := max(before, r.retired); mark > r.retired || r.damaged {
		// Recorded first, so that dropped windows are not wanted again if the retention
		// is increased later.
		if err := r.commit(ctx, store.Batch{Records: append(r.unreadable.Retire(before), ledger.RetiredRecord(mark))}); err != nil {
			return err
		}
		r.retired = mark
		if r.damaged {
			r.damaged = false
			r.unreadable.Records(ledger.KindRetired, nil)
		}
	}
	border, err := r.store.Retire(ctx, r.term, before, now.Add(-resumable).Std())
	if err != nil {
		return fmt.Errorf("drop buckets before %s: %w", before, err)
	}
	if size, err := r.store.Size(ctx); err == nil {
		r.metrics.storeSize.Set(float64(size))
	}
	r.log.Debug("retention applied", "before", border.String())
	return nil
}
