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

// pastLevels is how many buckets before the end of what is stored of a series the
// settling rules are given.
const pastLevels = 12

// loadRecent reads the newest buckets of all scopes that may be asked, once a
// dataset: each scope's are wanted with the first answer that holds it.
func (b *books) loadRecent(ctx context.Context) error {
	var scopes []bucket.Scope
	for sc, who := range b.roster {
		if who.Listed() {
			scopes = append(scopes, sc)
		}
	}
	for i := range b.Catalogue.Datasets {
		if err := b.readRecent(ctx, &b.Catalogue.Datasets[i], scopes...); err != nil {
			return err
		}
	}
	return nil
}

// readRecent reads the newest buckets of a dataset and scopes.
func (b *books) readRecent(ctx context.Context, d *catalogue.Dataset, scopes ...bucket.Scope) error {
	var keys []bucket.Key
	for _, sc := range scopes {
		of := ledger.Series{Dataset: d.Dataset, Scope: sc}
		b.recent[of] = nil
		end := b.coverage.Newest(of)
		if end == 0 {
			continue
		}
		for _, w := range b.coverage.Final[of].Within(bucket.Window{Start: end.Add(-pastLevels * d.Size), End: end}) {
			for start := w.Start; start < w.End; start = start.Add(d.Size) {
				keys = append(keys, bucket.Key{Dataset: d.Dataset, Scope: sc, Start: start})
			}
		}
	}
	err := b.Store.Buckets(ctx, keys, func(e store.Entry) error {
		one, err := unreadable.Bucket(&e)
		if err != nil { // its level is not known, and the others' are
			b.Unreadable.Note(&e, err)
			return nil
		}
		of := ledger.Series{Dataset: d.Dataset, Scope: one.Scope}
		b.recent[of] = append(b.recent[of], final(d, one))
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the newest buckets of %s: %w", d.Dataset, err)
	}
	return nil
}

// restore gives the settling rules of all datasets what the store and the
// ledger know of a scope, once per term.
func (j *judge) restore(ctx context.Context, sc bucket.Scope) error {
	for i := range j.Catalogue.Datasets {
		d := &j.Catalogue.Datasets[i]
		if j.settling[d.Dataset].Known(sc) {
			continue
		}
		of := ledger.Series{Dataset: d.Dataset, Scope: sc}
		if _, read := j.recent[of]; !read {
			if err := j.readRecent(ctx, d, sc); err != nil {
				return err
			}
		}
		j.settling[d.Dataset].Restore(sc, j.past(d, sc))
		delete(j.recent, of)
	}
	return nil
}

func (b *books) past(d *catalogue.Dataset, sc bucket.Scope) settle.Past {
	who, of := b.roster[sc], ledger.Series{Dataset: d.Dataset, Scope: sc}
	past := settle.Past{FirstSeen: who.FirstSeen, Recent: b.recent[of]}
	slices.SortFunc(past.Recent, func(x, y settle.Final) int { return int(x.Start - y.Start) })
	if v := who.Variant(b.trusted.Second(), d); v != nil {
		past.Keeps = who.Entitled.Node(v.Node).NotOlderThan
	}
	for _, g := range b.coverage.Gaps[of] {
		if g.Suspected() {
			for start := g.Window.Start; start < g.Window.End; start = start.Add(d.Size) {
				past.Suspect = append(past.Suspect, start)
			}
		}
	}
	return past
}

// final is a stored bucket as the rules see it: its level, and whether it was
// empty, which after storing can be told only by every value being zero.
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
