package poll

import (
	"errors"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/audit"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// compareAgain compares a window's part of a response with the value in force.
func (s *state) compareAgain(r *restating, w *restateWindow, sel plan.Selection, alias string, response *cloudflare.Response, readAt bucket.Time) {
	groups, visible, there := groupsOf(response, w.Scope, alias)
	switch {
	case !visible:
		w.fail("the %s is not in Cloudflare's response", w.Scope.Kind)
		return
	case !there:
		w.fail("the response lacks the requested dataset")
		return
	case len(groups) >= sel.Limit:
		w.fail("the response filled its page of %d rows and may be truncated", sel.Limit)
		return
	}
	folded, err := sel.Dataset.Fold(sel.Variant, sel.Window, groups)
	if err == nil && len(folded) == 0 {
		err = errors.New("the response has no window")
	}
	if err != nil {
		w.fail("the response is invalid: %v", err)
		return
	}
	f := folded[0]
	if was := w.inForce; was != nil {
		result, _ := audit.Compare(was.Families, f.Families, f.Empty, feeds(sel.Variant))
		switch {
		case was.Variant != sel.Variant.Name:
			w.fail("it was collected with variant %s; the plan now allows %s, which may measure something else", was.Variant, sel.Variant.Name)
			return
		case f.SampleInterval > was.SampleInterval:
			w.fail("Cloudflare's answer is a coarser estimate (sample interval %g) than what is stored (%g)", f.SampleInterval, was.SampleInterval)
			return
		case result == audit.Gone:
			w.fail("Cloudflare sent no rows for a window that had some, which does not show that there were none")
			return
		case result == audit.Same:
			w.Outcome = OutcomeEqual
			return
		}
	}
	if lead := leadOf(sel, folded); readAt.Sub(w.End) < settle.DelayedAge && lead < settle.Enough {
		w.fail("Cloudflare's response has no data from after the window, so it may come from a replica that is behind; repeat the request later: at the latest when the window is a day old it is believed")
		return
	}
	families := f.Families
	if was := w.inForce; was != nil && was.Version == s.judge.versions[w.Dataset] {
		families = sel.Dataset.KeepZeros(sel.Variant, &f, was)
	}
	s.correct(r, w, sel, families, f.SampleInterval, readAt)
}

// beyond is how far a request for a window reaches: while data can be late, far enough to see
// whether the response has any from after the window.
func beyond(end bucket.Time, size time.Duration, now bucket.Time) bucket.Time {
	if now.Sub(end) >= settle.DelayedAge {
		return end
	}
	return max(end, min(end.Add(settle.Beyond).Ceil(size), now.Ceil(size)))
}

// leadOf is the lead of a response over its first window.
func leadOf(sel plan.Selection, folded []catalogue.Folded) time.Duration {
	readings := make([]settle.Reading, len(folded))
	for i, f := range folded {
		readings[i] = settle.Reading{Start: f.Start, Empty: f.Empty, Level: f.Level}
	}
	return settle.Policy{Size: sel.Dataset.Size, Distinct: sel.Dataset.Distinct()}.Lead(readings, 0)
}

// correct makes the restatement of a window. Names stay as they were stored.
func (s *state) correct(r *restating, w *restateWindow, sel plan.Selection, families []bucket.Rows, interval float64, readAt bucket.Time) {
	b := &bucket.Bucket{
		Key: w.Key, Size: sel.Dataset.Size, Version: s.judge.versions[w.Dataset], Finality: bucket.Confirmed, Origin: bucket.Repair,
		Variant: sel.Variant.Name, SampleInterval: interval, ReadAt: readAt, Families: families,
	}
	if first, err := unreadable.Bucket(&w.stored); err == nil {
		b.Zone, b.Account, b.Origin = first.Zone, first.Account, first.Origin
	} else {
		b.Zone, b.Account = s.books.roster[w.Scope].Labels(w.Start)
	}
	if _, err := wire.Seal(b, s.judge.defined[w.Dataset]); err != nil {
		w.fail("Cloudflare's response makes a bucket that no reader would accept: %v", err)
		return
	}
	payload, err := wire.EncodeRestatement(b, w.stored.Payload, r.Requester, r.Reason)
	if err != nil {
		w.fail("%v", err)
		return
	}
	w.entry = store.NewEntry{
		Kind: bucket.KindRestatement, Key: w.Key, End: w.End, Finality: b.Finality, Origin: b.Origin, Variant: b.Variant,
		Rows: b.Len(), SampleInterval: b.SampleInterval, Payload: payload,
	}
	if err := w.entry.Validate(); err != nil {
		w.fail("%v", err)
		return
	}
	w.Outcome, w.After = OutcomeRestated, sums(b)
}

// sums are the sums of a bucket's values by family.
func sums(b *bucket.Bucket) map[string]float64 {
	if b == nil {
		return nil
	}
	out := make(map[string]float64, len(b.Families))
	for i := range b.Families {
		for _, v := range b.Families[i].Values {
			out[b.Families[i].Family] += v
		}
	}
	return out
}
