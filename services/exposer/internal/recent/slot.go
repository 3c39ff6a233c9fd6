package recent

import (
	"fmt"
	"slices"
	"sync"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
)

// slot holds all buckets of a dataset in one window.
type slot struct {
	window  bucket.Window
	buckets []Rendered // ascending scope
	samples [Roles]int
	// shared: a State has the slot, so it is copied before it grows.
	shared bool

	mu     sync.Mutex // guards series, which are computed on demand
	series map[seriesKey][]uint64
}

// seriesKey selects the samples of one family in one role.
type seriesKey struct {
	family string
	role   int
}

// Rendered is one bucket as rendered samples.
type Rendered struct {
	Scope    bucket.Scope
	Segments []expo.Segment // ascending family name
}

// Segment returns the segment of a family, or nil if the bucket has no rows of it.
func (r *Rendered) Segment(family string) *expo.Segment {
	for i := range r.Segments { // a handful; and equal names are mostly the same string
		if r.Segments[i].Family == family {
			return &r.Segments[i]
		}
	}
	return nil
}

func (s *slot) clone() *slot {
	// Spare capacity: the scopes of one window tend to arrive together.
	buckets := append(make([]Rendered, 0, len(s.buckets)+len(s.buckets)/4+8), s.buckets...)
	return &slot{window: s.window, buckets: buckets, samples: s.samples}
}

// seriesOf returns the series of a family and role of which a shared slot has
// samples, ascending. The numbers differ between processes, but which are equal
// does not. The caller must not modify them.
func (s *slot) seriesOf(family string, role int) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := seriesKey{family, role}
	if ids, ok := s.series[key]; ok {
		return ids
	}
	var ids []uint64
	for i := range s.buckets {
		if segment := s.buckets[i].Segment(family); segment != nil && Index(segment.Role) == role {
			ids = append(ids, segment.Series...)
		}
	}
	slices.Sort(ids)
	if s.series == nil {
		s.series = map[seriesKey][]uint64{}
	}
	s.series[key] = slices.Clip(slices.Compact(ids))
	return s.series[key]
}

// add inserts a bucket and returns the number of samples that it added.
func (s *slot) add(key bucket.Key, segments []expo.Segment) (samples int, err error) {
	i, found := slices.BinarySearchFunc(s.buckets, key.Scope, func(r Rendered, scope bucket.Scope) int { return r.Scope.Compare(scope) })
	if found {
		same := slices.EqualFunc(s.buckets[i].Segments, segments, func(a, b expo.Segment) bool { return a.Equal(&b) })
		if !same {
			return 0, fmt.Errorf("hold bucket %s: received again with other rows; keeping the first", key)
		}
		return 0, nil
	}
	s.buckets = slices.Insert(s.buckets, i, Rendered{Scope: key.Scope, Segments: segments})
	for j := range segments {
		n := segments[j].Samples()
		samples += n
		s.samples[Index(segments[j].Role)] += n
	}
	return samples, nil
}
