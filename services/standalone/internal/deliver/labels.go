package deliver

import (
	"cmp"
	"slices"

	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// LabelsOf returns all labels of the n-th sample of a set, in order of name, with further
// ones. A label of the sample's own replaces one of the same name. An empty label is none.
func LabelsOf(set *sample.Set, n int, more []export.Label) []export.Label {
	out := make([]export.Label, 0, 3+len(more)+len(set.Family.Labels))
	out = append(out, export.Label{Name: "__name__", Value: set.Name})
	for name, value := range set.Common() {
		out = append(out, export.Label{Name: name, Value: value})
	}
	for j, value := range set.Own(n) {
		if value != "" {
			out = append(out, export.Label{Name: set.Family.Labels[j], Value: value})
		}
	}
	for _, l := range more {
		if !slices.ContainsFunc(out, func(own export.Label) bool { return own.Name == l.Name }) {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, CompareLabels)
	return out
}

// CompareLabels orders labels by name.
func CompareLabels(a, b export.Label) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
}
