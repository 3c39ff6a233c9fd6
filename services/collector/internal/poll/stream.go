package poll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// Stream time says that the leader lives and that the log holds all that it has
// committed. It says nothing about what is still missing: how far each dataset is
// complete is another value, and the two are never mixed. So stream time advances
// whatever Cloudflare does: while the budget is used up, during an outage, and
// inside a pass that catches up for an hour.
const (
	streamEvery = 5 * time.Second  // between two records of it, at least, while there is work
	streamIdle  = 15 * time.Second // between two of them, at most, while there is none
)

// tellStream records the stream time when the last record is old enough.
//
// A progress message must never precede the data that it covers (G4). One
// goroutine commits and records, so nothing is under way here, and [state.commit]
// dates nothing earlier than what is recorded now, whatever the clocks do.
func (s *state) tellStream(ctx context.Context) error {
	if s.trusted.Now().Sub(s.streamed) < streamEvery {
		return nil
	}
	at, err := s.look(ctx)
	if err != nil {
		return err
	}
	// A trusted clock that went back records nothing new: stream time never does.
	if now := bucket.TimeOf(at).Std(); now.Sub(s.streamed) >= streamEvery {
		return s.recordStream(ctx, now)
	}
	return nil
}

func (s *state) recordStream(ctx context.Context, now time.Time) error {
	if err := s.write(ctx, writes.Lease, func() error { return s.Store.Renew(ctx, s.term, s.LeaseTTL, now) }); err != nil {
		return fmt.Errorf("record stream time: %w", err)
	}
	if now.After(s.streamed) {
		s.streamed = now
		s.Metrics.progress.Set(float64(now.Unix()))
	}
	if now.After(s.last) {
		s.last = now
	}
	return nil
}

// wait is the pause between two passes, in which stream time goes on. That the
// store is away for a moment is left to the next pass.
func (s *state) wait(ctx context.Context, until time.Time) error {
	for {
		next := s.Clock.Now().Add(streamIdle)
		if !next.Before(until) {
			return s.Clock.WaitUntil(ctx, until)
		}
		if err := s.Clock.WaitUntil(ctx, next); err != nil {
			return err
		}
		if err := s.tellStream(ctx); errors.Is(err, store.ErrDeposed) {
			return err
		}
	}
}
