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
		// A quiet scope needs a full history without a single row.
		return len(recent) < historyLen || slices.ContainsFunc(recent, func(l level) bool { return !l.empty })
	}
	m := median(before(recent, r.Start, size))
	return m >= lowMedian && r.Level < lowShare*m
}

// before returns the buckets with which a window's level can be compared: those shortly
// before it. A night is not low because noon, which was read first, was high, nor because
// the evening before an outage was.
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

// Age is how long after its end a window starting at start is, at now.
func (p Policy) Age(now, start bucket.Time) time.Duration { return now.Sub(start.Add(p.Size)) }
