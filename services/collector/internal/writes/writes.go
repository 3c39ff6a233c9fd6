// Package writes tracks whether this process can write to its store. The first failure is
// logged, a failure that lasts for a minute is a problem on the board, and the state is
// exported by metrics and by readiness.
//
// It knows only the writes of this process. A standby writes nothing, so it detects
// nothing; the leader, and a process that tries to acquire the lease, do.
package writes

import (
	"context"
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
	Retention = "retention" // dropping old data
)

// Lasting is the time after which a transient failure is a problem. A database that fails
// over or restarts is back sooner.
const Lasting = time.Minute

// Watch keeps the failures of one process. Safe for concurrent use; a nil Watch does nothing.
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
			Help: "Appends and other writes to the store that failed, by reason. The reasons encoding and invalid concern one value, which becomes a gap; the rest of the append is stored.",
		}, []string{"reason"}),
		writable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "weir_collector_store_writable",
			Help: "0 while writes of this process to the store fail; 1 otherwise, also on a standby, which writes nothing.",
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

// Failed records that a write failed for a reason other than its content. One cause makes
// several kinds of write fail; it is one warning and one problem.
func (w *Watch) Failed(what string, err error) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f, known := w.failing[what]
	if !known {
		f.since = w.now()
		level := slog.LevelWarn
		if len(w.failing) > 0 {
			level = slog.LevelDebug
		}
		w.log.Log(context.Background(), level, "the store cannot be written", "what", what, "reason", store.Reason(err), "err", err)
	}
	f.err = err
	w.failing[what] = f
	w.update()
}

// Works records that writes succeeded, or that another process is the writer.
func (w *Watch) Works(what ...string) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, what := range what {
		f, known := w.failing[what]
		if !known {
			continue
		}
		delete(w.failing, what)
		if len(w.failing) == 0 {
			w.log.Info("writes to the store succeed again", "what", what, "after", w.now().Sub(f.since).Round(time.Second))
		}
	}
	w.update()
}

// update updates the gauge and the board.
func (w *Watch) update() {
	worst := w.worst()
	w.writable.Set(1)
	if worst != "" {
		w.writable.Set(0)
	}
	problems := map[string]string{}
	if f, failing := w.failing[worst]; failing && w.now().Sub(w.since()) >= Lasting {
		problems[""] = f.describe(worst)
	}
	if f, failing := w.failing[Retention]; failing {
		problems[Retention] = fmt.Sprintf("data beyond the retention cannot be dropped: %v; remedy: %s", f.err, store.Remedy(f.err))
	}
	for _, about := range []string{"", Retention} {
		if message, is := problems[about]; is {
			w.board.Set(trouble.StoreNotWritable, about, message)
		} else {
			w.board.Clear(trouble.StoreNotWritable, about)
		}
	}
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

// Err is nil while writes to the store succeed, as far as this process knows. Otherwise
// it has the reason and the remedy.
func (w *Watch) Err() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if what := w.worst(); what != "" {
		f := w.failing[what]
		return fmt.Errorf("since %s %s", w.since().UTC().Format(time.RFC3339), f.describe(what))
	}
	return nil
}

// worst is the failure that describes best why the store is not writable, or empty: first what
// an operator must repair, then what has failed longest. A failure that may be transient, and
// retention, do not count.
func (w *Watch) worst() (worst string) {
	for _, what := range slices.Sorted(maps.Keys(w.failing)) {
		f, mend := w.failing[what], store.NeedsRepair(w.failing[what].err)
		if what == Retention || !mend && w.now().Sub(f.since) < Lasting {
			continue
		}
		before, some := w.failing[worst]
		if !some || mend && !store.NeedsRepair(before.err) || mend == store.NeedsRepair(before.err) && f.since.Before(before.since) {
			worst = what
		}
	}
	return worst
}

// since is when the store became not writable: the same cause may first appear in another kind
// of write.
func (w *Watch) since() (first time.Time) {
	for what, f := range w.failing {
		if what != Retention && (first.IsZero() || f.since.Before(first)) {
			first = f.since
		}
	}
	return first
}

func (f failure) describe(what string) string {
	return fmt.Sprintf("the store cannot be written (%s): %v; remedy: %s. Nothing is lost that Cloudflare still has by then, and no restart is needed", what, f.err, store.Remedy(f.err))
}
