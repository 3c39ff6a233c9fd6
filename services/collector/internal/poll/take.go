package poll

import (
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"math"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// judge decides which windows of a response are final, and commits them.
type judge struct {
	*env
	faults  *faults
	books   *books
	history *history
	drift   *drift
	commit  func(context.Context, store.Batch) error
	// wanted returns the windows of a dataset and scope that may become final.
	wanted func(d *catalogue.Dataset, sc bucket.Scope, readAt bucket.Time) bucket.Spans
	// backfills: the windows are those of backfills only, so they say nothing about how
	// collecting goes.
	backfills bool

	versions map[string]uint32 // of definitions, by dataset
	defined  map[string]*bucket.Definition
}

// take judges a response, dataset by dataset, and commits what is final.
func (j *judge) take(ctx context.Context, r plan.Request, response *cloudflare.Response, readAt bucket.Time) error {
	results, err := j.results(ctx, r, response, readAt)
	if err != nil {
		return err
	}
	if r.State() {
		return j.keepAll(ctx, j.sampled(results[0], readAt))
	}
	for _, l := range results {
		for sc := range l.readings {
			j.books.settling[l.sel.Dataset.Dataset].End(sc, j.books.roster[sc].End != 0)
		}
		j.books.settling[l.sel.Dataset.Dataset].Note(readAt, l.readings)
		if !j.backfills {
			j.metrics.lastSuccess.WithLabelValues(l.sel.Dataset.Dataset).Set(float64(readAt))
		}
	}
	// Judged only after every dataset of the response was noted: one may show that a
	// zone is late where another merely results low.
	var done []settled
	for _, l := range results {
		for sc, readings := range l.readings {
			for _, v := range j.books.settling[l.sel.Dataset.Dataset].Judge(readAt, sc, readings, j.hole(sc)) {
				if v.Final != 0 {
					f := l.windows[sc][v.Start]
					done = append(done, settled{b: j.bucket(l.sel, sc, f, v.Final, readAt), variant: l.sel.Variant, folded: f, verdict: v})
				}
			}
		}
	}
	return j.keepAll(ctx, done)
}

// most is the maximum number of entries of one append: the response of a catch-up has
// thousands, more than a slow disk writes within the timeout of a statement.
const most = 2000

// keepAll commits buckets, ordered by key so that the revisions do not depend on the order of a
// map.
func (j *judge) keepAll(ctx context.Context, done []settled) error {
	slices.SortFunc(done, func(a, b settled) int { return a.b.Key.Compare(b.b.Key) })
	done = j.sealed(done)
	if err := j.fill(ctx, done); err != nil {
		return err
	}
	for part := range slices.Chunk(done, most) {
		batch := store.Batch{Entries: make([]store.NewEntry, len(part))}
		for i, one := range part {
			batch.Entries[i] = entry(one)
		}
		if err := j.commit(ctx, batch); err != nil {
			return err
		}
		for _, one := range part {
			if j.faults.invalid[ledger.Series{Dataset: one.b.Dataset, Scope: one.b.Scope}][one.b.Start] == nil {
				j.stored(one)
			}
		}
	}
	return nil
}

// result is the part of a response about one dataset, by scope. Several ranges of a dataset are
// one result, since one range is evidence about the others.
type result struct {
	sel      plan.Selection // the first; they differ only in their windows
	windows  map[bucket.Scope]map[bucket.Time]catalogue.Folded
	readings map[bucket.Scope][]settle.Reading
}

func (j *judge) results(ctx context.Context, r plan.Request, response *cloudflare.Response, readAt bucket.Time) ([]*result, error) {
	var results []*result
	of, failed := map[*catalogue.Dataset]*result{}, map[ledger.Series]bool{}
	for i, sel := range r.Selections {
		l := of[sel.Dataset]
		if l == nil {
			l = &result{sel: sel, windows: map[bucket.Scope]map[bucket.Time]catalogue.Folded{}, readings: map[bucket.Scope][]settle.Reading{}}
			of[sel.Dataset], results = l, append(results, l)
		}
		for _, sc := range r.Scopes {
			folded, err := j.read(ctx, sel, sc, response, alias(i))
			if err != nil {
				return nil, err
			}
			if folded == nil {
				failed[ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}] = true
				continue
			}
			if l.windows[sc] == nil {
				l.windows[sc] = make(map[bucket.Time]catalogue.Folded, len(folded))
			}
			for _, f := range folded {
				l.windows[sc][f.Start] = f
			}
		}
	}
	for _, l := range results {
		for sc, windows := range l.windows {
			l.readings[sc] = j.readings(l.sel.Dataset, sc, windows, readAt)
			series := ledger.Series{Dataset: l.sel.Dataset.Dataset, Scope: sc}
			if t := j.faults.tries[series]; t != nil && !failed[series] && wanted(l.readings[sc]) {
				t.Backoff, t.alone, t.reason, t.detail = backoff.Backoff{}, false, "", ""
			}
			if !failed[series] {
				j.acceptVariant(sc, l.sel)
			}
		}
	}
	return results, nil
}

