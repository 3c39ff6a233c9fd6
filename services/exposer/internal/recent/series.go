package recent

import (
	"cmp"
	"iter"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
)

// place is a window of a dataset, by index.
type place struct {
	start          bucket.Time
	dataset, index int
}

// places lists the windows that may show a family, in the order of a body.
func (c *Choice) places(fam *Family) []place {
	var places []place
	for _, i := range fam.feeders {
		d := &c.Datasets[i]
		for j := min(d.Serve[0].From, d.Serve[1].From); j < max(d.Serve[0].To, d.Serve[1].To); j++ {
			places = append(places, place{d.slots[j].window.Start, i, j})
		}
	}
	if len(fam.feeders) > 1 {
		slices.SortFunc(places, func(a, b place) int {
			return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.dataset, b.dataset))
		})
	}
	return places
}

// shows reports whether a role's samples of a window are shown.
func (c *Choice) shows(at place, role int) bool {
	r := c.Datasets[at.dataset].Serve[role]
	return r.From <= at.index && at.index < r.To
}

// Segments yields what is shown of a family in the order of a body: ascending by
// window, then dataset, then scope.
func (c *Choice) Segments(fam *Family) iter.Seq[*expo.Segment] {
	if c.newest {
		return c.newestSegments(fam)
	}
	return func(yield func(*expo.Segment) bool) {
		for _, at := range c.places(fam) {
			buckets := c.Datasets[at.dataset].Buckets(at.index)
			for i := range buckets {
				s := buckets[i].Segment(fam.Name)
				if s != nil && c.shows(at, Index(s.Role)) && !yield(s) {
					return
				}
			}
		}
	}
}

// newestSegments yields of each scope the newest segment of the family. A scope
// that lags behind the others keeps its own newest one: without an out-of-order
// window that is the only one that its series can still take.
func (c *Choice) newestSegments(fam *Family) iter.Seq[*expo.Segment] {
	type pick struct {
		at      place
		scope   bucket.Scope
		segment *expo.Segment
	}
	return func(yield func(*expo.Segment) bool) {
		seen := map[bucket.Scope]bool{}
		var picks []pick
		for _, at := range slices.Backward(c.places(fam)) {
			buckets := c.Datasets[at.dataset].Buckets(at.index)
			for i := range buckets {
				b := &buckets[i]
				if s := b.Segment(fam.Name); s != nil && !seen[b.Scope] {
					seen[b.Scope] = true
					picks = append(picks, pick{at, b.Scope, s})
				}
			}
		}
		slices.SortFunc(picks, func(a, b pick) int {
			return cmp.Or(cmp.Compare(a.at.start, b.at.start), a.scope.Compare(b.scope))
		})
		for _, p := range picks {
			if !yield(p.segment) {
				return
			}
		}
	}
}

// capSeries holds families that several datasets feed to [MaxDepth] samples per
// series. That happens after a change of bucket size: old and new dataset carry
// the same series in different windows. Every family is judged by the ranges as
// they came, so that the order of families cannot matter.
func (c *Choice) capSeries(families []Family) {
	type unit struct{ dataset, role int }
	from := map[unit]int{} // where the range of the unit begins afterwards
	for i := range families {
		places := c.places(&families[i])
		if len(families[i].feeders) < 2 || len(places) <= MaxDepth {
			continue
		}
		oldest := places[len(places)-MaxDepth].start
		for _, at := range places {
			if u := (unit{at.dataset, Index(families[i].Role)}); at.start < oldest {
				from[u] = max(from[u], at.index+1)
			}
		}
	}
	for u, index := range from {
		c.Datasets[u.dataset].Serve[u.role].From = index
	}
}
