// Package journal writes the log during one term: it sets the commit times, keeps the
// order, and records the stream time.
//
// An error ends the term: this process then no longer knows what is stored. There are two
// exceptions. If an operator must repair the database, the write keeps the lease, waits
// and is retried. If the store cannot hold one value, the batch is split until the rest
// is stored.
package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/trusted"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// mendEvery is the interval of retries while an operator must repair the database.
const mendEvery = time.Minute

// mostParts is how many appends of parts of one batch may fail: a database that rejects
// everything must not get thousands of appends. The remaining parts are not stored and
// are collected again later.
const mostParts = 200

// mostLate is how often a batch may arrive late before the term ends.
const mostLate = 5

// Store is what of a store a journal writes.
type Store interface {
	Append(ctx context.Context, term store.Term, at bucket.Position, b store.Batch) (bucket.Position, error)
	Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error
}

// Config of a journal. All fields are required unless they say otherwise.
type Config struct {
	Store    Store
	Clock    clock.Clock    // to wait on
	Trusted  *trusted.Clock // for commit times
	LeaseTTL time.Duration  // renewed with stream time
	Jitter   func() float64 // in [0, 1)
	Writes   *writes.Watch  // optional
	Trouble  *trouble.Board // optional
	Revision prometheus.Gauge
	Stream   prometheus.Gauge // stream time
}

// Journal is the log as its leader writes it. It belongs to one goroutine.
type Journal struct {
	Config
	term     store.Term
	at       bucket.Position // head of the log
	last     time.Time       // newest commit or stream time: no commit is dated earlier
	streamed time.Time       // stream time, as recorded
	held     map[recordID]*heldBack
}

// Open returns the journal of a term at the head that it was won at. Nothing is
// dated before the head's commit and stream times, so they must be ones that a
// leader can have had.
func Open(c Config, won store.Lease) *Journal {
	j := &Journal{
		Config: c, term: won.Term, at: won.Head.Position, last: won.Head.CommittedAt, streamed: won.Head.ProgressAt,
		held: map[recordID]*heldBack{},
	}
	if j.streamed.After(j.last) {
		j.last = j.streamed
	}
	return j
}

// Term is the term that the journal is written in.
func (j *Journal) Term() store.Term { return j.term }

// Head is the position of the newest entry.
func (j *Journal) Head() bucket.Position { return j.at }

// Last is the newest commit or stream time: no later one is earlier.
func (j *Journal) Last() time.Time { return j.last }

// Refused is an entry that the store cannot hold, and why.
type Refused struct {
	store.NewEntry
	Err error
}

// Commit appends a batch and moves the head. Entries that the store cannot hold are returned:
// all others are stored. Records that it cannot hold are kept and reported; see
// [Journal.Offer].
func (j *Journal) Commit(ctx context.Context, batch store.Batch) ([]Refused, error) {
	empty := len(batch.Entries)+len(batch.Records) == 0
	batch.Records = j.withhold(batch.Records)
	if len(batch.Entries)+len(batch.Records) == 0 && !empty {
		return nil, nil
	}
	left, refused := mostParts, []Refused(nil)
	err := j.split(ctx, batch, &left, &refused)
	return refused, err
}

// CommitWhole appends a batch as it is, or not at all: if the store cannot hold a value, the
// error says so ([store.ContentRejected]), and nothing is stored. It returns the new head.
func (j *Journal) CommitWhole(ctx context.Context, batch store.Batch) (bucket.Position, error) {
	if err := j.append(ctx, batch); err != nil {
		if store.ContentRejected(err) {
			j.Writes.Count(err)
		}
		return bucket.Position{}, err
	}
	j.holdNoMore(batch.Records)
	return j.at, nil
}

func (j *Journal) split(ctx context.Context, batch store.Batch, left *int, refused *[]Refused) error {
	err := j.append(ctx, batch)
	if err == nil {
		j.holdNoMore(batch.Records)
		return nil
	}
	if !store.ContentRejected(err) {
		return err
	}
	if *left == mostParts {
		j.Writes.Count(err) // one append, in any number of parts
	}
	*left--
	if len(batch.Entries)+len(batch.Records) == 1 || *left <= 0 {
		for _, e := range batch.Entries {
			*refused = append(*refused, Refused{e, err})
		}
		j.hold(batch.Records, err)
		return nil
	}
	for _, half := range halves(batch) {
		if err := j.split(ctx, half, left, refused); err != nil {
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

// append is safe to repeat: should the first append have taken effect after all,
// the head is elsewhere, and the store refuses the second.
func (j *Journal) append(ctx context.Context, batch store.Batch) error {
	return j.Write(ctx, writes.Log, func() error {
		at, now, err := j.appendDated(ctx, batch)
		for tries := 1; errors.Is(err, store.ErrLate) && tries < mostLate; tries++ {
			at, now, err = j.appendDated(ctx, batch)
		}
		if errors.As(err, new(*readError)) {
			return err
		}
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, store.ErrDeposed) && !store.ContentRejected(err) {
				j.Writes.Count(err)
			}
			return fmt.Errorf("append %d entries and %d records after revision %d: %w", len(batch.Entries), len(batch.Records), j.at.Revision, err)
		}
		j.at, j.last = at, now
		j.Revision.Set(float64(at.Revision))
		return nil
	})
}

// appendDated appends a batch with the present time. [store.ErrLate] if it did not arrive soon
// after that was read.
func (j *Journal) appendDated(ctx context.Context, batch store.Batch) (at bucket.Position, now time.Time, err error) {
	now, database, err := j.Trusted.ReadBoth(ctx)
	if err != nil {
		return at, now, &readError{err}
	}
	if err := j.Check(j.Clock.Now()); err != nil {
		return at, now, &readError{err}
	}
	if now = now.Truncate(time.Millisecond); now.Before(j.last) {
		now = j.last
	}
	batch.CommittedAt, batch.Deadline = now, database.Add(clock.Span(j.Clock, store.AppendWithin))
	at, err = j.Store.Append(ctx, j.term, j.at, batch)
	return at, now, err
}

// readError is an error before a write, which says nothing about whether the store can be
// written. The feed reports a store that cannot be read.
type readError struct{ err error }

// Error implements error.
func (e *readError) Error() string { return e.err.Error() }

// Unwrap lets errors.Is see through.
func (e *readError) Unwrap() error { return e.err }

// Write runs a write to the store, and retries it while an operator must repair the
// database. what is the kind of write, a constant of package writes.
func (j *Journal) Write(ctx context.Context, what string, do func() error) error {
	for {
		err := do()
		switch {
		case err == nil:
			j.Writes.Works(what)
			return nil
		case ctx.Err() != nil || store.ContentRejected(err) || errors.As(err, new(*readError)) ||
			errors.Is(err, store.ErrDeposed) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrLate) || errors.Is(err, store.ErrDuplicate):
			return err // says nothing about whether the store is writable
		}
		j.Writes.Failed(what, err)
		if what != writes.Log { // each append is counted separately
			j.Writes.Count(err)
		}
		if !store.NeedsRepair(err) {
			return err
		}
		if err := j.Clock.WaitUntil(ctx, j.Clock.Now().Add(mendEvery)); err != nil {
			return err
		}
	}
}
