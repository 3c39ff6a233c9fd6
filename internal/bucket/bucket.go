// Package bucket is Weir's domain: what a bucket is, how it is named, and the
// log that holds it. Standard library only, no I/O, no clock.
//
// All types are plain values. A [Bucket] and its rows are immutable once built
// and may be shared between goroutines.
package bucket

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// ScopeKind is the kind of a scope. The numbers are those of the API and of the database;
// they never change.
type ScopeKind uint8

// The kinds of scope.
const (
	Zone    ScopeKind = 1
	Account ScopeKind = 2
)

func (k ScopeKind) String() string {
	switch k {
	case Zone:
		return "zone"
	case Account:
		return "account"
	}
	return fmt.Sprintf("scope kind %d", uint8(k))
}

// Scope is one zone or one account, identified by Cloudflare's tag. Names are
// labels, not identity: they change.
type Scope struct {
	Kind ScopeKind
	ID   string // 32 lower-case hexadecimal digits
}

func (s Scope) String() string { return s.Kind.String() + " " + s.ID }

// Validate returns an error if s is invalid.
func (s Scope) Validate() error {
	if s.Kind != Zone && s.Kind != Account {
		return fmt.Errorf("scope kind is %d; it must be zone (%d) or account (%d)", s.Kind, Zone, Account)
	}
	if b, err := hex.DecodeString(s.ID); err != nil || len(b) != 16 || strings.ToLower(s.ID) != s.ID {
		return fmt.Errorf("%s id is %q; it must be 32 lower-case hexadecimal digits", s.Kind, s.ID)
	}
	return nil
}

// Compare orders scopes by kind, then id.
func (s Scope) Compare(o Scope) int {
	return cmp.Or(cmp.Compare(s.Kind, o.Kind), strings.Compare(s.ID, o.ID))
}

// Key identifies a bucket permanently: no two buckets of a store share one.
type Key struct {
	Dataset string // dataset id, size included: "http_5m"
	Scope   Scope
	Start   Time // inclusive start of the window
}

func (k Key) String() string {
	return fmt.Sprintf("%s %s %s", k.Dataset, k.Scope, k.Start)
}

// Compare orders keys by dataset, window start, scope: the order of ListBuckets.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(k.Dataset, o.Dataset), cmp.Compare(k.Start, o.Start), k.Scope.Compare(o.Scope))
}

// Finality is why a bucket was declared final.
type Finality uint8

// The grounds, with the contract's numbers.
const (
	Confirmed        Finality = 1 // enough equal readings, or one that is sufficient
	Deadline         Finality = 2 // readings still differed at the deadline
	SuspectConfirmed Finality = 3 // was suspect, confirmed by readings far apart or by age
)

// Origin is the lane of the collector that fetched a bucket.
type Origin uint8

// The origins, with the contract's numbers.
const (
	Live     Origin = 1 // within three bucket lengths of falling due
	Repair   Origin = 2 // later, by the loop itself
	Backfill Origin = 3 // on an operator's request
)

// Bucket is everything one dataset says about one scope in one window.
type Bucket struct {
	Key
	Size           time.Duration // length of the window
	Version        uint32        // version of the dataset's definition
	Zone, Account  string        // label values, frozen at collection
	Finality       Finality
	Origin         Origin
	Variant        string  // which variant of the dataset answered
	SampleInterval float64 // 1 is unsampled; 0: the node does not say
	ReadAt         Time    // time of the stored reading
	Families       []Rows  // in the order of the definition; families without rows are absent
}

// Window is the span that the bucket covers.
func (b *Bucket) Window() Window { return Window{Start: b.Start, End: b.Start.Add(b.Size)} }

// Len is the number of rows of all families.
func (b *Bucket) Len() int {
	n := 0
	for i := range b.Families {
		n += len(b.Families[i].Values)
	}
	return n
}

// Zero reports whether no value is other than zero, as in a window without traffic.
func (b *Bucket) Zero() bool {
	for i := range b.Families {
		for _, v := range b.Families[i].Values {
			if v != 0 {
				return false
			}
		}
	}
	return true
}

// Rows holds the rows of one family in columns: with n labels, row i has label
// values Labels[i*n : (i+1)*n] and value Values[i]. Rows are sorted by label
// values and unique; see [SortRows].
type Rows struct {
	Family string
	Labels []string
	Values []float64
}

// Width is the number of label values per row.
func (r *Rows) Width() int {
	if len(r.Values) == 0 {
		return 0
	}
	return len(r.Labels) / len(r.Values)
}

// Validate reports what is wrong with the rows, if anything: columns that do
// not fit, rows out of order or twice, values that are not finite.
func (r *Rows) Validate() error {
	if r.Family == "" {
		return fmt.Errorf("rows have no family name")
	}
	if len(r.Values) == 0 {
		return fmt.Errorf("family %s has no rows; it must be left out", r.Family)
	}
	if len(r.Labels)%len(r.Values) != 0 {
		return fmt.Errorf("family %s has %d label values for %d rows", r.Family, len(r.Labels), len(r.Values))
	}
	n := r.Width()
	for i, v := range r.Values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("family %s row %d has value %v; it must be finite", r.Family, i, v)
		}
		if i > 0 && slices.Compare(r.Labels[(i-1)*n:i*n], r.Labels[i*n:(i+1)*n]) >= 0 {
			return fmt.Errorf("family %s rows %d and %d must be in ascending order of labels", r.Family, i-1, i)
		}
	}
	return nil
}

// SortRows brings rows into canonical order. Rows that share label values are
// left as neighbours, for [Rows.Validate] to find.
func SortRows(r *Rows) {
	n := r.Width()
	if n == 0 || len(r.Values) < 2 {
		return
	}
	order := make([]int, len(r.Values))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return slices.Compare(r.Labels[a*n:(a+1)*n], r.Labels[b*n:(b+1)*n])
	})
	labels, values := make([]string, 0, len(r.Labels)), make([]float64, 0, len(r.Values))
	for _, i := range order {
		labels = append(labels, r.Labels[i*n:(i+1)*n]...)
		values = append(values, r.Values[i])
	}
	r.Labels, r.Values = labels, values
}
