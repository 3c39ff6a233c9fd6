package recent

import (
	"bytes"
	"cmp"
	"iter"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
)

// position is a window of a dataset, by index.
type position struct {
	start          bucket.Time
	dataset, index int
}

// positions lists the windows that may show a family, in the order of a body.
func (c *Choice) positions(fam *Family) []position {
	var positions []position
	for _, i := range fam.feeders {
		d := &c.Datasets[i]
		for _, r := range [...][Roles]Range{d.Page, d.Serve} {
			for j := min(r[0].From, r[1].From); j < max(r[0].To, r[1].To); j++ {
				positions = append(positions, position{d.slots[j].window.Start, i, j})
			}
		}
	}
	if len(fam.feeders) > 1 {
		slices.SortFunc(positions, func(a, b position) int {
			return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.dataset, b.dataset))
		})
	}
	return positions
}

// shows reports whether a role's samples of a window are shown.
func (c *Choice) shows(at position, role int) bool {
	d := &c.Datasets[at.dataset]
	return d.Page[role].has(at.index) || d.Serve[role].has(at.index)
}

// Columns yields what is shown of a family in the order of a body: ascending by
// window, then dataset, then scope.
func (c *Choice) Columns(fam *Family) iter.Seq[*Column] {
	return func(yield func(*Column) bool) {
		if c.newest {
			if one := c.newestOf(fam); one.Samples > 0 {
				yield(one)
			}
			return
		}
		for _, at := range c.positions(fam) {
			if column := c.column(at, fam.Name); column != nil && !yield(column) {
				return
			}
		}
	}
}

// column is what is shown of a family in a window, or nil.
func (c *Choice) column(at position, family string) (shown *Column) {
	for role := range Roles {
		column := c.slot(at).column(family, role)
		switch {
		case column == nil || !c.shows(at, role):
		case shown == nil:
			shown = column
		default: // its role changed in the middle of the window
			shown = shown.with(column)
		}
	}
	return shown
}

func (c *Choice) slot(at position) *slot { return c.Datasets[at.dataset].slots[at.index] }

// newestOf joins the newest samples of the family of each scope. A scope that lags
// behind the others has its own newest ones: without an out-of-order window, Prometheus
// accepts no others for its series. If several datasets share the family and a series,
// the dataset with the newer sample is shown.
func (c *Choice) newestOf(fam *Family) *Column {
	type source struct {
		dataset int
		scope   bucket.Scope
	}
	type pick struct {
		source
		start bucket.Time
		lines []byte
	}
	seen := map[source]bool{}
	owner := map[uint64]int{} // by series: the dataset with its newest sample
	var picks []pick
	for _, at := range slices.Backward(c.positions(fam)) {
		for role := range Roles {
			column := c.slot(at).column(fam.Name, role)
			if column == nil || !c.shows(at, role) {
				continue
			}
			for i, scope := range c.slot(at).scopes {
				from, lines := source{at.dataset, scope}, column.of(i)
				if len(lines) == 0 || seen[from] {
					continue
				}
				seen[from] = true
				if len(fam.feeders) > 1 {
					foreign := false
					for id := range expo.Series(lines) {
						d, owned := owner[id]
						foreign = foreign || owned && d != at.dataset
					}
					if foreign {
						continue
					}
					for id := range expo.Series(lines) {
						owner[id] = at.dataset
					}
				}
				picks = append(picks, pick{from, at.start, lines})
			}
		}
	}
	slices.SortFunc(picks, func(a, b pick) int {
		return cmp.Or(cmp.Compare(a.start, b.start), a.scope.Compare(b.scope), cmp.Compare(a.dataset, b.dataset))
	})
	all := newColumn(fam.Name, fam.Role)
	for _, p := range picks {
		all.Lines = append(all.Lines, p.lines...)
	}
	all.Samples = bytes.Count(all.Lines, []byte{'\n'})
	return all
}

// capSeries limits each series to [MaxDepth] samples where several datasets have
// samples of it, as around a change of bucket size. The newest samples stay: a
// window with a sample too many is removed together with all older windows of its
// dataset and role. Datasets that share the name of a family but no series do not
// affect each other.
//
// Every family is judged by the ranges as passed in, so that the order of families
// does not matter.
func (c *Choice) capSeries(families []Family) {
	from := map[unit]int{} // the new beginning of the unit's range
	for i := range families {
		fam := &families[i]
		if len(fam.feeders) < 2 {
			continue
		}
		if positions := c.positions(fam); len(positions) > MaxDepth && c.common(positions, fam) {
			for u, index := range c.cuts(positions, fam) {
				from[u] = max(from[u], index)
			}
		}
	}
	for u, index := range from {
		d := &c.Datasets[u.dataset]
		for _, r := range [...]*Range{&d.Page[u.role], &d.Serve[u.role]} {
			cut := min(max(r.From, index), r.To)
			d.Trimmed[u.role] += cut - r.From
			r.From = cut
		}
	}
}

// unit identifies a range of windows.
type unit struct{ dataset, role int }

// shown yields the series of which a family has samples at a position, per role.
func (c *Choice) shown(at position, fam *Family) iter.Seq2[unit, []uint64] {
	return func(yield func(unit, []uint64) bool) {
		for role := range Roles {
			if !c.shows(at, role) {
				continue
			}
			if column := c.slot(at).column(fam.Name, role); column != nil && !yield(unit{at.dataset, role}, column.Series()) {
				return
			}
		}
	}
}

// common reports whether two units have samples of the same series in these windows
// of a family. It runs for each view; samples are counted only if it returns true.
func (c *Choice) common(positions []position, fam *Family) bool {
	series := map[unit][]uint64{} // ascending, of all windows together
	for _, at := range positions {
		for u, ids := range c.shown(at, fam) {
			if !slices.Equal(ids, series[u]) { // usually they are those of the window before
				ids = slices.Concat(series[u], ids)
				slices.Sort(ids)
				series[u] = slices.Compact(ids)
			}
		}
	}
	var all []uint64
	for _, ids := range series {
		all = append(all, ids...)
	}
	n := len(all)
	slices.Sort(all)
	return len(slices.Compact(all)) < n
}

// cuts counts the samples of each series from the newest window back, and returns
// the new beginning of each range in which a series has too many.
func (c *Choice) cuts(positions []position, fam *Family) map[unit]int {
	from := map[unit]int{}
	samples := map[uint64]int{}
	full := func(id uint64) bool { return samples[id] == MaxDepth }
	for _, at := range slices.Backward(positions) {
		for u, ids := range c.shown(at, fam) {
			if _, cut := from[u]; cut {
				continue // older windows are removed already
			}
			if slices.ContainsFunc(ids, full) {
				from[u] = at.index + 1
				continue
			}
			for _, id := range ids {
				samples[id]++
			}
		}
	}
	return from
}
