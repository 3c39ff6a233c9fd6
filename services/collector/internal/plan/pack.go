package plan

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// pack packs pieces that are not of the trailing lanes, each of which is asked as it is. There are
// two ways, and the one with fewer requests is taken: window by window, for scopes that lack
// different windows, and by crews, for scopes that lack the same.
func pack(pieces []piece, c Ceilings) []Request {
	slices.SortStableFunc(pieces, byUrgency)
	one, other := newTray(c), newTray(c)
	one.lay(pieces)
	if other.layCrews(pieces); len(other.requests) < len(one.requests) {
		return other.inOrder()
	}
	return one.inOrder()
}

func byUrgency(a, b piece) int {
	return cmp.Or(
		cmp.Compare(a.lane, b.lane),
		cmp.Compare(a.rank, b.rank),
		// Short buckets show how far the data of longer ones has come.
		cmp.Compare(a.want.Dataset.Size, b.want.Dataset.Size),
		cmp.Compare(a.want.Dataset.Dataset, b.want.Dataset.Dataset),
		cmp.Compare(a.want.Variant.Name, b.want.Variant.Name),
		cmp.Compare(a.want.Group, b.want.Group),
		a.want.Scope.Compare(b.want.Scope),
	)
}

// lay adds pieces by urgency: those with the same range together, then selections with the same
// scopes.
func (t *tray) lay(pieces []piece) {
	for len(pieces) > 0 {
		n := 1
		for n < min(len(pieces), t.c.Zones) && together(&pieces[0], &pieces[n]) {
			n++
		}
		t.add(pieces[:n])
		pieces = pieces[n:]
	}
}

// layCrews adds pieces by urgency: scopes that lack the same together, in crews of the size that
// takes the fewest requests. Ten zones are not always best: a sampled window is asked with those after
// it, and of 50 selections for one zone two are only for that, of 5 for ten zones as well.
func (t *tray) layCrews(pieces []piece) {
	for _, alike := range classes(pieces) {
		for _, crew := range alike.crews(t.c) {
			t.lay(crew)
		}
	}
}

// class is the pieces of scopes that lack the same, by scope, in the same order.
type class [][]piece

// classes divides pieces by what their scopes lack.
func classes(pieces []piece) (all []class) {
	lacks := map[bucket.Scope][]piece{}
	var scopes []bucket.Scope
	for _, p := range pieces {
		if sc := p.want.Scope; lacks[sc] == nil {
			scopes = append(scopes, sc)
		}
		lacks[p.want.Scope] = append(lacks[p.want.Scope], p)
	}
	of := map[uint64]int{}
	for _, sc := range scopes {
		key := alike(lacks[sc])
		at, known := of[key]
		if !known || !slices.EqualFunc(all[at][0], lacks[sc], func(a, b piece) bool { return a.lane == b.lane && a.rank == b.rank && together(&a, &b) }) {
			at = len(all)
			of[key], all = at, append(all, nil)
		}
		all[at] = append(all[at], lacks[sc])
	}
	return all
}

// alike is equal for scopes that lack the same.
func alike(pieces []piece) uint64 {
	h := fnv.New64a()
	var b []byte
	for i := range pieces {
		p := &pieces[i]
		b = append(append(b[:0], p.want.Dataset.Dataset...), p.want.Variant.Name...)
		b = binary.BigEndian.AppendUint64(b, uint64(p.window.Start))
		b = binary.BigEndian.AppendUint64(b, uint64(p.window.End))
		h.Write(b)
	}
	return h.Sum64()
}

// crews divides a class so that there are the fewest requests, and returns the pieces of each crew
// by urgency.
func (of class) crews(c Ceilings) (crews [][]piece) {
	requests := make([]int, 1+min(c.Zones, len(of))) // of a crew, by its size
	for n := 1; n < len(requests); n++ {
		t := newTray(c)
		t.lay(of[:n].pieces())
		requests[n] = len(t.requests)
	}
	type way struct{ requests, first int }
	best := make([]way, len(of)+1) // for so many scopes
	for m := 1; m <= len(of); m++ {
		for n := 1; n < len(requests) && n <= m; n++ {
			if w := (way{requests[n] + best[m-n].requests, n}); n == 1 || w.requests <= best[m].requests {
				best[m] = w
			}
		}
	}
	for len(of) > 0 {
		n := best[len(of)].first
		crews, of = append(crews, of[:n].pieces()), of[n:]
	}
	return crews
}

// pieces are those of all scopes, by urgency.
func (of class) pieces() []piece {
	out := make([]piece, 0, len(of)*len(of[0]))
	for i := range of[0] {
		for _, lacks := range of {
			out = append(out, lacks[i])
		}
	}
	return out
}

// together reports whether one selection may be for both.
func together(a, b *piece) bool {
	return a.want.Group == b.want.Group && a.want.Scope.Kind == bucket.Zone && b.want.Scope.Kind == bucket.Zone &&
		a.want.Dataset == b.want.Dataset && a.want.Variant.Same(b.want.Variant) && a.window == b.window
}

// tray has the requests so far.
type tray struct {
	c        Ceilings
	requests []Request
	ranks    []int64 // of the most urgent piece of each
	// open are the newest requests by their lane and scopes: a day of a thousand zones is ten
	// thousand requests, too many to look at all of them for each selection.
	open map[string][]int
}

func newTray(c Ceilings) *tray { return &tray{c: c, open: map[string][]int{}} }

