package recent

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/gzpart"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// slot holds all buckets of a dataset in one window, by family. It is immutable once
// [slot.settled] has returned it.
type slot struct {
	window  bucket.Window
	scopes  []bucket.Scope     // of the buckets, ascending
	owners  []*selection.Owner // of the buckets, as scopes; one for all buckets with the same labels
	columns []*Column          // ascending by family, then role
	samples [Roles]int

	arrived []arrival // buckets that are not in the columns yet, in order of arrival
}

// arrival is one bucket as it came.
type arrival struct {
	scope    bucket.Scope
	owner    *selection.Owner
	segments []expo.Segment
}

// Column is the samples of one family in one window: what a body consists of. It is
// immutable and may be shared between goroutines.
type Column struct {
	Family string
	Role   bucket.Role
	// Lines are text lines in order of scope. The caller must not modify them.
	Lines   []byte
	Samples int

	ends  []int32 // ends[i] is where the lines of the slot's i-th scope end
	packs [expo.Formats]struct {
		once sync.Once
		part gzpart.Part
	}
	series func() []uint64
}

// of returns the lines of the slot's i-th scope.
func (c *Column) of(i int) []byte {
	start := int32(0)
	if i > 0 {
		start = c.ends[i-1]
	}
	return c.Lines[start:c.ends[i]:c.ends[i]]
}

// with is the column together with another of the same slot and family, in order of
// scope.
func (c *Column) with(o *Column) *Column {
	both := newColumn(c.Family, c.Role)
	both.Samples, both.Lines = c.Samples+o.Samples, make([]byte, 0, len(c.Lines)+len(o.Lines))
	for i := range c.ends {
		both.Lines = append(append(both.Lines, c.of(i)...), o.of(i)...)
		both.ends = append(both.ends, int32(len(both.Lines))) //nolint:gosec // a window of a family has megabytes
	}
	return both
}

// Packed returns the lines in a format, compressed at the first call.
func (c *Column) Packed(f expo.Format) *gzpart.Part {
	p := &c.packs[f]
	p.once.Do(func() { p.part = gzpart.New(c.emit(f)) })
	return &p.part
}

// emit passes the lines in a format on, those of another format than text piece by piece.
func (c *Column) emit(f expo.Format) func(emit func([]byte)) {
	return func(emit func([]byte)) {
		if f == expo.Text {
			emit(c.Lines)
			return
		}
		buf := make([]byte, 0, min(64<<10, expo.LinesLen(f, c.Lines, c.Samples)))
		for rest := c.Lines; len(rest) > 0; {
			buf, rest = expo.AppendFitting(buf[:0], f, rest)
			emit(buf)
		}
	}
}

// Series returns the series of which the column has samples, ascending. The numbers
// differ between processes, but which are equal does not. They are kept: only those of
// families that several datasets share are asked for at each choice. The caller must
// not modify them.
func (c *Column) Series() []uint64 { return c.series() }

func newColumn(family string, role bucket.Role) *Column {
	c := &Column{Family: family, Role: role}
	c.series = sync.OnceValue(func() []uint64 {
		ids := slices.AppendSeq(make([]uint64, 0, c.Samples), expo.Series(c.Lines))
		slices.Sort(ids)
		return slices.Clip(slices.Compact(ids))
	})
	return c
}

// column returns the column of a family and role, or nil.
func (s *slot) column(family string, role int) *Column {
	for _, c := range s.columns { // a handful
		if c.Family == family && Index(c.Role) == role {
			return c
		}
	}
	return nil
}

// held returns the lines of a bucket of each of its families.
func (s *slot) held(scope bucket.Scope) (lines map[string][]byte, found bool) {
	lines = map[string][]byte{}
	if i, found := slices.BinarySearchFunc(s.scopes, scope, bucket.Scope.Compare); found {
		for _, c := range s.columns {
			if of := c.of(i); len(of) > 0 {
				lines[c.Family] = of
			}
		}
		return lines, true
	}
	i := slices.IndexFunc(s.arrived, func(a arrival) bool { return a.scope == scope })
	if i < 0 {
		return nil, false
	}
	for _, segment := range s.arrived[i].segments {
		lines[segment.Family.Name] = segment.Lines
	}
	return lines, true
}

