// Package sqlite keeps a store in one SQLite file, for one machine. It behaves like
// package postgres: both pass the tests in storetest.
//
// One connection writes; a few others read. In WAL mode a reader sees the file
// as it was when its transaction began and never stops the writer, which is
// what [store.Store.Snapshot] needs. synchronous is FULL: an entry is streamed
// to exposers as soon as it is committed, so a commit that a power cut could
// take back would give the same revision to two different entries. The price is
// one fsync a batch, and batches are seconds apart.
//
// The file belongs to one process at a time: SQLite itself would let two processes
// in, and then wake-ups would be missed, and the timeouts of readers, which assume one
// writer connection, would be wrong; and through two hard links it would keep two -wal
// files of one database. The lock is a flock on a .lock file next to it, and a lock on the
// database file itself, which covers its other paths. locking_mode=EXCLUSIVE would also
// shut out this process's own readers and an operator's sqlite3. The kernel drops the locks
// when the process ends.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	_ "modernc.org/sqlite" // the driver that database/sql knows as "sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Options configure a store. Path or Ephemeral is required.
type Options struct {
	// Path of the database file. Its folder must exist and be writable: SQLite
	// keeps -wal and -shm files beside it, and Weir a .lock file.
	Path string
	// Ephemeral makes a new, migrated database in a temporary folder, without
	// fsync, and removes it on Close. For tests and demos. It is a file and not
	// ":memory:" because SQLite's in-memory databases have no WAL: a reader
	// would block the writer, and the fake would behave unlike the real thing.
	Ephemeral bool
	// Settings of the store if it is new; compared with what is stored if not.
	// With an empty SampleTimestamp the store keeps its own, and a new ephemeral store
	// has "end".
	Settings store.Settings
	// ChangeSampleTimestamp stores another SampleTimestamp instead of rejecting it.
	ChangeSampleTimestamp bool
	// Clock is the clock of the lease and of [store.Head.Now]; nil: the system's.
	Clock clock.Clock
}

// The maximum number of concurrent readers, and of those in long scans: the rest is
// reserved for the short reads of the feed and the lease.
const (
	maxReaders = 8
	maxScans   = 6
)

// Store implements [store.Store].
type Store struct {
	file   os.FileInfo // that was opened
	path   string
	clock  clock.Clock
	writer *sql.DB // one connection; transactions begin IMMEDIATE
	reader *sql.DB
	scans  chan struct{}
	wake   chan struct{}
	lock   *lock
	temp   string // folder to remove on Close
	beside bool   // read-only; see OpenBeside
}

var _ store.Store = (*Store)(nil)

// Open opens a migrated database; see [Migrate]. ErrInUse when another process
// has it open, ErrSchema when it is not migrated or too new, ErrSettings when
// it was created with others.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	s := &Store{path: o.Path, clock: o.Clock, scans: make(chan struct{}, maxScans), wake: make(chan struct{}, 1)}
	if s.clock == nil {
		s.clock = clock.System()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if o.Ephemeral {
		if o.Path != "" {
			return nil, fmt.Errorf("open SQLite store: path %s and ephemeral are mutually exclusive", o.Path)
		}
		if s.temp, err = os.MkdirTemp("", "weir-store-"); err != nil {
			return nil, fmt.Errorf("open SQLite store: %w", err)
		}
		s.path = filepath.Join(s.temp, "weir.db")
		if o.Settings.SampleTimestamp == "" {
			o.Settings.SampleTimestamp = "end"
		}
	}
	if s.path == "" {
		return nil, errors.New("open SQLite store: the path is empty")
	}
	if s.path, err = filepath.Abs(s.path); err != nil {
		return nil, fmt.Errorf("open SQLite store: %w", err)
	}
	if s.lock, err = lockFile(s.path, o.Ephemeral); errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open SQLite store: %w: %w", store.ErrSchema, err)
	} else if err != nil {
		return nil, fmt.Errorf("open SQLite store %s: %w", s.path, err)
	}
	if o.Ephemeral {
		if err = migrate(ctx, s.path, false); err != nil {
			return nil, err
		}
	}
	if s.writer, err = connect(s.path, writing, !o.Ephemeral, 1); err != nil {
		return nil, err
	}
	if s.reader, err = connect(s.path, reading, !o.Ephemeral, maxReaders); err != nil {
		return nil, err
	}
	if s.file, err = os.Stat(s.path); err != nil {
		return nil, fmt.Errorf("open SQLite store: %w: %w", store.ErrUnavailable, err)
	}
	if err = checkSchema(ctx, s.reader); err != nil {
		return nil, fmt.Errorf("open SQLite store %s: %w", s.path, err)
	}
	if err = s.settle(ctx, o); err != nil {
		return nil, fmt.Errorf("open SQLite store %s: %w", s.path, err)
	}
	return s, nil
}

