package poll

import (
	"context"
	"fmt"
	"hash/maphash"
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
)

// selection spells a planned selection for the client.
func selection(alias string, sel plan.Selection) cloudflare.Selection {
	ask := sel.Dataset.Selection(sel.Variant)
	return cloudflare.Selection{
		Alias: alias, Node: sel.Variant.Node, FilterField: sel.Variant.FilterField, Window: sel.Window,
		Filter: sel.Variant.Filter, Dimensions: ask.Dimensions, TimeDimension: sel.Variant.TimeDimension,
		Fields: ask.Fields, Limit: sel.Limit, OrderBy: ask.OrderBy,
	}
}

// judge decides what of an answer is final, and commits it.
type judge struct {
	*Poller
	*faults
	*books
	*writer
	*auditor
}

// take judges an answer, dataset by dataset, and commits what is final.
func (j *judge) take(ctx context.Context, r plan.Request, answer *cloudflare.Response, readAt bucket.Time) error {
	looks, err := j.looks(ctx, r, answer, readAt)
	if err != nil {
		return err
	}
	for _, l := range looks {
		for sc := range l.readings {
			j.settling[l.sel.Dataset.Dataset].End(sc, j.roster[sc].End != 0)
		}
		j.settling[l.sel.Dataset.Dataset].Note(readAt, l.readings)
		j.Metrics.lastSuccess.WithLabelValues(l.sel.Dataset.Dataset).Set(float64(readAt))
	}
	// Judged only when every dataset of the answer has been noted: one may show
	// that a zone is late where another merely looks low.
	var done []settled
	for _, l := range looks {
		for sc, readings := range l.readings {
			for _, v := range j.settling[l.sel.Dataset.Dataset].Judge(readAt, sc, readings, j.hole(sc)) {
				if v.Final != 0 {
					f := l.windows[sc][v.Start]
					done = append(done, settled{b: j.bucket(l.sel, sc, f, v.Final, readAt), folded: f, verdict: v})
				}
			}
		}
	}
	return j.keepAll(ctx, done)
}

// most entries of one append: an answer that catches up holds thousands,
// more than a slow disk takes in the time that a statement has.
const most = 2000

// keepAll commits buckets, in an order that follows from what they are and not
// from that of a map, so that the revisions do.
func (j *judge) keepAll(ctx context.Context, done []settled) error {
	slices.SortFunc(done, func(a, b settled) int { return a.b.Key.Compare(b.b.Key) })
	done = j.sealed(done)
	for part := range slices.Chunk(done, most) {
		batch := store.Batch{Entries: make([]store.NewEntry, len(part))}
		for i, one := range part {
			batch.Entries[i] = entry(one)
		}
		if err := j.commit(ctx, batch); err != nil {
			return err
		}
		for _, one := range part {
			if j.invalid[ledger.Series{Dataset: one.b.Dataset, Scope: one.b.Scope}][one.b.Start] == nil {
				j.stored(one)
			}
		}
	}
	return nil
}

// look is what an answer shows of one dataset, by scope. A dataset that was
// asked over several ranges has one look: what one range shows says something
// about the others.
type look struct {
	sel      plan.Selection // the first; they differ in their windows alone
	windows  map[bucket.Scope]map[bucket.Time]catalogue.Folded
	readings map[bucket.Scope][]settle.Reading
}

