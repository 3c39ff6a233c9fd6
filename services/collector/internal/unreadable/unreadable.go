// Package unreadable tracks stored entries that cannot be read: entries that an older
// release wrote without validation, and damaged rows.
//
// Such an entry counts as stored. Its key exists, so its window is never collected again,
// and it keeps its position in the log and the chain; on streams it has no content, so
// that readers skip it. Code that finds one continues with the rest and reports it to the
// [Register], which makes it a problem (code STORE_UNREADABLE), a metric and, through the
// leader, a record that coverage reads on every collector.
package unreadable

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// What drivers hand out fits a message.
const _ = uint(wire.MaxPayload-store.MaxPayload) + uint(store.MaxPayload-wire.MaxPayload)

// Check reports why an entry cannot be sent with its content, without decoding
// it; see [wire.CheckStored].
func Check(e *store.Entry) error {
	if e.Damage != "" {
		return errors.New(e.Damage)
	}
	return wire.CheckStored(e.Kind, e.Key, e.Payload)
}

// Bucket decodes the entry of a bucket or of a restatement, or says why no reader accepts
// it.
func Bucket(e *store.Entry) (*bucket.Bucket, error) {
	if err := Check(e); err != nil {
		return nil, err
	}
	decode := wire.DecodeBucket
	if e.Kind == bucket.KindRestatement {
		decode = wire.DecodeRestatement
	}
	b, err := decode(e.Payload)
	if err == nil && b.Window().End != e.End {
		// Coverage goes by the row, not by the payload: a row that ends too late
		// would prevent requests for the windows after it.
		err = fmt.Errorf("the window of the payload ends at %s, but the window of the store's row ends at %s", b.Window().End, e.End)
	}
	return b, err
}

// aWindow reports whether an entry's row has a window that a bucket can have. A damaged row may
// span centuries, more than can be processed by window.
func aWindow(w bucket.Window) bool {
	return !w.Empty() && int64(w.End-w.Start) <= int64(24*time.Hour/time.Second) && bucket.ValidSize(w.Len()) == nil
}

// Definition decodes the entry of a dataset version.
func Definition(e *store.Entry) (*bucket.Definition, error) {
	if err := Check(e); err != nil {
		return nil, err
	}
	d, err := wire.DecodeDefinition(e.Payload)
	if err == nil && d.Dataset != e.Key.Dataset {
		err = fmt.Errorf("the payload belongs to dataset %s, but the store's key to %s", d.Dataset, e.Key.Dataset)
	}
	return d, err
}

// most entries are reported one by one; the rest is only counted.
const most = 100_000

// Register has what one process could not read. Safe for concurrent use; a nil Register does
// nothing.
type Register struct {
	board *trouble.Board

	mu      sync.Mutex
	series  map[ledger.Series]*ledger.Unreadable
	windows int                        // of all series
	others  map[bucket.Revision]string // entries that are not buckets: what each is
	records map[string]map[string]bool // by kind, keys
	changed map[ledger.Series]bool     // since Records was called
}

// New returns an empty register that reports to board; reg may be nil.
func New(board *trouble.Board, reg prometheus.Registerer) *Register {
	r := &Register{
		board: board, series: map[ledger.Series]*ledger.Unreadable{}, others: map[bucket.Revision]string{},
		records: map[string]map[string]bool{}, changed: map[ledger.Series]bool{},
	}
	if reg != nil {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "weir_collector_unreadable_entries",
			Help: "Entries and records of the store that this process could not read. They count as stored and are skipped.",
		}, func() float64 { return float64(r.Len()) }))
	}
	return r
}

// Len is the number of entries and records.
func (r *Register) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.windows + len(r.others)
	for _, keys := range r.records {
		n += len(keys)
	}
	return n
}

// Starts is the number of window starts at which something cannot be read, of windows that end
// after since, in the dataset that has most of them. A view of that many newest windows must
// reach back by as many, since such a start is missing for its readers.
func (r *Register) Starts(since bucket.Time) (most int) {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	starts := map[string]map[bucket.Time]bool{}
	for of, u := range r.series {
		for _, span := range u.Spans {
			for end := span.End; end > span.Start && end > since; end = end.Add(-u.Size) {
				if starts[of.Dataset] == nil {
					starts[of.Dataset] = map[bucket.Time]bool{}
				}
				starts[of.Dataset][end] = true
			}
		}
		most = max(most, len(starts[of.Dataset]))
	}
	return most
}

