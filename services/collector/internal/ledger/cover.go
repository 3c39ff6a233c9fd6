package ledger

import (
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Cover sorts the store's coverage by series. begin is where a series may
// begin at the earliest because another bucket size of the same dataset covers
// the time before: the first border of both sizes after the old one's end, so
// that no window of a family is ever covered twice.
func Cover(runs []store.Run, datasets []catalogue.Dataset) (have map[Series]bucket.Spans, begin map[Series]bucket.Time) {
	have, begin = map[Series]bucket.Spans{}, map[Series]bucket.Time{}
	current := map[string]bool{}
	for i := range datasets {
		current[datasets[i].Dataset] = true
	}
	for _, r := range runs {
		of := Series{r.Dataset, r.Scope}
		have[of] = have[of].Add(r.Window)
		if current[r.Dataset] {
			continue
		}
		for i := range datasets {
			d := &datasets[i]
			if slices.Contains(d.Others, r.Dataset) {
				now := Series{d.Dataset, r.Scope}
				begin[now] = max(begin[now], r.Window.End.Ceil(d.Size))
			}
		}
	}
	return have, begin
}

// Unaccounted is what of a window is neither closed nor waits to be believed, by
// the gaps of its series.
func Unaccounted(closed bucket.Spans, gaps []Gap, now bucket.Time, window bucket.Window) bucket.Spans {
	holes := closed.Missing(window)
	for _, g := range gaps {
		if g.Waits(now) {
			holes = holes.Remove(g.Window)
		}
	}
	return holes
}

// Closed is what is final, decided, or of a time in which the scope was away.
func Closed(have bucket.Spans, d *Decision, absent bucket.Spans) bucket.Spans {
	if d == nil && len(absent) == 0 {
		return have
	}
	closed := append(bucket.Spans(nil), have...)
	if d != nil {
		for _, span := range d.Spans {
			closed = closed.Add(span.Window)
		}
	}
	for _, w := range absent {
		closed = closed.Add(w)
	}
	return closed
}
