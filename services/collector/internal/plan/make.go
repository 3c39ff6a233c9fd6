package plan

import (
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

// trailing is how long after falling due a window belongs to the trailing lanes rather than
// to repair: it covers the deadline and the ten minutes of a suspect window.
const trailing = 45 * time.Minute

// leaving is how long before Cloudflare drops a gap it is repaired first.
const leaving = 2 * time.Hour

// Leaving is the time before which windows start that Cloudflare drops soon; 0 if it is not
// known.
func (l Limits) Leaving(now bucket.Time) bucket.Time {
	if l.NotOlderThan == 0 {
		return 0
	}
	return now.Add(leaving - l.NotOlderThan)
}

// Due is the end of the newest window that may be requested at now.
func Due(now bucket.Time, size, delay time.Duration) bucket.Time {
	return now.Add(-delay).Floor(size)
}

// reach is how far past each window a request extends, up to the current window, whether
// or not those windows are final or due: the same response must show how fresh it is. For a
// window that was read and is not final it is one window more: where traffic is rare the
// next may be empty.
func reach(size time.Duration, read bool) time.Duration {
	past := size + (settle.Beyond + size - 1).Truncate(size)
	if read {
		past += size
	}
	return past
}

// piece is one range of one want, before packing.
type piece struct {
	want   *Want
	window bucket.Window
	lane   Lane
	rank   int64 // inside the lanes from repair on: lower first
}

// trailing reports whether the range may be widened to cover many windows.
func (p *piece) trailing() bool { return p.lane <= Confirm }

// Make plans. The wants must be in a stable order; state must know all of
// their windows.
func Make(now bucket.Time, wants []Want, state State, c Ceilings) Plan {
	var p Plan
	var pieces, recent, states, others []piece
	most := c.Ahead * c.Selections
	full := 4 * most
	for i := range wants {
		w := &wants[i]
		next := w.Window.End.Add(w.Dataset.Size).Add(w.Dataset.Delay)
		if len(w.Have) == 0 || !w.Have.Contains(w.Window) {
			var again bucket.Time
			pieces, again = w.pieces(pieces[:0], now, state, c)
			if again != 0 {
				next = min(next, again)
			}
			for _, one := range pieces {
				switch {
				case w.Dataset.State:
					states = append(states, one)
				case one.trailing():
					recent = append(recent, one)
				default:
					others = append(others, one)
				}
			}
			if most > 0 && len(others) > full {
				others = urgent(others, most)
				full = max(full, 2*len(others))
			}
		}
		// Of a scope that has ended no further window falls due: what would be
		// its next one lies in the past for ever.
		if next > now && (p.Next == 0 || next < p.Next) {
			p.Next = next
		}
	}
	p.Requests = slices.Concat(crews(wants, recent, c), alone(states, c), pack(urgent(others, most), c))
	return p
}

// urgent are the most urgent pieces of each group: those that rank with the given number of them
// or before it. Each piece is a selection for a scope at least. 0: all.
func urgent(pieces []piece, most int) []piece {
	if most == 0 || len(pieces) <= most {
		return pieces
	}
	// Lanes before ranks, which take less than 48 bits.
	order := func(p *piece) int64 { return int64(p.lane)<<48 + p.rank }
	count := map[int]map[int64]int{} // by group
	for i := range pieces {
		of := count[pieces[i].want.Group]
		if of == nil {
			of = map[int64]int{}
			count[pieces[i].want.Group] = of
		}
		of[order(&pieces[i])]++
	}
	last := map[int]int64{} // that is kept of a group
	for group, of := range count {
		n := 0
		for _, at := range slices.Sorted(maps.Keys(of)) {
			if n >= most {
				break
			}
			n += of[at]
			last[group] = at
		}
	}
	return slices.DeleteFunc(pieces, func(p piece) bool { return order(&p) > last[p.want.Group] })
}

// alone makes a request of each piece.
func alone(pieces []piece, c Ceilings) []Request {
	out := make([]Request, len(pieces))
	for i, p := range pieces {
		out[i] = Request{
			Lane: p.lane, Scopes: []bucket.Scope{p.want.Scope},
			Selections: []Selection{{Dataset: p.want.Dataset, Variant: p.want.Variant, Window: p.window, Limit: c.Rows}},
		}
	}
	return out
}

// Rechecks packs rechecks into requests of the audit lane, in order. Rechecks of one dataset
// and window must be adjacent.
func Rechecks(rechecks []Recheck, c Ceilings) []Request {
	pieces := make([]piece, len(rechecks))
	for i := range rechecks {
		r := &rechecks[i]
		pieces[i] = piece{want: &r.Want, window: r.Window, lane: Audit, rank: int64(i)}
		if before := i - 1; before >= 0 && rechecks[before].Want.Dataset == r.Want.Dataset && rechecks[before].Window == r.Window {
			pieces[i].rank = pieces[before].rank
		}
	}
	return pack(pieces, c)
}

// pieces appends the windows that w lacks and that may be requested now. It returns the
// earliest time at which another of its windows may be requested.
func (w *Want) pieces(out []piece, now bucket.Time, state State, c Ceilings) ([]piece, bucket.Time) {
	var next bucket.Time
	id, size, delay := w.Dataset.Dataset, w.Dataset.Size, w.Dataset.Delay
	recent := piece{want: w, lane: Confirm}
	lane := Repair
	if w.History {
		lane = Backfill
	}
	chunk, first, from := w.chunk(c), len(out), bucket.Time(0) // of the last piece
	for _, gap := range w.Have.Missing(w.Window) {
		for start := gap.Start; start < gap.End; start = start.Add(size) {
			if again := state.Again(id, w.Scope, start); again > now {
				if next == 0 || again < next {
					next = again
				}
				continue
			}
			window := bucket.Window{Start: start, End: start.Add(size)}
			if w.Dataset.State { // its only window
				recent.lane = Fresh
				recent.extend(window)
				continue
			}
			old, read := now.Sub(window.End)-delay > trailing, state.Read(id, w.Scope, start)
			if read || now.Sub(window.End) < settle.SuspectAge {
				window.End = min(window.End.Add(reach(size, read)), now.Ceil(size))
			}
			if !old && !w.History {
				recent.extend(window)
				if !read {
					recent.lane = Fresh
				}
				continue
			}
			if at := start.Floor(chunk); len(out) == first || at != from {
				out, from = append(out, piece{want: w, lane: lane}), at
			}
			out[len(out)-1].extend(window)
		}
	}
	for i := first; i < len(out); i++ {
		out[i].rank = w.rank(now, out[i].window)
	}
	if !recent.window.Empty() {
		out = append(out, recent)
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
		return size // the sampling rate depends on the size of the query
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

// rowsPerWindow doubles the expected number: a response that fills its page is useless,
// since it may be truncated.
func (w *Want) rowsPerWindow() int {
	return 2 * w.Variant.Rows * int(w.Dataset.Size/w.Variant.Step)
}

// rank orders repairs: leaving Cloudflare's retention (oldest first), inside
// the replay (newest first), the rest (oldest first). Of a backfill nothing is the rest.
func (w *Want) rank(now bucket.Time, window bucket.Window) int64 {
	const class = int64(1) << 40
	replay := time.Duration(w.Dataset.Depth) * w.Dataset.Size
	switch {
	case w.Limits.Leaving(now) > window.Start:
		return int64(window.Start)
	case w.History || now.Sub(window.End) < replay:
		return 2*class - int64(window.Start)
	}
	return 2*class + int64(window.Start)
}
