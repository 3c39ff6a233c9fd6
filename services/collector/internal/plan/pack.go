package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// pack packs pieces into requests: first it groups scopes with the same range, then
// selections with the same scopes.
func pack(pieces []piece, c Ceilings) []Request {
	slices.SortStableFunc(pieces, func(a, b piece) int {
		return cmp.Or(
			cmp.Compare(min(a.lane, Confirm), min(b.lane, Confirm)), // fresh and confirm travel together
			cmp.Compare(laneRank(a), laneRank(b)),
			// Short buckets show how far the data of longer ones has come.
			cmp.Compare(a.want.Dataset.Size, b.want.Dataset.Size),
			cmp.Compare(a.want.Dataset.Dataset, b.want.Dataset.Dataset),
			cmp.Compare(a.want.Variant.Name, b.want.Variant.Name),
			cmp.Compare(a.want.Group, b.want.Group),
			a.want.Scope.Compare(b.want.Scope),
		)
	})
	var requests []Request
	for len(pieces) > 0 {
		n := 1
		for n < len(pieces) && together(&pieces[0], &pieces[n], c, n) {
			n++
		}
		requests = add(requests, pieces[:n], c)
		pieces = pieces[n:]
	}
	slices.SortStableFunc(requests, func(a, b Request) int { return cmp.Compare(min(a.Lane, Confirm), min(b.Lane, Confirm)) })
	return requests
}

func laneRank(p piece) int64 {
	if !p.trailing() {
		return p.rank
	}
	return 0
}

// together reports whether b may join the n pieces that a began.
func together(a, b *piece, c Ceilings, n int) bool {
	return n < c.Zones && !a.want.Dataset.State && a.want.Group == b.want.Group && a.want.Scope.Kind == bucket.Zone && b.want.Scope.Kind == bucket.Zone &&
		a.want.Dataset == b.want.Dataset && a.want.Variant.Same(b.want.Variant) &&
		a.trailing() == b.trailing() && (a.trailing() || a.window == b.window)
}

// add adds pieces with the same range to a request with their scopes, or to a new one.
func add(requests []Request, pieces []piece, c Ceilings) []Request {
	if p := &pieces[0]; p.want.Dataset.State {
		return append(requests, Request{
			Lane: p.lane, Scopes: []bucket.Scope{p.want.Scope},
			Selections: []Selection{{Dataset: p.want.Dataset, Variant: p.want.Variant, Window: p.window, Limit: c.Rows}},
		})
	}
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
		return add(add(requests, pieces[:most], c), pieces[most:], c)
	}
	for rest := selections(span.window); len(rest) > 0; {
		var r *Request
		requests, r = find(requests, lane, scopes, rest[:min(len(rest), 1+along)], c)
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
	return requests
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

// find returns a request with these scopes and room for the selections, or a new one.
func find(requests []Request, lane Lane, scopes []bucket.Scope, s []Selection, c Ceilings) ([]Request, *Request) {
	for i := range requests {
		r := &requests[i]
		if !r.State() && max(r.Lane, Confirm) == max(lane, Confirm) && slices.Equal(r.Scopes, scopes) && r.lacks(s) <= r.free(c) {
			return requests, r
		}
	}
	requests = append(requests, Request{Lane: lane, Scopes: scopes})
	return requests, &requests[len(requests)-1]
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
