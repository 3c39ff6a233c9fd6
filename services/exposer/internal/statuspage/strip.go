package statuspage

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

const (
	// LateAfter is the age, from the end of its window, from which a bucket was stored
	// late. It is what the coverage of the replay range is asked for as served_within.
	LateAfter = time.Hour
	// reading is for how long after its delay a window may be read until its deadline,
	// with some time for the work: all datasets have a deadline 15 minutes after the delay.
	reading = 20 * time.Minute
	// mostCells is the maximum length of a strip.
	mostCells = 48
)

// widths are the lengths that a cell may have.
var widths = []time.Duration{
	30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour,
	24 * time.Hour, 2 * 24 * time.Hour, 5 * 24 * time.Hour, 10 * 24 * time.Hour, 20 * 24 * time.Hour, 50 * 24 * time.Hour, 100 * 24 * time.Hour,
}

// Range is the range of a heat map.
type Range struct {
	// Name is "replay" or "retention".
	Name  string    `json:"name"`
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// CellSeconds is the length of a cell, and Cells the number of cells.
	CellSeconds int64 `json:"cell_seconds"`
	Cells       int   `json:"cells"`
}

// NewRange returns the range of this length that ends at now, in whole cells. Length must be
// positive; a longer one than 4,800 days is that.
func NewRange(name string, length time.Duration, now time.Time) Range {
	width := widths[len(widths)-1]
	length = min(length, mostCells*width)
	for _, w := range widths {
		if (length+w-1)/w <= mostCells {
			width = w
			break
		}
	}
	n := min(mostCells, int((length+width-1)/width))
	end := bucket.TimeOf(now).Ceil(width)
	return Range{
		Name: name, Start: end.Add(-time.Duration(n) * width).Std(), End: end.Std(),
		CellSeconds: int64(width / time.Second), Cells: n,
	}
}

func (r *Range) window() bucket.Window {
	return bucket.Window{Start: bucket.TimeOf(r.Start), End: bucket.TimeOf(r.End)}
}