// settle makes the log row of a new store, and holds an old one to the settings.
func (s *Store) settle(ctx context.Context, o Options) error {
	return s.write(ctx, "read settings", func(tx *sql.Tx) error {
		var have store.Settings
		err := tx.QueryRowContext(ctx, `SELECT sample_timestamp, simulated FROM log`).Scan(&have.SampleTimestamp, &have.Simulated)
		if errors.Is(err, sql.ErrNoRows) {
			id, err := o.Settings.NewID()
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, `INSERT INTO log (one, store_id, sample_timestamp, simulated, chain, floor_chain)
				VALUES (1, ?, ?, ?, zeroblob(16), zeroblob(16))`, id, o.Settings.SampleTimestamp, o.Settings.Simulated)
			return err
		}
		if err != nil {
			return err
		}
		settled, err := have.Reconcile(o.Settings, o.ChangeSampleTimestamp)
		if err != nil || settled == have {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE log SET sample_timestamp = ?`, settled.SampleTimestamp)
		return err
	})
}

// Path is the absolute path of the database file.
func (s *Store) Path() string { return s.path }

// Close implements [store.Store].
func (s *Store) Close() error {
	var errs []error
	// Readers first: the last connection to go writes the WAL back into the file.
	for _, db := range []*sql.DB{s.reader, s.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	if s.temp != "" {
		errs = append(errs, os.RemoveAll(s.temp))
	}
	return errors.Join(errs...)
}

// Wake implements [store.Store]. Only this process writes the file, so every
// append is seen.
func (s *Store) Wake() <-chan struct{} { return s.wake }

// Size implements [store.Store]. It counts the log file of SQLite too, which a
// long snapshot can make large for a while.
func (s *Store) Size(context.Context) (int64, error) {
	var size int64
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(s.path + suffix)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, fmt.Errorf("size of the store: %w: %w", store.ErrUnavailable, err)
		}
		if err == nil {
			size += info.Size()
		}
	}
	return size, nil
}

type access int

const (
	reading access = iota
	writing
)

// connect opens a pool. No connection is made before the first use.
func connect(path string, a access, durable bool, conns int) (*sql.DB, error) {
	q := url.Values{}
	pragma := func(p string) { q.Add("_pragma", p) }
	// The longest that a statement waits for a lock, which happens only while
	// the WAL is recovered or folded into the file.
	pragma("busy_timeout(5000)")
	switch {
	case a == reading:
		pragma("query_only(1)")
	case durable:
		pragma("synchronous(FULL)")
	default:
		pragma("synchronous(OFF)")
	}
	if a == writing {
		pragma("journal_mode(WAL)")
		// A WAL that a long snapshot made grow gives its space back afterwards.
		pragma("journal_size_limit(67108864)")
		// Take the write lock when the transaction begins, not at its first
		// write: it then never fails in the middle.
		q.Set("_txlock", "immediate")
	}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("open SQLite file %s: %w", path, err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// write runs do in one transaction of the writer connection.
func (s *Store) write(ctx context.Context, what string, do func(*sql.Tx) error) error {
	if s.beside {
		return fmt.Errorf("%s: %w: it is open beside the process that owns it", what, store.ErrReadOnly)
	}
	if err := s.inPlace(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	tx, err := s.writer.BeginTx(ctx, nil)
	if err != nil {
		return failed(ctx, what, true, s.disk(err))
	}
	defer tx.Rollback() // after Commit it does nothing
	if err := do(tx); err != nil {
		return failed(ctx, what, true, s.disk(err))
	}
	return failed(ctx, what, true, s.disk(tx.Commit()))
}

// inPlace checks that the open file is still the one at the path: on Unix an open file
// can be removed, and later writes to it are lost when the process ends.
func (s *Store) inPlace() error {
	switch now, err := os.Stat(s.path); {
	case s.file == nil: // not open yet
		return nil
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w: %s does not exist", store.ErrReplaced, s.path)
	case err == nil && !os.SameFile(s.file, now):
		return fmt.Errorf("%w: %s is another file", store.ErrReplaced, s.path)
	}
	return nil // if the path cannot be checked, the write itself will fail
}

// disk adds the path of a file that cannot be written. SQLite reports an exceeded quota
// only as a failed write, so the disk is probed.
func (s *Store) disk(err error) error {
	switch code(err) {
	case codes.SQLITE_FULL, codes.SQLITE_READONLY:
		return fmt.Errorf("%s: %w", s.path, err)
	case codes.SQLITE_IOERR, codes.SQLITE_CANTOPEN:
		if why := probe(filepath.Dir(s.path)); why != nil {
			return fmt.Errorf("%s: %w: %w", s.path, err, why)
		}
	}
	return err
}

// probe writes one page into a folder.
func probe(folder string) (err error) {
	f, err := os.CreateTemp(folder, ".weir-probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	_, err = f.Write(make([]byte, 4096))
	return errors.Join(err, f.Sync())
}

// read runs do in one transaction of a reader connection: everything in it sees
// the same moment.
func (s *Store) read(ctx context.Context, what string, do func(*sql.Tx) error) error {
	tx, err := s.reader.BeginTx(ctx, nil)
	if err != nil {
		return failed(ctx, what, false, err)
	}
	defer tx.Rollback() // nothing to commit
	return failed(ctx, what, false, do(tx))
}

// scan is read for long reads: it leaves connections to short ones.
func (s *Store) scan(ctx context.Context, what string, do func(*sql.Tx) error) error {
	select {
	case s.scans <- struct{}{}:
		defer func() { <-s.scans }()
	case <-ctx.Done():
		return failed(ctx, what, false, ctx.Err())
	}
	return s.read(ctx, what, do)
}

// millis and fromMillis are how times stand in the file; zero is NULL.
func millis(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: !t.IsZero()}
}

func fromMillis(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64).UTC()
}
