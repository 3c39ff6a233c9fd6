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
	Datasets(ctx context.Context) ([]store.Entry, error)
}

// Book has the stored facts about the windows of all series.
type Book struct {
	Final      map[ledger.Series]bucket.Spans // stored, including unreadable ones
	Unreadable map[ledger.Series]bucket.Spans // stored, but not usable by readers
	Decided    map[ledger.Series]*ledger.Decision
	Gaps       map[ledger.Series][]ledger.Gap // ascending by window
	// Keep is the time from which windows are wanted. It never goes back, even if a
	// clock or setting does: dropped windows must not be wanted again.
	Keep bucket.Time
	// others are the ids under which the families of a dataset were stored before.
	others map[string][]string
	// begin is the earliest start of a series, because another dataset with its families
	// covers the time before.
	begin map[ledger.Series]bucket.Time
	// began is when a dataset, or another one with its families, was first collected; 0: it was
	// not. Nil: not read.
	began map[string]bucket.Time
}

// Records are the decoded records from which a book is built.
type Records struct {
	Gaps       []ledger.Gap
	Decided    map[ledger.Series]*ledger.Decision
	Unreadable []ledger.Unreadable
	Retired    bucket.Time // retention may have dropped buckets that end at or before it
	// Bad are the unreadable records by kind. Every kind has an element.
	Bad map[string][]store.Unreadable
}

// ReadRecords reads the records of gaps, decisions, unreadable windows and retention.
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

// Read builds a book from the records and the stored coverage of the scopes since keep.
// It reads all datasets, since one that had the same families bounds this one: another bucket
// size, or another name. If only windows that end after since will be asked for, the earlier
// ones are read of those alone.
func (r *Records) Read(ctx context.Context, from Store, scopes []bucket.Scope, keep, since bucket.Time, datasets []catalogue.Dataset) (*Book, error) {
	keep = max(keep, r.Retired)
	definitions, err := from.Datasets(ctx)
	if err != nil {
		return nil, fmt.Errorf("read dataset versions: %w", err)
	}
	datasets = withEarlier(definitions, datasets)
	runs, err := from.Coverage(ctx, store.Filter{Scopes: scopes}, max(keep, since))
	if err != nil {
		return nil, fmt.Errorf("read coverage: %w", err)
	}
	if others := allOthers(datasets); since > keep && len(others) > 0 {
		earlier, err := from.Coverage(ctx, store.Filter{Scopes: scopes, Datasets: others}, keep)
		if err != nil {
			return nil, fmt.Errorf("read coverage of datasets with the same families: %w", err)
		}
		runs = append(runs, earlier...)
	}
	b := New(runs, datasets)
	b.Keep, b.Decided = keep, r.Decided
	b.Define(definitions)
	b.SetGaps(r.Gaps)
	for _, u := range r.Unreadable {
		b.Unreadable[ledger.Series{Dataset: u.Dataset, Scope: u.Scope}] = u.Spans
	}
	return b, nil
}

// allOthers are the ids under which the families of datasets may be stored besides.
func allOthers(datasets []catalogue.Dataset) (out []string) {
	for i := range datasets {
		out = append(out, datasets[i].Others...)
	}
	return out
}

// New returns a book of stored windows without records.
//
// A series begins at the earliest where the others of its dataset end, at the first boundary
// of both sizes, so that no window of a family is covered twice.
func New(runs []store.Run, datasets []catalogue.Dataset) *Book {
	b := &Book{
		Final: map[ledger.Series]bucket.Spans{}, Unreadable: map[ledger.Series]bucket.Spans{},
		Decided: map[ledger.Series]*ledger.Decision{}, others: map[string][]string{}, begin: map[ledger.Series]bucket.Time{},
	}
	current := map[string]bool{}
	for i := range datasets {
		current[datasets[i].Dataset], b.others[datasets[i].Dataset] = true, datasets[i].Others
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

// AllGaps returns the gaps of all series, unordered.
func (b *Book) AllGaps() (out []ledger.Gap) {
	for _, of := range b.Gaps {
		out = append(out, of...)
	}
	return out
}

// Others returns the windows that are stored of the families of a series under other ids.
func (b *Book) Others(of ledger.Series) (out bucket.Spans) {
	for _, other := range b.others[of.Dataset] {
		for _, span := range b.Final[ledger.Series{Dataset: other, Scope: of.Scope}] {
			out = out.Add(span)
		}
	}
	return out
}

// Terms returns the bounds of claims that follow from the book.
func (b *Book) Terms() roster.Terms {
	t := roster.Terms{
		Keep: b.Keep,
		Begin: func(dataset string, sc bucket.Scope) bucket.Time {
			return b.begin[ledger.Series{Dataset: dataset, Scope: sc}]
		},
		First: func(dataset string, sc bucket.Scope) bucket.Time {
			if final := b.Final[ledger.Series{Dataset: dataset, Scope: sc}]; len(final) > 0 {
				return final[0].Start
			}
			return 0
		},
	}
	if b.began != nil {
		t.Began = func(dataset string) bucket.Time { return b.began[dataset] }
	}
	return t
}

// Define notes the stored definitions of datasets, to which a leader may have added some.
func (b *Book) Define(definitions []store.Entry) {
	first := map[string]bucket.Time{} // by id
	for i := range definitions {
		e := &definitions[i]
		at := bucket.TimeOf(e.CommittedAt)
		if known, is := first[e.Key.Dataset]; !is || at < known {
			first[e.Key.Dataset] = at
		}
	}
	b.began = map[string]bucket.Time{}
	for dataset, others := range b.others {
		at := first[dataset]
		for _, id := range others {
			if other, is := first[id]; is && (at == 0 || other < at) {
				at = other
			}
		}
		b.began[dataset] = at
	}
}

// Closed returns the windows of a scope's dataset that are not wanted: those that are
// final, decided, or from a time in which the scope was away. The caller must not modify
// it.
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

// Newest returns the end of the newest final window of a series, or 0.
func (b *Book) Newest(of ledger.Series) bucket.Time {
	if final := b.Final[of]; len(final) > 0 {
		return final[len(final)-1].End
	}
	return 0
}

// Gap returns the gap that contains a window, or nil.
func (b *Book) Gap(of ledger.Series, start bucket.Time) *ledger.Gap {
	for i := range b.Gaps[of] {
		if b.Gaps[of][i].Window.Contains(start) {
			return &b.Gaps[of][i]
		}
	}
	return nil
}
