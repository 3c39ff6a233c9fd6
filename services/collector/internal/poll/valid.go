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

// sealed are the buckets that may be appended, with what is stored of them. The
// others are on record as gaps and are read again: what they cannot be made
// into costs their own windows and nothing else.
func (j *judge) sealed(done []settled) []settled {
	kept := done[:0]
	for _, one := range done {
		payload, err := wire.Seal(one.b, j.defined[one.b.Dataset])
		if err == nil {
			one.payload = payload
			e := entry(one)
			err = e.Validate()
		}
		if err != nil {
			j.reject(one.b.Key, "what Cloudflare answers makes a bucket that no reader would accept", err)
			continue
		}
		kept = append(kept, one)
	}
	return kept
}

func aboutSeries(of ledger.Series) string { return of.Dataset + " " + of.Scope.String() }

// tellOdd tells of zones and accounts with values that cannot be used as they are.
func (d *discoverer) tellOdd(seen []roster.Seen) {
	now := map[string]bool{}
	for _, z := range seen {
		if d.roster[z.Scope()] == nil {
			continue // not selected
		}
		if odd := z.Odd(); odd != "" {
			about := z.Scope().String()
			now[about] = true
			d.Trouble.Set(trouble.InvalidValue, about, odd)
		}
	}
	for about := range d.odd {
		if !now[about] {
			d.Trouble.Clear(trouble.InvalidValue, about)
		}
	}
	d.odd = now
}

// damage is what a leader knows of the damage in its store.
type damage struct {
	*Poller
	*books
	scopes, gaps []store.Unreadable
	contents     bool // records of entitlements
	retired      bool // the record of what retention dropped
	// The log is read once a term, from the floor to the head as it was found,
	// a page a pass: what is damaged is told before somebody needs it.
	inspected, until bucket.Revision
}

// rewritten forgets the damage of scopes that have been found again.
func (d *damage) rewritten() {
	if len(d.scopes) == 0 {
		return
	}
	known := make(map[string]bool, len(d.roster))
	for _, sc := range d.roster {
		known[sc.Key()] = true
	}
	d.scopes = slices.DeleteFunc(d.scopes, func(u store.Unreadable) bool { return known[u.Key] })
	for _, kind := range []string{roster.KindScope, roster.KindAccount} {
		d.Unreadable.Records(kind, roster.Of(kind, d.scopes))
	}
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
func (d *damage) inspect(ctx context.Context) {
	if d.inspected >= d.until {
		return
	}
	const about = "log"
	entries, err := d.Store.ReadLog(ctx, d.inspected, inspectPage)
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, store.ErrCompacted): // retention went on meanwhile
		if head, err := d.Store.Head(ctx); err == nil {
			d.inspected = max(head.Floor, d.inspected)
		}
		return
	case errors.Is(err, store.ErrUnavailable):
		return // whoever needs it says so
	case err != nil:
		d.Trouble.Set(trouble.StoreUnreadable, about, fmt.Sprintf("the log cannot be read after revision %d: %v", d.inspected, err))
		d.inspected += inspectPage
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
			d.Unreadable.Note(e, err)
		}
		d.inspected = e.Revision
	}
	if len(entries) == 0 {
		d.inspected = d.until
	}
}
