package catalogue

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Folded is the result of one reading for one window.
type Folded struct {
	Start bucket.Time
	// Families in the order of the definition, rows in canonical order. Families
	// without rows and families that the variant does not feed are absent. A total
	// that the variant feeds always has its row: 0 if the window had no groups, which
	// the caller must confirm.
	Families []bucket.Rows
	// Empty: the window had no groups at all.
	Empty bool
	// Level is the sum of the dataset's Level family, before limits.
	Level float64
	// SampleInterval is the number of events per sampled event over the whole
	// window: 1 is unsampled; 0: not known, or there were no events.
	SampleInterval float64
	// FoldedRows were summed into "other", or dropped, by limits.
	FoldedRows int
	// Beyond are the rows that limits summed into others or dropped, by family and by their
	// labels; only for datasets with zero fill.
	Beyond map[string]map[string]bool
	// CutLabels is the number of label values that were changed to fit; see
	// [bucket.FitLabel].
	CutLabels int
}

// Fold turns the groups of one scope that variant v returned for w, a multiple
// of the dataset's size, into one Folded per window, ascending. Groups may come
// in any order and with json.Number for numbers; they are not altered.
//
// Anything that a correct response cannot contain is an error, and nothing of the response
// is used: two groups with one key, a missing field or one of the wrong type, a negative
// number, a time that is not aligned to the step or lies outside w.
func (d *Dataset) Fold(v *Variant, w bucket.Window, groups []map[string]any) ([]Folded, error) {
	f, err := newFolder(d, v, w)
	if err != nil {
		return nil, fmt.Errorf("fold %s %s: %w", d.Dataset, v.Name, err)
	}
	for i, g := range groups {
		if err := f.add(g); err != nil {
			return nil, fmt.Errorf("fold %s %s group %d of %d: %w", d.Dataset, v.Name, i+1, len(groups), err)
		}
	}
	out := make([]Folded, len(f.windows))
	for i := range f.windows {
		start := w.Start.Add(time.Duration(i) * d.Size)
		if out[i], err = f.finish(&f.windows[i], start); err != nil {
			return nil, fmt.Errorf("fold %s %s window %s: %w", d.Dataset, v.Name, start, err)
		}
	}
	return out, nil
}

// folder folds one response: it has the parsed measures and the sums per window.
type folder struct {
	d        *Dataset
	v        *Variant
	w        bucket.Window
	measures []measure
	interval []string
	level    int                 // index of the level's family
	seen     map[string]struct{} // keys of groups
	key      []byte              // reused: key of the group at hand
	elements map[string]struct{} // reused: keys of the map at hand
	windows  []window
}

type window struct {
	groups int
	tables []table // one per family
	// Events and samples behind the sample interval.
	events, samples float64
}

func newFolder(d *Dataset, v *Variant, w bucket.Window) (*folder, error) {
	if w.Empty() || w.Start != w.Start.Floor(d.Size) || w.End != w.End.Floor(d.Size) {
		return nil, fmt.Errorf("window %s is not a positive multiple of %s", w, d.Size)
	}
	if v.Step < time.Second || d.Size%v.Step != 0 {
		return nil, fmt.Errorf("step %s does not divide the bucket size %s", v.Step, d.Size)
	}
	f := &folder{
		d: d, v: v, w: w, level: d.family(d.Level),
		seen: map[string]struct{}{}, elements: map[string]struct{}{}, windows: make([]window, w.Len()/d.Size),
	}
	if v.Interval != "" {
		f.interval = strings.Split(v.Interval, ".")
	}
	for i := range v.Measures {
		m, err := newMeasure(d, &v.Measures[i])
		if err != nil {
			return nil, err
		}
		for j := range v.Bounds {
			if b := &v.Bounds[j]; b.Family == v.Measures[i].Family {
				of, err := newInterval(d, b)
				if err != nil {
					return nil, err
				}
				m.interval = &of
			}
		}
		f.measures = append(f.measures, m)
	}
	tables := make([]table, len(f.windows)*len(d.Families))
	for i := range f.windows {
		f.windows[i].tables, tables = tables[:len(d.Families):len(d.Families)], tables[len(d.Families):]
	}
	return f, nil
}