// wanted reports whether any of the readings was wanted. The others only show how far the data
// has come.
func wanted(readings []settle.Reading) bool {
	return slices.ContainsFunc(readings, func(r settle.Reading) bool { return !r.Closed })
}

type settled struct {
	b       *bucket.Bucket
	payload []byte             // of b, as it is stored
	variant *catalogue.Variant // that made it; nil: a state
	filled  int                // rows of 0 that were added
	folded  catalogue.Folded
	verdict settle.Verdict
}

// stored records a committed bucket.
func (j *judge) stored(done settled) {
	b := done.b
	of := ledger.Series{Dataset: b.Dataset, Scope: b.Scope}
	j.books.coverage.Final[of] = j.books.coverage.Final[of].Add(b.Window())
	j.books.settling[b.Dataset].Stored(b.Scope, settle.Final{Start: b.Start, Level: done.folded.Level, Empty: done.folded.Empty})
	j.metrics.buckets.WithLabelValues(b.Dataset, finality(b.Finality), origin(b.Origin)).Inc()
	if d := j.catalogue.Find(b.Dataset); !j.backfills && !d.State {
		j.drift.settled(d.Delay, done)
	}
	j.faults.accepted(of, b.Start)
	if done.folded.CutLabels > 0 {
		j.metrics.cut.WithLabelValues(b.Dataset).Add(float64(done.folded.CutLabels))
	}
	if done.filled > 0 {
		j.metrics.zeros.WithLabelValues(b.Dataset).Add(float64(done.filled))
	}
	if done.folded.FoldedRows > 0 {
		j.metrics.folded.WithLabelValues(b.Dataset).Add(float64(done.folded.FoldedRows))
	}
}

// read folds one scope's part of a response into windows; nil if it is missing or invalid,
// which is recorded as a failure.
func (j *judge) read(ctx context.Context, sel plan.Selection, sc bucket.Scope, response *cloudflare.Response, alias string) ([]catalogue.Folded, error) {
	of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
	groups, visible, there := groupsOf(response, sc, alias)
	if !visible {
		j.faults.fail(of, ledger.NotVisible, "the "+sc.Kind.String()+" is not in Cloudflare's response")
		return nil, nil
	}
	switch {
	case !there:
		j.faults.fail(of, ledger.BadAnswer, "the response lacks the requested dataset")
		return nil, nil
	case len(groups) >= sel.Limit:
		j.metrics.truncated.WithLabelValues(of.Dataset).Inc()
		j.faults.narrow(of, sel, fmt.Sprintf("the response filled its page of %d rows and may be truncated", sel.Limit))
		return nil, nil
	}
	folded, err := sel.Dataset.Fold(sel.Variant, sel.Window, groups)
	if err != nil {
		j.quiet.Warn(of.Dataset+" "+sc.ID, "the response is invalid", "dataset", of.Dataset, inLog(sc), "window", sel.Window.String(), "ray", response.Ray, "err", err)
		j.faults.fail(of, ledger.BadAnswer, err.Error())
		return nil, nil
	}
	return folded, j.history.restore(ctx, sc)
}

// groupsOf is the part of a response about one scope and one selection, and whether the scope
// and the selection are in it.
func groupsOf(response *cloudflare.Response, sc bucket.Scope, alias string) (groups []map[string]any, visible, there bool) {
	of, visible := response.Zones[sc.ID]
	if sc.Kind == bucket.Account {
		of, visible = response.Account, response.Account != nil
	}
	groups, there = of[alias]
	return groups, visible, there
}

// digest is equal for equal rows within this process.
func digest(families []bucket.Rows) uint64 {
	var h maphash.Hash
	h.SetSeed(digestSeed)
	for _, rows := range families {
		h.WriteString(rows.Family)
		for _, l := range rows.Labels {
			h.WriteByte(0)
			h.WriteString(l)
		}
		for _, v := range rows.Values {
			maphash.WriteComparable(&h, math.Float64bits(v))
		}
	}
	return h.Sum64()
}

var digestSeed = maphash.MakeSeed()

// bucket builds what is stored. Its names and labels never change afterwards.
func (j *judge) bucket(sel plan.Selection, sc bucket.Scope, f catalogue.Folded, ground bucket.Finality, readAt bucket.Time) *bucket.Bucket {
	d := sel.Dataset
	zone, account := j.books.roster[sc].Labels(f.Start)
	b := &bucket.Bucket{
		Key:  bucket.Key{Dataset: d.Dataset, Scope: sc, Start: f.Start},
		Size: d.Size, Version: j.versions[d.Dataset], Zone: zone, Account: account,
		Finality: ground, Origin: bucket.Repair, Variant: sel.Variant.Name,
		SampleInterval: f.SampleInterval, ReadAt: readAt, Families: f.Families,
	}
	switch due := f.Start.Add(d.Size).Add(d.Delay); {
	case j.backfills:
		b.Origin = bucket.Backfill
	case readAt.Sub(due) <= 3*d.Size:
		b.Origin = bucket.Live
	}
	return b
}

