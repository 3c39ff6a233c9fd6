package coverage

import (
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// withEarlier returns datasets whose Others also have the stored datasets that are not
// collected any more and have fed one of the same families: those under a name that a
// catalogue file had before. Definitions that cannot be read are passed over; the leader
// reports them.
func withEarlier(entries []store.Entry, datasets []catalogue.Dataset) []catalogue.Dataset {
	current := map[string]bool{}
	feeds := map[string]int{} // by family, the dataset that feeds it now
	for i := range datasets {
		current[datasets[i].Dataset] = true
		for _, f := range datasets[i].Families {
			feeds[f.Name] = i
		}
	}
	delete(feeds, catalogue.SampleInterval) // of all datasets, told apart by a label
	out := slices.Clone(datasets)
	for i := range entries {
		if current[entries[i].Key.Dataset] {
			continue
		}
		old, err := unreadable.Definition(&entries[i])
		if err != nil {
			continue
		}
		for _, f := range old.Families {
			if now, fed := feeds[f.Name]; fed {
				out[now].Others = another(out[now].Others, old)
			}
		}
	}
	return out
}

// another returns the ids with that of a dataset, and leaves the list as it is.
func another(ids []string, d *bucket.Definition) []string {
	if slices.Contains(ids, d.Dataset) {
		return ids
	}
	return append(slices.Clip(ids), d.Dataset)
}
