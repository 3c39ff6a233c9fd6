package bucket

import (
	"slices"
	"sort"
)

// Spans is a set of instants, kept as ascending windows that neither overlap
// nor touch. The zero value is the empty set. It answers "what is final" for
// months of windows in a few words of memory, since coverage is mostly whole.
type Spans []Window

// Add returns the set with w added. It may reuse the receiver's memory, like append.
func (s Spans) Add(w Window) Spans {
	if w.Empty() {
		return s
	}
	// Everything in [i, j) touches w.
	i := sort.Search(len(s), func(i int) bool { return s[i].End >= w.Start })
	j := i
	for j < len(s) && s[j].Start <= w.End {
		w.Start, w.End = min(w.Start, s[j].Start), max(w.End, s[j].End)
		j++
	}
	return slices.Replace(s, i, j, w)
}

// Remove returns the set without w. The receiver is not changed.
func (s Spans) Remove(w Window) Spans {
	if w.Empty() {
		return slices.Clone(s)
	}
	out := make(Spans, 0, len(s)+1)
	for _, have := range s {
		if left := (Window{have.Start, min(have.End, w.Start)}); !left.Empty() {
			out = append(out, left)
		}
		if right := (Window{max(have.Start, w.End), have.End}); !right.Empty() {
			out = append(out, right)
		}
	}
	return out
}

// Missing returns the parts of w that are not in the set, ascending.
func (s Spans) Missing(w Window) Spans {
	var out Spans
	i := sort.Search(len(s), func(i int) bool { return s[i].End > w.Start })
	for at := w.Start; at < w.End; i++ {
		if i == len(s) || s[i].Start >= w.End {
			return append(out, Window{at, w.End})
		}
		if at < s[i].Start {
			out = append(out, Window{at, s[i].Start})
		}
		at = s[i].End
	}
	return out
}

// Within returns the parts of the set inside w, ascending.
func (s Spans) Within(w Window) Spans {
	var out Spans
	i := sort.Search(len(s), func(i int) bool { return s[i].End > w.Start })
	for ; i < len(s) && s[i].Start < w.End; i++ {
		if part := s[i].Intersect(w); !part.Empty() {
			out = append(out, part)
		}
	}
	return out
}

// Contains reports whether the whole of w is in the set. An empty w is.
func (s Spans) Contains(w Window) bool {
	if w.Empty() {
		return true
	}
	i := sort.Search(len(s), func(i int) bool { return s[i].End > w.Start })
	return i < len(s) && s[i].Start <= w.Start && w.End <= s[i].End
}
