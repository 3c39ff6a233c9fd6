package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// Stream time means that the leader was alive and that the log holds all of its commits.
// It does not say what is missing: how far each dataset is complete is a separate value.
// So stream time advances whatever Cloudflare does: while the budget is used up, during
// an outage, and inside a pass that catches up for an hour.
const (
	streamEvery = 5 * time.Second  // between two records of it, at least, while there is work
	streamIdle  = 15 * time.Second // between two of them, at most, while there is none
)

// RefreshStream records the stream time if the last record is old enough.
//
// A progress message must never precede the data that it covers (G4). The same goroutine
// commits and records, so no commit is in progress here, and [Journal.Commit] never uses
// an earlier time than the one recorded, whatever the clocks do.
func (j *Journal) RefreshStream(ctx context.Context) error {
	if err := j.Check(j.Clock.Now()); err != nil { // the pause before the next pass may be of that time, too
		return err
	}
	if j.Trusted.Now().Sub(j.streamed) < streamEvery {
		return nil
	}
	at, err := j.Trusted.Read(ctx)
	if err != nil {
		return err
	}
	// A trusted clock that went back records nothing new: stream time never does.
	if now := bucket.TimeOf(at).Std(); now.Sub(j.streamed) >= streamEvery {
		return j.RecordStream(ctx, now)
	}
	return nil
}

// RecordStream records now as the stream time, and renews the lease.
func (j *Journal) RecordStream(ctx context.Context, now time.Time) error {
	if err := j.Check(j.Clock.Now()); err != nil {
		return err
	}
	if err := j.Write(ctx, writes.Lease, func() error { return j.Store.Renew(ctx, j.term, j.LeaseTTL, now) }); err != nil {
		return fmt.Errorf("record stream time: %w", err)
	}
	if now.After(j.streamed) {
		j.streamed = now
		j.Stream.Set(float64(now.Unix()))
	}
	if now.After(j.last) {
		j.last = now
	}
	return nil
}

// ErrAhead: what this term wrote is of a time that has not come.
var ErrAhead = errors.New("the clock was ahead")

// Check returns an [ErrAhead] if the log's times are too far ahead of a clock to be a leader's:
// those of this term, from when nobody contradicted a clock that was ahead. All that the term
// knows has such times, and commits would be of the future for as long, so the term must end. The
// next one begins without them.
//
// Nothing is written while they are ahead of our own clock. The trusted one may be wrong for a
// moment, by a single response of Cloudflare, so the caller has to make sure of it.
func (j *Journal) Check(now time.Time) error {
	if ahead := j.last.Sub(now); ahead > store.MaxAhead {
		return fmt.Errorf("%w: the log was written up to %s, and it is %s", ErrAhead, j.last.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// Wait is the pause between two passes, in which the stream time advances. wait waits for a
// time, and may end the pause early. If the store is unavailable for a moment, the next pass
// handles it.
func (j *Journal) Wait(ctx context.Context, until time.Time, wait func(context.Context, time.Time) (early bool, err error)) error {
	for {
		next := j.Clock.Now().Add(streamIdle)
		if !next.Before(until) {
			_, err := wait(ctx, until)
			return err
		}
		if early, err := wait(ctx, next); err != nil || early {
			return err
		}
		if err := j.RefreshStream(ctx); errors.Is(err, store.ErrDeposed) || errors.Is(err, ErrAhead) {
			return err
		}
	}
}
