package poll

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// mendEvery is how often a write is tried again that an operator must make
// possible.
const mendEvery = time.Minute

// mostParts is how many appends of parts of one batch may fail: a database that
// refuses everything must not be asked thousands of times. What is in the parts
// that are left is not stored, and asked for again later.
const mostParts = 200

// commit appends a batch and moves the head along. An error ends the term: it is
// the store's word that this process no longer knows what is stored. Two kinds of
// failure end nothing:
//
// Where an operator must mend the database, commit waits, keeps the lease and what
// it knows, and tries again. Repeating is safe: should the first append have taken
// effect after all, the head is elsewhere, and the store refuses the second.
//
// Where one value cannot be held, the batch is split until the rest is stored. See
// unstorable for what becomes of it.
func (s *state) commit(ctx context.Context, batch store.Batch) error {
	empty := len(batch.Entries)+len(batch.Records) == 0
	batch.Records = s.withhold(batch.Records)
	if len(batch.Entries)+len(batch.Records) == 0 && !empty {
		return nil
	}
	left := mostParts
	return s.split(ctx, batch, &left)
}

func (s *state) split(ctx context.Context, batch store.Batch, left *int) error {
	err := s.append(ctx, batch)
	if err == nil {
		s.noteStored(batch)
		return nil
	}
	if !store.OfContent(err) {
		return err
	}
	if *left == mostParts {
		s.Writes.Count(err) // one append of ours, however many parts it takes
	}
	*left--
	if len(batch.Entries)+len(batch.Records) == 1 || *left <= 0 {
		s.unstorable(batch, err)
		return nil
	}
	for _, half := range halves(batch) {
		if err := s.split(ctx, half, left); err != nil {
			return err
		}
	}
	return nil
}

// halves are the two parts of a batch of two items or more, in order.
func halves(b store.Batch) []store.Batch {
	first, second := b, b
	if n := len(b.Entries); n > 0 && len(b.Records) > 0 {
		first.Records, second.Entries = nil, nil
	} else if n > 0 {
		first.Entries, second.Entries = b.Entries[:n/2], b.Entries[n/2:]
	} else {
		n := len(b.Records)
		first.Records, second.Records = b.Records[:n/2], b.Records[n/2:]
	}
	return []store.Batch{first, second}
}

func (s *state) append(ctx context.Context, batch store.Batch) error {
	return s.write(ctx, writes.Log, func() error {
		now, err := s.look(ctx)
		if err != nil {
			return &readError{err}
		}
		if now = now.Truncate(time.Millisecond); now.Before(s.last) {
			now = s.last
		}
		batch.CommittedAt = now
		at, err := s.Store.Append(ctx, s.term, s.at, batch)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, store.ErrDeposed) && !store.OfContent(err) {
				s.Writes.Count(err)
			}
			return fmt.Errorf("append %d entries and %d records after revision %d: %w", len(batch.Entries), len(batch.Records), s.at.Revision, err)
		}
		s.at, s.last = at, now
		s.Metrics.revision.Set(float64(at.Revision))
		return nil
	})
}

// readError is of what had to be read before something could be written. The feed
// tells of a store that cannot be read.
type readError struct{ err error }

// Error implements error.
func (e *readError) Error() string { return e.err.Error() }

// Unwrap lets errors.Is see through.
func (e *readError) Unwrap() error { return e.err }

// write does something that changes the store, again and again while an operator
// must mend what is in the way.
func (s *state) write(ctx context.Context, what string, do func() error) error {
	for {
		err := do()
		switch {
		case err == nil:
			s.Writes.Works(what)
			return nil
		case ctx.Err() != nil || store.OfContent(err) || errors.As(err, new(*readError)) ||
			errors.Is(err, store.ErrDeposed) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrDuplicate):
			return err // says nothing about writing
		}
		s.Writes.Failed(what, err)
		if what != writes.Log { // appends are counted one by one, whatever became of them
			s.Writes.Count(err)
		}
		if !store.Mendable(err) {
			return err
		}
		if err := s.Clock.WaitUntil(ctx, s.Clock.Now().Add(mendEvery)); err != nil {
			return err
		}
	}
}

// recordID is what is unique of a record.
type recordID struct{ kind, key string }

// heldBack is a record that the store cannot hold. It is offered again now and
// then, in its newest form.
type heldBack struct {
	backoff
	record store.Record
}

// withhold takes out of records those that the store refused lately, so that they
// do not void every batch that they are part of.
func (s *state) withhold(records []store.Record) []store.Record {
	if len(s.held) == 0 {
		return records
	}
	now := s.trusted.Second()
	return slices.DeleteFunc(slices.Clone(records), func(r store.Record) bool {
		h := s.held[recordID{r.Kind, r.Key}]
		if h == nil {
			return false
		}
		h.record = r
		return now < h.next
	})
}

// offer returns the records that are worth another try.
func (s *state) offer(now bucket.Time) (out []store.Record) {
	for _, h := range s.held {
		if now >= h.next {
			out = append(out, h.record)
		}
	}
	return out
}

// noteStored forgets what was wrong with the items of a batch.
func (s *state) noteStored(batch store.Batch) {
	for _, e := range batch.Entries {
		s.accepted(ledger.Series{Dataset: e.Key.Dataset, Scope: e.Key.Scope}, e.Key.Start)
	}
	for _, r := range batch.Records {
		if id := (recordID{r.Kind, r.Key}); s.held[id] != nil {
			delete(s.held, id)
			s.Trouble.Clear(trouble.InvalidValue, id.String())
		}
	}
}

func (id recordID) String() string { return "record " + id.kind + " " + id.key }

// unstorable notes what the store cannot hold, whoever writes it. A bucket is a
// gap, and asked for again after pauses that grow: Cloudflare's names change, and
// databases are mended. A record is offered again after such pauses; until then
// another leader does not learn what is in it. A dataset whose definition cannot
// be stored is not collected, since nobody could read its buckets.
func (s *state) unstorable(batch store.Batch, err error) {
	now, jitter := s.trusted.Second(), s.rng.Float64()
	for _, e := range batch.Entries {
		switch e.Kind {
		case bucket.KindBucket:
			s.reject(e.Key, "the database cannot hold the bucket", err)
		case bucket.KindDatasetVersion:
			s.off[e.Key.Dataset] = &backoff{next: now.Add(100 * 365 * 24 * time.Hour)} // as long as the term
			s.Trouble.Set(trouble.InvalidValue, e.Key.String(), fmt.Sprintf("the store cannot hold the definition of dataset %s, which is not collected: %v", e.Key.Dataset, err))
		default:
			s.Trouble.Set(trouble.InvalidValue, e.Key.String(), fmt.Sprintf("the store cannot hold the entry: %v", err))
		}
	}
	for _, r := range batch.Records {
		id := recordID{r.Kind, r.Key}
		h := s.held[id]
		if h == nil {
			h = &heldBack{}
			s.held[id] = h
		}
		h.record = r
		h.fail(now, seriesFailed, jitter)
		s.Trouble.Set(trouble.InvalidValue, id.String(), fmt.Sprintf("the store cannot hold %s; it is tried again: %v", id, err))
	}
}
