package settle

import (
	"container/heap"
	"maps"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
)

// tally counts, by window, what the pending windows of all scopes say of a delay of
// the dataset. An answer changes the counts of the scopes that it is about; the
// others are not looked at.
type tally struct {
	windows map[bucket.Time]*count
	low     map[bucket.Time]bool // windows in which any scope looks suspect
	// ordinary is how many scopes have each newest ordinary window.
	ordinary map[bucket.Time]int
	// changed are scopes that are not counted until a delay is judged next.
	changed map[*scope]bool
	expiry  expiries
}

// count is of one window: scopes with traffic that have read it lately, those of
// them that look suspect in it, those after whose suspect window nothing ordinary
// came, and scopes to which it is pending although something as new is ordinary.
type count struct{ traffic, low, open, passed int }

func (c *count) add(o count, times int) {
	c.traffic += times * o.traffic
	c.low += times * o.low
	c.open += times * o.open
	c.passed += times * o.passed
}

// share is what one pending window of one scope counts for.
type share struct {
	start bucket.Time
	count
}

func newTally() tally {
	return tally{windows: map[bucket.Time]*count{}, low: map[bucket.Time]bool{}, ordinary: map[bucket.Time]int{}, changed: map[*scope]bool{}}
}

// change takes a scope out of the counts before anything of it is changed.
func (t *tally) change(sc *scope) {
	if t.changed[sc] {
		return
	}
	t.changed[sc] = true
	t.apply(sc, -1)
	sc.shares, sc.expires, sc.counts = sc.shares[:0], 0, false
}

// forget takes a scope out for good.
func (t *tally) forget(sc *scope) {
	t.change(sc)
	delete(t.changed, sc)
}

func (t *tally) apply(sc *scope, times int) {
	if !sc.counts {
		return
	}
	if t.ordinary[sc.ordinary] += times; t.ordinary[sc.ordinary] == 0 {
		delete(t.ordinary, sc.ordinary)
	}
	for _, s := range sc.shares {
		c := t.windows[s.start]
		if c == nil {
			c = &count{}
			t.windows[s.start] = c
		}
		if c.add(s.count, times); *c == (count{}) {
			delete(t.windows, s.start)
		}
		if c.low > 0 {
			t.low[s.start] = true
		} else {
			delete(t.low, s.start)
		}
	}
}

// count counts a scope as it is at now.
func (t *tally) count(p Policy, sc *scope, now bucket.Time) {
	if sc.ended {
		return
	}
	sc.counts = true
	for start, w := range sc.pending {
		s := share{start: start}
		if until := w.tells(p, start); w.traffic && until > now {
			s.traffic = 1
			if w.low {
				s.low = 1
				if sc.ordinary <= start {
					s.open = 1
				}
			}
			if sc.expires == 0 || until < sc.expires {
				sc.expires = until
			}
		}
		if sc.ordinary >= start {
			s.passed = 1
		}
		if s.count != (count{}) {
			sc.shares = append(sc.shares, s)
		}
	}
	t.apply(sc, 1)
	t.expiry.await(sc)
}

// tells is until when the newest reading of a window says something about the
// dataset: an old one says nothing about now. 0: there is none.
func (p *pending) tells(policy Policy, start bucket.Time) bucket.Time {
	if p.last == 0 {
		return 0
	}
	return min(start.Add(policy.Size+DelayedAge), p.last.Add(max(2*AgreeApart, 2*policy.Size))+1)
}

// bring makes the counts those of now.
func (t *tally) bring(p Policy, now bucket.Time) {
	for _, sc := range t.expiry.over(now) {
		t.change(sc)
	}
	for sc := range t.changed {
		t.count(p, sc, now)
	}
	clear(t.changed)
}

// suspects are the windows in which any scope looks suspect, with their counts.
// Scopes whose window is final have traffic too: without them two quiet zones and a
// straggler would be a late dataset.
func (t *tally) suspects(yield func(start bucket.Time, c count) bool) {
	if len(t.low) == 0 {
		return
	}
	newest := slices.Sorted(maps.Keys(t.ordinary))
	since := make([]int, len(newest)+1) // scopes with this newest ordinary window, or a later one
	for i, at := range slices.Backward(newest) {
		since[i] = since[i+1] + t.ordinary[at]
	}
	for start := range t.low {
		c := *t.windows[start]
		i, _ := slices.BinarySearch(newest, start)
		c.traffic += since[i] - c.passed
		if !yield(start, c) {
			return
		}
	}
}

// judgeDelay looks at the pending windows of all scopes for those in which more
// than a third of the scopes with traffic look suspect. Where nothing ordinary
// came after them the dataset runs late, and all from there on waits; the delay
// ends when no young window is like that any more. Where something did, they are
// holes, which wait alone.
func (d *Dataset) judgeDelay(now bucket.Time) {
	d.tally.bring(d.policy, now)
	var from bucket.Time
	clear(d.holes)
	for start, c := range d.tally.suspects {
		if c.traffic < minScopes {
			continue
		}
		if 3*c.low > c.traffic {
			d.holes[start] = true
		}
		if 3*c.open > c.traffic && (from == 0 || start < from) {
			from = start
		}
	}
	switch {
	case from == 0:
		d.delayedFrom = 0
	case d.delayedFrom == 0 || from < d.delayedFrom:
		d.delayedFrom = from
	}
}

// expiries are the scopes that are counted by readings which grow old, the first
// first; each once, under a time that is not above its own.
type expiries []expiry

type expiry struct {
	at bucket.Time
	sc *scope
}

// await adds a scope, unless it is there for no later than it must be.
func (e *expiries) await(sc *scope) {
	if sc.expires != 0 && (sc.awaited == 0 || sc.expires < sc.awaited) {
		sc.awaited = sc.expires
		heap.Push(e, expiry{sc.expires, sc})
	}
}

// over takes out the scopes of which a reading has grown old.
func (e *expiries) over(now bucket.Time) (out []*scope) {
	for len(*e) > 0 && (*e)[0].at <= now {
		first := heap.Pop(e).(expiry)
		if first.at != first.sc.awaited {
			continue // it is there under an earlier time, or was
		}
		first.sc.awaited = 0
		switch expires := first.sc.expires; {
		case expires == 0:
		case expires <= now:
			out = append(out, first.sc)
		default:
			e.await(first.sc) // it was read again
		}
	}
	return out
}

// Len implements [heap.Interface], as the others do.
func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].at < e[j].at }
func (e expiries) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }

// Push implements [heap.Interface].
func (e *expiries) Push(x any) { *e = append(*e, x.(expiry)) }

// Pop implements [heap.Interface].
func (e *expiries) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	*e = (*e)[:last]
	return x
}
