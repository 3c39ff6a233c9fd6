package poll

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

// reasonBefore is why a window was missing, from the ledger as stored.
func (r *recorder) reasonBefore(of ledger.Series, start bucket.Time) ledger.Reason {
	if g := r.books.coverage.Gap(of, start); g != nil {
		return g.Reason
	}
	return ledger.Pending
}

// missing lists the current gaps, and the windows that wait for confirmation. Windows inside
// their deadline with nothing wrong are not gaps yet: coverage shows them as pending without a
// record.
func (r *recorder) missing(now bucket.Time, claims []roster.Claim) []ledger.Gap {
	var out []ledger.Gap
	for _, c := range claims {
		if c.Unread { // what is known of its windows is still valid
			out = append(out, r.books.coverage.View(c, now).Gaps()...)
		}
		if c.Variant == nil {
			continue
		}
		for _, span := range r.books.coverage.Closed(c.Dataset, c.Scope).Missing(c.Window) {
			for start := span.Start; start < span.End; start = start.Add(c.Dataset.Size) {
				if g, ok := r.gap(now, c, start); ok {
					out = ledger.Join(out, g)
				}
			}
		}
	}
	return out
}

// Limits of a window that waits for confirmation.
const (
	// waitOver is how long after it should have been final a window still waits: it is read
	// every ten minutes, and a permit may take a while.
	waitOver = 30 * time.Minute
	// waitLost before Cloudflare drops a window of a day's data, it no longer waits. An empty
	// window is final two hours before that, so only a delay of the dataset can last that long.
	waitLost = time.Hour
	// waitUnread is the maximum age of the newest reading: a window that cannot be read does
	// not become final by itself. A new leader gives windows of the previous one the same time.
	waitUnread = time.Hour
)

// gap is why a window is not final; false if that needs no record yet.
func (r *recorder) gap(now bucket.Time, c roster.Claim, start bucket.Time) (ledger.Gap, bool) {
	of := ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}
	g := ledger.Gap{
		Dataset: of.Dataset, Scope: of.Scope, Window: bucket.Window{Start: start, End: start.Add(c.Dataset.Size)},
		Reason: ledger.Pending, Next: r.books.Again(of.Dataset, of.Scope, start),
	}
	if c.Keeps > 0 && !c.Dataset.State { // a state is always lost within minutes, for which no deadline is a warning
		g.LostAt = start.Add(c.Keeps)
	}
	overdue := now.Sub(g.Window.End) > c.Dataset.Deadline
	if t := r.faults.tries[of]; t != nil && t.reason != "" {
		g.Reason, g.Detail, g.Attempts = t.reason, t.detail, t.Failures
	} else if outage, lasts := r.books.out(of.Scope); lasts {
		g.Reason, g.Detail = outage.Reason, outage.Detail // which prevents requests for it
	}
	if w := r.faults.invalid[of][start]; w != nil {
		g.Reason, g.Detail, g.Attempts = ledger.Invalid, w.detail, w.Failures
		return g, true
	}
	w := r.waiting(of, start)
	reason := ledger.Suspect
	switch w.Reason {
	case settle.Delayed:
		g.Doubted, reason = true, ledger.Delayed
	case settle.Suspect:
		g.Doubted = true
	case settle.Settling: // recorded only if it is late
		if !overdue {
			w = settle.Waiting{}
		}
	default:
	}
	if w.FinalBy != 0 {
		until := w.FinalBy.Add(waitOver)
		if g.LostAt != 0 {
			until = min(until, g.LostAt.Add(-min(waitLost, c.Keeps/24)))
		}
		switch stale := max(w.LastRead, r.began).Add(waitUnread); {
		case now >= stale:
		case now >= until:
			if g.Reason == ledger.Pending {
				g.Reason = reason
			}
		default:
			g.Reason, g.Detail, g.WaitsUntil = reason, "", until
			return g, true
		}
	}
	return g, overdue || g.Doubted || g.Reason != ledger.Pending
}

// waiting is how a window waits for confirmation, from its readings; for a scope that this
// leader has not read yet, from the ledger.
func (r *recorder) waiting(of ledger.Series, start bucket.Time) settle.Waiting {
	rules := r.books.settling[of.Dataset]
	if rules.Known(of.Scope) {
		w, _ := rules.Waiting(of.Scope, start)
		return w
	}
	g := r.books.coverage.Gap(of, start)
	if g == nil || g.WaitsUntil == 0 && !g.Suspected() {
		return settle.Waiting{}
	}
	w := settle.Waiting{Reason: settle.Settling}
	switch {
	case g.Suspected() && g.Reason == ledger.Delayed:
		w.Reason = settle.Delayed
	case g.Suspected():
		w.Reason = settle.Suspect
	default:
	}
	if g.WaitsUntil != 0 {
		w.FinalBy = g.WaitsUntil.Add(start.Sub(g.Window.Start) - waitOver)
	}
	return w
}

// countFilled counts windows that left the ledger and are stored, except those that only waited
// for confirmation.
func (r *recorder) countFilled(after []ledger.Gap) {
	still := map[ledger.Series]bucket.Spans{}
	for _, g := range after {
		still[g.Of()] = still[g.Of()].Add(g.Window)
	}
	for of, gaps := range r.books.coverage.Gaps {
		size := r.sizeOf(of.Dataset)
		if size == 0 {
			continue
		}
		for _, g := range gaps {
			if g.WaitsUntil != 0 {
				continue
			}
			for _, left := range still[of].Missing(g.Window) {
				for _, filled := range r.books.coverage.Final[of].Within(left) {
					r.metrics.filled.WithLabelValues(of.Dataset).Add(float64(filled.Len() / size))
				}
			}
		}
	}
}
