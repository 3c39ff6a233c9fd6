package bucketsvc_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

const lease = time.Hour // longer than any test: leases are not what is tested

// database is a store and its one writer.
type database struct {
	store  *swap
	term   store.Term
	backup func(testing.TB) (restore func(testing.TB))
}

// newSQLite makes a store in a file. A backup is a copy of the file, as an
// operator makes it; a restore puts the copy in the store's place.
func newSQLite(t testing.TB) *database {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	d := &database{store: &swap{}}
	d.open(t, path)
	var copies atomic.Int64
	d.backup = func(t testing.TB) func(testing.TB) {
		t.Helper()
		to := filepath.Join(filepath.Dir(path), fmt.Sprintf("backup-%d.db", copies.Add(1)))
		copyFile(t, d.store.path(), to)
		return func(t testing.TB) {
			// A copy of the copy: a backup may be restored more than once.
			again := filepath.Join(filepath.Dir(path), fmt.Sprintf("restored-%d.db", copies.Add(1)))
			copyFile(t, to, again)
			d.open(t, again)
		}
	}
	return d
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	db, err := sql.Open("sqlite", from)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `VACUUM INTO ?`, to); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// open puts the store in the file at path under the running service.
func (d *database) open(t testing.TB, path string) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Settings: store.Settings{SampleTimestamp: "end"}})
	if err != nil {
		t.Fatal(err)
	}
	d.lead(t, s, path)
}

func (d *database) lead(t testing.TB, s store.Store, path string) {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	l, err := s.Acquire(t.Context(), "exam", lease)
	if err != nil {
		t.Fatal(err)
	}
	d.term = l.Term
	d.store.set(s, path)
}

var migrated = pgtest.NewTemplate(func(dsn string) error { return postgres.Migrate(context.Background(), dsn) })

// newPostgres makes a store on the real server. A restore puts back what the
// tables held, under the running service: the connections stay, the history
// behind them is another.
func newPostgres(t testing.TB) *database {
	t.Helper()
	dsn := migrated.DSN(t)
	s, err := postgres.Open(t.Context(), postgres.Options{
		DSN: dsn, Settings: store.Settings{SampleTimestamp: "end"}, Logger: testkit.Logger(t),
		// Without LISTEN, whose connection waits in the kernel, where virtual
		// time does not see it; waking up sooner is not what is examined.
		TransactionPooling: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	d := &database{store: &swap{}}
	d.lead(t, s, "")
	copies := 0
	d.backup = func(t testing.TB) func(testing.TB) {
		t.Helper()
		copies++
		name := fmt.Sprintf("backup_%d", copies)
		pgtest.Exec(t, dsn, fmt.Sprintf(`BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE SCHEMA %[1]s;
			CREATE TABLE %[1]s.log AS TABLE log; CREATE TABLE %[1]s.bucket AS TABLE bucket; CREATE TABLE %[1]s.event AS TABLE event; COMMIT`, name))
		return func(t testing.TB) { pgtest.Exec(t, dsn, fmt.Sprintf(restorePostgres, name)) }
	}
	return d
}

// restorePostgres brings tables back. Months that were dropped since are added
// again; the lease stays with whoever has it now.
const restorePostgres = `BEGIN;
SET LOCAL session_replication_role = replica;
DELETE FROM bucket; DELETE FROM event;
DO $$
DECLARE m timestamp; name text;
BEGIN
	FOR m IN SELECT DISTINCT date_trunc('month', to_timestamp(window_start) AT TIME ZONE 'UTC') FROM %[1]s.bucket LOOP
		name := 'bucket_' || to_char(m, 'YYYY_MM');
		IF to_regclass(name) IS NULL THEN
			EXECUTE format('CREATE TABLE %%I (LIKE bucket INCLUDING ALL)', name);
			EXECUTE format('ALTER TABLE bucket ATTACH PARTITION %%I FOR VALUES FROM (%%s) TO (%%s)', name,
				extract(epoch FROM m AT TIME ZONE 'UTC')::bigint, extract(epoch FROM (m + interval '1 month') AT TIME ZONE 'UTC')::bigint);
		END IF;
	END LOOP;
END $$;
INSERT INTO bucket SELECT * FROM %[1]s.bucket; INSERT INTO event SELECT * FROM %[1]s.event;
UPDATE log SET (head, chain, committed_at, progress_at, floor, floor_chain) =
	(SELECT head, chain, committed_at, progress_at, floor, floor_chain FROM %[1]s.log);
COMMIT`

func (d *database) append(t testing.TB, at time.Time, entries ...feedtest.Entry) {
	t.Helper()
	h, err := d.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batch := store.Batch{CommittedAt: at}
	for _, e := range entries {
		batch.Entries = append(batch.Entries, newEntry(e))
	}
	// On a busy machine a batch of many megabytes may take longer than a collector gives
	// the database; whether it was committed, the head tells.
	for range 10 {
		_, err = d.store.get().Append(t.Context(), d.term, h.Position, batch)
		if !errors.Is(err, store.ErrUnavailable) && !errors.Is(err, store.ErrConflict) {
			break
		}
		now, headErr := d.store.Head(t.Context())
		if headErr == nil && now.Revision == h.Revision+bucket.Revision(len(batch.Entries)) {
			return
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newEntry(e feedtest.Entry) store.NewEntry {
	x := e.Encode()
	n := store.NewEntry{Kind: x.Kind, Key: x.Key, End: x.End, Payload: x.Payload}
	if b := e.Bucket; b != nil {
		n.Finality, n.Origin, n.Variant, n.Rows, n.SampleInterval = b.Finality, b.Origin, b.Variant, b.Len(), b.SampleInterval
	}
	return n
}

func (d *database) progress(t testing.TB, at time.Time) {
	t.Helper()
	if err := d.store.get().Renew(t.Context(), d.term, lease, at); err != nil {
		t.Fatal(err)
	}
}

func (d *database) retire(t testing.TB, before bucket.Time) {
	t.Helper()
	if _, err := d.store.get().Retire(t.Context(), d.term, before, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
}

// swap is a store that can be replaced by another, as a restore does to the
// database behind a running process.
type swap struct {
	mu   sync.RWMutex
	now  store.Store
	file string
}

func (s *swap) set(to store.Store, file string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now, s.file = to, file
}

func (s *swap) get() store.Store {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.now
}

func (s *swap) path() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.file
}

func (s *swap) Head(ctx context.Context) (store.Head, error) { return s.get().Head(ctx) }
func (s *swap) ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]store.Entry, error) {
	return s.get().ReadLog(ctx, after, limit)
}

func (s *swap) ChainAt(ctx context.Context, rev bucket.Revision) (bucket.Chain, error) {
	return s.get().ChainAt(ctx, rev)
}

func (s *swap) Snapshot(ctx context.Context, q store.SnapshotQuery, emit func(store.Entry) error) (store.Head, error) {
	return s.get().Snapshot(ctx, q, emit)
}

func (s *swap) List(ctx context.Context, q store.ListQuery, emit func(store.Entry) error) error {
	return s.get().List(ctx, q, emit)
}

func (s *swap) Unserved(ctx context.Context, f store.Filter, since bucket.Time, age time.Duration) ([]store.Run, error) {
	return s.get().Unserved(ctx, f, since, age)
}

func (s *swap) Datasets(ctx context.Context) ([]store.Entry, error) { return s.get().Datasets(ctx) }
func (s *swap) Records(ctx context.Context, kind string) ([]store.Record, error) {
	return s.get().Records(ctx, kind)
}
func (s *swap) Wake() <-chan struct{} { return s.get().Wake() }
