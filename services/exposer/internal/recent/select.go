package recent

import (
	"bytes"

	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// Selected is the part of a state that belongs to some zones and accounts. It is immutable.
//
// Its windows and pages are those of the whole: a choice of it shows the same windows, and of
// them the lines that it has, unless the limits on samples cut less because there are fewer.
type Selected struct {
	*State
	// Owners are whose samples the whole state has and the selection does not leave out.
	Owners []selection.Owner

	of    *State
	slots map[*slot]*slot // by the slot of the whole
}

// Select returns the part of the state that match has. The slots that before, of an earlier
// state and the same match, has too are taken over; it may be nil.
func (s *State) Select(match selection.Match, before *Selected) *Selected {
	if before != nil && before.of == s {
		return before
	}
	part := *s
	part.Samples, part.Datasets = 0, make([]Held, len(s.Datasets))
	out := &Selected{State: &part, of: s, slots: make(map[*slot]*slot, len(s.Datasets))}
	seen := map[*selection.Owner]bool{}
	for i := range s.Datasets {
		held := s.Datasets[i] // a copy
		held.slots = make([]*slot, len(s.Datasets[i].slots))
		for j, whole := range s.Datasets[i].slots {
			var one *slot
			if before != nil {
				one = before.slots[whole]
			}
			if one == nil {
				one = whole.part(match)
			}
			held.slots[j], out.slots[whole] = one, one
			for _, n := range one.samples {
				part.Samples += n
			}
			for _, o := range one.owners {
				if !seen[o] {
					seen[o] = true
					out.Owners = append(out.Owners, *o)
				}
			}
		}
		part.Datasets[i] = held
	}
	return out
}

// part returns the slot with the buckets that match has: itself if it has all of them.
func (s *slot) part(match selection.Match) *slot {
	var kept []int
	for i, o := range s.owners {
		if match.Has(*o) {
			kept = append(kept, i)
		}
	}
	if len(kept) == len(s.owners) {
		return s
	}
	next := &slot{window: s.window}
	for _, i := range kept {
		next.scopes, next.owners = append(next.scopes, s.scopes[i]), append(next.owners, s.owners[i])
	}
	for _, whole := range s.columns {
		n := 0
		for _, i := range kept {
			n += len(whole.of(i))
		}
		if n == 0 {
			continue
		}
		c := newColumn(whole.Family, whole.Role)
		c.Lines, c.ends = make([]byte, 0, n), make([]int32, 0, len(kept))
		for _, i := range kept {
			c.Lines = append(c.Lines, whole.of(i)...)
			c.ends = append(c.ends, int32(len(c.Lines))) //nolint:gosec // a window of a family has megabytes
		}
		c.Samples = bytes.Count(c.Lines, []byte{'\n'})
		next.samples[Index(c.Role)] += c.Samples
		next.columns = append(next.columns, c)
	}
	return next
}
