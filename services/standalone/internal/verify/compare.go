package verify

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// Kind is a kind of difference.
type Kind string

// The kinds of difference.
const (
	Missing   Kind = "missing"   // only the store has the sample
	Extra     Kind = "extra"     // only Prometheus has it
	Different Kind = "different" // the values differ
	Parallel  Kind = "parallel"  // two series of Prometheus have it
	Repeated  Kind = "repeated"  // one series of Prometheus has it more than once
)

// Kinds are all kinds, in the order of reports.
var Kinds = []Kind{Missing, Extra, Different, Parallel, Repeated}

// wanted is a sample of the store.
type wanted struct {
	at     sample.Millis
	value  float64
	origin *origin
}

// origin is the bucket that a sample is of.
type origin struct {
	Dataset string
	Scope   bucket.Scope
	Window  bucket.Window
	pending bool      // Prometheus need not have it yet
	due     time.Time // when it must
	shown   bool      // a scrape can have shown it
	aside   bool      // of a dataset of the group that was not asked for
}

// held is a sample of Prometheus; series tells apart series with one key.
type held struct {
	promapi.Sample
	series int32
}

// column is one series of the store, and all of Prometheus's that mean the same.
type column struct {
	family string
	labels []label // its own and the scope's, as the store has them
	want   []wanted
	got    []held
	names  []string // of Prometheus's series
}

type label struct{ name, value string }

// table is a chunk's columns by key.
type table struct {
	ignore  map[string]bool // labels that are not compared
	columns map[string]*column
	room    []byte
}

func newTable(ignore []string) *table {
	t := &table{ignore: map[string]bool{}, columns: map[string]*column{}}
	for _, name := range ignore {
		t.ignore[name] = true
	}
	return t
}

// key appends a label to a key. A label without a value is none.
func (t *table) key(dst []byte, name, value string) []byte {
	if value == "" || t.ignore[name] {
		return dst
	}
	dst = append(dst, name...)
	dst = append(dst, 0)
	dst = append(dst, value...)
	return append(dst, 0xff)
}

// add adds the samples of a bucket.
func (t *table) add(o *origin, sets []sample.Set) {
	for i := range sets {
		set := &sets[i]
		own := set.Family.Labels
		order := ordered(own)
		t.room = append(append(t.room[:0], set.Name...), 0xff)
		t.room = t.key(t.room, "account", set.Account)
		t.room = t.key(t.room, "zone", set.Zone)
		scope := len(t.room)
		for n := range set.Len() {
			values := set.Own(n)
			t.room = t.room[:scope]
			for _, j := range order {
				t.room = t.key(t.room, own[j], values[j])
			}
			c := t.columns[string(t.room)]
			if c == nil {
				c = &column{family: set.Name}
				for name, value := range set.Common() {
					c.labels = append(c.labels, label{name, value})
				}
				for j, name := range own {
					c.labels = append(c.labels, label{name, values[j]})
				}
				t.columns[string(t.room)] = c
			}
			c.want = append(c.want, wanted{set.At, set.Value(n), o})
		}
	}
}

// ordered is the order of label names in keys.
func ordered(names []string) []int {
	order := make([]int, len(names))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return strings.Compare(names[a], names[b]) })
	return order
}

// UnexpectedLabelError means that a series of Prometheus has a label that is neither the
// store's nor ignored, so that it cannot be said which series of the store it is.
type UnexpectedLabelError struct{ Series, Label string }

func (e *UnexpectedLabelError) Error() string {
	return fmt.Sprintf("series %s has the label %s, which the store does not have: if a scrape job or a relabelling adds it, name it with --ignore-label; "+
		"if the series is of another job, select with --match", e.Series, e.Label)
}

