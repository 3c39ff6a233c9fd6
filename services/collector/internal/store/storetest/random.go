package storetest

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

var seed = flag.Uint64("storetest.seed", 0, "run the store's random test with this seed alone (0: the usual ones)")

// model is the store as the documentation has it, in the plainest form.
type model struct {
	log     []store.Entry // everything ever, by revision
	dropped map[bucket.Revision]bool
	floor   bucket.Revision
	taken   map[bucket.Key]bool
}

func (m *model) stored() []store.Entry {
	return slices.DeleteFunc(slices.Clone(m.log), func(e store.Entry) bool { return m.dropped[e.Revision] })
}

// testRandom does random things to a store and to a model and compares. The
// seed is in the test's name; what it finds becomes a question of its own.
func testRandom(t *testing.T, d Driver) {
	seeds := []uint64{1, 2, 3}
	if *seed != 0 {
		seeds = []uint64{*seed}
	}
	for _, n := range seeds {
		t.Run(fmt.Sprintf("seed=%d", n), func(t *testing.T) {
			w := &walk{
				T: t, leader: lead(t, open(t, d), "holder 0"), r: rand.New(rand.NewPCG(n, 0)),
				model: model{dropped: make(map[bucket.Revision]bool), taken: make(map[bucket.Key]bool)},
			}
			w.leader.t = t
			for range 120 {
				w.step()
				if t.Failed() {
					return
				}
			}
		})
	}
}

type walk struct {
	*testing.T
	*leader
	model
	r       *rand.Rand
	holders int
}

func (w *walk) step() {
	switch n := w.r.IntN(20); {
	case n < 9:
		w.appendSome()
	case n < 11:
		w.readLog()
	case n < 12:
		w.chainAt()
	case n < 14:
		q := store.SnapshotQuery{Filter: w.filter(), MaxWindows: w.r.IntN(4), Since: w.time()}
		head, got := snapshot(w, w.s, q)
		equal(w, fmt.Sprintf("snapshot %+v", q), snapshotOf(w.stored(), q), got)
		equal(w, "position of the snapshot", w.at, head.Position)
	case n < 16:
		q := store.ListQuery{Filter: w.filter(), Window: bucket.Window{Start: w.time(), End: w.time()}, Restated: w.r.IntN(2) == 0}
		if w.r.IntN(2) == 0 {
			q.After = &w.bucket().Key
		}
		equal(w, fmt.Sprintf("list %+v", q), restatedOf(w.stored(), q), list(w, w.s, q))
	case n < 18:
		f, since := w.filter(), w.time()
		got, err := w.s.Coverage(w.Context(), f, since)
		if err != nil {
			w.Fatal(err)
		}
		equal(w, fmt.Sprintf("coverage %+v since %s", f, since), coverageOf(w.stored(), f, since), got)
	case n < 19:
		w.change()
	default:
		w.retire()
	}
}

// Few datasets, scopes and windows, so that things meet.
func (w *walk) bucket() *store.NewEntry {
	dataset, size := "http_5m", 5*time.Minute
	switch w.r.IntN(3) {
	case 0:
		dataset, size = "uniques_1h", time.Hour
	case 1:
		dataset, size = "uniques_1d", 24*time.Hour
	}
	scope := zone(w.r.IntN(3))
	if w.r.IntN(4) == 0 {
		scope = account(w.r.IntN(2))
	}
	e := entry(dataset, scope, size, w.r.IntN(20))
	e.Payload = payload(w.r, 1+w.r.IntN(300))
	return &e
}

func (w *walk) time() bucket.Time {
	return origin.Add(time.Duration(w.r.IntN(24*20)) * time.Hour / time.Duration(1+w.r.IntN(12)))
}

func (w *walk) filter() store.Filter {
	var f store.Filter
	for range w.r.IntN(3) {
		f.Datasets = append(f.Datasets, w.bucket().Key.Dataset)
	}
	for range w.r.IntN(4) {
		f.Scopes = append(f.Scopes, w.bucket().Key.Scope)
	}
	return f
}

