package poll

import (
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// setGauges sets the gauges that describe the current state.
func (r *reporter) setGauges(now bucket.Time, claims []roster.Claim) {
	m := r.metrics
	m.scopes.Reset()
	m.accounts.Reset()
	for _, sc := range r.books.roster {
		switch {
		case sc.Kind == bucket.Zone:
			m.scopes.WithLabelValues(string(sc.State), sc.Credential).Inc()
		case r.collects(sc.Kind):
			m.accounts.WithLabelValues(string(sc.State)).Inc()
		}
	}
	m.gaps.Reset()
	m.waiting.Reset()
	m.repairBy.Reset()
	leaves := map[string]bucket.Time{}
	for of, gaps := range r.books.coverage.Gaps {
		size := r.sizeOf(of.Dataset)
		if size == 0 {
			continue
		}
		for _, g := range gaps {
			n := float64(g.Window.Len() / size)
			if g.Waits(now) {
				m.waiting.WithLabelValues(g.Dataset, string(g.Reason)).Add(n)
				continue
			}
			m.gaps.WithLabelValues(g.Dataset, string(g.Reason)).Add(n)
			if g.LostAt != 0 && (leaves[g.Dataset] == 0 || g.LostAt < leaves[g.Dataset]) {
				leaves[g.Dataset] = g.LostAt
			}
		}
	}
	for dataset, at := range leaves {
		m.repairBy.WithLabelValues(dataset).Set(float64(at))
	}
	for dataset, rules := range r.books.settling {
		m.suspects.WithLabelValues(dataset).Set(float64(rules.Suspects()))
		_, delayed := rules.Delayed()
		m.delayed.WithLabelValues(dataset).Set(boolean(delayed))
	}
	r.setCompleteness(now, claims)
}

// setCompleteness sets how far each dataset is accounted for, the state of each series, and the
// number of refused scopes of each dataset.
func (r *reporter) setCompleteness(now bucket.Time, claims []roster.Claim) {
	m := r.metrics
	// A dataset that is requested for no scope has no value.
	m.completeUntil.Reset()
	m.refused.Reset()
	complete, overdue, refused, refusedBy := map[string]bucket.Time{}, map[string]bucket.Time{}, map[string]int{}, map[string]int{}
	standings := make([]standing, 0, len(claims))
	for _, c := range claims {
		id, view := c.Dataset.Dataset, r.books.coverage.View(c, now)
		refused[id] += 0
		if c.Scope.End == 0 || c.Scope.Listed() || now.Sub(c.Scope.End) < goneFor {
			standings = append(standings, r.standing(now, c, view))
		}
		if c.Scope.State == roster.Active && c.Scope.AnyRefusal(id) {
			refusedBy[id]++
		}
		if c.Variant == nil {
			if c.Scope.State == roster.Active && !c.Unread {
				refused[id]++
			}
			continue
		}
		if c.Scope.End != 0 || c.Window.Empty() {
			continue
		}
		until := view.CompleteUntil()
		if until < c.Window.End {
			if due := until.Add(c.Dataset.Size + c.Dataset.Delay); overdue[id] == 0 || due < overdue[id] {
				overdue[id] = due
			}
		}
		if complete[id] == 0 || until < complete[id] {
			complete[id] = until
		}
	}
	m.overdue.Reset()
	for id, n := range refused {
		m.refused.WithLabelValues(id).Set(float64(n))
		m.refusedBy.WithLabelValues(id).Set(float64(refusedBy[id]))
		if complete[id] != 0 {
			m.completeUntil.WithLabelValues(id).Set(float64(complete[id]))
		}
		if overdue[id] != 0 {
			m.overdue.WithLabelValues(id).Set(float64(overdue[id]))
		}
	}
	r.changes.tell(now, standings)
	m.standings.publish(standings)
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
