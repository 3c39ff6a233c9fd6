package settle

import (
	"container/heap"
	"maps"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
)

// tally counts, by window, the evidence for a delay of the dataset in the pending windows
// of all scopes. A response updates only the counts of its scopes.
type tally struct {
	windows map[bucket.Time]*count
	low     map[bucket.Time]bool // windows in which any scope looks suspect
	// ordinary is how many scopes have each newest ordinary window.
	ordinary map[bucket.Time]int
	// changed are scopes that must be counted again before the next judgement.
	changed map[*scope]bool
	expiry  expiries
}

// count has the counts of one window: traffic: scopes with traffic that have read it
// recently; low: those of them in which it looks suspect; open: those of these without a
// later ordinary window; passed: scopes in which it is pending although an equally new or
// newer window is ordinary.
type count struct{ traffic, low, open, passed int }

func (c *count) add(o count, times int) {
	c.traffic += times * o.traffic
	c.low += times * o.low
	c.open += times * o.open
	c.passed += times * o.passed
}

// share is the contribution of one pending window of one scope.
type share struct {
	start bucket.Time
	count
}

func newTally() tally {
	return tally{windows: map[bucket.Time]*count{}, low: map[bucket.Time]bool{}, ordinary: map[bucket.Time]int{}, changed: map[*scope]bool{}}
}

// change removes a scope from the counts. It must be called before the scope changes.
func (t *tally) change(sc *scope) {
	if t.changed[sc] {
		return
	}
	t.changed[sc] = true
	t.apply(sc, -1)
	sc.shares, sc.expires, sc.counts = sc.shares[:0], 0, false
}

// forget removes a scope permanently.
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

// count adds the counts of a scope at now.
func (t *tally) count(p Policy, sc *scope, now bucket.Time) {
	if sc.ended {
		return
	}
	sc.counts = true
	for start, w := range sc.pending {
		s := share{start: start}
		if until := w.relevantUntil(p, start); w.hadTraffic && until > now {
			s.traffic = 1
			if w.looksSuspect {
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

// relevantUntil is until when the newest reading of a window is evidence about the dataset:
// an old reading says nothing about now. 0: there is no reading.
func (p *pending) relevantUntil(policy Policy, start bucket.Time) bucket.Time {
	if p.lastCounted == 0 {
		return 0
	}
	return min(start.Add(policy.Size+DelayedAge), p.lastCounted.Add(max(2*AgreeApart, 2*policy.Size))+1)
}

// update updates the counts to now.
func (t *tally) update(p Policy, now bucket.Time) {
	for _, sc := range t.expiry.over(now) {
		t.change(sc)
	}
	for sc := range t.changed {
		t.count(p, sc, now)
	}
	clear(t.changed)
}

// suspects yields the windows that look suspect in any scope, with their counts. Scopes in
// which the window is final count as scopes with traffic: otherwise two quiet zones and a
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

// judgeDelay finds the windows that look suspect in more than a third of the scopes with
// traffic. If no ordinary window follows them, the dataset is late, and all windows from
// there on wait; the delay ends when there is no young window like that. If ordinary
// windows follow, they are holes, and only they wait.
func (d *Dataset) judgeDelay(now bucket.Time) {
	d.tally.update(d.policy, now)
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

// expiries is a heap of scopes by the time at which a reading expires. Each scope is in it
// once, with a time that is at most its own.
type expiries []expiry

type expiry struct {
	at bucket.Time
	sc *scope
}

// await adds a scope, unless it is already there with a time that is early enough.
func (e *expiries) await(sc *scope) {
	if sc.expires != 0 && (sc.awaited == 0 || sc.expires < sc.awaited) {
		sc.awaited = sc.expires
		heap.Push(e, expiry{sc.expires, sc})
	}
}

// over removes and returns the scopes with an expired reading.
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
