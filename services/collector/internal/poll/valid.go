package poll

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// invalid is a window whose bucket was read and cannot be stored, since no
// reader would accept it, or the database cannot hold it.
type invalid struct {
	backoff
	detail string
}

// sealed are the buckets that may be appended, with what is stored of them. The
// others are on record as gaps and are read again: what they cannot be made
// into costs their own windows and nothing else.
func (s *state) sealed(done []settled) []settled {
	kept := done[:0]
	for _, one := range done {
		payload, err := wire.Seal(one.b, s.defined[one.b.Dataset])
		if err == nil {
			one.payload = payload
			e := entry(one)
			err = e.Validate()
		}
		if err != nil {
			s.reject(one.b.Key, "what Cloudflare answers makes a bucket that no reader would accept", err)
			continue
		}
		kept = append(kept, one)
	}
	return kept
}

// reject puts a window on record that cannot be stored.
func (s *state) reject(key bucket.Key, why string, err error) {
	of := ledger.Series{Dataset: key.Dataset, Scope: key.Scope}
	if s.invalid[of] == nil {
		s.invalid[of] = map[bucket.Time]*invalid{}
	}
	w := s.invalid[of][key.Start]
	if w == nil {
		w = &invalid{}
		s.invalid[of][key.Start] = w
	}
	w.detail = store.Text(err.Error())
	w.fail(s.trusted.Second(), seriesFailed, s.rng.Float64())
	s.Metrics.invalid.WithLabelValues(key.Dataset).Inc()
	s.Trouble.Set(trouble.InvalidValue, aboutSeries(of), why+"; it is not stored, and asked for again: "+w.detail)
}

// accepted forgets that a window could not be stored.
func (s *state) accepted(of ledger.Series, start bucket.Time) {
	if s.invalid[of] == nil {
		return
	}
	delete(s.invalid[of], start)
	s.closeInvalid(of)
}

// expireInvalid forgets windows that are no longer wanted.
func (s *state) expireInvalid(c roster.Claim) {
	of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
	if s.invalid[of] == nil {
		return
	}
	for start := range s.invalid[of] {
		if !c.Window.Contains(start) || c.Variant == nil {
			delete(s.invalid[of], start)
		}
	}
	s.closeInvalid(of)
}

func (s *state) closeInvalid(of ledger.Series) {
	if len(s.invalid[of]) == 0 {
		delete(s.invalid, of)
		s.Trouble.Clear(trouble.InvalidValue, aboutSeries(of))
	}
}

func aboutSeries(of ledger.Series) string { return of.Dataset + " " + of.Scope.String() }

// tellOdd tells of zones with values that cannot be used as they are.
func (s *state) tellOdd(seen []roster.Seen) {
	now := map[string]bool{}
	for _, z := range seen {
		if s.roster[bucket.Scope{Kind: bucket.Zone, ID: z.ID}] == nil {
			continue // not selected
		}
		if odd := z.Odd(); odd != "" {
			now["zone "+z.ID] = true
			s.Trouble.Set(trouble.InvalidValue, "zone "+z.ID, odd)
		}
	}
	for about := range s.odd {
		if !now[about] {
			s.Trouble.Clear(trouble.InvalidValue, about)
		}
	}
	s.odd = now
}

// damaged is what a leader knows of the damage in its store.
type damaged struct {
	scopes, gaps []store.Unreadable
	retired      bool // the record of what retention dropped
	// The log is read once a term, from the floor to the head as it was found,
	// a page a pass: what is damaged is told before somebody needs it.
	inspected, until bucket.Revision
}

// rewritten forgets the damage of scopes that have been found again.
func (s *state) rewritten() {
	if len(s.damaged.scopes) == 0 {
		return
	}
	known := make(map[string]bool, len(s.roster))
	for _, sc := range s.roster {
		known[sc.Key()] = true
	}
	s.damaged.scopes = slices.DeleteFunc(s.damaged.scopes, func(u store.Unreadable) bool { return known[u.Key] })
	s.Unreadable.Records(roster.KindScope, s.damaged.scopes)
}

// oldest is the start of the oldest bucket that is stored: retention may have
// dropped what was before. It stands in for a record of that which is damaged,
// since what was dropped must not be wanted again.
func (s *state) oldest(ctx context.Context) (oldest bucket.Time, err error) {
	runs, err := s.Store.Coverage(ctx, store.Filter{}, 0)
	if err != nil {
		return 0, fmt.Errorf("read coverage: %w", err)
	}
	for i, r := range runs {
		if i == 0 || r.Window.Start < oldest {
			oldest = r.Window.Start
		}
	}
	return oldest, nil
}

// inspectPage is how many entries are inspected a pass: a few milliseconds of
// the database, and a month of a hundred zones within a day or two.
const inspectPage = 1000

// inspect reads a page of the log, as readers will, and tells what cannot be
// read. It never ends the term: what it finds is for a person.
func (s *state) inspect(ctx context.Context) {
	if s.damaged.inspected >= s.damaged.until {
		return
	}
	const about = "log"
	entries, err := s.Store.ReadLog(ctx, s.damaged.inspected, inspectPage)
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, store.ErrCompacted): // retention went on meanwhile
		if head, err := s.Store.Head(ctx); err == nil {
			s.damaged.inspected = max(head.Floor, s.damaged.inspected)
		}
		return
	case errors.Is(err, store.ErrUnavailable):
		return // whoever needs it says so
	case err != nil:
		s.Trouble.Set(trouble.StoreUnreadable, about, fmt.Sprintf("the log cannot be read after revision %d: %v", s.damaged.inspected, err))
		s.damaged.inspected += inspectPage
		return
	}
	for i := range entries {
		e := &entries[i]
		var err error
		switch e.Kind {
		case bucket.KindBucket:
			_, err = unreadable.Bucket(e)
		case bucket.KindDatasetVersion: // seen when the term began
		default:
			err = unreadable.Check(e)
		}
		if err != nil {
			s.Unreadable.Note(e, err)
		}
		s.damaged.inspected = e.Revision
	}
	if len(entries) == 0 {
		s.damaged.inspected = s.damaged.until
	}
}
