package catalogue

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
)

// measure is a [Measure] with parsed paths.
type measure struct {
	family    int
	additive  bool
	path, arr []string
	labels    []source // in the family's order, without quantile
	when      []condition
	scale     scale     // of finished values
	interval  *interval // of its confidence; nil: none

	// Of a statistic.
	statistic bool
	values    [][]string // paths: one, or one for each of quantiles
	quantiles []Quantile
	weight    []string // path; nil: not weighted
	join      string   // "max", "min", or empty
}

type source struct {
	field    string
	function string
	values   []Value // of this label
}

type condition struct {
	dimension string
	not       bool
	values    []string
}

// table has the rows of one family in one window while they are added up.
type table struct {
	index  map[string]int // key of the labels to row
	rows   []row
	labels []string // of all rows; each row has its part
}

type row struct {
	labels []string
	sum    amount
	joined []weighted // of a statistic; see [measure.joinRow]
}

// find returns the row with these labels.
func (t *table) find(labels []string) (i int, have bool) {
	if len(labels) == 0 {
		return 0, len(t.rows) > 0
	}
	i, have = t.index[joinKey(labels)]
	return i, have
}

// put adds a row whose labels no other has.
func (t *table) put(r row) {
	if t.index == nil {
		t.index = make(map[string]int)
	}
	t.index[joinKey(r.labels)] = len(t.rows)
	t.rows = append(t.rows, r)
}

// grow allocates space for n rows with so many labels, if there is none yet.
func (t *table) grow(n, labels int) {
	if t.rows == nil && n > 0 {
		t.index = make(map[string]int, n)
		t.rows = make([]row, 0, n)
		t.labels = make([]string, 0, n*labels)
	}
}

func newMeasure(d *Dataset, m *Measure) (measure, error) {
	at := d.family(m.Family)
	if at < 0 {
		return measure{}, fmt.Errorf("measure feeds %q, which is not a family of the dataset", m.Family)
	}
	out := measure{family: at, additive: d.Families[at].Additive, path: strings.Split(m.Field, "."), scale: scales[m.Scale]}
	if m.kind() == statisticField {
		out.statistic, out.quantiles, out.join = true, m.Quantiles, m.Join
		for _, path := range m.values() {
			out.values = append(out.values, strings.Split(path, "."))
		}
		if m.Weight != "" {
			out.weight = strings.Split(m.Weight, ".")
		}
	}
	if m.Map != "" {
		out.arr = strings.Split(m.Map, ".")
	}
	for _, label := range d.Families[at].Labels {
		if label == quantileLabel && len(m.Quantiles) > 0 {
			continue
		}
		field, function := labelSource(m.Labels[label])
		if field == "" {
			return measure{}, fmt.Errorf("measure of %s says nothing about label %q", m.Family, label)
		}
		s := source{field: field, function: function}
		for _, v := range d.Values {
			if v.Label == label {
				s.values = append(s.values, v)
			}
		}
		out.labels = append(out.labels, s)
	}
	for dim, values := range m.When {
		name, not := strings.CutPrefix(dim, "!")
		out.when = append(out.when, condition{name, not, values})
	}
	return out, nil
}

// holds reports whether the group meets the measure's conditions.
func (m *measure) holds(dims map[string]any) (bool, error) {
	for _, c := range m.when {
		text, err := labelText(dims[c.dimension])
		if err != nil {
			return false, fmt.Errorf("dimension %s %w", c.dimension, err)
		}
		if slices.Contains(c.values, text) == c.not {
			return false, nil
		}
	}
	return true, nil
}

// take adds the measure's value or its map's values, and returns their sum.
func (f *folder) take(m *measure, t *table, group, dims map[string]any) (amount, error) {
	if m.statistic {
		return amount{}, m.takeStatistic(t, group, dims)
	}
	if m.arr == nil {
		n, err := amountAt(group, m.path)
		if err != nil {
			return amount{}, err
		}
		return n, m.into(t, dims, n, false)
	}
	list, ok := at(group, m.arr).([]any)
	if !ok {
		return amount{}, fmt.Errorf("field %s is %s; it must be a list", strings.Join(m.arr, "."), kindOf(at(group, m.arr)))
	}
	t.grow(len(list), len(m.labels))
	clear(f.elements)
	var sum amount
	for _, element := range list {
		n, err := f.takeElement(m, t, element)
		if err == nil {
			err = sum.add(n)
		}
		if err != nil {
			return amount{}, fmt.Errorf("element of %s: %w", strings.Join(m.arr, "."), err)
		}
	}
	return sum, nil
}

// takeElement adds one object of a map.
func (f *folder) takeElement(m *measure, t *table, element any) (amount, error) {
	object, ok := element.(map[string]any)
	if !ok {
		return amount{}, fmt.Errorf("is %s; it must be an object", kindOf(element))
	}
	key, err := m.rawKey(object)
	if err != nil {
		return amount{}, err
	}
	if _, dup := f.elements[key]; dup {
		return amount{}, fmt.Errorf("two of them for %q", bucket.Clip(key))
	}
	f.elements[key] = struct{}{}
	n, err := amountAt(object, m.path)
	if err != nil {
		return amount{}, err
	}
	return n, m.into(t, object, n, true)
}

// rawKey is an element's identity before classes and "unknown" are applied.
func (m *measure) rawKey(object map[string]any) (string, error) {
	var key []byte
	for _, l := range m.labels {
		text, err := labelText(object[l.field])
		if err != nil {
			return "", fmt.Errorf("field %s %w", l.field, err)
		}
		if len(m.labels) == 1 {
			return text, nil
		}
		key = appendKey(key, text)
	}
	return string(key), nil
}

// into adds n to the row whose labels are read from object.
func (m *measure) into(t *table, object map[string]any, n amount, mapped bool) error {
	if len(m.labels) == 0 {
		return m.intoOnly(t, n)
	}
	at := len(t.labels)
	labels, err := m.rowLabels(t, object)
	if err != nil {
		return err
	}
	i, have := t.find(labels)
	if have {
		t.labels = t.labels[:at]
	} else {
		// Cloudflare omits zeros in groups, but not always in maps. Rows of zero are
		// dropped, so that readings with and without them are equal.
		if mapped && n == (amount{}) {
			t.labels = t.labels[:at]
			return nil
		}
		t.put(row{labels: labels, sum: n})
		return nil
	}
	if !m.additive {
		return fmt.Errorf("two groups of one window feed the row %v, whose values cannot be added", bucket.Clip(strings.Join(t.rows[i].labels, ", ")))
	}
	return t.rows[i].sum.add(n)
}

// rowLabels returns the labels that are read from object, in the table's space.
func (m *measure) rowLabels(t *table, object map[string]any) ([]string, error) {
	at := len(t.labels)
	for i := range m.labels {
		l := &m.labels[i]
		text, err := labelText(object[l.field])
		if err != nil {
			return nil, fmt.Errorf("field %s %w", l.field, err)
		}
		t.labels = append(t.labels, l.labelValue(text))
	}
	return t.labels[at:len(t.labels):len(t.labels)], nil
}

// intoOnly adds n to the only row of a family without labels.
func (m *measure) intoOnly(t *table, n amount) error {
	if len(t.rows) == 0 {
		t.rows = append(t.rows, row{sum: n})
		return nil
	}
	if !m.additive {
		return errors.New("two groups of one window feed a family whose values cannot be added")
	}
	return t.rows[0].sum.add(n)
}
