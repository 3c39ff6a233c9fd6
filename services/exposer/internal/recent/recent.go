package recent

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// ErrDeeper means that a new definition shows more of the newest windows than are held:
// the missing ones can only come from a new snapshot.
var ErrDeeper = errors.New("more of the newest windows are shown than are held: a new snapshot is needed")

// Buckets holds the recent buckets of one history. Not for concurrent use.
type Buckets struct {
	store    sample.Store
	maxAge   time.Duration
	datasets []*Held  // ascending id
	families []Family // of the datasets; nil: to be computed
	samples  int
	// owners are those of what was added, each once: every bucket refers to one.
	owners map[selection.Owner]*selection.Owner
	render expo.Renderer
}

// New returns an empty Buckets for a store; it holds samples younger than maxAge.
func New(store sample.Store, maxAge time.Duration) *Buckets {
	return &Buckets{store: store, maxAge: maxAge, owners: map[selection.Owner]*selection.Owner{}}
}

// Retain sets the store's retention, and reports whether it changed. The held
// buckets do not depend on it.
func (r *Buckets) Retain(retention time.Duration) bool {
	changed := r.store.Retention != retention
	r.store.Retention = retention
	return changed
}

// Samples is the number of samples held.
func (r *Buckets) Samples() int { return r.samples }

// Define adds a version of a dataset's definition; it must come before the buckets
// that were collected under it. Adding a known version again has no effect.
// The only error is [ErrDeeper].
func (r *Buckets) Define(d *bucket.Definition) error {
	i, found := r.find(d.Dataset)
	if !found {
		r.datasets = slices.Insert(r.datasets, i, &Held{Definition: d})
	}
	ds := r.datasets[i]
	if ds.Version(d.Version) != nil {
		return nil
	}
	r.families = nil
	at, _ := slices.BinarySearchFunc(ds.Versions, d.Version, func(v *bucket.Definition, version uint32) int { return int(v.Version) - int(version) })
	ds.Versions = slices.Insert(slices.Clone(ds.Versions), at, d) // states share the old slice
	was := ds.Definition
	if was.Version > d.Version {
		return nil
	}
	old := r.schedule(ds)
	ds.Definition = d
	s := r.schedule(ds)
	if s != old {
		ds.pages = nil // of another grid
	}
	// Windows may have been dropped that are now among the newest.
	if width(s, d) > width(old, was) && len(ds.slots) > 0 {
		return fmt.Errorf("define dataset %s version %d with depth %d: %w", d.Dataset, d.Version, d.Depth, ErrDeeper)
	}
	r.shrink(ds)
	return nil
}

// width is the length of the newest windows together.
func width(s carousel.Schedule, d *bucket.Definition) time.Duration {
	return time.Duration(s.Newest) * d.Size
}

// Add renders a final bucket, which was collected under d, and holds it. It reports
// whether the bucket is held; one that is too old for any replay at now, or neither
// among the newest nor of a page that is held, is not, and that is no error. Adding a
// bucket again with the same rows has no effect; with other rows it is an error, and
// the first stays (G1).
func (r *Buckets) Add(b *bucket.Bucket, d *bucket.Definition, now time.Time) (held bool, err error) {
	at, found := r.find(b.Dataset)
	if !found {
		return false, fmt.Errorf("hold bucket %s: received no definition of the dataset", b.Key)
	}
	ds := r.datasets[at]
	if r.expired(b.Window(), now) || !r.keeps(ds, b.Start) {
		return false, nil
	}
	i, found := slices.BinarySearchFunc(ds.slots, b.Start, func(s *slot, t bucket.Time) int { return int(s.window.Start - t) })
	if found && ds.slots[i].window != b.Window() || !found && overlaps(ds.slots, i, b.Window()) {
		return false, fmt.Errorf("hold bucket %s: its window %s overlaps another window of the dataset", b.Key, b.Window())
	}
	segments, err := r.render.Render(b, d, r.store.Stamp)
	if err != nil {
		return false, err
	}
	if !found {
		ds.settle() // a snapshot and a page come window by window: those before are complete
		ds.slots = slices.Insert(ds.slots, i, &slot{window: b.Window()})
	} else {
		ds.slots[i] = ds.slots[i].open()
	}
	added, err := ds.slots[i].add(b.Key, r.owner(b), segments)
	if err != nil {
		return false, err
	}
	r.samples += added
	if !found && i == len(ds.slots)-1 {
		r.shrink(ds)
	}
	return true, nil
}

