package view

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// Meter counts rendered buckets and published views; package meter implements it.
type Meter interface {
	Rendered(samples int, took time.Duration)
	Published()
}

// Sink returns the opener of the board's sinks: they hold the recent buckets and
// publish a state whenever the stream confirms another point.
func (b *Board) Sink(meter Meter, log *slog.Logger) follow.Open {
	logged := map[string]bool{}
	return func(store sample.Store) follow.Sink {
		return &sink{board: b, meter: meter, log: log, logged: logged, store: store, recent: recent.New(store, b.limits.MaxAge), changed: true}
	}
}

// sink holds the recent buckets of one history for the board.
type sink struct {
	board  *Board
	meter  Meter
	log    *slog.Logger
	logged map[string]bool // warnings about short replays: every snapshot defines the datasets again

	store   sample.Store
	recent  *recent.Buckets
	state   *recent.State // published last; nil: none yet
	changed bool          // since state was published
}

// Entry implements [follow.Sink].
func (s *sink) Entry(e *bucket.Entry) error {
	switch e.Kind {
	case bucket.KindDatasetVersion:
		return s.define(e.Definition)
	case bucket.KindBucket:
		return s.add(e.Bucket, e.Definition)
	}
	return nil // gap decisions, states and restatements do not affect the replay
}

func (s *sink) define(d *bucket.Definition) error {
	s.changed = true
	err := s.recent.Define(d)
	if errors.Is(err, recent.ErrDeeper) {
		return fmt.Errorf("%w: %w", err, follow.ErrAnew)
	}
	s.logShort(d)
	return err
}

// logShort logs once that a dataset's replay is too short: a warning if a setting is
// too low, information if the buckets are small by choice.
func (s *sink) logShort(d *bucket.Definition) {
	maxAge := s.board.limits.MaxAge
	level, short := slog.LevelWarn, recent.Check(d, s.store.Stamp, maxAge)
	if short == nil {
		level, short = slog.LevelInfo, recent.Shallow(d, s.store.Stamp, maxAge)
	}
	if short == nil || s.logged[short.Error()] {
		return
	}
	s.logged[short.Error()] = true
	s.log.Log(context.Background(), level, "replay is too short for a dataset", "dataset", d.Dataset,
		"span", recent.Span(d, s.store.Stamp, maxAge), "err", short)
}

func (s *sink) add(b *bucket.Bucket, d *bucket.Definition) error {
	began := time.Now() // a latency of this machine, not calendar time
	held, err := s.recent.Add(b, d, s.board.Now())
	if held {
		s.changed = true
		s.meter.Rendered(b.Len(), time.Since(began))
	}
	return err
}

// Confirm implements [follow.Sink].
func (s *sink) Confirm(p follow.Point) {
	if !p.Progress.IsZero() {
		s.board.Confirm(p.Progress)
	}
	s.recent.Expire(s.board.Now())
	s.changed = s.recent.Retain(p.Retention) || s.changed
	// Entries that are not in the replay advance only the revision. They replace
	// the state too: equal revisions must mean equal bytes.
	if !s.changed && p.Position == s.state.Position {
		return
	}
	first, before := s.state == nil, s.board.State()
	s.state, s.changed = s.recent.State(p.Position), false
	s.board.Publish(s.state)
	s.meter.Published()
	if first {
		var was bucket.Revision
		if before != nil {
			was = before.Position.Revision
		}
		s.log.Info("view replaced by a snapshot", "revision", p.Revision, "was", was, "samples", s.state.Samples)
	}
}
