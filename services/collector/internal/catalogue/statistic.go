package catalogue

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
)

// What fields are, by the first name of their path.
const (
	amountField    = "an amount"
	distinctField  = "a distinct count"
	statisticField = "a statistic"
)

// kindOfField says what a field is.
func kindOfField(path string) string {
	switch first, _, _ := strings.Cut(path, "."); first {
	case "avg", "avgWeighted", "max", "min", "quantiles", "ratio", "dimensions":
		return statisticField
	case "uniq":
		return distinctField
	}
	return amountField
}

// kind says what the measure's values are. Elements of maps are amounts.
func (m *Measure) kind() string {
	if m.Map != "" {
		return kindOfField(m.Map)
	}
	return kindOfField(m.Field)
}

// joins reports whether the measure says how groups of one row are joined.
func (m *Measure) joins() bool { return m.Weight != "" || m.Join != "" }

// scale converts values to a base unit. Quotients and products of whole numbers are rounded
// once; a factor such as 0.001 is no number that a float64 has.
type scale struct {
	times, by float64
	unit      string
}

// scales are by the name in a file; the one without a name changes nothing.
var scales = map[string]scale{
	"": {1, 1, ""}, "ns": {1, 1e9, "seconds"}, "us": {1, 1e6, "seconds"}, "ms": {1, 1e3, "seconds"}, "minutes": {60, 1, "seconds"},
	"bits": {1, 8, "bytes"}, "percent": {1, 100, "ratio"},
}

func (s scale) of(v float64) float64 { return v * s.times / s.by }

// weighted is one group's value of a statistic.
type weighted struct{ value, weight float64 }

// takeStatistic adds a group to the rows of a measure that is a statistic.
func (m *measure) takeStatistic(t *table, group, dims map[string]any) error {
	one := weighted{weight: 1}
	if m.weight != nil {
		n, err := amountAt(group, m.weight)
		if err != nil {
			return err
		}
		if one.weight = n.value(); one.weight == 0 {
			return nil // a statistic of no events
		}
	}
	for i, path := range m.values {
		v, known, err := statisticAt(group, path)
		if err != nil {
			return err
		}
		if !known {
			continue
		}
		one.value = v
		quantile := ""
		if m.quantiles != nil {
			quantile = string(m.quantiles[i])
		}
		if err := m.intoStatistic(t, dims, quantile, one); err != nil {
			return err
		}
	}
	return nil
}

func (m *measure) intoStatistic(t *table, dims map[string]any, quantile string, one weighted) error {
	labels, err := m.rowLabels(t, dims)
	if err != nil {
		return err
	}
	if quantile != "" {
		labels = append(labels, quantile)
	}
	i, have := t.find(labels)
	if !have {
		t.put(row{labels: labels, joined: []weighted{one}})
		return nil
	}
	if m.weight == nil && m.join == "" {
		if len(labels) == 0 {
			return errors.New("two groups of one window feed a family whose values cannot be added")
		}
		return fmt.Errorf("two groups of one window feed the row %v, whose values cannot be added", bucket.Clip(strings.Join(labels, ", ")))
	}
	t.rows[i].joined = append(t.rows[i].joined, one)
	return nil
}

// join makes one value of a row's groups, the same in whatever order they came.
func (m *measure) joinRow(r *row) {
	values := r.joined
	slices.SortFunc(values, func(a, b weighted) int {
		return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(a.weight, b.weight))
	})
	switch last := len(values) - 1; {
	case m.join == "max":
		r.sum.part = values[last].value
	case m.join == "min" || last == 0:
		r.sum.part = values[0].value
	default:
		var sum, weight float64
		for _, v := range values {
			sum += v.value * v.weight
			weight += v.weight
		}
		// Rounding must not make an average that is outside its values.
		r.sum.part = min(max(sum/weight, values[0].value), values[last].value)
	}
}

// statisticAt reads a statistic. It is not known if Cloudflare reports it as null or
// negative, as it does for an average over no events.
func statisticAt(group map[string]any, path []string) (v float64, known bool, err error) {
	parent, ok := at(group, path[:len(path)-1]).(map[string]any)
	raw, there := parent[path[len(path)-1]]
	if !ok || !there {
		return 0, false, fmt.Errorf("field %v is missing", path)
	}
	if raw == nil {
		return 0, false, nil
	}
	n, ok := raw.(json.Number)
	if !ok {
		return 0, false, fmt.Errorf("field %v is %s; it must be a number", path, kindOf(raw))
	}
	v, err = n.Float64()
	if err != nil || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, false, fmt.Errorf("field %v is %q; it must be a finite number", path, bucket.Clip(n.String()))
	}
	return v, v >= 0, nil
}
