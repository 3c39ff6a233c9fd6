package plan

import (
	"cmp"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

// trailing is how long after falling due a window is asked for together with
// its neighbours, rather than repaired: long enough to cover the deadline and
// one agreement of suspects.
const trailing = 45 * time.Minute

// leaving is how close to Cloudflare's retention a gap jumps the queue.
const leaving = 2 * time.Hour

// Due is the end of the newest window that may be asked for at now.
func Due(now bucket.Time, size, delay time.Duration) bucket.Time {
	return now.Add(-delay).Floor(size)
}

// witnesses is how many windows after each one are asked along with it, final,
// due or not, up to the one that runs: a young window is believed soon only where
// the same answer shows what came after. After one that was read and is not final
// one more is asked: where traffic is rare the next may be empty.
func witnesses(size time.Duration, read bool) time.Duration {
	n := 1 + (settle.Beyond+size-1)/size
	if read {
		n++
	}
	return n
}

// piece is one range of one want, before packing.
type piece struct {
	want   *Want
	window bucket.Window
	lane   Lane
	rank   int64 // inside the repair and the audit lane: lower first
}

// trailing ranges are widened to fit many windows; the other lanes keep theirs.
func (p *piece) trailing() bool { return p.lane <= Confirm }

// Make plans. The wants must be in a stable order; state answers for any of
// their windows.
func Make(now bucket.Time, wants []Want, state State, c Ceilings) Plan {
	var p Plan
	var pieces []piece
	for i := range wants {
		w := &wants[i]
		next := w.Window.End.Add(w.Dataset.Size).Add(w.Dataset.Delay)
		if len(w.Have) == 0 || !w.Have.Contains(w.Window) {
			var again bucket.Time
			pieces, again = w.pieces(pieces, now, state, c)
			if again != 0 {
				next = min(next, again)
			}
		}
		// Of a scope that has ended no further window falls due: what would be
		// its next one lies in the past for ever.
		if next > now && (p.Next == 0 || next < p.Next) {
			p.Next = next
		}
	}
	p.Requests = pack(pieces, c)
	return p
}

// Looks packs looks into requests of the audit lane, those that come first in
// the first ones. Looks of one dataset and window must be neighbours.
func Looks(looks []Look, c Ceilings) []Request {
	pieces := make([]piece, len(looks))
	for i := range looks {
		l := &looks[i]
		pieces[i] = piece{want: &l.Want, window: l.Window, lane: Audit, rank: int64(i)}
		if before := i - 1; before >= 0 && looks[before].Want.Dataset == l.Want.Dataset && looks[before].Window == l.Window {
			pieces[i].rank = pieces[before].rank
		}
	}
	return pack(pieces, c)
}

// pieces appends what w lacks and may be asked for now. It returns the
// earliest time at which another of its windows may be.
func (w *Want) pieces(out []piece, now bucket.Time, state State, c Ceilings) ([]piece, bucket.Time) {
	var next bucket.Time
	id, size, delay := w.Dataset.Dataset, w.Dataset.Size, w.Dataset.Delay
	recent := piece{want: w, lane: Confirm}
	repair := map[bucket.Time]*piece{} // by chunk
	chunk := w.chunk(c)
	for _, gap := range w.Have.Missing(w.Window) {
		for start := gap.Start; start < gap.End; start = start.Add(size) {
			if again := state.Again(id, w.Scope, start); again > now {
				if next == 0 || again < next {
					next = again
				}
				continue
			}
			window := bucket.Window{Start: start, End: start.Add(size)}
			old, read := now.Sub(window.End)-delay > trailing, state.Read(id, w.Scope, start)
			if read || now.Sub(window.End) < settle.SuspectAge {
				window.End = min(window.End.Add(witnesses(size, read)*size), now.Ceil(size))
			}
			if !old {
				recent.extend(window)
				if !read {
					recent.lane = Fresh
				}
				continue
			}
			at := start.Floor(chunk)
			if repair[at] == nil {
				repair[at] = &piece{want: w, lane: Repair}
			}
			repair[at].extend(window)
		}
	}
	if !recent.window.Empty() {
		out = append(out, recent)
	}
	for _, r := range repair {
		r.rank = w.rank(now, r.window)
		out = append(out, *r)
	}
	return out, next
}

func (p *piece) extend(w bucket.Window) {
	if p.window.Empty() {
		p.window = w
		return
	}
	p.window.Start, p.window.End = min(p.window.Start, w.Start), max(p.window.End, w.End)
}

// chunk is the longest range that one selection of w may cover, as a multiple
// of the bucket size that divides a day or is made of days, so that chunks of
// different scopes have the same borders.
func (w *Want) chunk(c Ceilings) time.Duration {
	size := w.Dataset.Size
	if w.Variant.Sampled {
		return size // resolution depends on the size of the question
	}
	widest := c.Range
	if w.Limits.MaxDuration > 0 {
		widest = min(widest, w.Limits.MaxDuration)
	}
	windows := max(1, w.pageSize(c)/max(1, w.rowsPerWindow()))
	widest = max(size, min(widest, time.Duration(windows)*size))
	for _, nice := range []time.Duration{24 * time.Hour, 12 * time.Hour, 6 * time.Hour, 4 * time.Hour, 2 * time.Hour, time.Hour, 30 * time.Minute, 15 * time.Minute, 5 * time.Minute} {
		if nice <= widest && nice%size == 0 {
			return nice
		}
	}
	return size
}

func (w *Want) pageSize(c Ceilings) int {
	if w.Limits.MaxPageSize > 0 {
		return min(c.Rows, w.Limits.MaxPageSize)
	}
	return c.Rows
}

// rowsPerWindow doubles the expectation: an answer that fills its page is
// worthless, since it may be cut.
func (w *Want) rowsPerWindow() int {
	return 2 * w.Variant.Rows * int(w.Dataset.Size/w.Variant.Step)
}

// rank orders repairs: leaving Cloudflare's retention (oldest first), inside
// the replay (newest first), the rest (oldest first).
func (w *Want) rank(now bucket.Time, window bucket.Window) int64 {
	const class = int64(1) << 40
	replay := time.Duration(w.Dataset.Depth) * w.Dataset.Size
	switch {
	case w.Limits.NotOlderThan > 0 && now.Sub(window.Start) > w.Limits.NotOlderThan-leaving:
		return int64(window.Start)
	case now.Sub(window.End) < replay:
		return 2*class - int64(window.Start)
	}
	return 2*class + int64(window.Start)
}

// pack turns pieces into requests: scopes that ask the same are put together,
// then selections that are asked of the same scopes.
func pack(pieces []piece, c Ceilings) []Request {
	slices.SortStableFunc(pieces, func(a, b piece) int {
		return cmp.Or(
			cmp.Compare(min(a.lane, Confirm), min(b.lane, Confirm)), // fresh and confirm travel together
			cmp.Compare(laneRank(a), laneRank(b)),
			// Short buckets show how far the data of longer ones has come.
			cmp.Compare(a.want.Dataset.Size, b.want.Dataset.Size),
			cmp.Compare(a.want.Dataset.Dataset, b.want.Dataset.Dataset),
			cmp.Compare(a.want.Variant.Name, b.want.Variant.Name),
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
	return n < c.Zones && a.want.Scope.Kind == bucket.Zone && b.want.Scope.Kind == bucket.Zone &&
		a.want.Dataset == b.want.Dataset && a.want.Variant.Same(b.want.Variant) &&
		a.trailing() == b.trailing() && (a.trailing() || a.window == b.window)
}

// add puts pieces that ask the same into a request that has their scopes
// already, or into a new one.
func add(requests []Request, pieces []piece, c Ceilings) []Request {
	lane, span, limit := pieces[0].lane, piece{}, c.Rows
	scopes := make([]bucket.Scope, len(pieces))
	for i, p := range pieces {
		scopes[i] = p.want.Scope
		span.extend(p.window)
		lane = min(lane, p.lane)
		limit = min(limit, p.want.pageSize(c))
	}
	w, chunk := pieces[0].want, narrowest(pieces, c)
	asking := func(span bucket.Window) (out []Selection) {
		for _, window := range cut(span, chunk) {
			out = append(out, Selection{Dataset: w.Dataset, Variant: w.Variant, Window: window, Limit: limit})
		}
		return out
	}
	reach := witnesses(w.Dataset.Size, false) * w.Dataset.Size
	along := int((reach + chunk - 1) / chunk) // selections that show what came after another
	for rest := asking(span.window); len(rest) > 0; {
		var r *Request
		requests, r = find(requests, lane, scopes, rest[:min(len(rest), 1+along)], c)
		here, free := rest, max(r.free(c), 1+along) // what was found has room for so many
		if rest = nil; r.lacks(here) > free {
			// The rest goes elsewhere; the witness of what is here does not.
			n := free - along
			after := here[n].Window.Start
			here, rest = append(here[:n:n], asking(bucket.Window{Start: after, End: min(after.Add(reach), span.window.End)})...), here[n:]
		}
		for _, s := range here {
			r.ask(s)
		}
		r.Lane = min(r.Lane, lane)
	}
	return requests
}

// within reports whether o asks all that s does.
func (s *Selection) within(o Selection) bool {
	return s.Dataset == o.Dataset && s.Variant.Same(o.Variant) && s.Window.Intersect(o.Window) == s.Window
}

// lacks is how many of the selections ask what is not asked yet.
func (r *Request) lacks(selections []Selection) (n int) {
	for _, s := range selections {
		if !slices.ContainsFunc(r.Selections, s.within) {
			n++
		}
	}
	return n
}

// ask adds a selection, unless what it asks is asked already, and in place of
// those that ask a part of it: neighbouring chunks are one another's witnesses.
func (r *Request) ask(s Selection) {
	if slices.ContainsFunc(r.Selections, s.within) {
		return
	}
	r.Selections = slices.DeleteFunc(r.Selections, func(o Selection) bool { return o.within(s) })
	r.Selections = append(r.Selections, s)
}

// free is how many more selections fit.
func (r *Request) free(c Ceilings) int { return c.Selections/len(r.Scopes) - len(r.Selections) }

// find returns a request of these scopes that has room for the selections, a new
// one if need be.
func find(requests []Request, lane Lane, scopes []bucket.Scope, s []Selection, c Ceilings) ([]Request, *Request) {
	for i := range requests {
		r := &requests[i]
		if (r.Lane == Repair) == (lane == Repair) && slices.Equal(r.Scopes, scopes) && r.lacks(s) <= r.free(c) {
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
