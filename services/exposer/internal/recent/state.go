package recent

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

// State is everything held at one confirmed point of the log. It is immutable.
type State struct {
	Store    sample.Store
	Position bucket.Position
	Samples  int    // held, whether or not shown
	Datasets []Held // ascending id

	maxAge   time.Duration
	families []Family
}

// Held is the held windows of one dataset.
type Held struct {
	*bucket.Definition // the newest version
	// Versions has every version that was received, ascending: each bucket names
	// the version under which it was collected.
	Versions []*bucket.Definition
	// Late is the time of the newest late commit; zero: none is known.
	Late time.Time

	slots []*slot        // ascending, without overlap
	pages map[int64]bool // pages that are held, by number: whether all of their buckets are
}

// Dataset returns the dataset with this id, or nil.
func (s *State) Dataset(id string) *Held {
	i, found := slices.BinarySearchFunc(s.Datasets, id, func(d Held, id string) int { return strings.Compare(d.Dataset, id) })
	if !found {
		return nil
	}
	return &s.Datasets[i]
}

// Len is the number of windows held.
func (d *Held) Len() int { return len(d.slots) }

// Window returns the i-th window held, in ascending order.
func (d *Held) Window(i int) bucket.Window { return d.slots[i].window }

// Scopes returns the scopes of the buckets of the i-th window, ascending. The caller
// must not change them.
func (d *Held) Scopes(i int) []bucket.Scope { return d.slots[i].scopes }

// Columns returns the samples of the i-th window, ascending by family. The caller must
// not change them.
func (d *Held) Columns(i int) []*Column { return d.slots[i].columns }

// Ends returns the ends of the oldest and the newest window held; zero if none is.
func (d *Held) Ends() (oldest, newest bucket.Time) {
	if len(d.slots) == 0 {
		return 0, 0
	}
	return d.slots[0].window.End, d.slots[len(d.slots)-1].window.End
}

// Version returns the definition under which a bucket was collected, or nil.
func (d *Held) Version(v uint32) *bucket.Definition {
	for _, def := range d.Versions {
		if def.Version == v {
			return def
		}
	}
	return nil
}

// Family is one metric family and how it is described.
type Family struct {
	*bucket.Family
	// Current: the newest version of some dataset has the family. Other families
	// are shown only while buckets of theirs are.
	Current bool

	feeders []int // indexes of the datasets of which some version has the family, ascending
}

// Families returns every family of every dataset, ascending by name. The caller
// must not modify them. If several definitions have a family, the newest version
// of the last dataset that has it describes it, current ones before past ones, so
// that every exposer of one history gives the same description.
func (s *State) Families() []Family { return s.families }

func families(datasets []*Held) []Family {
	byName := map[string]Family{}
	for i, d := range datasets {
		for _, version := range d.Versions {
			current := version.Version == d.Definition.Version
			for j := range version.Families {
				fam := &version.Families[j]
				one := byName[fam.Name]
				if !one.Current || current {
					one.Family, one.Current = fam, current
				}
				if n := len(one.feeders); n == 0 || one.feeders[n-1] != i {
					one.feeders = append(one.feeders, i)
				}
				byName[fam.Name] = one
			}
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b Family) int { return strings.Compare(a.Name, b.Name) })
}
