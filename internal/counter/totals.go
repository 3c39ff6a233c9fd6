package counter

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// Totals is what a [Fold] knows of one zone or account at a revision up to which all has
// been played out. A fold that goes on from the totals of all scopes has the same values as
// one that has read the whole epoch.
type Totals struct {
	Scope bucket.Scope
	// Begun is the commit of the first bucket of each dataset in the epoch.
	Begun map[string]time.Time
	// Series are in the order of family, zone, account and values.
	Series []SeriesTotal
}

// SeriesTotal is one series.
type SeriesTotal struct {
	Family        string
	Labels        []string // names of the family's own labels
	Zone, Account string
	Values        []string
	Began, Until  sample.Millis
	Live, Late    float64
	LateBegan     sample.Millis // 0: nothing came late
}

// Totals returns the totals of all scopes, in order, at a time by which every entry that was
// added has been played out (see [Ends]); an error if one has not.
func (f *Fold) Totals(t time.Time) ([]Totals, error) {
	f.Settle(t)
	of := map[bucket.Scope]*Totals{}
	at := func(s bucket.Scope) *Totals {
		if of[s] == nil {
			of[s] = &Totals{Scope: s, Begun: map[string]time.Time{}}
		}
		return of[s]
	}
	for p, first := range f.begun {
		at(p.scope).Begun[p.dataset] = first
	}
	for fam := range f.Families {
		for _, s := range fam.Series() {
			if len(s.parts) > 0 {
				return nil, fmt.Errorf("totals at %s: %s of %s has a bucket that is played out at %s", t.UTC().Format(time.RFC3339), fam.Name, s.Scope, s.until.Std().Format(time.RFC3339))
			}
			total := SeriesTotal{
				Family: fam.Name, Labels: fam.Labels, Zone: s.Zone, Account: s.Account, Values: s.Values,
				Began: s.began, Until: s.until, Live: s.live, Late: s.late, LateBegan: s.lateBegan,
			}
			to := at(s.Scope)
			to.Series = append(to.Series, total)
		}
	}
	out := make([]Totals, 0, len(of))
	for _, t := range of {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Totals) int { return a.Scope.Compare(b.Scope) })
	return out, nil
}

// Load continues from totals, once for each scope and before the first entry.
func (f *Fold) Load(t *Totals) error {
	for dataset, first := range t.Begun {
		f.begun[place{t.Scope, dataset}] = first
	}
	for i := range t.Series {
		x := &t.Series[i]
		if err := x.validate(); err != nil {
			return fmt.Errorf("totals of %s: %w", t.Scope, err)
		}
		fam, err := f.family(x.Family, x.Labels) // help and unit come with the definition, an entry
		if err != nil {
			return fmt.Errorf("totals of %s: %w", t.Scope, err)
		}
		key := string(appendKey(nil, t.Scope, x.Zone, x.Account, x.Values))
		if fam.series[key] != nil {
			return fmt.Errorf("totals of %s: family %s has a series twice", t.Scope, x.Family)
		}
		fam.series[key], fam.sorted = &Series{
			Scope: t.Scope, Zone: x.Zone, Account: x.Account, Values: x.Values, key: key,
			began: x.Began, until: x.Until, live: x.Live, late: x.Late, lateBegan: x.LateBegan,
		}, nil
	}
	return nil
}

func (x *SeriesTotal) validate() error {
	switch {
	case len(x.Values) != len(x.Labels):
		return fmt.Errorf("family %s has a series with %d values of %d labels (%s)", x.Family, len(x.Values), len(x.Labels), strings.Join(x.Labels, ", "))
	case !(x.Live >= 0) || !(x.Late >= 0) || x.Late > 0 && x.LateBegan == 0:
		return fmt.Errorf("family %s has a series with the sums %v and %v; they must be positive or 0", x.Family, x.Live, x.Late)
	case x.Began <= 0 || x.Until < x.Began || x.LateBegan < 0:
		return fmt.Errorf("family %s has a series from %d to %d; they must be times in order", x.Family, x.Began, x.Until)
	}
	return nil
}