func entry(one settled) store.NewEntry {
	b := one.b
	return store.NewEntry{
		Kind: bucket.KindBucket, Key: b.Key, End: b.Window().End, Finality: b.Finality, Origin: b.Origin,
		Variant: b.Variant, Rows: b.Len(), SampleInterval: b.SampleInterval, Payload: one.payload,
	}
}

func finality(f bucket.Finality) string {
	switch f {
	case bucket.Confirmed:
		return "confirmed"
	case bucket.Deadline:
		return "deadline"
	}
	return "suspect_confirmed"
}

func origin(o bucket.Origin) string {
	switch o {
	case bucket.Live:
		return "live"
	case bucket.Backfill:
		return "backfill"
	}
	return "repair"
}

// sealed are the buckets that may be appended, with their encoding. The others are recorded as
// gaps and read again, without an effect on other windows.
func (j *judge) sealed(done []settled) []settled {
	kept := done[:0]
	for _, one := range done {
		payload, err := seal(one, j.defined[one.b.Dataset])
		if err != nil {
			j.faults.reject(one.b.Key, "Cloudflare's response makes a bucket that no reader would accept", err)
			continue
		}
		one.payload = payload
		kept = append(kept, one)
	}
	return kept
}

// hole is the first hole at the end of a scope's data in any dataset, or 0.
func (j *judge) hole(sc bucket.Scope) (first bucket.Time) {
	for _, rules := range j.books.settling {
		if hole := rules.Hole(sc); hole != 0 && (first == 0 || hole < first) {
			first = hole
		}
	}
	return first
}

// readings are the windows of a response, ascending. Those that are not wanted, in particular
// those that are not due or already final, are closed: they show how far the data has come.
func (j *judge) readings(d *catalogue.Dataset, sc bucket.Scope, windows map[bucket.Time]catalogue.Folded, readAt bucket.Time) []settle.Reading {
	wanted := j.wanted(d, sc, readAt)
	out := make([]settle.Reading, 0, len(windows))
	for _, start := range slices.Sorted(maps.Keys(windows)) {
		f := windows[start]
		r := settle.Reading{Start: start, Empty: f.Empty, Level: f.Level, Sampled: f.SampleInterval > 1}
		if r.Closed = !wanted.Contains(bucket.Window{Start: start, End: start.Add(d.Size)}); !r.Closed {
			r.Digest = digest(f.Families)
		}
		out = append(out, r)
	}
	return out
}

// open are the windows of a dataset and scope that regular work wants: those that are due and
// neither final nor decided.
func (b *books) open(d *catalogue.Dataset, sc bucket.Scope, readAt bucket.Time) bucket.Spans {
	who := b.roster[sc]
	w := bucket.Window{
		Start: b.coverage.Terms().Start(readAt, d, who),
		End:   plan.Due(readAt, d.Size, d.Delay),
	}
	if who.End != 0 {
		w.End = min(w.End, who.End.Floor(d.Size))
	}
	return b.coverage.Closed(d, who).Missing(w)
}

// lacks reports whether windows of a series that are due are neither final nor decided.
func (b *books) lacks(of ledger.Series) bool {
	d, who := b.catalogue.Find(of.Dataset), b.roster[of.Scope]
	return d == nil || who == nil || len(b.open(d, of.Scope, b.trusted.Second())) > 0
}

// forgive forgets failures of series that lack nothing, when they may be requested again. They
// were asked along with others, and nothing else would show that they no longer fail.
func (b *books) forgive() {
	for of, t := range b.faults.tries {
		if t.reason != "" && b.trusted.Second() >= t.Next && !b.lacks(of) {
			b.faults.tries[of] = &try{maxRange: t.maxRange}
		}
	}
}

// acceptVariant removes recorded refusals of a variant for a scope, after a response for it.
func (j *judge) acceptVariant(sc bucket.Scope, sel plan.Selection) {
	if j.faults.off[sel.Dataset.Dataset] != nil {
		delete(j.faults.off, sel.Dataset.Dataset)
		j.trouble.Clear(trouble.DatasetDisabled, sel.Dataset.Dataset)
	}
	for _, changed := range j.books.roster.ClearRefusal(sc, sel.Dataset.Dataset, sel.Variant.Name) {
		j.quiet.Info(changed.ID, "a refused variant is accepted again", "dataset", sel.Dataset.Dataset, "variant", sel.Variant.Name, inLog(changed.Scope), "name", changed.Name)
		j.books.dirty(changed.Scope)
	}
}
