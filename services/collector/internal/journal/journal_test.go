package journal_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/trusted"
)

var began = time.Date(2026, 6, 20, 12, 0, 0, 0, time.UTC)

// leaping is a clock on which nobody waits.
type leaping struct{ *clock.Manual }

func (l leaping) WaitUntil(_ context.Context, t time.Time) error {
	l.Set(t)
	return nil
}

// shelf is a store that refuses what a test says.
type shelf struct {
	clock   leaping
	refuse  func(b *store.Batch) error
	batches []store.Batch
	renewed []time.Time
	at      bucket.Position
}

func (s *shelf) Head(context.Context) (store.Head, error) { return store.Head{Now: s.clock.Now()}, nil }

func (s *shelf) Append(_ context.Context, _ store.Term, at bucket.Position, b store.Batch) (bucket.Position, error) {
	if at != s.at {
		return bucket.Position{}, store.ErrConflict
	}
	if s.refuse != nil {
		if err := s.refuse(&b); err != nil {
			return bucket.Position{}, err
		}
	}
	s.batches = append(s.batches, b)
	s.at.Revision += bucket.Revision(len(b.Entries))
	return s.at, nil
}

func (s *shelf) Renew(_ context.Context, _ store.Term, _ time.Duration, stream time.Time) error {
	s.renewed = append(s.renewed, stream)
	return nil
}

// dates are when the batches were committed, after the beginning.
func (s *shelf) dates() (out []time.Duration) {
	for _, b := range s.batches {
		out = append(out, b.CommittedAt.Sub(began))
	}
	return out
}

func open(head store.Head) (*journal.Journal, *shelf, *trouble.Board) {
	s := &shelf{clock: leaping{clock.NewManual(began)}, at: head.Position}
	board := trouble.New(slog.New(slog.DiscardHandler), s.clock.Now, nil)
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "gauge"})
	return journal.Open(journal.Config{
		Store: s, Clock: s.clock, Trusted: trusted.New(s.clock, s, func(string, time.Duration) {}), LeaseTTL: time.Minute,
		Jitter: func() float64 { return 0 }, Trouble: board, Revision: gauge, Stream: gauge,
	}, store.Lease{Term: 1, Head: head}), s, board
}

func entry(n int) store.NewEntry {
	return store.NewEntry{Kind: bucket.KindBucket, Key: bucket.Key{Dataset: "http_5m", Start: bucket.Time(300 * n)}}
}

// No commit is dated before one that was, or before a stream time that was told,
// whatever the clock does.
func TestDatesAscend(t *testing.T) {
	for name, c := range map[string]struct {
		head  store.Head
		first time.Duration
	}{
		"an empty log":                         {store.Head{}, 0},
		"a commit ahead of the clock":          {store.Head{CommittedAt: began.Add(store.MaxAhead)}, store.MaxAhead},
		"a stream time ahead of the clock":     {store.Head{ProgressAt: began.Add(store.MaxAhead)}, store.MaxAhead},
		"a commit later than the stream time":  {store.Head{ProgressAt: began.Add(time.Minute), CommittedAt: began.Add(time.Hour)}, time.Hour},
		"a stream time later than the commits": {store.Head{ProgressAt: began.Add(time.Hour), CommittedAt: began.Add(time.Minute)}, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			j, s, _ := open(c.head)
			for range 2 {
				if _, err := j.Commit(t.Context(), store.Batch{Entries: []store.NewEntry{entry(len(s.batches))}}); err != nil {
					t.Fatal(err)
				}
				if err := j.RecordStream(t.Context(), began.Add(store.MaxAhead)); err != nil {
					t.Fatal(err)
				}
			}
			if got := s.dates(); !slices.Equal(got, []time.Duration{c.first, store.MaxAhead}) {
				t.Errorf("commits are dated %v after the beginning, want %v and then the stream time, 1h", got, c.first)
			}
		})
	}
}

