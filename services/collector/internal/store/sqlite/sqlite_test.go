package sqlite_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

func TestExam(t *testing.T) {
	at := func(t *testing.T, path string) storetest.Opener {
		return func(settings store.Settings) (store.Store, error) {
			return opened(sqlite.Open(t.Context(), sqlite.Options{Path: path, Settings: settings}))
		}
	}
	storetest.Run(t, storetest.Driver{
		Create: func(t *testing.T) storetest.Opener { return at(t, newFile(t)) },
		Alter: func(t *testing.T) (storetest.Opener, func(string), string) {
			path := newFile(t)
			mustExecute(t, path, `DROP TRIGGER bucket_is_final; DROP TRIGGER event_is_final`)
			return at(t, path), func(sql string) { mustExecute(t, path, sql) }, "9223372036854775807"
		},
		Bytes: func(b []byte) string { return fmt.Sprintf(`x'%x'`, b) },
		Damage: func(t *testing.T) (storetest.Opener, func(string, bucket.Revision)) {
			path := newFile(t)
			mustExecute(t, path, `DROP TRIGGER bucket_is_final; DROP TRIGGER event_is_final`)
			return at(t, path), func(column string, revision bucket.Revision) {
				mustExecute(t, path, fmt.Sprintf(`UPDATE bucket SET %[1]s = x'00' WHERE revision = %[2]d; UPDATE event SET %[1]s = x'00' WHERE revision = %[2]d`, column, revision))
			}
		},
	})
}

// TestEphemeral: it needs nothing and leaves nothing.
func TestEphemeral(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	testkit.NoLeaks(t)
	s, err := sqlite.Open(t.Context(), sqlite.Options{Ephemeral: true})
	if err != nil {
		t.Fatal(err)
	}
	head, err := s.Head(t.Context())
	if err != nil || head.SampleTimestamp != "end" || head.Simulated {
		t.Errorf("head of an ephemeral store: %+v, %v", head, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left after Close: %v, %v", left, err)
	}
}

// opened keeps a nil *Store from becoming a store that is not nil.
func opened(s *sqlite.Store, err error) (store.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func newFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.db")
	migrate(t, path)
	return path
}

func migrate(t *testing.T, path string) {
	t.Helper()
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
}

// open opens a file that was closed just before. A child that another test is
// starting holds copies of all descriptors, and with them the lock, until it execs.
func open(t *testing.T, path string) (s *sqlite.Store) {
	t.Helper()
	testkit.Eventually(t, func() (err error) {
		s, err = sqlite.Open(t.Context(), sqlite.Options{Path: path, Settings: storetest.Settings})
		if err != nil && !errors.Is(err, sqlite.ErrInUse) {
			t.Fatal(err)
		}
		return err
	})
	t.Cleanup(func() { s.Close() })
	return s
}

// batch is one five-minute bucket, n windows after the first.
func batch(n int) store.Batch {
	start := bucket.TimeOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)).Add(time.Duration(n) * 5 * time.Minute)
	return store.Batch{
		CommittedAt: start.Std().Add(10 * time.Minute),
		Entries: []store.NewEntry{{
			Kind:    bucket.KindBucket,
			Key:     bucket.Key{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: strings.Repeat("ab", 16)}, Start: start},
			End:     start.Add(5 * time.Minute),
			Payload: fmt.Appendf(nil, "payload %d", n),
		}},
	}
}

// execute changes the file behind the store's back, as sqlite3 would.
func execute(t *testing.T, path, statements string) error {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	_, err = db.Exec(statements)
	return err
}

func mustExecute(t *testing.T, path, statements string) {
	t.Helper()
	if err := execute(t, path, statements); err != nil {
		t.Fatal(err)
	}
}

func TestSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.db")
	try := func(want error, words ...string) {
		t.Helper()
		s, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Settings: storetest.Settings})
		if s != nil {
			s.Close()
		}
		if !errors.Is(err, want) {
			t.Fatalf("open: %v, want %v", err, want)
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q does not mention %q", err, w)
			}
		}
	}
	try(store.ErrSchema)
	if _, err := os.Stat(path); err == nil {
		t.Error("Open made a file that was not there")
	}
	mustExecute(t, path, `CREATE TABLE somebody_elses (x)`)
	try(store.ErrSchema, "has no schema", "need version 2", "migrate")
	for range 2 {
		if err := sqlite.Migrate(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	try(nil)
	// The release after has been here, and says that we may stay.
	mustExecute(t, path, `UPDATE schema SET version = 3; INSERT INTO migration (version_id, is_applied) VALUES (3, 1)`)
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Errorf("migrate where a newer release has been: %v", err)
	}
	try(nil)
	// The one after that has contracted.
	mustExecute(t, path, `UPDATE schema SET version = 4, oldest_compatible = 3`)
	try(store.ErrSchema, "version 4", "for version 3", "this one is for 2")
	mustExecute(t, path, `UPDATE schema SET version = 0, oldest_compatible = 0`)
	try(store.ErrSchema)
}

func TestOneProcess(t *testing.T) {
	path := newFile(t)
	s := open(t, path)
	_, err := sqlite.Open(t.Context(), sqlite.Options{Path: path})
	names := func(err error) bool {
		return strings.Contains(err.Error(), path) && strings.Contains(err.Error(), fmt.Sprintf("process %d;", os.Getpid()))
	}
	if !errors.Is(err, sqlite.ErrInUse) || !names(err) {
		t.Errorf("a second open: %v; want which file is in use, and by whom", err)
	}
	if err := sqlite.Migrate(t.Context(), path); !errors.Is(err, sqlite.ErrInUse) || !names(err) {
		t.Errorf("migrate under an open store: %v; want which file is in use, and by whom", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

// TestFinal: the database itself refuses to change an entry (G1), and what was
// changed behind its back is not handed out.
func TestFinal(t *testing.T) {
	path := newFile(t)
	s := open(t, path)
	lease, err := s.Acquire(t.Context(), "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), lease.Term, lease.Head.Position, batch(0)); err != nil {
		t.Fatal(err)
	}
	if err := execute(t, path, `UPDATE bucket SET payload = x'00'`); err == nil {
		t.Error("a stored bucket was changed")
	}
	mustExecute(t, path, `DROP TRIGGER bucket_is_final; UPDATE bucket SET payload = x'00'`)
	if got, err := s.ReadLog(t.Context(), 0, 10); err != nil || len(got) != 1 || got[0].Damage == "" || got[0].Payload != nil {
		t.Errorf("read a damaged payload: %+v, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("this is no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sqlite.Open(t.Context(), sqlite.Options{Path: path}); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("open what is no database: %v", err)
	}
}

// TestPath: a path is a path, whatever SQLite's URIs make of its characters.
func TestPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?mode=memory&c#d%41.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s := open(t, path)
	if info, err := os.Stat(path); err != nil || info.Size() == 0 {
		t.Errorf("the database is not where it should be: %v", err)
	}
	if size, err := s.Size(t.Context()); err != nil || size < 4096 {
		t.Errorf("size is %d, %v", size, err)
	}
}

func TestViews(t *testing.T) {
	path := newFile(t)
	open(t, path)
	for _, view := range []string{"bucket_view", "event_view"} {
		mustExecute(t, path, `SELECT * FROM `+view)
	}
}

func TestChangeSampleTimestamp(t *testing.T) {
	path := newFile(t)
	open(t, path).Close()
	other := store.Settings{SampleTimestamp: "start"}
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Settings: other, ChangeSampleTimestamp: true})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := s.Head(t.Context()); err != nil || h.SampleTimestamp != "start" {
		t.Errorf("sample timestamp is %q, %v", h.SampleTimestamp, err)
	}
	s.Close()
	other.Simulated = true
	if _, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Settings: other, ChangeSampleTimestamp: true}); !errors.Is(err, store.ErrSettings) {
		t.Errorf("a real store became a simulated one: %v", err)
	}
}
