// Package sample converts buckets to samples: name, labels, value and timestamp. It is the
// only place where a bucket and the definition under which it was collected become series,
// for all outputs. It is pure and independent of any format.
package sample

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Store has the properties of a store that affect the samples of its buckets.
type Store struct {
	ID        string
	Stamp     Stamp
	Simulated bool          // the data describes no real zone
	Retention time.Duration // how long buckets are kept; 0: unknown
}

// Label is a label of a series.
type Label struct{ Name, Value string }

// Set is the samples of one family in one bucket. They share a name, a timestamp and the
// labels of [Set.Common]; each has a value and the family's own labels. It is stored in
// columns, because sets are mostly written as a whole.
type Set struct {
	Name          string         // the metric's; the family's, unless somebody renames it
	Family        *bucket.Family // of the bucket's definition; its Labels name what [Set.Own] returns
	Zone, Account string
	More          []Label // that an output adds to all samples
	Rows          *bucket.Rows
	At            Millis
}

// Of returns the samples of the i-th family of b, which was collected under d. A
// family that does not fit the definition is an error. The set shares the memory
// of b and d.
func Of(b *bucket.Bucket, i int, d *bucket.Definition, stamp Stamp) (Set, error) {
	rows := &b.Families[i]
	fam := FamilyOf(d, rows.Family)
	if fam == nil {
		return Set{}, fmt.Errorf("samples of bucket %s: version %d of the dataset has no family %q", b.Key, b.Version, rows.Family)
	}
	if rows.Width() != len(fam.Labels) {
		return Set{}, fmt.Errorf("samples of bucket %s: family %s has rows with %d labels; its definition has %d (%s)",
			b.Key, fam.Name, rows.Width(), len(fam.Labels), strings.Join(fam.Labels, ", "))
	}
	return Set{Name: fam.Name, Family: fam, Zone: b.Zone, Account: b.Account, Rows: rows, At: stamp.Of(b.Window())}, nil
}

// Append appends the samples of all families of b, in its order. Invalid rows or an
// implausible timestamp are an error: one such sample can make Prometheus reject a whole
// scrape.
func Append(dst []Set, b *bucket.Bucket, d *bucket.Definition, stamp Stamp) ([]Set, error) {
	if at := stamp.Of(b.Window()); at <= Earliest {
		return nil, fmt.Errorf("samples of bucket %s: timestamp is %d ms; it must be greater than %d", b.Key, at, Earliest)
	}
	for i := range b.Families {
		if err := b.Families[i].Validate(); err != nil {
			return nil, fmt.Errorf("samples of bucket %s: %w", b.Key, err)
		}
		set, err := Of(b, i, d, stamp)
		if err != nil {
			return nil, err
		}
		dst = append(dst, set)
	}
	return dst, nil
}

// Len is the number of samples.
func (s *Set) Len() int { return len(s.Rows.Values) }

// Common yields the labels that all samples of the set have, in order. The zone
// of an account's samples is empty, and an empty label is no label.
func (s *Set) Common() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		if s.Zone != "" && !yield("zone", s.Zone) {
			return
		}
		if s.Account != "" && !yield("account", s.Account) {
			return
		}
		for i := range s.More {
			if !yield(s.More[i].Name, s.More[i].Value) {
				return
			}
		}
	}
}

// Own returns the values of the family's own labels of the i-th sample. An empty
// value is a label all the same, so that the samples of a family all show the same.
func (s *Set) Own(i int) []string {
	n := len(s.Family.Labels)
	return s.Rows.Labels[i*n : (i+1)*n]
}

// Value is that of the i-th sample.
func (s *Set) Value(i int) float64 { return s.Rows.Values[i] }

// FamilyOf returns the family of d with this name, or nil.
func FamilyOf(d *bucket.Definition, name string) *bucket.Family {
	for i := range d.Families {
		if d.Families[i].Name == name {
			return &d.Families[i]
		}
	}
	return nil
}
