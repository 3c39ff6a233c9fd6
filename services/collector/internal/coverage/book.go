package coverage

import (
	"context"
	"fmt"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Store is the part of store.Store that a book is read from.
type Store interface {
	Records(ctx context.Context, kind string) ([]store.Record, error)
	Coverage(ctx context.Context, f store.Filter, since bucket.Time) ([]store.Run, error)
}

// Book holds what is known of the windows of all series.
type Book struct {
	Final      map[ledger.Series]bucket.Spans // stored, also what cannot be read
	Unreadable map[ledger.Series]bucket.Spans // stored, and no reader can use it
	Decided    map[ledger.Series]*ledger.Decision
	Gaps       map[ledger.Series][]ledger.Gap // ascending by window
	// Keep is where wanting begins: nothing before was wanted, or is. It never goes
	// back, whatever clocks and settings do: what was dropped must not be wanted
	// again.
	Keep bucket.Time
	// begin is where a series may begin because another bucket size of its dataset
	// covers the time before.
	begin map[ledger.Series]bucket.Time
}

// Records are the decoded records that a book is made of.
type Records struct {
	Gaps       []ledger.Gap
	Decided    map[ledger.Series]*ledger.Decision
	Unreadable []ledger.Unreadable
	Retired    bucket.Time // buckets that end at or before may be gone by retention
	// Bad are the records that cannot be read, by kind. Every kind has an element.
	Bad map[string][]store.Unreadable
}

// ReadRecords reads the records that say what is missing, decided, unreadable and
// retired.
func ReadRecords(ctx context.Context, from Store) (*Records, error) {
	r := &Records{Bad: map[string][]store.Unreadable{}}
	for _, kind := range []struct {
		name   string
		what   string
		decode func([]store.Record) []store.Unreadable
	}{
		{ledger.KindGap, "gaps", func(in []store.Record) (bad []store.Unreadable) { r.Gaps, bad = ledger.Gaps(in); return bad }},
		{ledger.KindDecided, "decisions", func(in []store.Record) (bad []store.Unreadable) { r.Decided, bad = ledger.Decisions(in); return bad }},
		{ledger.KindRetired, "what retention dropped", func(in []store.Record) (bad []store.Unreadable) { r.Retired, bad = ledger.Retired(in); return bad }},
		{ledger.KindUnreadable, "what cannot be read", func(in []store.Record) (bad []store.Unreadable) {
			r.Unreadable, bad = ledger.ReadUnreadable(in)
			return bad
		}},
	} {
		records, err := from.Records(ctx, kind.name)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", kind.what, err)
		}
		r.Bad[kind.name] = kind.decode(records)
	}
	return r, nil
}

// Read adds what is stored, of all datasets of the filter's scopes since keep, to
// the records. It is not filtered by dataset: another bucket size of a dataset
// bounds this one.
func (r *Records) Read(ctx context.Context, from Store, scopes []bucket.Scope, keep bucket.Time, datasets []catalogue.Dataset) (*Book, error) {
	keep = max(keep, r.Retired)
	runs, err := from.Coverage(ctx, store.Filter{Scopes: scopes}, keep)
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	b := New(runs, datasets)
	b.Keep, b.Decided = keep, r.Decided
	b.SetGaps(r.Gaps)
	for _, u := range r.Unreadable {
		b.Unreadable[ledger.Series{Dataset: u.Dataset, Scope: u.Scope}] = u.Spans
	}
	return b, nil
}

// New is a book of what is stored and nothing else.
//
// A series begins at the earliest where another bucket size of its dataset ends:
// at the first border of both sizes, so that no window of a family is ever covered
// twice.
func New(runs []store.Run, datasets []catalogue.Dataset) *Book {
	b := &Book{
		Final: map[ledger.Series]bucket.Spans{}, Unreadable: map[ledger.Series]bucket.Spans{},
		Decided: map[ledger.Series]*ledger.Decision{}, begin: map[ledger.Series]bucket.Time{},
	}
	current := map[string]bool{}
	for i := range datasets {
		current[datasets[i].Dataset] = true
	}
	for _, r := range runs {
		of := ledger.Series{Dataset: r.Dataset, Scope: r.Scope}
		b.Final[of] = b.Final[of].Add(r.Window)
		if current[r.Dataset] {
			continue
		}
		for i := range datasets {
			d := &datasets[i]
			if slices.Contains(d.Others, r.Dataset) {
				now := ledger.Series{Dataset: d.Dataset, Scope: r.Scope}
				b.begin[now] = max(b.begin[now], r.Window.End.Ceil(d.Size))
			}
		}
	}
	return b
}

// SetGaps replaces the gaps. They ascend by window within each series.
func (b *Book) SetGaps(gaps []ledger.Gap) {
	b.Gaps = map[ledger.Series][]ledger.Gap{}
	for _, g := range gaps {
		b.Gaps[g.Of()] = append(b.Gaps[g.Of()], g)
	}
}

// AllGaps are the gaps of all series, in no order.
func (b *Book) AllGaps() (out []ledger.Gap) {
	for _, of := range b.Gaps {
		out = append(out, of...)
	}
	return out
}

// Begin is where a series may begin at the earliest, or 0.
func (b *Book) Begin(of ledger.Series) bucket.Time { return b.begin[of] }

// Terms are what the book adds to what scopes claim.
func (b *Book) Terms() roster.Terms {
	return roster.Terms{Keep: b.Keep, Begin: func(dataset string, sc bucket.Scope) bucket.Time {
		return b.begin[ledger.Series{Dataset: dataset, Scope: sc}]
	}}
}

// Closed is what of a scope's dataset is not wanted: what is final, decided, or of
// a time in which the scope was away. The caller does not alter it.
func (b *Book) Closed(d *catalogue.Dataset, sc *roster.Scope) bucket.Spans {
	of := ledger.Series{Dataset: d.Dataset, Scope: sc.Scope}
	decided, absent := b.Decided[of], sc.Absent(d.Size)
	if decided == nil && len(absent) == 0 {
		return b.Final[of]
	}
	closed := append(bucket.Spans(nil), b.Final[of]...)
	if decided != nil {
		for _, span := range decided.Spans {
			closed = closed.Add(span.Window)
		}
	}
	for _, w := range absent {
		closed = closed.Add(w)
	}
	return closed
}

// Newest is the end of the newest final window of a series, or 0.
func (b *Book) Newest(of ledger.Series) bucket.Time {
	if final := b.Final[of]; len(final) > 0 {
		return final[len(final)-1].End
	}
	return 0
}

// Gap is the one that a window is part of, or nil.
func (b *Book) Gap(of ledger.Series, start bucket.Time) *ledger.Gap {
	for i := range b.Gaps[of] {
		if b.Gaps[of][i].Window.Contains(start) {
			return &b.Gaps[of][i]
		}
	}
	return nil
}
