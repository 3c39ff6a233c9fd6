package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// pack packs pieces that are not of the trailing lanes, each of which is asked as it is: first it
// groups scopes with the same range, then selections with the same scopes.
func pack(pieces []piece, c Ceilings) []Request {
	slices.SortStableFunc(pieces, func(a, b piece) int {
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
	})
	t := tray{c: c, open: map[string][]int{}}
	for len(pieces) > 0 {
		n := 1
		for n < min(len(pieces), c.Zones) && together(&pieces[0], &pieces[n]) {
			n++
		}
		t.add(pieces[:n])
		pieces = pieces[n:]
	}
	requests := t.requests
	slices.SortStableFunc(requests, func(a, b Request) int { return cmp.Compare(a.Lane, b.Lane) })
	return requests
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
	// open are the newest requests by their lane and scopes: a day of a thousand zones is ten
	// thousand requests, too many to look at all of them for each selection.
	open map[string][]int
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
			r = t.begin(key, Request{Lane: lane, Scopes: scopes})
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
func (s *Selection) within(o Selection) bool {
	return s.Dataset == o.Dataset && s.Variant.Same(o.Variant) && s.Window.Intersect(o.Window) == s.Window
}

// lacks is how many of the selections the request does not cover yet.
func (r *Request) lacks(selections []Selection) (n int) {
	for _, s := range selections {
		if !slices.ContainsFunc(r.Selections, s.within) {
			n++
		}
	}
	return n
}

// add adds a selection unless it is covered, and removes selections that it covers: adjacent
// chunks extend into each other.
func (r *Request) add(s Selection) {
	if slices.ContainsFunc(r.Selections, s.within) {
		return
	}
	r.Selections = slices.DeleteFunc(r.Selections, func(o Selection) bool { return o.within(s) })
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
func (t *tray) begin(key string, r Request) *Request {
	open := append(t.open[key], len(t.requests))
	t.open[key] = open[max(0, len(open)-mostOpen):]
	t.requests = append(t.requests, r)
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
