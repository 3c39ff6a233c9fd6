package settle

import (
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// push appends to a bounded history without touching the caller's array.
func push(h []level, l level) []level {
	h = append(slices.Clip(h), l)
	if over := len(h) - historyLen; over > 0 {
		h = h[over:]
	}
	return h
}

// suspect compares a reading with the buckets that are known around it.
func suspect(recent []level, r Reading, size time.Duration) bool {
	if r.Empty {
		// Quiet needs proof: a full history without a single row.
		return len(recent) < historyLen || slices.ContainsFunc(recent, func(l level) bool { return !l.empty })
	}
	m := median(before(recent, r.Start, size))
	return m >= lowMedian && r.Level < lowShare*m
}

// before are the buckets that a window's level can be held against: those that
// came shortly before it. Night is not low because noon, read first, was high,
// nor because the evening before an outage was.
func before(recent []level, start bucket.Time, size time.Duration) []level {
	from := start.Add(-nearby * size)
	return slices.DeleteFunc(slices.Clone(recent), func(l level) bool { return l.start < from || l.start >= start })
}

func hasTraffic(recent []level) bool {
	return slices.ContainsFunc(recent, func(l level) bool { return !l.empty })
}

func median(recent []level) float64 {
	if len(recent) == 0 {
		return 0
	}
	values := make([]float64, len(recent))
	for i, l := range recent {
		values[i] = l.value
	}
	slices.Sort(values)
	mid := len(values) / 2
	if len(values)%2 == 1 {
		return values[mid]
	}
	return (values[mid-1] + values[mid]) / 2
}

// judgeDelay looks at the pending windows of all scopes for those in which more
// than a third of the scopes with traffic look suspect. Where nothing ordinary
// came after them the dataset runs late, and all from there on waits; the delay
// ends when no young window is like that any more. Where something did, they are
// holes, which wait alone.
func (d *Dataset) judgeDelay(now bucket.Time) {
	type count struct{ low, open, traffic int }
	windows := map[bucket.Time]*count{}
	for _, sc := range d.scopes {
		if sc.ended {
			continue
		}
		for start, p := range sc.pending {
			if p.last == 0 || !p.traffic || now.Sub(start.Add(d.policy.Size)) >= DelayedAge {
				continue
			}
			// An old reading says nothing about now.
			if now.Sub(p.last) > max(2*AgreeApart, 2*d.policy.Size) {
				continue
			}
			c := windows[start]
			if c == nil {
				c = &count{}
				windows[start] = c
			}
			c.traffic++
			if p.low {
				c.low++
				if sc.ordinary <= start {
					c.open++
				}
			}
		}
	}
	var from bucket.Time
	clear(d.holes)
	for start, c := range windows {
		// Scopes whose window is final have traffic too: without them two quiet
		// zones and a straggler would be a late dataset.
		for _, sc := range d.scopes {
			if !sc.ended && sc.pending[start] == nil && sc.ordinary >= start {
				c.traffic++
			}
		}
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

// Age is how long after its end a window starting at start is, at now.
func (p Policy) Age(now, start bucket.Time) time.Duration { return now.Sub(start.Add(p.Size)) }