// family returns the index of a family by name, -1 if there is none.
func (d *Dataset) family(name string) int {
	return slices.IndexFunc(d.Families, func(f bucket.Family) bool { return f.Name == name })
}

// Distinct reports whether levels are distinct counts, which cannot be added up.
func (d *Dataset) Distinct() bool {
	level := d.family(d.Level)
	return level >= 0 && !d.Families[level].Additive
}

// add adds one group to its window.
func (f *folder) add(group map[string]any) error {
	dims, ok := group["dimensions"].(map[string]any)
	if !ok {
		return fmt.Errorf("dimensions is %s; it must be an object", kindOf(group["dimensions"]))
	}
	at, err := f.timeOf(dims)
	if err != nil {
		return err
	}
	if err := f.once(at, dims); err != nil {
		return err
	}
	win := &f.windows[at.Sub(f.w.Start)/f.d.Size]
	win.groups++
	var events float64
	for i := range f.measures {
		m := &f.measures[i]
		hold, err := m.holds(dims)
		if err != nil {
			return err
		}
		if !hold {
			continue
		}
		n, err := f.take(m, &win.tables[m.family], group, dims)
		if err != nil {
			return fmt.Errorf("family %s: %w", f.d.Families[m.family].Name, err)
		}
		if m.interval != nil {
			if err := f.takeInterval(m, win, group, dims); err != nil {
				return fmt.Errorf("family %s: %w", f.d.Families[m.family].Name, err)
			}
		}
		if m.family == f.level {
			events += n.value()
		}
	}
	return f.sampled(win, group, events)
}

// timeOf reads the group's time and checks that it was requested.
func (f *folder) timeOf(dims map[string]any) (bucket.Time, error) {
	name := f.v.TimeDimension
	text, ok := dims[name].(string)
	if !ok {
		return 0, fmt.Errorf("dimension %s is %s; it must be a string", name, kindOf(dims[name]))
	}
	layout := time.RFC3339
	if len(text) == len(time.DateOnly) {
		layout = time.DateOnly
	}
	t, err := time.Parse(layout, text)
	if err != nil {
		return 0, fmt.Errorf("dimension %s is %q; it must be a date or an RFC 3339 time", name, bucket.Clip(text))
	}
	at := bucket.TimeOf(t)
	if t.Nanosecond() != 0 || at != at.Floor(f.v.Step) {
		return 0, fmt.Errorf("dimension %s is %q; it must be aligned to %s", name, text, f.v.Step)
	}
	if !f.w.Contains(at) {
		return 0, fmt.Errorf("dimension %s is %q, outside the window %s that was asked for", name, text, f.w)
	}
	return at, nil
}

// once rejects a second group with the same key, which would be counted twice.
func (f *folder) once(at bucket.Time, dims map[string]any) error {
	f.key = fmt.Appendf(f.key[:0], "%d", at)
	for _, dim := range f.v.Dimensions {
		text, err := labelText(dims[dim])
		if err != nil {
			return fmt.Errorf("dimension %s %w", dim, err)
		}
		f.key = appendKey(f.key, text)
	}
	if _, dup := f.seen[string(f.key)]; dup {
		return fmt.Errorf("two groups with the same key: %s and dimensions %v", at, f.v.Dimensions)
	}
	f.seen[string(f.key)] = struct{}{}
	return nil
}

// sampled adds the group to the window's sample interval: the events that it represents
// and the number of samples.
func (f *folder) sampled(win *window, group map[string]any, events float64) error {
	if f.interval == nil {
		return nil
	}
	n, ok := at(group, f.interval).(json.Number)
	if !ok {
		return fmt.Errorf("field %s is %s; it must be a number", f.v.Interval, kindOf(at(group, f.interval)))
	}
	interval, err := n.Float64()
	if err != nil {
		return fmt.Errorf("field %s is %q; it must be a number", f.v.Interval, bucket.Clip(n.String()))
	}
	switch {
	case events == 0:
		return nil
	case interval <= 0 && f.v.Sampled:
		// Cloudflare writes -1 for an average over no events. Here there are events,
		// so it is not known whether they are an estimate (G12).
		return fmt.Errorf("field %s is %s beside %v events of %s; it must be above 0", f.v.Interval, n, events, f.d.Level)
	case interval <= 0:
		return nil
	}
	win.events += events
	win.samples += events / interval
	return nil
}