// A term that wrote of a time that has not come writes nothing more.
func TestATermThatWasAheadEnds(t *testing.T) {
	j, s, _ := open(store.Head{})
	if err := j.RecordStream(t.Context(), began.Add(store.MaxAhead)); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Commit(t.Context(), store.Batch{Entries: []store.NewEntry{entry(1)}}); err != nil {
		t.Errorf("an hour ahead: %v", err)
	}
	if err := j.RecordStream(t.Context(), began.Add(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	_, err := j.Commit(t.Context(), store.Batch{Entries: []store.NewEntry{entry(2)}})
	if !errors.Is(err, journal.ErrAhead) || len(s.batches) != 1 {
		t.Errorf("a commit two hours ahead: %v, and %d batches, want one", err, len(s.batches))
	}
	if err := j.RecordStream(t.Context(), began); !errors.Is(err, journal.ErrAhead) {
		t.Errorf("a stream time two hours earlier: %v", err)
	}
	waited := 0
	err = j.Wait(t.Context(), began.Add(3*time.Hour), func(context.Context, time.Time) (bool, error) { waited++; return false, nil })
	if !errors.Is(err, journal.ErrAhead) || waited != 1 {
		t.Errorf("a pause of three hours: %v after %d waits, want one", err, waited)
	}
}

// What the store cannot hold costs itself. A bucket is returned; a record is kept,
// told, left out of other batches, and offered again in its newest form.
func TestWhatCannotBeHeldCostsItself(t *testing.T) {
	j, s, board := open(store.Head{})
	s.refuse = func(b *store.Batch) error {
		for _, e := range b.Entries {
			if e.Key.Start == 900 {
				return store.ErrEncoding
			}
		}
		for _, r := range b.Records {
			if r.Key == "odd" {
				return store.ErrEncoding
			}
		}
		return nil
	}
	record := func(key, value string) store.Record { return store.Record{Kind: "gap", Key: key, Value: []byte(value)} }
	batch := store.Batch{Records: []store.Record{record("a", "1"), record("odd", "1"), record("b", "1")}}
	for n := range 7 {
		batch.Entries = append(batch.Entries, entry(n))
	}
	refused, err := j.Commit(t.Context(), batch)
	if err != nil || len(refused) != 1 || refused[0].Key.Start != 900 || !errors.Is(refused[0].Err, store.ErrEncoding) {
		t.Errorf("refused: %v, %v; want the bucket of 900", refused, err)
	}
	if s.at.Revision != 6 {
		t.Errorf("%d buckets are stored, want the other 6", s.at.Revision)
	}
	if n := len(board.List(true)); n != 1 {
		t.Errorf("%d problems, want one about the record", n)
	}
	if got := j.Offer(bucket.TimeOf(began)); len(got) != 0 {
		t.Errorf("%d records are offered at once", len(got))
	}
	before := len(s.batches)
	if _, err := j.Commit(t.Context(), store.Batch{Records: []store.Record{record("odd", "2"), record("c", "1")}}); err != nil || len(s.batches) != before+1 {
		t.Errorf("the next batch: %v, in %d appends; want it stored at once without the record", err, len(s.batches)-before)
	}
	s.clock.Advance(time.Minute)
	s.refuse = nil
	again := j.Offer(bucket.TimeOf(s.clock.Now()))
	if len(again) != 1 || string(again[0].Value) != "2" {
		t.Fatalf("offered again: %v, want the record's newest form", again)
	}
	if _, err := j.Commit(t.Context(), store.Batch{Records: again}); err != nil || len(board.List(true)) != 0 || len(j.Offer(1<<40)) != 0 {
		t.Errorf("a record that is stored after all: %v, problems %v, and it is offered again: %v", err, board.List(true), j.Offer(1<<40))
	}
}

// Where an operator must mend the database, the write is tried every minute, with
// the time of then; an error that is about something else ends the term at once.
func TestAWriteWaitsForWhoMendsTheStore(t *testing.T) {
	j, s, _ := open(store.Head{})
	failures := 3
	s.refuse = func(*store.Batch) error {
		if failures--; failures >= 0 {
			return store.ErrNoSpace
		}
		return nil
	}
	_, err := j.Commit(t.Context(), store.Batch{Entries: []store.NewEntry{entry(1)}})
	if err != nil || !slices.Equal(s.dates(), []time.Duration{3 * time.Minute}) {
		t.Errorf("after three failures: %v, dated %v; want 3m", err, s.dates())
	}
	for _, err := range []error{store.ErrDeposed, store.ErrConflict, store.ErrUnavailable, store.ErrDuplicate} {
		s.refuse = func(*store.Batch) error { return err }
		if _, got := j.Commit(t.Context(), store.Batch{Entries: []store.NewEntry{entry(2)}}); !errors.Is(got, err) {
			t.Errorf("an append that fails with %v ends with %v", err, got)
		}
	}
}