// Note records an entry that could not be read, and why. A known one is not reported again.
func (r *Register) Note(e *store.Entry, why error) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.windows+len(r.others) >= most {
		return
	}
	w := bucket.Window{Start: e.Key.Start, End: e.End}
	if e.Kind != bucket.KindBucket || !aWindow(w) {
		if _, known := r.others[e.Revision]; !known {
			what := kindOf(e)
			r.others[e.Revision] = what
			r.board.Set(trouble.StoreUnreadable, fmt.Sprintf("%s, revision %d", what, e.Revision),
				fmt.Sprintf("a stored entry cannot be read and is skipped: %s: %v", what, why))
		}
		return
	}
	of := ledger.Series{Dataset: e.Key.Dataset, Scope: e.Key.Scope}
	u := r.series[of]
	if u == nil {
		u = &ledger.Unreadable{Dataset: of.Dataset, Scope: of.Scope}
	}
	if u.Spans.Contains(w) {
		return
	}
	r.add(of, &ledger.Unreadable{
		Dataset: of.Dataset, Scope: of.Scope, Size: w.Len(), Spans: bucket.Spans{w},
		Why: store.Text(fmt.Sprintf("revision %d: %v", e.Revision, why)),
	})
	r.changed[of] = true
}

// Adopt takes the records of leaders. What this process knows beyond them is written too.
func (r *Register) Adopt(known []ledger.Unreadable) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range known {
		r.add(ledger.Series{Dataset: known[i].Dataset, Scope: known[i].Scope}, &known[i])
	}
	clear(r.changed)
	for of := range r.series {
		r.changed[of] = true
	}
	for i := range known {
		if of := (ledger.Series{Dataset: known[i].Dataset, Scope: known[i].Scope}); known[i].Windows() == r.series[of].Windows() {
			delete(r.changed, of)
		}
	}
}

// Learn takes the records of another process, so that a standby reports what its leader found.
func (r *Register) Learn(known []ledger.Unreadable) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range known {
		of := ledger.Series{Dataset: known[i].Dataset, Scope: known[i].Scope}
		u := r.series[of]
		if u == nil || slices.ContainsFunc(known[i].Spans, func(w bucket.Window) bool { return !u.Spans.Contains(w) }) {
			r.add(of, &known[i])
		}
	}
}

func (r *Register) add(of ledger.Series, more *ledger.Unreadable) {
	u := r.series[of]
	if u == nil {
		u = &ledger.Unreadable{Dataset: of.Dataset, Scope: of.Scope, Size: more.Size, Why: more.Why}
		r.series[of] = u
	}
	r.windows -= u.Windows()
	for _, w := range more.Spans {
		u.Spans = u.Spans.Add(w)
	}
	r.windows += u.Windows()
	r.board.Set(trouble.StoreUnreadable, of.Dataset+" "+of.Scope.String(), fmt.Sprintf(
		"stored buckets cannot be read and are skipped: %d of %s, from %s to %s; they are not collected again; the first: %s",
		u.Windows(), of.Dataset, u.Spans[0].Start, u.Spans[len(u.Spans)-1].End, u.Why))
}

// Records sets which records of a kind cannot be read now.
func (r *Register) Records(kind string, unreadable []store.Unreadable) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := make(map[string]bool, len(unreadable))
	for _, u := range unreadable {
		now[u.Key] = true
		r.board.Set(trouble.StoreUnreadable, aboutRecord(kind, u.Key), store.Text(fmt.Sprintf("a stored record cannot be read and is skipped: %v", u.Err)))
	}
	for key := range r.records[kind] {
		if !now[key] {
			r.board.Clear(trouble.StoreUnreadable, aboutRecord(kind, key))
		}
	}
	r.records[kind] = now
}

func aboutRecord(kind, key string) string { return fmt.Sprintf("record %s %.80s", kind, key) }

// Changed returns the records of what was found since the last call.
func (r *Register) Changed() (out []store.Record) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for of := range r.changed {
		out = append(out, r.series[of].Record())
	}
	clear(r.changed)
	return out
}

// Retire forgets buckets that end at or before a time, which retention drops,
// and returns the records to write.
func (r *Register) Retire(before bucket.Time) (out []store.Record) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for of, u := range r.series {
		if u.Spans[0].Start.Add(u.Size) > before {
			continue
		}
		r.windows -= u.Windows()
		u.Spans = u.Spans.Remove(bucket.Window{Start: 0, End: before.Floor(max(u.Size, time.Second))})
		r.windows += u.Windows()
		out = append(out, u.Record())
		if len(u.Spans) == 0 {
			delete(r.series, of)
			delete(r.changed, of)
			r.board.Clear(trouble.StoreUnreadable, of.Dataset+" "+of.Scope.String())
		}
	}
	return out
}

func kindOf(e *store.Entry) string {
	switch e.Kind {
	case bucket.KindDatasetVersion:
		return "a version of dataset " + e.Key.Dataset
	case bucket.KindGapDecision:
		return fmt.Sprintf("a gap decision of %s %s", e.Key.Dataset, e.Key.Scope)
	case bucket.KindState:
		return "a state of " + e.Key.Dataset
	case bucket.KindRestatement:
		return fmt.Sprintf("a restatement of %s", e.Key)
	case bucket.KindAudit:
		return "an audit event"
	case bucket.KindBucket:
		return fmt.Sprintf("a bucket of %q %s that ends at %s", e.Key.Dataset, e.Key.Scope, e.End)
	}
	return fmt.Sprintf("an entry of kind %d", e.Kind)
}
