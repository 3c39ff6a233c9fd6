package compat

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// View is a page, with what it needs of final buckets: the values of gauges, and which families
// are collected. It reads the stream of the replay, whose snapshot has the newest windows of all
// datasets. It is safe for concurrent use.
//
// A gauge has the value of the bucket in whose turn the time is (package counter): from a delay
// after the beginning of its window until a delay after the end. The turns of two windows have
// nothing in common, so a pool or a Worker that has no sample in a window has none in its turn,
// and nothing of a dataset is shown for longer when it is no longer collected.
type View struct {
	page   *Page
	needed map[string]bool // families of ours: whether the values of buckets are

	mu   sync.Mutex
	list *holding // nil before the first snapshot is complete
}

// NewView returns the view of a page, without any bucket.
func NewView(p *Page) *View {
	v := &View{page: p, needed: map[string]bool{}}
	for i := range p.Families {
		for _, name := range p.Families[i].Of {
			v.needed[name] = v.needed[name] || p.Families[i].Gauge
		}
	}
	return v
}

// margin is how long after its turn a bucket is kept: the time of a page may be behind the log.
const margin = 5 * time.Minute

// holding is what a view has of one history.
type holding struct {
	gauges map[string][]held        // by family
	until  map[string]sample.Millis // by family: as long it counts as collected
	newest sample.Millis            // commit
}

// held is the samples of a gauge of ours in one bucket.
type held struct {
	set         sample.Set
	scope       bucket.Scope
	start       bucket.Time
	from, until sample.Millis // its turn
	revision    bucket.Revision
}

func (h *held) owner() selection.Owner {
	return selection.Owner{Scope: h.scope, Zone: h.set.Zone, Account: h.set.Account}
}

// Open is the opener of its sinks.
func (v *View) Open(sample.Store) follow.Sink {
	return &sink{view: v, list: &holding{gauges: map[string][]held{}, until: map[string]sample.Millis{}}}
}

type sink struct {
	view *View
	list *holding
}

// Entry implements [follow.Sink].
func (s *sink) Entry(e *bucket.Entry) error {
	if e.Kind != bucket.KindBucket || e.Bucket == nil {
		return nil
	}
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	return s.list.note(e, s.view.needed)
}

// Confirm implements [follow.Sink].
func (s *sink) Confirm(follow.Point) {
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	s.view.list = s.list
	s.list.forget()
}

func (l *holding) note(e *bucket.Entry, needed map[string]bool) error {
	b, d := e.Bucket, e.Definition
	l.newest = max(l.newest, sample.MillisOf(e.CommittedAt))
	turn := b.Start.Std().Add(counter.Delay(d))
	gone := sample.MillisOf(turn.Add(b.Size + counter.Retire)) // when a counter is, whose last bucket this was
	for i := range d.Families {
		if name := d.Families[i].Name; hasKey(needed, name) {
			l.until[name] = max(l.until[name], gone)
		}
	}
	var faults []error
	for i := range b.Families {
		if !needed[b.Families[i].Family] {
			continue
		}
		h := held{scope: b.Scope, start: b.Start, from: sample.MillisOf(turn), until: sample.MillisOf(turn.Add(b.Size)), revision: e.Revision}
		err := b.Families[i].Validate()
		if err == nil {
			h.set, err = sample.Of(b, i, d, sample.End)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("hold bucket %s: %w", b.Key, err))
		} else if h.until > l.newest {
			l.gauges[h.set.Name] = append(l.gauges[h.set.Name], h)
		}
	}
	return errors.Join(faults...)
}

func hasKey(m map[string]bool, key string) bool { _, is := m[key]; return is }

// forget drops buckets whose turn has ended.
func (l *holding) forget() {
	before := l.newest - sample.Millis(margin.Milliseconds())
	for name, all := range l.gauges {
		l.gauges[name] = slices.DeleteFunc(all, func(h held) bool { return h.until <= before })
	}
}

// shown are the buckets of a family whose turn it is, in the order of zones and accounts. Of two
// with the same names, of which one took over the other's or is of another bucket size, the later
// one is.
func (v *View) shown(name string, at sample.Millis) []held {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.list == nil {
		return nil
	}
	var now []held
	for _, h := range v.list.gauges[name] {
		if h.from <= at && at < h.until {
			now = append(now, h)
		}
	}
	names := func(a, b held) int {
		return cmp.Or(cmp.Compare(a.set.Zone, b.set.Zone), cmp.Compare(a.set.Account, b.set.Account))
	}
	slices.SortFunc(now, func(a, b held) int {
		return cmp.Or(names(a, b), cmp.Compare(b.start, a.start), cmp.Compare(b.revision, a.revision))
	})
	return slices.CompactFunc(now, func(a, b held) bool { return names(a, b) == 0 })
}

// Missing are the families of the page that are not collected at a time: no final bucket of a
// dataset with them is known that is less than a day older than what counters show.
func (v *View) Missing(at sample.Millis) (missing []*Family) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range v.page.Families {
		f := &v.page.Families[i]
		if v.list == nil || slices.ContainsFunc(f.Of, func(name string) bool { return at >= v.list.until[name] }) {
			missing = append(missing, f)
		}
	}
	return missing
}

// MissingDatasets are the names of the datasets of [View.Missing], ascending.
func (v *View) MissingDatasets(at sample.Millis) []string {
	names := map[string]bool{}
	for _, f := range v.Missing(at) {
		names[f.Dataset] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Exporter is the name of the other exporter.
func (v *View) Exporter() string { return v.page.Exporter }
