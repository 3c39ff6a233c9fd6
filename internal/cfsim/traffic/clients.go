package traffic

import (
	"math"
	"slices"
)

// ClientSet is a set of client identifiers as disjoint ranges in ascending
// order. The zero value is the empty set. A ClientSet is not altered after it
// was made.
type ClientSet struct{ ranges []clientRange }

// clientRange is [lo, hi).
type clientRange struct{ lo, hi uint64 }

// Count is the number of different clients in the set.
func (s ClientSet) Count() uint64 {
	var n uint64
	for _, r := range s.ranges {
		n += r.hi - r.lo
	}
	return n
}

// Union is the set of clients in at least one of sets.
func Union(sets ...ClientSet) ClientSet {
	var all []clientRange
	for _, s := range sets {
		all = append(all, s.ranges...)
	}
	return ClientSet{merge(all)}
}

// merge sorts ranges and joins those that touch. It takes ownership of them.
func merge(ranges []clientRange) []clientRange {
	slices.SortFunc(ranges, func(a, b clientRange) int {
		switch {
		case a.lo < b.lo:
			return -1
		case a.lo > b.lo:
			return 1
		}
		return 0
	})
	out := ranges[:0]
	for _, r := range ranges {
		if r.hi == r.lo {
			continue
		}
		if n := len(out); n > 0 && r.lo <= out[n-1].hi {
			out[n-1].hi = max(out[n-1].hi, r.hi)
			continue
		}
		out = append(out, r)
	}
	return out
}

// Scale is the set with the front part f (0 to 1) of each range, rounded up.
// It grows with f, and 1 gives the whole set.
func (s ClientSet) Scale(f float64) ClientSet {
	if f >= 1 {
		return s
	}
	out := make([]clientRange, 0, len(s.ranges))
	for _, r := range s.ranges {
		if size := uint64(math.Ceil(float64(r.hi-r.lo) * f)); size > 0 {
			out = append(out, clientRange{r.lo, r.lo + size})
		}
	}
	return ClientSet{out}
}

// WithOffset is the set with every identifier raised by offset, so that
// clients of different zones are different ones. The top quarter of the
// identifiers must be unused; the model's are far below.
func (s ClientSet) WithOffset(offset uint64) ClientSet {
	offset >>= 2
	out := make([]clientRange, len(s.ranges))
	for i, r := range s.ranges {
		out[i] = clientRange{r.lo + offset, r.hi + offset}
	}
	return ClientSet{out}
}
