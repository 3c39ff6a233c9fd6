package counters

import (
	"bytes"
	"slices"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/follow"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// Ends has the end of the newest window of each dataset and scope. It reads the stream of
// the replay, whose snapshot has the newest windows of all; totals have none. It is safe
// for concurrent use.
type Ends struct {
	mu   sync.Mutex
	list *endList // nil before the first snapshot is complete
}

type endList struct {
	of     map[place]*end
	sorted []*end // by text; nil: to be sorted again
}

type place struct {
	dataset string
	scope   bucket.Scope
}

type end struct {
	owner selection.Owner
	text  []byte      // labels
	at    bucket.Time // end of the newest window
	until time.Time   // shown until then
}

// Open is the opener of its sinks.
func (e *Ends) Open(sample.Store) follow.Sink {
	return &endSink{ends: e, list: &endList{of: map[place]*end{}}}
}

type endSink struct {
	ends *Ends
	list *endList
}

// Entry implements [follow.Sink].
func (s *endSink) Entry(e *bucket.Entry) error {
	if e.Kind != bucket.KindBucket || e.Bucket == nil {
		return nil
	}
	s.ends.mu.Lock()
	defer s.ends.mu.Unlock()
	s.list.note(e.Bucket, e.Definition)
	return nil
}

// Confirm implements [follow.Sink].
func (s *endSink) Confirm(follow.Point) {
	s.ends.mu.Lock()
	defer s.ends.mu.Unlock()
	s.ends.list = s.list
}

func (l *endList) note(b *bucket.Bucket, d *bucket.Definition) {
	at := place{b.Dataset, b.Scope}
	newest := b.Window().End
	e := l.of[at]
	if e == nil {
		e = &end{}
		l.of[at], l.sorted = e, nil
	}
	if newest <= e.at {
		return
	}
	// A dataset or zone that is no longer collected goes when its counters go.
	e.owner = selection.Owner{Scope: b.Scope, Zone: b.Zone, Account: b.Account}
	e.at, e.until = newest, newest.Std().Add(counter.Delay(d)+counter.Retire)
	text := expo.AppendLabel([]byte{'{'}, "dataset", b.Dataset)
	if b.Zone != "" {
		text = expo.AppendLabel(text, "zone", b.Zone)
	}
	if b.Account != "" {
		text = expo.AppendLabel(text, "account", b.Account)
	}
	text[len(text)-1] = '}'
	if text = append(text, ' '); !bytes.Equal(text, e.text) { // also when a zone was renamed
		e.text, l.sorted = text, nil
	}
}

// append appends the family, of the owners that match has.
func (e *Ends) append(dst []byte, match selection.Match, t time.Time) []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.list
	if l == nil {
		return dst
	}
	if l.sorted == nil {
		for _, one := range l.of {
			l.sorted = append(l.sorted, one)
		}
		slices.SortFunc(l.sorted, func(a, b *end) int { return bytes.Compare(a.text, b.text) })
	}
	const name = "weir_bucket_end_timestamp_seconds"
	dst = appendGauge(dst, name, "End of the newest window that is final.")
	for i := 0; i < len(l.sorted); {
		one := l.sorted[i]
		for i++; i < len(l.sorted) && bytes.Equal(l.sorted[i].text, one.text); i++ { // two zones have had the name
			if l.sorted[i].at > one.at {
				one = l.sorted[i]
			}
		}
		if t.Before(one.until) && match.Has(one.owner) {
			dst = append(append(dst, name...), one.text...)
			dst = append(expo.AppendValue(dst, float64(one.at)), '\n')
		}
	}
	return dst
}