// inOrder is the requests, most urgent first.
func (t *tray) inOrder() []Request {
	at := make([]int, len(t.requests))
	for i := range at {
		at[i] = i
	}
	slices.SortStableFunc(at, func(a, b int) int {
		return cmp.Or(
			cmp.Compare(t.requests[a].Lane, t.requests[b].Lane),
			cmp.Compare(t.ranks[a], t.ranks[b]),
			cmp.Compare(t.requests[a].Selections[0].Dataset.Size, t.requests[b].Selections[0].Dataset.Size),
		)
	})
	out := make([]Request, len(at))
	for i, n := range at {
		out[i] = t.requests[n]
	}
	return out
}

// mostOpen is how many requests with the same scopes are looked at.
const mostOpen = 64

// add adds pieces with the same range to a request with their scopes, or to a new one.
func (t *tray) add(pieces []piece) {
	c := t.c
	lane, span, limit := pieces[0].lane, piece{}, c.Rows
	scopes := make([]bucket.Scope, len(pieces))
	for i, p := range pieces {
		scopes[i] = p.want.Scope
		span.extend(p.window)
		lane = min(lane, p.lane)
		limit = min(limit, p.want.pageSize(c))
	}
	w, chunk := pieces[0].want, narrowest(pieces, c)
	selections := func(span bucket.Window) (out []Selection) {
		for _, window := range cut(span, chunk) {
			out = append(out, Selection{Dataset: w.Dataset, Variant: w.Variant, Window: window, Limit: limit})
		}
		return out
	}
	past := reach(w.Dataset.Size, false)
	along := int((past + chunk - 1) / chunk) // selections that cover the windows after another
	if most := max(1, c.Selections/(1+along)); len(pieces) > most {
		t.add(pieces[:most])
		t.add(pieces[most:])
		return
	}
	key := drawer(lane, scopes)
	for rest := selections(span.window); len(rest) > 0; {
		r := t.find(key, rest[:min(len(rest), 1+along)])
		if r == nil {
			r = t.begin(key, Request{Lane: lane, Scopes: scopes}, pieces[0].rank)
		}
		here := rest
		if rest = nil; r.lacks(here) > r.free(c) {
			// The rest goes elsewhere; the witness of what is here does not. There is
			// room for one and its witness: it was looked for.
			n := max(1, r.free(c)-along)
			after := here[n].Window.Start
			here, rest = append(here[:n:n], selections(bucket.Window{Start: after, End: min(after.Add(past), span.window.End)})...), here[n:]
		}
		for _, s := range here {
			r.add(s)
		}
		r.Lane = min(r.Lane, lane)
	}
}

// within reports whether o covers s.
func (s *Selection) within(o *Selection) bool {
	return o.Window.Start <= s.Window.Start && s.Window.End <= o.Window.End && s.Dataset == o.Dataset && s.Variant.Same(o.Variant)
}

// covers reports whether a selection of the request covers s.
func (r *Request) covers(s *Selection) bool {
	for i := range r.Selections {
		if s.within(&r.Selections[i]) {
			return true
		}
	}
	return false
}

// lacks is how many of the selections the request does not cover yet.
func (r *Request) lacks(selections []Selection) (n int) {
	for i := range selections {
		if !r.covers(&selections[i]) {
			n++
		}
	}
	return n
}

// add adds a selection unless it is covered, and removes selections that it covers: adjacent
// chunks extend into each other.
func (r *Request) add(s Selection) {
	if r.covers(&s) {
		return
	}
	r.Selections = slices.DeleteFunc(r.Selections, func(o Selection) bool { return o.within(&s) })
	r.Selections = append(r.Selections, s)
}

// free is how many more selections fit.
func (r *Request) free(c Ceilings) int { return c.Selections/len(r.Scopes) - len(r.Selections) }

// drawer is equal for requests that may hold the same: fresh and confirm travel together.
func drawer(lane Lane, scopes []bucket.Scope) string {
	b := []byte{byte(max(lane, Confirm)), byte(scopes[0].Kind)}
	for _, sc := range scopes {
		b = append(append(b, sc.ID...), 0)
	}
	return string(b)
}

// find returns a request of a drawer with room for the selections, or nil.
func (t *tray) find(key string, s []Selection) *Request {
	for _, i := range t.open[key] {
		if r := &t.requests[i]; r.lacks(s) <= r.free(t.c) {
			return r
		}
	}
	return nil
}

// begin adds a request.
func (t *tray) begin(key string, r Request, rank int64) *Request {
	open := append(t.open[key], len(t.requests))
	t.open[key] = open[max(0, len(open)-mostOpen):]
	t.requests, t.ranks = append(t.requests, r), append(t.ranks, rank)
	return &t.requests[len(t.requests)-1]
}

func narrowest(pieces []piece, c Ceilings) time.Duration {
	chunk := pieces[0].want.chunk(c)
	for _, p := range pieces[1:] {
		chunk = min(chunk, p.want.chunk(c))
	}
	return chunk
}

// cut splits a range that is wider than one selection may be.
func cut(w bucket.Window, widest time.Duration) []bucket.Window {
	var out []bucket.Window
	for ; w.Len() > widest; w.Start = w.Start.Add(widest) {
		out = append(out, bucket.Window{Start: w.Start, End: w.Start.Add(widest)})
	}
	return append(out, w)
}