// Piece is a range of windows in one state.
type Piece struct {
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
	State  State     `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Detail string    `json:"detail,omitempty"`
	// Attempts is how often it was queried.
	Attempts    uint32     `json:"attempts,omitempty"`
	NextAttempt *time.Time `json:"next_attempt,omitempty"`
	// LostAt is when Cloudflare drops it.
	LostAt *time.Time `json:"lost_at,omitempty"`

	window  bucket.Window
	overlay bool // it says more about windows of other pieces
}

// asked is what the strip of one series is made from.
type asked struct {
	cov         *bucketv1.Coverage // nil: the collector did not say
	size, delay time.Duration
	ended       bucket.Time // windows after this are not wanted; 0: all are
	asOf        bucket.Time
	in          bucket.Window
	mark        State // of the unserved ranges: Late or Unserved
}

// pieces divides the range by state, ascending. Ranges of the answer that are not understood
// are unknown, and so is what it leaves out.
func (a *asked) pieces() (out []Piece) {
	due := a.asOf.Add(-a.delay).Floor(a.size)
	if a.ended != 0 {
		due = min(due, a.ended)
	}
	if a.cov == nil {
		out = a.add(out, a.in.Start, due, Unknown)
		return a.add(out, max(due, a.in.Start), a.in.End, a.after(due))
	}
	var windows []bucket.Window
	for _, r := range a.cov.GetRanges() {
		w := window(r.GetStartUnixSeconds(), r.GetEndUnixSeconds()).Intersect(a.in)
		if w.Empty() {
			continue
		}
		windows = append(windows, w)
		out = a.split(out, piece(r, w))
	}
	told := join(windows)
	begin := bucket.Time(a.cov.GetHorizonUnixSeconds())
	end := max(begin, a.in.Start)
	if len(told) > 0 {
		begin, end = min(begin, told[0].Start), max(end, told[len(told)-1].End)
	}
	out = a.add(out, a.in.Start, begin, NotWanted)
	// The collector may have read its clock a moment before the newest window fell due.
	if due > end.Add(a.size) {
		end = due
	}
	for _, hole := range told.Missing(bucket.Window{Start: max(begin, a.in.Start), End: min(end, a.in.End)}) {
		out = a.add(out, hole.Start, hole.End, Unknown)
	}
	out = a.add(out, max(end, a.in.Start), a.in.End, a.after(end))
	for _, u := range a.cov.GetUnserved() {
		if a.mark == Late && a.delay+reading >= LateAfter {
			break // all buckets of the dataset are that old
		}
		if w := window(u.GetStartUnixSeconds(), u.GetEndUnixSeconds()).Intersect(a.in); !w.Empty() {
			out = append(out, Piece{State: a.mark, window: w, overlay: true})
		}
	}
	for i := range out {
		out[i].Start, out[i].End = out[i].window.Start.Std(), out[i].window.End.Std()
	}
	slices.SortStableFunc(out, func(x, y Piece) int { return cmp.Compare(x.window.Start, y.window.Start) })
	return out
}

// join returns the windows as spans. They may overlap, and are not in order.
func join(windows []bucket.Window) (out bucket.Spans) {
	slices.SortFunc(windows, func(x, y bucket.Window) int { return cmp.Compare(x.Start, y.Start) })
	for _, w := range windows {
		if last := len(out) - 1; last >= 0 && w.Start <= out[last].End {
			out[last].End = max(out[last].End, w.End)
			continue
		}
		out = append(out, w)
	}
	return out
}

// after is the state after the newest window that is due.
func (a *asked) after(due bucket.Time) State {
	if a.ended != 0 && due >= a.ended {
		return NotWanted
	}
	return NotDue
}

func (a *asked) add(out []Piece, start, end bucket.Time, s State) []Piece {
	if w := (bucket.Window{Start: start, End: end}).Intersect(a.in); !w.Empty() {
		out = append(out, Piece{State: s, window: w, Start: w.Start.Std(), End: w.End.Std()})
	}
	return out
}

// split appends a piece, and separates the windows that fell due lately, with which nothing is wrong, from those
// that are pending for longer.
func (a *asked) split(out []Piece, p Piece) []Piece {
	from := a.asOf.Add(-a.delay - reading)
	if p.State != Missing || p.Reason != "pending" || p.Attempts > 0 || p.Detail != "" || from >= p.window.End {
		return append(out, p)
	}
	young := p
	young.State, young.Reason = Due, ""
	young.window.Start = max(p.window.Start, from.Floor(a.size))
	if p.window.End = young.window.Start; !p.window.Empty() {
		out = append(out, p)
	}
	return append(out, young)
}

func piece(r *bucketv1.CoverageRange, w bucket.Window) Piece {
	return Piece{
		State: stateOf(r.GetState()), Reason: reasonOf(r.GetReason()), Detail: r.GetDetail(), Attempts: r.GetAttempts(),
		NextAttempt: instant(r.GetNextAttempt()), LostAt: instant(r.GetLostAt()), window: w,
	}
}

// window returns an empty window for times that are not in order.
func window(start, end int64) bucket.Window {
	if start < 0 || end <= start {
		return bucket.Window{}
	}
	return bucket.Window{Start: bucket.Time(start), End: bucket.Time(end)}
}

// instant is nil for a time that is absent or not valid.
func instant(t *timestamppb.Timestamp) *time.Time {
	if t == nil || !t.IsValid() {
		return nil
	}
	at := t.AsTime()
	return &at
}

// cells returns the worst state in each cell.
func cells(r Range, pieces []Piece) []State {
	out := make([]State, r.Cells)
	for i := range out {
		out[i] = NotWanted
	}
	begin, width := bucket.TimeOf(r.Start), r.CellSeconds
	for i := range pieces {
		p := &pieces[i]
		first := int64(p.window.Start-begin) / width
		last := (int64(p.window.End-begin) - 1) / width
		for c := max(first, 0); c <= min(last, int64(r.Cells-1)); c++ {
			if worse(p.State, out[c]) {
				out[c] = p.State
			}
		}
	}
	return out
}

// count returns the number of windows in each state. A window at the border of the range
// counts if at least a part of it is inside.
func count(pieces []Piece, size time.Duration) map[State]int64 {
	out, under := map[State]int64{}, int64(0) // under: final windows that are shown as something else
	for i := range pieces {
		p := &pieces[i]
		w := bucket.Window{Start: p.window.Start.Floor(size), End: p.window.End.Ceil(size)}
		out[p.State] += int64(w.Len() / size)
		if p.overlay {
			under += int64(w.Len() / size)
		}
	}
	out[Final] = max(0, out[Final]-under)
	return out
}
