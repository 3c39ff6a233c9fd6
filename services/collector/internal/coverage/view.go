package coverage

import (
	"cmp"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// State is the state of a window. Each window has exactly one.
type State uint8

// The states.
const (
	Final      State = iota + 1 // stored
	Unreadable                  // stored, but unreadable
	Waiting                     // read; becomes final by itself once its emptiness is confirmed
	Missing                     // due and not final, for a reason
	Refused                     // not allowed by the plan, or the scope was not active
	Lost                        // dropped by Cloudflare before it was final
	Accepted                    // given up by an operator
)

var states = [...]string{Final: "final", Unreadable: "unreadable", Waiting: "waiting", Missing: "missing", Refused: "refused", Lost: "lost", Accepted: "accepted"}

func (s State) String() string { return states[s] }

// Range is a span of windows of one series with the same state and reason.
type Range struct {
	bucket.Window
	State  State
	Reason ledger.Reason // of missing, waiting, lost and accepted windows
	Detail string        // of missing and refused windows
	// Of missing and waiting windows: how often the query failed, when it is retried,
	// and when Cloudflare drops the oldest window; 0 if not known.
	Attempts     int
	Next, LostAt bucket.Time
}

// View is the coverage of one claim at one time.
type View struct {
	book  *Book
	claim roster.Claim
	of    ledger.Series
	now   bucket.Time
}

// View returns the coverage of a claim at now.
func (b *Book) View(c roster.Claim, now bucket.Time) View {
	return View{book: b, claim: c, of: ledger.Series{Dataset: c.Dataset.Dataset, Scope: c.Scope.Scope}, now: now}
}

// Ranges returns the state of every window inside asked, ascending, without holes or
// overlaps.
func (v View) Ranges(asked bucket.Window) []Range {
	var out []Range
	add := func(w bucket.Window, r Range) {
		if r.Window = w.Intersect(asked); !r.Window.Empty() {
			out = append(out, r)
		}
	}
	final, unreadable := v.book.Final[v.of], v.book.Unreadable[v.of]
	rest := bucket.Spans{asked}
	for _, w := range final {
		for _, good := range unreadable.Missing(w) {
			add(good, Range{State: Final})
		}
		for _, bad := range unreadable.Within(w) {
			add(bad, Range{State: Unreadable})
		}
		rest = rest.Remove(w)
	}
	// Each remaining window gets the first state below that applies.
	claim := func(w bucket.Window, r Range) {
		for _, part := range rest.Within(w) {
			add(part, r)
		}
		rest = rest.Remove(w)
	}
	if d := v.book.Decided[v.of]; d != nil {
		for _, span := range d.Spans {
			state := Lost
			if span.Accepted {
				state = Accepted
			}
			claim(span.Window, Range{State: state, Reason: span.Reason})
		}
	}
	if v.claim.Variant == nil && !v.claim.Unread {
		claim(asked, Range{State: Refused, Detail: v.claim.Refused})
	}
	for _, a := range v.claim.Scope.Away {
		claim(a.Windows(v.claim.Dataset.Size), Range{State: Refused, Detail: "zone was " + string(a.State)})
	}
	for _, g := range v.book.Gaps[v.of] {
		r := Range{State: Missing, Reason: g.Reason, Detail: g.Detail, Attempts: g.Attempts, Next: g.Next, LostAt: g.LostAt}
		if g.Waits(v.now) {
			r.State = Waiting
		}
		claim(g.Window, r)
	}
	claim(asked, v.missing())
	slices.SortFunc(out, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	return out
}

// missing is the state of windows of which nothing is known: none of a scope whose settings
// cannot be read is requested.
func (v View) missing() Range {
	if o := v.claim.Scope.Obstacle; v.claim.Unread && o.Reason != "" {
		detail := "the " + v.claim.Scope.Kind.String() + "'s settings cannot be read: " + o.Detail
		return Range{State: Missing, Reason: o.Reason, Detail: detail, Attempts: o.Attempts, Next: o.Next}
	}
	return Range{State: Missing, Reason: ledger.Pending, Detail: v.claim.Refused}
}

// Open is a range of windows of one series that are due and not final.
type Open struct {
	Dataset string
	Scope   bucket.Scope
	Name    string // of the scope, for people
	Size    time.Duration
	Range
}

// Windows is the number of windows.
func (o *Open) Windows() int { return int(o.Len() / o.Size) }

// Open returns the ranges inside asked that are missing or waiting, and, if decided is
// true, those that are lost or accepted. Windows that fell due lately and with which
// nothing is wrong are not among them.
func (v View) Open(asked bucket.Window, decided bool) (out []Open) {
	size := v.claim.Dataset.Size
	asked = bucket.Window{Start: asked.Start.Ceil(size), End: asked.End.Floor(size)}.Intersect(bucket.Window{Start: v.claim.Wanted, End: v.claim.Window.End})
	if asked.Empty() {
		return nil
	}
	overdue := v.now.Add(-v.claim.Dataset.Deadline).Floor(size)
	name := v.claim.Scope.Label()
	if name == "" {
		name = v.of.Scope.ID
	}
	for _, r := range v.Ranges(asked) {
		switch r.State {
		case Missing:
			if r.Reason == ledger.Pending {
				r.End = min(r.End, overdue)
			}
		case Waiting:
		case Lost, Accepted:
			if !decided {
				continue
			}
		default:
			continue
		}
		if !r.Window.Empty() {
			out = append(out, Open{Dataset: v.of.Dataset, Scope: v.of.Scope, Name: name, Size: size, Range: r})
		}
	}
	return out
}

// Final returns the windows inside asked that are stored, readable or not.
func (v View) Final(asked bucket.Window) bucket.Spans { return v.book.Final[v.of].Within(asked) }

// Newest returns the end of the newest final window, or 0.
func (v View) Newest() bucket.Time { return v.book.Newest(v.of) }

// Gaps returns the series' gaps, ascending by window.
func (v View) Gaps() []ledger.Gap { return v.book.Gaps[v.of] }

// Holes returns the windows of the claim that are missing: neither closed nor waiting for
// confirmation.
func (v View) Holes() bucket.Spans {
	holes := v.book.Closed(v.claim.Dataset, v.claim.Scope).Missing(v.claim.Window)
	for _, g := range v.book.Gaps[v.of] {
		if g.Waits(v.now) {
			holes = holes.Remove(g.Window)
		}
	}
	return holes
}

// CompleteUntil returns the time before which no window of the claim is missing.
func (v View) CompleteUntil() bucket.Time {
	if holes := v.Holes(); len(holes) > 0 {
		return holes[0].Start
	}
	return v.claim.Window.End
}

// Count is a number of windows in each state.
type Count [len(states)]uint64

// Count counts the windows of the claim by state, from its Wanted on.
func (v View) Count() (n Count) {
	for _, r := range v.Ranges(bucket.Window{Start: v.claim.Wanted, End: v.claim.Window.End}) {
		n[r.State] += uint64(r.Len() / v.claim.Dataset.Size)
	}
	return n
}
