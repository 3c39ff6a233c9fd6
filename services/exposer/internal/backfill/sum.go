package backfill

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
)

// mostRows limits the rows of all scopes held for one step: about 50 MB.
const mostRows = 500_000

// sum is the sum of one scope over one step, so far.
type sum struct {
	set      sample.Set  // without its timestamp; the labels are those of the newest bucket, so a rename shows from the next step on
	rows     bucket.Rows // of the set
	covered  time.Duration
	until    bucket.Time // end of the newest bucket
	spoiled  bool        // the buckets cannot be summed
	estimate bool
	// Variants of the dataset that returned rows, and that did not. If one variant
	// never had rows while another had, it may not know the family: then no rows
	// does not mean 0.
	with, without []string
}

// add adds a bucket, for which the family was not collected, or had no rows (a nil
// set), or had those of the set.
func (s *sum) add(b *bucket.Bucket, collected bool, set *sample.Set) {
	if !collected || b.Start < s.until {
		s.spoiled = true
		return
	}
	if s.set.Zone != b.Zone || s.set.Account != b.Account {
		s.set.Zone, s.set.Account = strings.Clone(b.Zone), strings.Clone(b.Account)
	}
	s.covered += b.Size
	s.until = b.Window().End
	s.estimate = s.estimate || b.SampleInterval > 1
	if set == nil {
		s.without = with(s.without, b.Variant)
		return
	}
	s.with = with(s.with, b.Variant)
	if s.set.Family != nil && !slices.Equal(s.set.Family.Labels, set.Family.Labels) {
		s.spoiled = true
		return
	}
	s.rows, s.set.Family = plus(&s.rows, set.Rows), set.Family
}

func with(set []string, name string) []string {
	if slices.Contains(set, name) {
		return set
	}
	return append(set, strings.Clone(name))
}

// whole reports whether every bucket of the step is in the sum.
func (s *sum) whole(step time.Duration) bool {
	if s.spoiled || s.covered != step || slices.ContainsFunc(s.rows.Values, func(v float64) bool { return math.IsInf(v, 0) }) {
		return false
	}
	if s.set.Family == nil {
		return true // no traffic
	}
	if s.set.Family.Role == bucket.Total && len(s.without) > 0 {
		return false // a total always has a row, unless the variant does not know the family
	}
	return !slices.ContainsFunc(s.without, func(v string) bool { return !slices.Contains(s.with, v) })
}

// plus adds two sorted sets of rows of one family by label values. The result shares
// nothing with b, whose texts may be parts of a whole message.
func plus(a, b *bucket.Rows) bucket.Rows {
	if len(a.Values) == 0 {
		return bucket.Rows{Family: strings.Clone(b.Family), Labels: appendClones(nil, b.Labels), Values: slices.Clone(b.Values)}
	}
	n := b.Width()
	out := bucket.Rows{
		Family: a.Family,
		Labels: make([]string, 0, max(len(a.Labels), len(b.Labels))),
		Values: make([]float64, 0, max(len(a.Values), len(b.Values))),
	}
	for i, j := 0, 0; i < len(a.Values) || j < len(b.Values); {
		order := 0
		switch {
		case i == len(a.Values):
			order = 1
		case j == len(b.Values):
			order = -1
		default:
			order = slices.Compare(a.Labels[i*n:(i+1)*n], b.Labels[j*n:(j+1)*n])
		}
		value := 0.0
		if order <= 0 {
			out.Labels = append(out.Labels, a.Labels[i*n:(i+1)*n]...)
			value += a.Values[i]
			i++
		} else {
			out.Labels = appendClones(out.Labels, b.Labels[j*n:(j+1)*n])
		}
		if order >= 0 {
			value += b.Values[j]
			j++
		}
		out.Values = append(out.Values, value)
	}
	return out
}

func appendClones(dst, texts []string) []string {
	for _, text := range texts {
		dst = append(dst, strings.Clone(text))
	}
	return dst
}

// summed writes a block of sums, for each step that lies entirely inside the range
// and each scope whose buckets fill the step.
func (o *writer) summed(of *Block) error {
	step := o.r.Step
	if o.window(of).Empty() {
		return nil
	}
	var start bucket.Time
	scopes := map[bucket.Scope]*sum{}
	rows := 0
	flush := func() error {
		w := bucket.Window{Start: start, End: start.Add(step)}
		for _, scope := range slices.SortedFunc(maps.Keys(scopes), bucket.Scope.Compare) {
			if err := o.sum(of, w, scopes[scope]); err != nil {
				return fmt.Errorf("%s %s: %w", scope, w, err)
			}
		}
		clear(scopes)
		rows = 0
		return nil
	}
	err := o.merged(of, func(s *source) error {
		b := s.head
		if at := b.Start.Floor(step); at != start {
			if err := flush(); err != nil {
				return err
			}
			start = at
		}
		set, collected, err := o.set(of, s)
		if err != nil {
			return err
		}
		total := scopes[b.Scope]
		if total == nil {
			total = &sum{}
			scopes[b.Scope] = total
		}
		rows -= len(total.rows.Values)
		total.add(b, collected, set)
		if rows += len(total.rows.Values); rows > mostRows {
			return &ParamError{"step_seconds", fmt.Sprint(int64(step / time.Second)), fmt.Sprintf("smaller, or removed, or combined with zone or account: a step of %s has more than %d rows", of.Name, mostRows)}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// sum writes the sum of one scope over one step, if it is complete.
func (o *writer) sum(of *Block, w bucket.Window, s *sum) error {
	if !s.whole(w.Len()) {
		o.Incomplete++
		o.partly = o.partly.Add(w)
		return nil
	}
	if s.set.Family == nil {
		return nil
	}
	set := s.set
	set.Name, set.More, set.Rows, set.At = of.Title(), o.r.Labels, &s.rows, o.state.Store.Stamp.Of(w)
	if err := set.At.Check(o.now); err != nil {
		return err
	}
	o.sums++
	if s.estimate {
		o.Estimates++
	}
	return o.write(expo.AppendSet(o.buf[:0], o.r.Format, &set))
}