func (w *walk) appendSome() {
	var entries []store.NewEntry
	for range 1 + w.r.IntN(6) {
		switch w.r.IntN(8) {
		case 0:
			entries = append(entries, version("uniques_1h", len(w.log)))
		case 1: // often of a bucket that is stored
			entries = append(entries, restatement(*w.bucket(), len(w.log)))
		default:
			entries = append(entries, *w.bucket())
		}
	}
	b := w.batch(entries...)
	taken := make(map[bucket.Key]bool)
	duplicate := false
	for _, e := range entries {
		if e.Kind == bucket.KindBucket {
			duplicate = duplicate || w.taken[e.Key] || taken[e.Key]
			taken[e.Key] = true
		}
	}
	term, at, want := w.term, w.at, error(nil)
	switch {
	case w.r.IntN(10) == 0:
		term, want = term-1, store.ErrDeposed
	case w.r.IntN(10) == 0:
		at.Revision, want = at.Revision+1, store.ErrConflict
	case duplicate:
		want = store.ErrDuplicate
	}
	head, err := w.s.Append(w.Context(), term, at, b)
	if !errors.Is(err, want) {
		w.Fatalf("append of %d entries at %d: error %v, want %v", len(entries), at.Revision, err, want)
	}
	if err == nil {
		w.log = append(w.log, expected(b, at)...)
		w.at = w.log[len(w.log)-1].Position
		for k := range taken {
			w.taken[k] = true
		}
		equal(w, "returned head", w.at, head)
	}
	equal(w, "head", w.at, mustHead(w, w.s).Position)
}

func (w *walk) readLog() {
	after, limit := bucket.Revision(w.r.IntN(len(w.log)+2)), 1+w.r.IntN(20)
	got, err := w.s.ReadLog(w.Context(), after, limit)
	if after < w.floor {
		wantError(w, "read the log", err, store.ErrCompacted)
		return
	}
	if err != nil {
		w.Fatal(err)
	}
	var want []store.Entry
	if int(after) < len(w.log) {
		want = w.log[after:min(int(after)+limit, len(w.log))]
	}
	equal(w, fmt.Sprintf("log after %d, limit %d", after, limit), want, got)
}

func (w *walk) chainAt() {
	rev := bucket.Revision(1 + w.r.IntN(len(w.log)+2))
	got, err := w.s.ChainAt(w.Context(), rev)
	switch {
	case int(rev) > len(w.log):
		wantError(w, "chain", err, store.ErrBeyondHead)
	case rev < w.floor:
		wantError(w, "chain", err, store.ErrCompacted)
	case err != nil || got != w.log[rev-1].Chain:
		w.Errorf("chain at %d is %s, %v; want %s", rev, got, err, w.log[rev-1].Chain)
	}
}

// change hands the lease to another holder, who must find what was left.
func (w *walk) change() {
	if err := w.s.Release(w.Context(), w.term); err != nil {
		w.Fatal(err)
	}
	w.holders++
	next := lead(w, w.s, fmt.Sprint("holder ", w.holders))
	equal(w, "head found by the next leader", w.at, next.at)
	if next.term <= w.term {
		w.Errorf("term %d after %d", next.term, w.term)
	}
	w.term = next.term
}

// tombstone is what stands in for a bucket that was dropped.
func tombstone(e store.Entry) store.Entry {
	e.Kind, e.Payload = bucket.KindDropped, nil
	return e
}

func (w *walk) retire() {
	before := w.time()
	// Anything from nothing to all is old enough to be forgotten.
	forget := commitTime(w.r.IntN(len(w.log)+2) - 1)
	border, err := w.s.Retire(w.Context(), w.term, before, forget)
	if err != nil {
		w.Fatal(err)
	}
	if border > before {
		w.Errorf("retired up to %s, asked for %s", border, before)
	}
	for _, e := range w.stored() {
		if (e.Kind == bucket.KindBucket || e.Kind == bucket.KindRestatement) && e.End <= border {
			w.dropped[e.Revision] = true
			if e.Kind == bucket.KindBucket {
				delete(w.taken, e.Key)
			}
			w.log[e.Revision-1] = tombstone(e)
		}
	}
	for _, e := range w.log {
		if e.Kind == bucket.KindDropped && !e.CommittedAt.After(forget) {
			w.floor = max(w.floor, e.Revision)
		}
	}
	equal(w, "floor", w.floor, mustHead(w, w.s).Floor)
}
