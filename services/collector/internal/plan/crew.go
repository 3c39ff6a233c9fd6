package plan

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
)

// crews packs the pieces of the trailing lanes. A request is a rectangle: every selection for
// every scope. So the fewest requests need scopes that are asked the same, and not always as
// many as may be: seven zones with seven selections are one request, ten are two. Scopes that
// lack the same are put side by side, and the row is cut where that takes the fewest requests;
// those between two cuts are a crew.
//
// A scope of a crew that lacks nothing of a dataset is asked along, if it is asked the same
// otherwise: what is final stays final, and a second rectangle would be a second request. A
// scope that waits for another reading, perhaps since it failed, is not.
func crews(wants []Want, pieces []piece, c Ceilings) (requests []Request) {
	if len(pieces) == 0 {
		return nil
	}
	all := asked(pieces)
	members := all.members(wants, pieces)
	for len(members) > 0 {
		n := 1
		for n < len(members) && members[0].near(members[n]) {
			n++
		}
		requests = append(requests, all.cut(members[:n], c)...)
		members = members[n:]
	}
	// Short buckets show how far the data of longer ones has come.
	slices.SortStableFunc(requests, func(a, b Request) int {
		return cmp.Compare(a.Selections[0].Dataset.Size, b.Selections[0].Dataset.Size)
	})
	return requests
}

// question is a dataset with what is selected of it.
type question struct {
	dataset *catalogue.Dataset
	variant *catalogue.Variant
}

// questions are those of some pieces, short buckets first.
type questions struct {
	list []question
	of   map[*catalogue.Dataset][]int
}

func asked(pieces []piece) *questions {
	all := &questions{of: map[*catalogue.Dataset][]int{}}
	for i := range pieces {
		if w := pieces[i].want; all.find(w) < 0 {
			all.list = append(all.list, question{w.Dataset, w.Variant})
			all.of[w.Dataset] = append(all.of[w.Dataset], len(all.list)-1)
		}
	}
	slices.SortFunc(all.list, func(a, b question) int {
		return cmp.Or(
			cmp.Compare(a.dataset.Size, b.dataset.Size),
			cmp.Compare(a.dataset.Dataset, b.dataset.Dataset),
			cmp.Compare(a.variant.Name, b.variant.Name),
			cmp.Compare(len(a.variant.Measures), len(b.variant.Measures)),
		)
	})
	clear(all.of)
	for i, q := range all.list {
		all.of[q.dataset] = append(all.of[q.dataset], i)
	}
	return all
}

// find is the number of the question for what is wanted, or -1.
func (all *questions) find(w *Want) int {
	for _, i := range all.of[w.Dataset] {
		if all.list[i].variant.Same(w.Variant) {
			return i
		}
	}
	return -1
}

// member is a scope that lacks something.
type member struct {
	scope bucket.Scope
	group int
	// By question: what it lacks, and the want of which it lacks nothing.
	lacks []*piece
	whole []*Want
	key   string // equal if both are
}

// near reports whether a request may be about both.
func (m *member) near(o *member) bool {
	return m.group == o.group && m.scope.Kind == bucket.Zone && o.scope.Kind == bucket.Zone
}

// members are the scopes of the pieces, those that lack the same side by side.
func (all *questions) members(wants []Want, pieces []piece) []*member {
	of := map[bucket.Scope]*member{}
	var out []*member
	for i := range pieces {
		w := pieces[i].want
		m := of[w.Scope]
		if m == nil {
			m = &member{scope: w.Scope, group: w.Group, lacks: make([]*piece, len(all.list)), whole: make([]*Want, len(all.list))}
			of[w.Scope], out = m, append(out, m)
		}
		m.lacks[all.find(w)] = &pieces[i]
	}
	for i := range wants {
		w := &wants[i]
		if m := of[w.Scope]; m != nil && !w.History && w.Have.Contains(w.Window) {
			if q := all.find(w); q >= 0 {
				m.whole[q] = w
			}
		}
	}
	for _, m := range out {
		m.key = m.alike()
	}
	slices.SortFunc(out, func(a, b *member) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.scope.Kind, b.scope.Kind), cmp.Compare(a.key, b.key), a.scope.Compare(b.scope))
	})
	return out
}

func (m *member) alike() string {
	var b []byte
	for q, p := range m.lacks {
		switch {
		case p != nil:
			b = append(b, 'l')
			b = binary.BigEndian.AppendUint64(b, uint64(p.window.Start))
			b = binary.BigEndian.AppendUint64(b, uint64(p.window.End))
		case m.whole[q] != nil:
			b = append(b, 'w')
		default:
			b = append(b, '-')
		}
	}
	return string(b)
}

// cut divides members into crews so that there are the fewest requests, and of these ways the one
// with the fewest and then the largest crews.
func (all *questions) cut(members []*member, c Ceilings) (requests []Request) {
	type way struct{ requests, crews, first int }
	best := make([]way, len(members)+1) // for the members from there on
	counted := map[string]int{}
	for i := len(members) - 1; i >= 0; i-- {
		var key []byte
		for n := 1; n <= c.Zones && i+n <= len(members); n++ {
			key = append(key, members[i+n-1].key...)
			count, known := counted[string(key)]
			if !known {
				count = len(all.ask(members[i:i+n], c))
				counted[string(key)] = count
			}
			w := way{count + best[i+n].requests, 1 + best[i+n].crews, n}
			if n == 1 || w.requests < best[i].requests || w.requests == best[i].requests && w.crews <= best[i].crews {
				best[i] = w
			}
		}
	}
	for i := 0; i < len(members); i += best[i].first {
		requests = append(requests, all.ask(members[i:i+best[i].first], c)...)
	}
	return requests
}

// ask is the requests for a crew.
func (all *questions) ask(crew []*member, c Ceilings) []Request {
	t := newTray(c)
	for q := range all.list {
		var lacks piece
		for _, m := range crew {
			if p := m.lacks[q]; p != nil {
				lacks.extend(p.window)
			}
		}
		if lacks.window.Empty() {
			continue
		}
		var pieces []piece
		for _, m := range crew {
			switch {
			case m.lacks[q] != nil:
				pieces = append(pieces, *m.lacks[q])
			case m.whole[q] != nil:
				pieces = append(pieces, piece{want: m.whole[q], lane: Confirm, window: lacks.window})
			}
		}
		t.add(pieces)
	}
	return t.requests
}
