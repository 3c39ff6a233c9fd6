package recent

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
)

// ErrDeeper means that a new definition repeats more windows than are held: the
// missing ones can only come from a new snapshot.
var ErrDeeper = errors.New("the replay depth exceeds the windows held: a new snapshot is needed")

// Buckets holds the recent buckets of one history. Not for concurrent use.
type Buckets struct {
	store    sample.Store
	maxAge   time.Duration
	datasets []*Held  // ascending id
	families []Family // of the datasets; nil: to be computed
	samples  int
}

// New returns an empty Buckets for a store; it holds samples younger than maxAge.
func New(store sample.Store, maxAge time.Duration) *Buckets {
	return &Buckets{store: store, maxAge: maxAge}
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
	ds.Definition = d
	// A full dataset may have dropped windows that the new depth needs.
	if depth(d) > depth(was) && len(ds.slots) >= depth(was) {
		return fmt.Errorf("define dataset %s version %d with depth %d: %w", d.Dataset, d.Version, d.Depth, ErrDeeper)
	}
	r.shrink(ds)
	return nil
}

// Add renders a final bucket, which was collected under d, and holds it. It reports
// whether the bucket is held; one that is too old for any replay at now is not, and
// that is no error. Adding a bucket again with the same rows has no effect; with
// other rows it is an error, and the first stays (G1).
func (r *Buckets) Add(b *bucket.Bucket, d *bucket.Definition, now time.Time) (held bool, err error) {
	at, found := r.find(b.Dataset)
	if !found {
		return false, fmt.Errorf("hold bucket %s: received no definition of the dataset", b.Key)
	}
	ds := r.datasets[at]
	if r.expired(b.Window(), now) {
		return false, nil
	}
	i, found := slices.BinarySearchFunc(ds.slots, b.Start, func(s *slot, t bucket.Time) int { return int(s.window.Start - t) })
	if !found && i == 0 && len(ds.slots) >= depth(ds.Definition) {
		return false, nil // older than every window held, and the depth is full
	}
	if found && ds.slots[i].window != b.Window() || !found && overlaps(ds.slots, i, b.Window()) {
		return false, fmt.Errorf("hold bucket %s: its window %s overlaps another window of the dataset", b.Key, b.Window())
	}
	segments, err := expo.Render(b, d, r.store.Stamp)
	if err != nil {
		return false, err
	}
	if !found {
		ds.slots = slices.Insert(ds.slots, i, &slot{window: b.Window()})
	} else {
		ds.slots[i] = ds.slots[i].open()
	}
	added, err := ds.slots[i].add(b.Key, segments)
	if err != nil {
		return false, err
	}
	r.samples += added
	r.shrink(ds)
	return true, nil
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
		n := sort.Search(len(ds.slots), func(i int) bool { return !r.expired(ds.slots[i].window, now) })
		r.drop(ds, n)
	}
}

func (r *Buckets) expired(w bucket.Window, now time.Time) bool {
	return r.store.Stamp.Of(w) <= sample.MillisOf(now.Add(-r.maxAge))
}

func (r *Buckets) shrink(ds *Held) { r.drop(ds, len(ds.slots)-depth(ds.Definition)) }

// drop removes the n oldest slots.
func (r *Buckets) drop(ds *Held, n int) {
	if n <= 0 {
		return
	}
	for _, s := range ds.slots[:n] {
		for _, samples := range s.samples {
			r.samples -= samples
		}
	}
	ds.slots = slices.Delete(ds.slots, 0, n)
}

// State returns an immutable snapshot of the held buckets, as of a point of the
// log.
func (r *Buckets) State(at bucket.Position) *State {
	if r.families == nil {
		r.families = families(r.datasets)
	}
	s := &State{Store: r.store, Position: at, Samples: r.samples, Datasets: make([]Held, len(r.datasets)), families: r.families}
	for i, ds := range r.datasets {
		for j, slot := range ds.slots {
			ds.slots[j] = slot.settled()
		}
		s.Datasets[i] = Held{Definition: ds.Definition, Versions: ds.Versions, slots: slices.Clone(ds.slots)}
	}
	return s
}

func depth(d *bucket.Definition) int { return min(max(d.Depth, 1), MaxDepth) }
