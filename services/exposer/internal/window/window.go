package window

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/replay"
)

// Info holds the properties of the store.
type Info struct {
	StoreID   string
	Stamp     expo.Stamp
	Simulated bool          // describes no real zone
	Retention time.Duration // 0: not said
}

// ErrDeeper says that a new definition repeats more windows than were kept:
// those that are missing can only come from a new snapshot.
var ErrDeeper = errors.New("the replay depth grew beyond what is held: a new snapshot is needed")

// Recent holds the recent buckets of one history. Not for concurrent use.
type Recent struct {
	info     Info
	maxAge   time.Duration
	datasets map[string]*dataset
	samples  int
}

type dataset struct {
	versions map[uint32]*bucket.Definition
	newest   *bucket.Definition
	slots    []*slot // ascending start
}

// New returns an empty Recent for buckets whose samples are younger than maxAge.
func New(info Info, maxAge time.Duration) *Recent {
	return &Recent{info: info, maxAge: maxAge, datasets: map[string]*dataset{}}
}

// Info returns the properties of the store.
func (r *Recent) Info() Info { return r.info }

// Retain takes note of how long the store keeps buckets. What is held does not
// depend on it.
func (r *Recent) Retain(retention time.Duration) { r.info.Retention = retention }

// Samples is the number of samples held.
func (r *Recent) Samples() int { return r.samples }

// Define takes a version of a dataset's definition; it must come before the
// buckets that were collected under it. The error is [ErrDeeper] or says that
// the version was defined before, differently.
func (r *Recent) Define(d *bucket.Definition) error {
	ds := r.datasets[d.Dataset]
	if ds == nil {
		ds = &dataset{versions: map[uint32]*bucket.Definition{}}
		r.datasets[d.Dataset] = ds
	}
	if had := ds.versions[d.Version]; had != nil {
		if had.Same(d) {
			return nil
		}
		return fmt.Errorf("define dataset %s: version %d came twice with different contents", d.Dataset, d.Version)
	}
	ds.versions[d.Version] = d
	was := ds.newest
	if was != nil && was.Version > d.Version {
		return nil
	}
	ds.newest = d
	// A full dataset may have dropped windows that the new depth wants.
	if was != nil && depth(d) > depth(was) && len(ds.slots) >= depth(was) {
		return fmt.Errorf("define dataset %s version %d with depth %d: %w", d.Dataset, d.Version, d.Depth, ErrDeeper)
	}
	r.shrink(ds)
	return nil
}

// Definition returns a version of a dataset's definition, or nil.
func (r *Recent) Definition(dataset string, version uint32) *bucket.Definition {
	if ds := r.datasets[dataset]; ds != nil {
		return ds.versions[version]
	}
	return nil
}

// Add takes a final bucket and renders it. It reports whether the bucket is
// held; one that is too old for any replay at now is not, and is no error. A
// bucket that comes again with the same rows changes nothing, with other rows
// it is refused: what was served stays as it was served (G1).
func (r *Recent) Add(b *bucket.Bucket, now time.Time) (held bool, err error) {
	ds := r.datasets[b.Dataset]
	if ds == nil || ds.versions[b.Version] == nil {
		return false, fmt.Errorf("hold bucket %s: version %d of the dataset has not been defined", b.Key, b.Version)
	}
	if r.expired(b.Window(), now) {
		return false, nil
	}
	i, found := slices.BinarySearchFunc(ds.slots, b.Start, func(s *slot, t bucket.Time) int { return int(s.window.Start - t) })
	if !found && i == 0 && len(ds.slots) >= depth(ds.newest) {
		return false, nil // older than everything, and there is no room
	}
	if found && ds.slots[i].window != b.Window() || !found && overlaps(ds.slots, i, b.Window()) {
		return false, fmt.Errorf("hold bucket %s: its window %s overlaps others of the dataset", b.Key, b.Window())
	}
	segments, err := expo.Render(b, ds.versions[b.Version], r.info.Stamp)
	if err != nil {
		return false, err
	}
	if !found {
		ds.slots = slices.Insert(ds.slots, i, &slot{window: b.Window()})
	} else if ds.slots[i].shared {
		ds.slots[i] = ds.slots[i].clone()
	}
	added, err := ds.slots[i].add(b.Key, segments)
	if err != nil {
		return false, err
	}
	r.samples += added
	r.shrink(ds)
	return true, nil
}

func overlaps(slots []*slot, i int, w bucket.Window) bool {
	return i > 0 && slots[i-1].window.End > w.Start || i < len(slots) && slots[i].window.Start < w.End
}

// Expire drops what has passed the age bound at now.
func (r *Recent) Expire(now time.Time) {
	for _, ds := range r.datasets {
		n := sort.Search(len(ds.slots), func(i int) bool { return !r.expired(ds.slots[i].window, now) })
		r.drop(ds, n)
	}
}

func (r *Recent) expired(w bucket.Window, now time.Time) bool {
	return r.info.Stamp.Of(w) <= expo.MillisOf(now.Add(-r.maxAge))
}

func (r *Recent) shrink(ds *dataset) { r.drop(ds, len(ds.slots)-depth(ds.newest)) }

// drop removes the n oldest slots.
func (r *Recent) drop(ds *dataset, n int) {
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

func depth(d *bucket.Definition) int { return min(max(d.Depth, 1), replay.MaxDepth) }
