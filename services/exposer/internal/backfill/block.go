package backfill

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// Kind says how buckets become samples.
type Kind uint8

// The kinds.
const (
	// Plain is one sample per bucket, as a scrape shows it.
	Plain Kind = iota
	// Stepped repeats a bucket's value at every multiple of the step inside its
	// window, for display.
	Stepped
	// Summed adds up the buckets of each whole step: one sample per step, with the
	// timestamp that a bucket of that length would have.
	Summed
)

// Suffix distinguishes the families of a kind from those on /metrics. Under the
// same name, every sum over time would be wrong.
func (k Kind) Suffix() string { return [...]string{"", "_stepped", "_summed"}[k] }

// Block is one family of the output: one family of some datasets as one kind.
type Block struct {
	recent.Family
	Kind     Kind
	Datasets []string // ids, ascending; at least one
}

// Title is the family's name in the output.
func (b *Block) Title() string { return b.Name + b.Kind.Suffix() }

// LeftOut is a family whose buckets of one dataset cannot be summed to the step.
type LeftOut struct {
	Family, Dataset string
	Why             string
	additive        bool // another step would do
	role            bucket.Role
}

// compare orders what an error names first: families that another step would
// include before others, and totals before breakdowns.
func (l *LeftOut) compare(o *LeftOut) int {
	if l.additive != o.additive {
		if l.additive {
			return -1
		}
		return 1
	}
	return cmp.Compare(l.role, o.role)
}

func (l *LeftOut) String() string { return fmt.Sprintf("%s of %s: %s", l.Family, l.Dataset, l.Why) }

// suggestion is a step that would include the family.
func (l *LeftOut) suggestion(state *recent.State, step time.Duration) string {
	size := state.Dataset(l.Dataset).Size / time.Second
	or := ""
	if l.additive {
		or = fmt.Sprintf("a multiple of %d that divides a day, or ", size)
	}
	return fmt.Sprintf("%sat most %d, the bucket size of %s, because %s is not available with a step of %d: %s",
		or, size, l.Dataset, l.Family, step/time.Second, l.Why)
}

// written returns the datasets in the output, ascending.
func (r *Request) written() (ids []string) {
	for _, b := range r.Blocks {
		ids = append(ids, b.Datasets...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// step is the distance between the repeated samples of a bucket of this size.
func (r *Request) step(size time.Duration) time.Duration {
	if r.Step == 0 {
		return size
	}
	return min(r.Step, size)
}

func (r *Request) kind(size time.Duration) Kind {
	switch {
	case r.Sum && r.Step > size:
		return Summed
	case r.Extend || r.step(size) != size:
		return Stepped
	}
	return Plain
}

// divide sets the blocks of the families, and the families left out.
func (r *Request) divide(state *recent.State, families []recent.Family) {
	for _, fam := range families {
		blocks := map[Kind][]string{}
		var whole []string // datasets whose bucket size equals the step
		for _, id := range feeders(state, r.Datasets, fam.Name) {
			size := state.Dataset(id).Size
			kind := r.kind(size)
			if kind == Summed {
				if why := r.indivisible(fam, size); why != "" {
					r.LeftOut = append(r.LeftOut, LeftOut{fam.Name, id, why, fam.Additive, fam.Role})
					continue
				}
			} else if size == r.Step {
				whole = append(whole, id)
			}
			blocks[kind] = append(blocks[kind], id)
		}
		// After a change of bucket size, buckets as long as the step join those that
		// are summed or repeated to it: one series on both sides of the change.
		// Datasets with a dataset label have no series in common.
		apart := slices.Contains(fam.Labels, "dataset")
		for _, kind := range []Kind{Summed, Stepped} {
			if len(whole) > 0 && len(blocks[kind]) > 0 && !apart {
				for _, other := range []Kind{Plain, Stepped, Summed} {
					blocks[other] = slices.DeleteFunc(blocks[other], func(id string) bool { return slices.Contains(whole, id) })
				}
				blocks[kind] = append(blocks[kind], whole...)
				slices.Sort(blocks[kind])
				break
			}
		}
		for _, kind := range []Kind{Plain, Stepped, Summed} {
			if len(blocks[kind]) > 0 {
				r.Blocks = append(r.Blocks, Block{fam, kind, blocks[kind]})
			}
		}
	}
}

// indivisible says why the family's buckets of a size cannot be summed to the step;
// empty: they can.
func (r *Request) indivisible(fam recent.Family, size time.Duration) string {
	switch {
	case !fam.Additive:
		return "its values cannot be added up (unique counts, quantiles, averages)"
	case r.Step%size != 0:
		return fmt.Sprintf("%d seconds are no multiple of its buckets' %d", r.Step/time.Second, size/time.Second)
	case day%r.Step != 0:
		return fmt.Sprintf("a day is no multiple of %d seconds, and steps begin at midnight UTC", r.Step/time.Second)
	}
	return ""
}