func (j *judge) looks(ctx context.Context, r plan.Request, answer *cloudflare.Response, readAt bucket.Time) ([]*look, error) {
	var looks []*look
	of, failed := map[*catalogue.Dataset]*look{}, map[ledger.Series]bool{}
	for i, sel := range r.Selections {
		l := of[sel.Dataset]
		if l == nil {
			l = &look{sel: sel, windows: map[bucket.Scope]map[bucket.Time]catalogue.Folded{}, readings: map[bucket.Scope][]settle.Reading{}}
			of[sel.Dataset], looks = l, append(looks, l)
		}
		for _, sc := range r.Scopes {
			folded, err := j.read(ctx, sel, sc, answer, alias(i))
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
	for _, l := range looks {
		for sc, windows := range l.windows {
			l.readings[sc] = j.readings(l.sel.Dataset, sc, windows, readAt)
			series := ledger.Series{Dataset: l.sel.Dataset.Dataset, Scope: sc}
			if t := j.tries[series]; t != nil && !failed[series] && wanted(l.readings[sc]) {
				t.Backoff, t.alone, t.reason, t.detail = backoff.Backoff{}, false, "", ""
			}
			if !failed[series] {
				j.absolve(sc, l.sel)
			}
		}
	}
	return looks, nil
}

// wanted reports whether any of the readings is more than a witness, whose
// success says nothing about what is asked for.
func wanted(readings []settle.Reading) bool {
	return slices.ContainsFunc(readings, func(r settle.Reading) bool { return !r.Closed })
}

type settled struct {
	b       *bucket.Bucket
	payload []byte // of b, as it is stored
	folded  catalogue.Folded
	verdict settle.Verdict
}

// stored remembers a committed bucket.
func (j *judge) stored(done settled) {
	b := done.b
	of := ledger.Series{Dataset: b.Dataset, Scope: b.Scope}
	j.coverage.Final[of] = j.coverage.Final[of].Add(b.Window())
	j.settling[b.Dataset].Stored(b.Scope, settle.Final{Start: b.Start, Level: done.folded.Level, Empty: done.folded.Empty})
	j.Metrics.buckets.WithLabelValues(b.Dataset, finality(b.Finality), origin(b.Origin)).Inc()
	j.noteSettled(done)
	j.accepted(of, b.Start)
	if done.folded.CutLabels > 0 {
		j.Metrics.cut.WithLabelValues(b.Dataset).Add(float64(done.folded.CutLabels))
	}
	if done.folded.FoldedRows > 0 {
		j.Metrics.folded.WithLabelValues(b.Dataset).Add(float64(done.folded.FoldedRows))
	}
}

// read turns one scope's part of an answer into windows; nil when there is
// nothing to believe in it, which is then on record as a failed try.
func (j *judge) read(ctx context.Context, sel plan.Selection, sc bucket.Scope, answer *cloudflare.Response, alias string) ([]catalogue.Folded, error) {
	of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
	groups, visible, there := groupsOf(answer, sc, alias)
	if !visible {
		j.fail(of, ledger.NotVisible, "the "+sc.Kind.String()+" is not in Cloudflare's answer")
		return nil, nil
	}
	switch {
	case !there:
		j.fail(of, ledger.BadAnswer, "the answer lacks the dataset that was asked for")
		return nil, nil
	case len(groups) >= sel.Limit:
		j.Metrics.truncated.WithLabelValues(of.Dataset).Inc()
		j.narrow(of, sel, fmt.Sprintf("the answer filled its page of %d rows and may be cut", sel.Limit))
		return nil, nil
	}
	folded, err := sel.Dataset.Fold(sel.Variant, sel.Window, groups)
	if err != nil {
		j.often.Warn(of.Dataset+" "+sc.ID, "answer cannot be right", "dataset", of.Dataset, inLog(sc), "window", sel.Window.String(), "ray", answer.Ray, "err", err)
		j.fail(of, ledger.BadAnswer, err.Error())
		return nil, nil
	}
	return folded, j.restore(ctx, sc)
}

// groupsOf is what an answer says of one scope and one selection, and whether the scope
// and the selection are there.
func groupsOf(answer *cloudflare.Response, sc bucket.Scope, alias string) (groups []map[string]any, visible, there bool) {
	of, visible := answer.Zones[sc.ID]
	if sc.Kind == bucket.Account {
		of, visible = answer.Account, answer.Account != nil
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

// bucket builds what is stored. Names are frozen here.
func (j *judge) bucket(sel plan.Selection, sc bucket.Scope, f catalogue.Folded, ground bucket.Finality, readAt bucket.Time) *bucket.Bucket {
	d := sel.Dataset
	zone, account := j.roster[sc].Labels(f.Start)
	b := &bucket.Bucket{
		Key:  bucket.Key{Dataset: d.Dataset, Scope: sc, Start: f.Start},
		Size: d.Size, Version: j.versions[d.Dataset], Zone: zone, Account: account,
		Finality: ground, Origin: bucket.Repair, Variant: sel.Variant.Name,
		SampleInterval: f.SampleInterval, ReadAt: readAt, Families: f.Families,
	}
	if due := f.Start.Add(d.Size).Add(d.Delay); readAt.Sub(due) <= 3*d.Size {
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
	if o == bucket.Live {
		return "live"
	}
	return "repair"
}