// open returns a slot that may grow: s itself where no state has it.
func (s *slot) open() *slot {
	if len(s.arrived) > 0 {
		return s
	}
	return &slot{window: s.window, scopes: s.scopes, owners: s.owners, columns: s.columns, samples: s.samples}
}

// add takes a bucket and returns the number of samples that it added.
func (s *slot) add(key bucket.Key, owner *selection.Owner, segments []expo.Segment) (samples int, err error) {
	if lines, found := s.held(key.Scope); found {
		for _, segment := range segments {
			if bytes.Equal(lines[segment.Family.Name], segment.Lines) {
				delete(lines, segment.Family.Name)
			} else {
				lines[segment.Family.Name] = nil
			}
		}
		if len(lines) > 0 {
			return 0, fmt.Errorf("hold bucket %s: received again with other rows; keeping the first", key)
		}
		return 0, nil
	}
	s.arrived = append(s.arrived, arrival{key.Scope, owner, segments})
	for _, segment := range segments {
		samples += segment.Samples
		s.samples[Index(segment.Family.Role)] += segment.Samples
	}
	return samples, nil
}

// settled returns the slot with what has arrived in its columns. s itself does not
// change: states have it.
func (s *slot) settled() *slot {
	if len(s.arrived) == 0 {
		return s
	}
	slices.SortFunc(s.arrived, func(a, b arrival) int { return a.scope.Compare(b.scope) })
	next := &slot{window: s.window, samples: s.samples, scopes: make([]bucket.Scope, 0, len(s.scopes)+len(s.arrived))}
	next.owners = make([]*selection.Owner, 0, cap(next.scopes))
	// The order of scopes: from is the index in s, or, less one and negative, in arrived.
	from := make([]int, 0, cap(next.scopes))
	for i, j := 0, 0; i < len(s.scopes) || j < len(s.arrived); {
		if j == len(s.arrived) || i < len(s.scopes) && s.scopes[i].Compare(s.arrived[j].scope) < 0 {
			next.scopes, next.owners, from = append(next.scopes, s.scopes[i]), append(next.owners, s.owners[i]), append(from, i)
			i++
			continue
		}
		next.scopes, next.owners, from = append(next.scopes, s.arrived[j].scope), append(next.owners, s.arrived[j].owner), append(from, -1-j)
		j++
	}
	// The size of each column, then its lines.
	type size struct{ bytes, samples int }
	type name struct {
		family string
		role   bucket.Role
	}
	sizes := map[name]size{}
	grow := func(n name, bytes, samples int) {
		sizes[n] = size{sizes[n].bytes + bytes, sizes[n].samples + samples}
	}
	for _, c := range s.columns {
		grow(name{c.Family, c.Role}, len(c.Lines), c.Samples)
	}
	for _, a := range s.arrived {
		for _, segment := range a.segments {
			grow(name{segment.Family.Name, segment.Family.Role}, len(segment.Lines), segment.Samples)
		}
	}
	for n, size := range sizes {
		c := newColumn(n.family, n.role)
		c.Samples, c.Lines, c.ends = size.samples, make([]byte, 0, size.bytes), make([]int32, 0, len(from))
		old := s.column(n.family, Index(n.role))
		for _, i := range from {
			if i >= 0 && old != nil {
				c.Lines = append(c.Lines, old.of(i)...)
			} else if i < 0 {
				for _, segment := range s.arrived[-1-i].segments {
					if segment.Family.Name == n.family && segment.Family.Role == n.role {
						c.Lines = append(c.Lines, segment.Lines...)
					}
				}
			}
			c.ends = append(c.ends, int32(len(c.Lines))) //nolint:gosec // a window of a family has megabytes
		}
		next.columns = append(next.columns, c)
	}
	slices.SortFunc(next.columns, func(a, b *Column) int {
		return cmp.Or(strings.Compare(a.Family, b.Family), cmp.Compare(a.Role, b.Role))
	})
	return next
}
