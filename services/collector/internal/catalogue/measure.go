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
	labels    []source // in the family's order
	when      []condition
}

type source struct {
	field string
	class bool
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
	out := measure{family: at, additive: d.Families[at].Additive, path: strings.Split(m.Field, ".")}
	if m.Map != "" {
		out.arr = strings.Split(m.Map, ".")
	}
	for _, label := range d.Families[at].Labels {
		field, class := labelSource(m.Labels[label])
		if field == "" {
			return measure{}, fmt.Errorf("measure of %s says nothing about label %q", m.Family, label)
		}
		out.labels = append(out.labels, source{field, class})
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
	for _, l := range m.labels {
		text, err := labelText(object[l.field])
		if err != nil {
			return fmt.Errorf("field %s %w", l.field, err)
		}
		t.labels = append(t.labels, labelValue(text, l.class))
	}
	labels := t.labels[at:len(t.labels):len(t.labels)]
	key := joinKey(labels)
	i, have := t.index[key]
	if have {
		t.labels = t.labels[:at]
	} else {
		// Cloudflare omits zeros in groups, but not always in maps. Rows of zero are
		// dropped, so that readings with and without them are equal.
		if mapped && n == (amount{}) {
			t.labels = t.labels[:at]
			return nil
		}
		if t.index == nil {
			t.index = make(map[string]int)
		}
		t.index[key] = len(t.rows)
		t.rows = append(t.rows, row{labels, n})
		return nil
	}
	if !m.additive {
		return fmt.Errorf("two groups of one window feed the row %v, whose values cannot be added", bucket.Clip(strings.Join(t.rows[i].labels, ", ")))
	}
	return t.rows[i].sum.add(n)
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
