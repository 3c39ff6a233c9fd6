package poll

import (
	"context"
	"fmt"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// fill adds the rows of zero fill to buckets that are about to be appended in this order. They
// depend on what is in the log before each bucket: what is stored, and what precedes it here.
// Nothing is remembered, so every leader does the same.
//
// What decides about windows (whether one is empty, its level) is the response, which does not
// have these rows; and who reads stored buckets does not tell rows of 0 from none.
func (j *judge) fill(ctx context.Context, done []settled) error {
	series := map[ledger.Series][]*settled{}
	var order []ledger.Series
	for i := range done {
		b := done[i].b
		if d := j.catalogue.Find(b.Dataset); d == nil || d.ZeroFill == 0 || done[i].variant == nil {
			continue
		}
		of := ledger.Series{Dataset: b.Dataset, Scope: b.Scope}
		if series[of] == nil {
			order = append(order, of)
		}
		series[of] = append(series[of], &done[i])
	}
	for _, of := range order {
		if err := j.fillSeries(ctx, j.catalogue.Find(of.Dataset), of, series[of]); err != nil {
			return err
		}
	}
	return nil
}

// fillSeries adds the rows to buckets of one series, which are ascending.
func (j *judge) fillSeries(ctx context.Context, d *catalogue.Dataset, of ledger.Series, done []*settled) error {
	before, err := j.earlier(ctx, d, of, done)
	if err != nil {
		return err
	}
	for _, one := range done {
		w, _ := d.Earlier(one.b.Start)
		var earlier []*bucket.Bucket
		for _, b := range before {
			if b.Start >= w.Start && b.Start < w.End {
				earlier = append(earlier, b)
			}
		}
		if families, n := d.FillZeros(one.variant, &one.folded, earlier); n > 0 {
			b := *one.b
			b.Families = families
			whole := settled{b: &b, variant: one.variant, folded: one.folded, verdict: one.verdict, filled: n}
			if whole.payload, err = seal(whole, j.defined[of.Dataset]); err == nil {
				*one = whole
			} else { // it was valid without these rows
				j.quiet.Warn(of.Dataset+" "+of.Scope.ID, "a bucket has no room for rows of zero fill", "dataset", of.Dataset, inLog(of.Scope), "window", b.Window().String(), "rows", n, "err", err)
			}
		}
		before = append(before, one.b)
	}
	return nil
}

// earlier reads the stored buckets on which those of a series depend.
func (j *judge) earlier(ctx context.Context, d *catalogue.Dataset, of ledger.Series, done []*settled) (out []*bucket.Bucket, err error) {
	wanted := map[bucket.Time]bool{}
	for _, one := range done {
		w, _ := d.Earlier(one.b.Start)
		for start := w.Start; start < w.End; start = start.Add(d.Size) {
			wanted[start] = true
		}
	}
	for _, one := range done {
		delete(wanted, one.b.Start)
	}
	keys := make([]bucket.Key, 0, len(wanted))
	for start := range wanted {
		keys = append(keys, bucket.Key{Dataset: of.Dataset, Scope: of.Scope, Start: start})
	}
	slices.SortFunc(keys, bucket.Key.Compare)
	err = j.history.store.Buckets(ctx, keys, func(e store.Entry) error {
		b, err := unreadable.Bucket(&e)
		switch {
		case err != nil:
			j.history.unreadable.Note(&e, err)
		case b.Version == j.versions[of.Dataset]: // of another one the labels may differ
			out = append(out, b)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the buckets before %s of %s: %w", done[0].b.Start, of.Dataset, err)
	}
	return out, nil
}

// seal encodes a bucket that may be appended.
func seal(one settled, definition *bucket.Definition) ([]byte, error) {
	payload, err := wire.Seal(one.b, definition)
	if err == nil {
		one.payload = payload
		e := entry(one)
		err = e.Validate()
	}
	return payload, err
}