// take adds a series of Prometheus. Own are the labels of its family.
func (t *table) take(s *promapi.Series, own []string) error {
	names := make([]string, 0, len(s.Labels))
	for name := range s.Labels {
		if name != "__name__" && name != "zone" && name != "account" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	family := s.Labels["__name__"]
	t.room = append(append(t.room[:0], family...), 0xff)
	t.room = t.key(t.room, "account", s.Labels["account"])
	t.room = t.key(t.room, "zone", s.Labels["zone"])
	for _, name := range names {
		if !slices.Contains(own, name) && !t.ignore[name] {
			return &UnexpectedLabelError{promapi.Name(s.Labels), name}
		}
		t.room = t.key(t.room, name, s.Labels[name])
	}
	c := t.columns[string(t.room)]
	if c == nil {
		c = &column{family: family}
		for _, name := range append([]string{"zone", "account"}, own...) {
			if v := s.Labels[name]; v != "" || slices.Contains(own, name) {
				c.labels = append(c.labels, label{name, v})
			}
		}
		t.columns[string(t.room)] = c
	}
	n := int32(len(c.names))
	c.names = append(c.names, promapi.Name(s.Labels))
	c.got = slices.Grow(c.got, len(s.Samples))
	for _, x := range s.Samples {
		c.got = append(c.got, held{x, n})
	}
	return nil
}

// difference is what is found at one time of one column.
type difference struct {
	kind   Kind
	at     sample.Millis
	origin *origin // nil: the store has none
	store  float64
	held   float64
	series string // Prometheus's
}

// tally counts what was compared.
type tally struct {
	Store, Prometheus, Equal, Pending int64
	Until                             time.Time // when the last pending sample is due
}

// equality reports whether two values are the same.
type equality func(a, b float64) bool

// exact compares all bits.
func exact(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }

// precision is that with which VictoriaMetrics stores a value that has a fraction.
const precision = 1e-12

// rounded compares what VictoriaMetrics keeps of values.
func rounded(a, b float64) bool {
	return exact(a, b) || math.Abs(a-b) <= precision*max(math.Abs(a), math.Abs(b))
}

// right brings the sample with the store's value, if there is one, to the front of those
// that have the time of the j-th: of two series it is the other one that is beside it.
func (c *column) right(j int, value float64, same equality) {
	for k := j; k < len(c.got) && c.got[k].At == c.got[j].At; k++ {
		if same(c.got[k].Value, value) {
			c.got[j], c.got[k] = c.got[k], c.got[j]
			return
		}
	}
}

// compare passes what differs, ascending in time. Times outside the borders are not
// compared: they are there because a window may begin before the first.
func (c *column) compare(first, end sample.Millis, same equality, count *tally, found func(difference)) {
	byTime := func(a, b wanted) int { return cmp.Compare(a.at, b.at) }
	if !slices.IsSortedFunc(c.want, byTime) {
		slices.SortStableFunc(c.want, byTime)
	}
	order := func(a, b held) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.series, b.series)) }
	if !slices.IsSortedFunc(c.got, order) {
		slices.SortStableFunc(c.got, order)
	}
	c.want = slices.CompactFunc(c.want, func(a, b wanted) bool { return a.at == b.at }) // where a label is ignored that told them apart
	i, j := 0, 0
	for i < len(c.want) || j < len(c.got) {
		switch {
		case j == len(c.got) || i < len(c.want) && c.want[i].at < c.got[j].At:
			w := &c.want[i]
			i++
			if w.at < first || w.at >= end || w.origin.aside {
				continue
			}
			count.Store++
			if w.origin.pending {
				count.Pending++
				if w.origin.due.After(count.Until) {
					count.Until = w.origin.due
				}
				continue
			}
			found(difference{kind: Missing, at: w.at, origin: w.origin, store: w.value})
		default:
			g, d := &c.got[j], difference{kind: Extra}
			var w *wanted
			if i < len(c.want) && c.want[i].at == g.At {
				w = &c.want[i]
				i++
			}
			inside := g.At >= first && g.At < end && (w == nil || !w.origin.aside)
			if w != nil {
				c.right(j, w.value, same)
			}
			for k := j; j < len(c.got) && c.got[j].At == g.At; j++ {
				if !inside {
					continue
				}
				x := &c.got[j]
				count.Prometheus++
				d = difference{kind: Extra, at: x.At, held: x.Value, series: c.names[x.series]}
				if w != nil {
					d.origin, d.store = w.origin, w.value
				}
				switch {
				case j > k && x.series == c.got[k].series:
					d.kind = Repeated
				case j > k:
					d.kind = Parallel
				case w == nil:
				case same(w.value, x.Value):
					count.Equal++
					continue
				default:
					d.kind = Different
				}
				found(d)
			}
			if w != nil && inside {
				count.Store++
			}
		}
	}
}