// owner is the owner of a bucket. It is never forgotten: there are as many as there have been
// zones, accounts and names of them.
func (r *Buckets) owner(b *bucket.Bucket) *selection.Owner {
	of := selection.Owner{Scope: b.Scope, Zone: b.Zone, Account: b.Account}
	if r.owners[of] == nil {
		r.owners[of] = &of
	}
	return r.owners[of]
}

func (r *Buckets) find(dataset string) (i int, found bool) {
	return slices.BinarySearchFunc(r.datasets, dataset, func(d *Held, id string) int { return strings.Compare(d.Dataset, id) })
}

func overlaps(slots []*slot, i int, w bucket.Window) bool {
	return i > 0 && slots[i-1].window.End > w.Start || i < len(slots) && slots[i].window.Start < w.End
}

// Expire drops the windows that have passed the maximum age at now.
func (r *Buckets) Expire(now time.Time) {
	for _, ds := range r.datasets {
		r.drop(ds, func(w bucket.Window) bool { return r.expired(w, now) })
	}
}

func (r *Buckets) expired(w bucket.Window, now time.Time) bool {
	return r.store.Stamp.Of(w) <= sample.MillisOf(now.Add(-r.maxAge))
}

// keeps reports whether the window that starts at a time belongs to what is held: to the
// newest windows, or to a page in turn.
func (r *Buckets) keeps(ds *Held, start bucket.Time) bool {
	s := r.schedule(ds)
	if start > ds.before(s) {
		return true
	}
	_, wanted := ds.pages[s.PageOf(start)]
	return wanted
}

// before is the time after which the newest windows start.
func (d *Held) before(s carousel.Schedule) bucket.Time {
	if len(d.slots) == 0 {
		return math.MinInt64
	}
	return d.slots[len(d.slots)-1].window.Start.Add(-width(s, d.Definition))
}

func (r *Buckets) shrink(ds *Held) {
	s := r.schedule(ds)
	before := ds.before(s)
	r.drop(ds, func(w bucket.Window) bool {
		_, wanted := ds.pages[s.PageOf(w.Start)]
		return w.Start <= before && !wanted
	})
}

func (r *Buckets) drop(ds *Held, dropped func(bucket.Window) bool) {
	ds.slots = slices.DeleteFunc(ds.slots, func(s *slot) bool {
		if !dropped(s.window) {
			return false
		}
		for _, samples := range s.samples {
			r.samples -= samples
		}
		return true
	})
}

func (r *Buckets) schedule(ds *Held) carousel.Schedule { return schedule(ds.Definition, r.maxAge) }

func schedule(d *bucket.Definition, maxAge time.Duration) carousel.Schedule {
	return carousel.New(d.Size, maxAge, depth(d))
}

// State returns an immutable snapshot of the held buckets, as of a point of the
// log.
func (r *Buckets) State(at bucket.Position) *State {
	if r.families == nil {
		r.families = families(r.datasets)
	}
	s := &State{Store: r.store, Position: at, Samples: r.samples, Datasets: make([]Held, len(r.datasets)), maxAge: r.maxAge, families: r.families}
	for i, ds := range r.datasets {
		ds.settle()
		s.Datasets[i] = Held{Definition: ds.Definition, Versions: ds.Versions, Late: ds.Late, slots: slices.Clone(ds.slots), pages: maps.Clone(ds.pages)}
	}
	return s
}

// settle moves what has arrived into the columns of its windows.
func (d *Held) settle() {
	for i, s := range d.slots {
		d.slots[i] = s.settled()
	}
}

func depth(d *bucket.Definition) int { return min(max(d.Depth, 1), MaxDepth) }
