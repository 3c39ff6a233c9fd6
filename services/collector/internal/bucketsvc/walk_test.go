package bucketsvc_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// The contract under fuzz: two collectors on one store, random trouble, and
// readers that believe nothing. See [feedtest.Walk].
func TestWalkOnSQLite(t *testing.T) {
	feedtest.Walk(t, 12, func(t *testing.T, rng *rand.Rand) feedtest.Arena {
		a := newArena(t, newSQLite(t), rng)
		a.Held = true
		return a
	})
}

// Postgres drops a month by locking the table, which a snapshot that nobody
// reads would keep it from; so here snapshots are small enough to be buffered.
func TestWalkOnPostgres(t *testing.T) {
	newPostgres(t) // the server starts in real time
	feedtest.Walk(t, 3, func(t *testing.T, rng *rand.Rand) feedtest.Arena { return newArena(t, newPostgres(t), rng) })
}

func newArena(t *testing.T, db *database, rng *rand.Rand) feedtest.Arena {
	head, err := db.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a := feedtest.Arena{
		StoreID: head.StoreID, Append: db.append, Progress: db.progress, Backup: db.backup, Retire: db.retire,
		Lag: 8 << rng.IntN(4),
	}
	for range 2 {
		w := &walker{store: &fallible{swap: db.store}, entries: a.Lag, page: 1 + rng.IntN(5)}
		w.restart(t)
		t.Cleanup(func() { w.process.stop() })
		a.Processes = append(a.Processes, feedtest.Process{
			Dial: w.dial, Restart: w.restart,
			Stall: func(on bool) { w.store.set(&w.store.stalled, on) },
			Away:  func(on bool) { w.store.set(&w.store.away, on) },
		})
	}
	return a
}

// walker is a collector that is restarted now and then.
type walker struct {
	store         *fallible
	entries, page int

	mu      sync.Mutex
	process *process
}

func (w *walker) restart(t testing.TB) {
	w.mu.Lock()
	old := w.process
	w.mu.Unlock()
	if old != nil {
		old.stop()
	}
	next := startProcess(t, processConfig{
		// The walk has a log of its own; what nobody foresaw is told here.
		store: w.store, logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
		feed: feed.Config{Entries: w.entries, Page: w.page}, limits: bucketsvc.Limits{},
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.process = next
}

func (w *walker) dial(ctx context.Context) (net.Conn, error) {
	w.mu.Lock()
	l := w.process.listener
	w.mu.Unlock()
	return l.DialContext(ctx)
}

// fallible is one process's way to the primary.
type fallible struct {
	*swap

	mu      sync.Mutex
	stalled bool // the log cannot be read further; the rest can
	away    bool // nothing answers
}

func (f *fallible) set(what *bool, on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*what = on
}

func (f *fallible) check(what *bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if *what {
		return fmt.Errorf("the walk says so: %w", store.ErrUnavailable)
	}
	return nil
}

func (f *fallible) Head(ctx context.Context) (store.Head, error) {
	if err := f.check(&f.away); err != nil {
		return store.Head{}, err
	}
	return f.swap.Head(ctx)
}

func (f *fallible) ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]store.Entry, error) {
	if err := f.check(&f.stalled); err != nil {
		select { // as long as a caller waits
		case <-ctx.Done():
		case <-time.After(time.Minute):
		}
		return nil, err
	}
	if err := f.check(&f.away); err != nil {
		return nil, err
	}
	return f.swap.ReadLog(ctx, after, limit)
}

func (f *fallible) ChainAt(ctx context.Context, rev bucket.Revision) (bucket.Chain, error) {
	if err := f.check(&f.away); err != nil {
		return bucket.Chain{}, err
	}
	return f.swap.ChainAt(ctx, rev)
}

func (f *fallible) Snapshot(ctx context.Context, q store.SnapshotQuery, emit func(store.Entry) error) (store.Head, error) {
	if err := f.check(&f.away); err != nil {
		return store.Head{}, err
	}
	return f.swap.Snapshot(ctx, q, emit)
}
