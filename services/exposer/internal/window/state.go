package window

import (
	"maps"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/replay"
)

// State is everything held at one confirmed point of the log. It is immutable.
type State struct {
	Info     Info
	Position bucket.Position
	Samples  int       // held, whether or not served
	Datasets []Dataset // ascending id

	replay []replay.Dataset // parallel to Datasets
}

// Dataset is what a State holds of one dataset.
type Dataset struct {
	*bucket.Definition // the newest version
	// Versions holds every version that was seen, ascending: a bucket says
	// under which it was collected.
	Versions []*bucket.Definition

	slots []*slot
}

// State gives out what is held, as of a point of the stream. Later changes to
// r do not show in it.
func (r *Recent) State(at bucket.Position) *State {
	s := &State{Info: r.info, Position: at, Samples: r.samples}
	for _, id := range slices.Sorted(maps.Keys(r.datasets)) {
		ds := r.datasets[id]
		d := Dataset{Definition: ds.newest, slots: slices.Clone(ds.slots)}
		d.Versions = slices.SortedFunc(maps.Values(ds.versions), func(a, b *bucket.Definition) int { return int(a.Version) - int(b.Version) })
		summary := replay.Dataset{ID: id, Depth: ds.newest.Depth, Windows: make([]replay.Window, len(d.slots))}
		for _, version := range d.Versions {
			for _, fam := range version.Families {
				if i := replay.Index(fam.Role); !slices.Contains(summary.Feeds[i], fam.Name) {
					summary.Feeds[i] = append(summary.Feeds[i], fam.Name)
				}
			}
		}
		for i, slot := range d.slots {
			slot.shared = true
			summary.Windows[i] = replay.Window{Window: slot.window, Samples: slot.samples}
		}
		s.Datasets = append(s.Datasets, d)
		s.replay = append(s.replay, summary)
	}
	return s
}

// Replay describes the state's windows to [replay.Choose], parallel to
// Datasets. The caller must not change it.
func (s *State) Replay() []replay.Dataset { return s.replay }

// Len is the number of windows held.
func (d *Dataset) Len() int { return len(d.slots) }

// Window returns the i-th window held, in ascending order.
func (d *Dataset) Window(i int) bucket.Window { return d.slots[i].window }

// Buckets returns the buckets of the i-th window in ascending order of scope.
// The caller must not change them.
func (d *Dataset) Buckets(i int) []Rendered { return d.slots[i].buckets }

// Bytes is the length of the lines of the i-th window, over all families.
func (d *Dataset) Bytes(i int, f expo.Format) int { return d.slots[i].bytes[f] }

// Version returns the definition under which a bucket was collected, or nil.
func (d *Dataset) Version(v uint32) *bucket.Definition {
	for _, def := range d.Versions {
		if def.Version == v {
			return def
		}
	}
	return nil
}

// Dataset returns the dataset with this id, or nil.
func (s *State) Dataset(id string) *Dataset {
	i, found := slices.BinarySearchFunc(s.Datasets, id, func(d Dataset, id string) int { return strings.Compare(d.Dataset, id) })
	if !found {
		return nil
	}
	return &s.Datasets[i]
}

// Family is one metric family and how it is described.
type Family struct {
	*bucket.Family
	// Current: the newest version of some dataset has it. Others are shown as
	// long as buckets of theirs are.
	Current bool
}

// Families returns every family of every dataset, ascending by name. If
// several definitions have it, the newest version of the last dataset that has
// it describes it, current ones before past ones, so that every reader of one
// history says the same about it.
func (s *State) Families() []Family {
	byName := map[string]Family{}
	for i := range s.Datasets {
		for _, version := range s.Datasets[i].Versions {
			current := version.Version == s.Datasets[i].Definition.Version
			for j := range version.Families {
				fam := &version.Families[j]
				if !byName[fam.Name].Current || current {
					byName[fam.Name] = Family{fam, current}
				}
			}
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b Family) int { return strings.Compare(a.Name, b.Name) })
}

// Ends returns the ends of the oldest and the newest window held; zero if none is.
func (d *Dataset) Ends() (oldest, newest bucket.Time) {
	if len(d.slots) == 0 {
		return 0, 0
	}
	return d.slots[0].window.End, d.slots[len(d.slots)-1].window.End
}
