// Package writes knows whether this process can write to its store, and says so:
// one line of the log when a write fails first, a lasting problem when it still
// does a minute later, metrics, and an error for readiness.
//
// What it knows is this process's own. A standby writes nothing and so finds
// nothing out; the leader, or whoever asks for the lease, does.
package writes

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// What is written.
const (
	Log       = "log"       // buckets and records
	Lease     = "lease"     // who leads
	Permits   = "permits"   // the query budget
	Retention = "retention" // what is dropped
)

// Lasting is after how long a failure that might pass by itself is a problem. A
// database that fails over, or is restarted, is back sooner.
const Lasting = time.Minute

// Watch keeps the failures of one process. Safe for concurrent use; a nil Watch
// takes everything and knows nothing.
type Watch struct {
	log      *slog.Logger
	now      func() time.Time
	board    *trouble.Board
	failures *prometheus.CounterVec
	writable prometheus.Gauge

	mu      sync.Mutex
	failing map[string]failure // by what is written
}

type failure struct {
	since time.Time
	err   error
}

// New returns a Watch without failures. The clock dates them; board may be nil.
func New(log *slog.Logger, now func() time.Time, board *trouble.Board, reg prometheus.Registerer) *Watch {
	w := &Watch{
		log: log, now: now, board: board, failing: map[string]failure{},
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_collector_append_failures_total",
			Help: "Appends to the store that failed, by reason. Reasons encoding and invalid are about one value, which becomes a gap; the rest of the append is stored without it.",
		}, []string{"reason"}),
		writable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "weir_collector_store_writable",
			Help: "0 while this process finds that it cannot write to the store; 1 otherwise, also on a standby, which writes nothing.",
		}),
	}
	for _, reason := range store.Reasons() {
		w.failures.WithLabelValues(reason) // there at 0 before the first
	}
	w.writable.Set(1)
	reg.MustRegister(w.failures, w.writable)
	return w
}

// Count counts an append that failed.
func (w *Watch) Count(err error) {
	if w != nil {
		w.failures.WithLabelValues(store.Reason(err)).Inc()
	}
}

// Failed says that a write failed, for a reason that is not in what was written.
func (w *Watch) Failed(what string, err error) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f, known := w.failing[what]
	if !known {
		f.since = w.now()
		w.log.Warn("the store cannot be written", "what", what, "reason", store.Reason(err), "err", err)
	}
	f.err = err
	w.failing[what] = f
	w.writable.Set(1)
	if w.worst() != "" {
		w.writable.Set(0)
	}
	if w.now().Sub(f.since) >= Lasting {
		w.board.Set(trouble.StoreNotWritable, what, f.describe(what))
	}
}

// Works says that a write worked, or that another process does the writing.
func (w *Watch) Works(what string) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f, known := w.failing[what]
	if !known {
		return
	}
	delete(w.failing, what)
	if w.worst() == "" {
		w.writable.Set(1)
	}
	w.log.Info("the store can be written again", "what", what, "after", w.now().Sub(f.since).Round(time.Second))
	w.board.Clear(trouble.StoreNotWritable, what)
}

// Failing reports whether the last write of its kind failed.
func (w *Watch) Failing(what string) bool {
	if w == nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, failing := w.failing[what]
	return failing
}

// Err is nil while the store can be written as far as this process knows.
// Otherwise it says why not and what to do.
func (w *Watch) Err() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if what := w.worst(); what != "" {
		f := w.failing[what]
		return fmt.Errorf("since %s %s", f.since.UTC().Format(time.RFC3339), f.describe(what))
	}
	return nil
}

// worst is what has failed for longest of what counts as not writable, or empty:
// of a failure that may pass at once nobody need be told, and of retention it is
// enough to tell.
func (w *Watch) worst() string {
	known := slices.SortedFunc(maps.Keys(w.failing), func(a, b string) int {
		return cmp.Or(w.failing[a].since.Compare(w.failing[b].since), cmp.Compare(a, b))
	})
	for _, what := range known {
		f := w.failing[what]
		if what != Retention && (store.Mendable(f.err) || w.now().Sub(f.since) >= Lasting) {
			return what
		}
	}
	return ""
}

func (f failure) describe(what string) string {
	return fmt.Sprintf("the store cannot be written (%s): %v; to mend it: %s. Nothing is lost that Cloudflare still has when it is mended, and no restart is needed", what, f.err, store.Remedy(f.err))
}
