package view

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// Meter counts rendered buckets and published views; package meter implements it.
type Meter interface {
	Rendered(samples int, took time.Duration)
	Published()
	Rejected()
	Unserved(dataset string)
}

// Pages fetches pages of older windows; package pages implements it.
type Pages interface {
	// Want replaces the pages to be fetched; what was fetched for another owner is
	// dropped.
	Want(owner any, want []recent.Page)
	// Take returns what was fetched since the last call, and the error if the last
	// page could not be fetched.
	Take(owner any) ([]recent.Fetched, error)
}

// patience is how long the first state of a history waits for the pages in turn.
const patience = 15 * time.Second

// Sink returns the opener of the board's sinks: they hold the recent buckets and
// publish a state whenever the stream confirms another point.
func (b *Board) Sink(pages Pages, meter Meter, log *slog.Logger) follow.Open {
	logged := map[string]bool{}
	return func(store sample.Store) follow.Sink {
		return &sink{board: b, pages: pages, meter: meter, log: log, logged: logged, store: store, recent: recent.New(store, b.limits.MaxAge), changed: true}
	}
}

// sink holds the recent buckets of one history for the board.
type sink struct {
	board  *Board
	pages  Pages
	meter  Meter
	log    *slog.Logger
	logged map[string]bool // warnings about short replays: every snapshot defines the datasets again

	store   sample.Store
	recent  *recent.Buckets
	state   *recent.State // published last; nil: none yet
	changed bool          // since state was published
	began   time.Time     // when the snapshot was complete; zero before
}

// Entry implements [follow.Sink].
func (s *sink) Entry(e *bucket.Entry) error {
	switch e.Kind {
	case bucket.KindDatasetVersion:
		return s.define(e.Definition)
	case bucket.KindBucket:
		s.noteLate(e)
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

// noteLate notes a bucket that became final late, and counts one that never can be shown.
func (s *sink) noteLate(e *bucket.Entry) {
	window, maxAge := e.Bucket.Window(), s.board.limits.MaxAge
	if e.Bucket.Zero() {
		return // often confirmed late; nobody waits for it
	}
	if e.Bucket.Origin == bucket.Backfill {
		return // whoever requested it brings it into Prometheus; it comes round like other windows
	}
	if carousel.Late(window, e.CommittedAt, maxAge) {
		s.recent.NoteLate(e.Bucket.Dataset, e.CommittedAt)
		s.changed = true
	}
	if !s.began.IsZero() && e.CommittedAt.Sub(s.store.Stamp.Of(window).Std()) >= maxAge {
		s.meter.Unserved(e.Bucket.Dataset)
		s.board.noteUnserved(e.Bucket.Dataset, window, e.CommittedAt)
	}
}

// Confirm implements [follow.Sink].
func (s *sink) Confirm(p follow.Point) {
	if !p.Progress.IsZero() {
		s.board.Confirm(p.Progress)
	}
	now := s.board.Now()
	s.recent.Expire(now)
	s.changed = s.recent.Retain(p.Retention) || s.changed
	for dataset, at := range p.Late {
		s.recent.NoteLate(dataset, at)
	}
	if waiting := s.turn(p.Revision, now); waiting && s.state == nil {
		return
	}
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

// turn holds the pages that are shown now and next, with what has been fetched of them. It
// reports whether some may still arrive that the first state should have, so that an
// exposer that has just begun shows what the others show.
func (s *sink) turn(at bucket.Revision, now time.Time) (waiting bool) {
	if s.began.IsZero() {
		s.began = time.Now() // a latency of this machine, not calendar time
	}
	rounds := s.board.Rounds(now)
	missing, changed := s.recent.Turn(now, rounds)
	fetched, err := s.pages.Take(s)
	for i := range fetched {
		if err := s.recent.Fill(&fetched[i], at, now); err != nil {
			s.meter.Rejected()
			s.log.Error("buckets of a page rejected; other buckets are not affected", "dataset", fetched[i].Dataset, "windows", fetched[i].Windows, "err", err)
		}
		changed = true
	}
	if len(fetched) > 0 {
		missing, _ = s.recent.Turn(now, rounds)
	}
	s.pages.Want(s, missing)
	s.changed = s.changed || changed
	return len(missing) > 0 && err == nil && time.Since(s.began) < patience
}
