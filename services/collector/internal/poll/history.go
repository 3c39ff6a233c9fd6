package poll

import (
	"context"
	"fmt"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// pastLevels is how many buckets before the end of the stored data of a series are given to the
// settling rules.
const pastLevels = 12

// history gives the settling rules what is stored.
type history struct {
	*env
	books *books
	store interface {
		Buckets(ctx context.Context, keys []bucket.Key, emit func(store.Entry) error) error
	}
	unreadable *unreadable.Register
	recent     map[ledger.Series][]settle.Final // newest buckets of series that the rules do not know yet
}

// load reads the newest buckets of all listed scopes, once a dataset: each is needed with the
// first response for its scope.
func (h *history) load(ctx context.Context) error {
	var scopes []bucket.Scope
	for sc, who := range h.books.roster {
		if who.Listed() {
			scopes = append(scopes, sc)
		}
	}
	for i := range h.catalogue.Datasets {
		if err := h.read(ctx, &h.catalogue.Datasets[i], scopes...); err != nil {
			return err
		}
	}
	return nil
}

// read reads the newest buckets of a dataset and scopes.
func (h *history) read(ctx context.Context, d *catalogue.Dataset, scopes ...bucket.Scope) error {
	if d.State {
		return nil // which settles at once
	}
	var keys []bucket.Key
	for _, sc := range scopes {
		of := ledger.Series{Dataset: d.Dataset, Scope: sc}
		h.recent[of] = nil
		end := h.books.coverage.Newest(of)
		if end == 0 {
			continue
		}
		for _, w := range h.books.coverage.Final[of].Within(bucket.Window{Start: end.Add(-pastLevels * d.Size), End: end}) {
			for start := w.Start; start < w.End; start = start.Add(d.Size) {
				keys = append(keys, bucket.Key{Dataset: d.Dataset, Scope: sc, Start: start})
			}
		}
	}
	err := h.store.Buckets(ctx, keys, func(e store.Entry) error {
		one, err := unreadable.Bucket(&e)
		if err != nil { // only its level is unknown
			h.unreadable.Note(&e, err)
			return nil
		}
		of := ledger.Series{Dataset: d.Dataset, Scope: one.Scope}
		h.recent[of] = append(h.recent[of], final(d, one))
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the newest buckets of %s: %w", d.Dataset, err)
	}
	return nil
}

// restore gives the settling rules of all datasets what the store and the ledger have of a
// scope, once a term.
func (h *history) restore(ctx context.Context, sc bucket.Scope) error {
	for i := range h.catalogue.Datasets {
		d := &h.catalogue.Datasets[i]
		if h.books.settling[d.Dataset].Known(sc) {
			continue
		}
		of := ledger.Series{Dataset: d.Dataset, Scope: sc}
		if _, read := h.recent[of]; !read {
			if err := h.read(ctx, d, sc); err != nil {
				return err
			}
		}
		h.books.settling[d.Dataset].Restore(sc, h.past(d, sc))
		delete(h.recent, of)
	}
	return nil
}

func (h *history) past(d *catalogue.Dataset, sc bucket.Scope) settle.Past {
	who, of := h.books.roster[sc], ledger.Series{Dataset: d.Dataset, Scope: sc}
	past := settle.Past{FirstSeen: who.FirstSeen, Recent: h.recent[of]}
	slices.SortFunc(past.Recent, func(x, y settle.Final) int { return int(x.Start - y.Start) })
	if v := who.Variant(h.trusted.Second(), d); v != nil {
		past.Keeps = who.Entitled.Node(v.Node).NotOlderThan
	}
	for _, g := range h.books.coverage.Gaps[of] {
		if g.Suspected() {
			for start := g.Window.Start; start < g.Window.End; start = start.Add(d.Size) {
				past.Suspect = append(past.Suspect, start)
			}
		}
	}
	return past
}

// final is a stored bucket as the rules see it: its level, and whether it was empty. A stored
// bucket was empty if every value is zero.
func final(d *catalogue.Dataset, b *bucket.Bucket) settle.Final {
	f := settle.Final{Start: b.Start, Empty: true}
	for _, rows := range b.Families {
		for _, v := range rows.Values {
			if v != 0 {
				f.Empty = false
			}
			if rows.Family == d.Level {
				f.Level += v
			}
		}
	}
	return f
}
