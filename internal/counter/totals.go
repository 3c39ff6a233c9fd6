package counter

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// Epoch is the beginning of counting in a store. Totals of one epoch never decrease.
type Epoch struct {
	ID    string
	Began time.Time
	After bucket.Revision // entries after it are counted
	// Settled is the time by which the sums of the totals were settled ([Fold.Settle]).
	Settled time.Time
	// Rules is the version of the rules by which the totals were counted ([Rules]).
	Rules uint32
}

// Totals is what a [Fold] knows of one zone or account at a revision. A fold that goes on
// from the totals of all scopes has the same values as one that has read the whole epoch.
type Totals struct {
	Scope bucket.Scope
	// Begun is when counting of each family began in the epoch: the commit of a bucket. What was
	// due before does not count.
	Begun map[string]time.Time
	// Series are in the order of family, labels, zone, account and values.
	Series []SeriesTotal
	// Unread are families that the totals have and whoever read them could not take. [Fold.Load]
	// leaves them out.
	Unread []string
}

// SeriesTotal is one series.
type SeriesTotal struct {
	Family        string
	Labels        []string // names of the family's own labels
	Zone, Account string
	Values        []string
	Began, Until  sample.Millis
	Live, Late    float64       // what has been played out
	LateBegan     sample.Millis // 0: nothing came late
	Parts         []Part        // what has not, in order of revision
}

// Part is the amount of one bucket.
type Part struct {
	From   sample.Millis // begins to count
	Size   sample.Millis // 0: counts as a whole
	Amount float64
	Late   bool
}

// Totals returns the totals of all scopes, in order, with sums that are settled at a time:
// nobody may ask about an earlier one. They are a function of the entries that were added,
// and of t. They share labels with the fold.
func (f *Fold) Totals(t time.Time) []Totals {
	f.Settle(t)
	of := map[bucket.Scope]*Totals{}
	at := func(s bucket.Scope) *Totals {
		if of[s] == nil {
			of[s] = &Totals{Scope: s, Begun: map[string]time.Time{}}
		}
		return of[s]
	}
	for p, first := range f.begun {
		at(p.scope).Begun[p.family] = first
	}
	for fam := range f.Families {
		for _, s := range fam.Series() {
			to := at(s.Scope)
			to.Series = append(to.Series, SeriesTotal{
				Family: fam.Name, Labels: fam.Labels, Zone: s.Zone, Account: s.Account, Values: s.Values,
				Began: s.began, Until: s.until, Live: s.live, Late: s.late, LateBegan: s.lateBegan, Parts: s.exported(),
			})
		}
	}
	out := make([]Totals, 0, len(of))
	for _, t := range of {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Totals) int { return a.Scope.Compare(b.Scope) })
	return out
}

// exported is what has not been played out.
func (s *Series) exported() (parts []Part) {
	for _, p := range s.parts {
		parts = append(parts, Part{From: p.from, Size: p.size, Late: p.late, Amount: p.amount})
	}
	return parts
}

// Load continues from totals, before the first entry. The totals of a scope may be given in
// parts, of which each has other series. The fold keeps the labels of t.
//
// An error names the families that cannot be continued, which are left out of the fold as
// by [Fold.LeaveOut]. All others are loaded.
func (f *Fold) Load(t *Totals) error {
	for family, first := range t.Begun {
		f.begun[place{t.Scope, family}] = first
	}
	for _, family := range t.Unread {
		f.LeaveOut(family)
	}
	var faults []error
	turns := map[turn]*turn{}
	for i := range t.Series {
		x := &t.Series[i]
		if f.out[x.Family] {
			continue
		}
		if err := f.load(t.Scope, x, turns); err != nil {
			f.LeaveOut(x.Family)
			faults = append(faults, fmt.Errorf("totals of %s: %w", t.Scope, err))
		}
	}
	return errors.Join(faults...)
}

// load continues one series. turns are those of the totals, each once.
func (f *Fold) load(scope bucket.Scope, x *SeriesTotal, turns map[turn]*turn) error {
	if err := x.validate(); err != nil {
		return err
	}
	fam := f.family(x.Family, x.Labels) // help and unit come with the definition, an entry
	of := f.owner(scope, x.Zone, x.Account)
	at, found := fam.find(of, x.Values)
	if found {
		return fmt.Errorf("family %s has a series twice: zone %q, account %q, labels %q", x.Family, x.Zone, x.Account, x.Values)
	}
	s := &Series{
		Owner: of, Own: fam.ownOf(x.Values),
		began: x.Began, until: x.Until, live: x.Live, late: x.Late, lateBegan: x.LateBegan, parts: make([]part, len(x.Parts)),
	}
	for i, p := range x.Parts {
		t := turn{p.From, p.Size, p.Late}
		if turns[t] == nil {
			turns[t] = &t
		}
		s.parts[i] = part{turns[t], p.Amount}
	}
	fam.of[of] = slices.Insert(fam.of[of], at, s)
	f.include(fam, s)
	return nil
}

// LeaveOut drops the series of a family, and counts none of it from now on: sums that begin
// later than those of other readers would be wrong.
func (f *Fold) LeaveOut(family string) {
	f.out[family] = true
	if _, known := f.families[family]; known {
		delete(f.families, family)
		f.names = slices.DeleteFunc(f.names, func(name string) bool { return name == family })
		f.changes++
	}
}

func (x *SeriesTotal) validate() error {
	bad := func(v float64) bool { return !(v >= 0) || math.IsInf(v, 1) }
	switch {
	case len(x.Values) != len(x.Labels):
		return fmt.Errorf("family %s has a series with %d values of %d labels (%s)", x.Family, len(x.Values), len(x.Labels), strings.Join(x.Labels, ", "))
	case bad(x.Live) || bad(x.Late) || x.Late > 0 && x.LateBegan == 0:
		return fmt.Errorf("family %s has a series with the sums %v and %v; they must be finite and not negative", x.Family, x.Live, x.Late)
	case x.Began <= 0 || x.Until < x.Began || x.LateBegan < 0:
		return fmt.Errorf("family %s has a series from %d to %d; they must be times in order", x.Family, x.Began, x.Until)
	}
	for _, p := range x.Parts {
		if bad(p.Amount) || p.Size < 0 || p.From < x.Began || p.Late && x.LateBegan == 0 {
			return fmt.Errorf("family %s has a series with a part of %v from %d for %d ms; it must be finite, not negative, and after the beginning at %d", x.Family, p.Amount, p.From, p.Size, x.Began)
		}
	}
	return nil
}
