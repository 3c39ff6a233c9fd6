package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

var migrated = pgtest.NewTemplate(func(dsn string) error { return postgres.Migrate(context.Background(), dsn) })

func TestExam(t *testing.T) {
	at := func(t *testing.T, dsn string) storetest.Opener {
		return func(settings store.Settings) (store.Store, error) {
			return opened(postgres.Open(t.Context(), postgres.Options{DSN: dsn, Settings: settings, Logger: testkit.Logger(t)}))
		}
	}
	storetest.Run(t, storetest.Driver{
		Shared: true,
		Wakes:  true,
		Create: func(t *testing.T) storetest.Opener { return at(t, migrated.DSN(t)) },
		Alter: func(t *testing.T) (storetest.Opener, func(string), string) {
			dsn := migrated.DSN(t)
			return at(t, dsn), func(sql string) { pgtest.Exec(t, dsn, "SET session_replication_role = replica; "+sql) }, "'infinity'"
		},
		Bytes: func(b []byte) string { return fmt.Sprintf(`'\x%x'`, b) },
		Damage: func(t *testing.T) (storetest.Opener, func(string, bucket.Revision)) {
			dsn := migrated.DSN(t)
			return at(t, dsn), func(column string, revision bucket.Revision) {
				pgtest.Exec(t, dsn, fmt.Sprintf(`SET session_replication_role = replica;
					UPDATE bucket SET %[1]s = '\x00' WHERE revision = %[2]d; UPDATE event SET %[1]s = '\x00' WHERE revision = %[2]d`, column, revision))
			}
		},
	})
}

// opened keeps a nil *Store from becoming a store that is not nil.
func opened(s *postgres.Store, err error) (store.Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func open(t *testing.T, dsn string) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, Settings: storetest.Settings, Logger: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func migrate(t *testing.T, dsn string) {
	t.Helper()
	if err := postgres.Migrate(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
}

func grant(t *testing.T, dsn string, g postgres.Grants) {
	t.Helper()
	if err := postgres.Grant(t.Context(), dsn, g); err != nil {
		t.Fatal(err)
	}
}

func acquire(t *testing.T, s *postgres.Store) store.Lease {
	t.Helper()
	lease, err := s.Acquire(t.Context(), "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

var firstWindow = bucket.TimeOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC))

// batch is one five-minute bucket, n windows after the first.
func batch(n int) store.Batch {
	start := firstWindow.Add(time.Duration(n) * 5 * time.Minute)
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

func mustAppend(t *testing.T, s *postgres.Store, term store.Term, at bucket.Position, b store.Batch) bucket.Position {
	t.Helper()
	head, err := s.Append(t.Context(), term, at, b)
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// TestClose: pools, listener and cancelled calls leave nothing running.
func TestClose(t *testing.T) {
	dsn := migrated.DSN(t)
	testkit.NoLeaks(t)
	s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, Settings: storetest.Settings})
	if err != nil {
		t.Fatal(err)
	}
	lease := acquire(t, s)
	<-s.Wake() // it listens
	mustAppend(t, s, lease.Term, lease.Head.Position, batch(0))
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Snapshot(ctx, store.SnapshotQuery{}, func(store.Entry) error {
		cancel()
		return context.Cause(ctx)
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := postgres.Migrate(t.Context(), dsn); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	open(t, dsn)
}

func TestSchema(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	try := func(want error, words ...string) {
		t.Helper()
		s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, Settings: storetest.Settings, Logger: testkit.Logger(t)})
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
	try(store.ErrSchema, "has no schema", "need version 4", "migrate")
	migrate(t, dsn)
	try(nil)
	// The release after has been here, and says that we may stay.
	pgtest.Exec(t, dsn, `UPDATE schema SET version = 5`)
	if err := postgres.Migrate(t.Context(), dsn); err != nil {
		t.Errorf("migrate where a newer release has been: %v", err)
	}
	try(nil)
	// The one after that has contracted.
	pgtest.Exec(t, dsn, `UPDATE schema SET version = 6, oldest_compatible = 5`)
	try(store.ErrSchema, "version 6", "for version 5", "this one is for 4")
	pgtest.Exec(t, dsn, `UPDATE schema SET version = 0, oldest_compatible = 0`)
	try(store.ErrSchema)
}

// TestFinal: the database itself refuses to change an entry (G1), and what was
// changed behind its back is not handed out.
func TestFinal(t *testing.T) {
	t.Parallel()
	dsn := migrated.DSN(t)
	s := open(t, dsn)
	lease := acquire(t, s)
	mustAppend(t, s, lease.Term, lease.Head.Position, batch(0))
	for _, table := range []string{"bucket", "bucket_2026_11"} {
		got := pgtest.Exec(t, dsn, `DO $$ BEGIN UPDATE `+table+` SET payload = 'x'; RAISE 'it was changed';
			EXCEPTION WHEN restrict_violation THEN NULL; END $$; SELECT count(*) FROM `+table+` WHERE payload = 'x'`)
		if !strings.HasSuffix(strings.TrimSpace(got), "0") {
			t.Errorf("update of %s: %s", table, got)
		}
	}
	if got := pgtest.Exec(t, dsn, `SELECT intact FROM bucket_view`); strings.TrimSpace(got) != "t" {
		t.Errorf("bucket_view says intact = %q", got)
	}
	pgtest.Exec(t, dsn, `SET session_replication_role = replica; UPDATE bucket SET payload = 'x'`)
	if got := pgtest.Exec(t, dsn, `SELECT intact FROM bucket_view`); strings.TrimSpace(got) != "f" {
		t.Errorf("bucket_view of a damaged payload says intact = %q", got)
	}
	if got, err := s.ReadLog(t.Context(), 0, 10); err != nil || len(got) != 1 || got[0].Damage == "" || got[0].Payload != nil {
		t.Errorf("read a damaged payload: %+v, %v", got, err)
	}
}

// TestViews: what people are given to read can be read, and says what is there.
func TestViews(t *testing.T) {
	t.Parallel()
	dsn := migrated.DSN(t)
	s := open(t, dsn)
	lease := acquire(t, s)
	at := lease.Head.Position
	for _, n := range []int{0, 1, 3} {
		at = mustAppend(t, s, lease.Term, at, batch(n))
	}
	now := time.Now()
	if _, err := s.Reserve(t.Context(), store.Permits{User: "u", Want: 3, Limit: 9, Now: now, UseBy: now.Add(time.Minute), Span: time.Minute, Holder: "h"}); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, dsn, `SELECT * FROM event_view`)
	for sql, want := range map[string]string{
		`SELECT extract(epoch FROM covered_until - covered_from), buckets FROM coverage_view ORDER BY covered_from`:                   "600.000000|2\n300.000000|1",
		`SELECT dataset, scope, scope_id, to_char(window_start AT TIME ZONE 'UTC', 'DD HH24:MI') FROM bucket_view WHERE revision = 2`: "http_5m|zone|" + strings.Repeat("ab", 16) + "|01 00:05",
		`SELECT holder, held, head FROM lease_view`:           "test|t|3",
		`SELECT username, n, holder, counts FROM permit_view`: "u|3|h|t",
	} {
		if got := strings.TrimSpace(pgtest.Exec(t, dsn, sql)); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", sql, got, want)
		}
	}
}

// TestPermitsAreCountedOn: the number that a row of permits is compared by may be
// the largest that there is.
func TestPermitsAreCountedOn(t *testing.T) {
	t.Parallel()
	dsn := migrated.DSN(t)
	s := open(t, dsn)
	now := time.Now()
	reserve := func() {
		t.Helper()
		grant, err := s.Reserve(t.Context(), store.Permits{User: "u", Want: 1, Limit: 9, Now: now, UseBy: now.Add(time.Minute), Span: time.Minute})
		if err != nil || grant.N != 1 {
			t.Errorf("%d permits, %v; want one", grant.N, err)
		}
	}
	reserve()
	pgtest.Exec(t, dsn, `UPDATE permit SET number = 9223372036854775807`)
	reserve()
	reserve()
}

// TestPartitions: they are made while others read and before they are needed.
func TestPartitions(t *testing.T) {
	t.Parallel()
	dsn := migrated.DSN(t)
	s := open(t, dsn)
	lease := acquire(t, s)
	at := mustAppend(t, s, lease.Term, lease.Head.Position, batch(0))
	list := func() string {
		return strings.Fields(pgtest.Exec(t, dsn, `SELECT string_agg(inhrelid::regclass::text, ',' ORDER BY 1) FROM pg_inherits WHERE inhparent = 'bucket'::regclass`))[0]
	}
	if got := list(); got != "bucket_2026_11" {
		t.Errorf("after a bucket of 1 November the partitions are %s", got)
	}
	_, err := s.Snapshot(t.Context(), store.SnapshotQuery{}, func(store.Entry) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var err error
		at, err = s.Append(ctx, lease.Term, at, batch(28*288)) // 29 November: December is near
		if err != nil {
			t.Errorf("append that makes a partition while a snapshot is read: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := list(); got != "bucket_2026_11,bucket_2026_12" {
		t.Errorf("after a bucket of 29 November the partitions are %s", got)
	}
	// Another process retired a partition that this one believes in.
	pgtest.Exec(t, dsn, `DROP TABLE bucket_2026_12`)
	mustAppend(t, s, lease.Term, at, batch(30*288))
	if got := list(); got != "bucket_2026_11,bucket_2026_12" {
		t.Errorf("after a bucket of 1 December the partitions are %s", got)
	}
}

func TestChangeSampleTimestamp(t *testing.T) {
	t.Parallel()
	o := postgres.Options{DSN: migrated.DSN(t), Settings: storetest.Settings}
	try := func(want error) {
		t.Helper()
		s, err := postgres.Open(t.Context(), o)
		if !errors.Is(err, want) {
			t.Fatalf("open with %+v: %v, want %v", o.Settings, err, want)
		}
		if err != nil {
			return
		}
		defer s.Close()
		if h, err := s.Head(t.Context()); err != nil || h.SampleTimestamp != o.Settings.SampleTimestamp {
			t.Errorf("sample timestamp is %q, %v; want %q", h.SampleTimestamp, err, o.Settings.SampleTimestamp)
		}
	}
	try(nil)
	o.Settings.SampleTimestamp, o.ChangeSampleTimestamp = "start", true
	try(nil)
	// A real store never becomes a simulated one, whatever was asked for.
	o.Settings.Simulated = true
	try(store.ErrSettings)
}

// TestSessions: a statement that is stuck ends by itself, on the server, in less
// time than a lease leaves.
func TestSessions(t *testing.T) {
	t.Parallel()
	dsn := migrated.DSN(t)
	s := open(t, dsn)
	lease := acquire(t, s)
	// Somebody locked the row in psql and went for lunch.
	blocked := make(chan struct{})
	go func() {
		defer close(blocked)
		pgtest.Exec(t, dsn, `BEGIN; UPDATE log SET floor = floor; SELECT pg_sleep(4); ROLLBACK`)
	}()
	defer func() { <-blocked }()
	for !strings.Contains(pgtest.Exec(t, dsn, `SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()`), "1") {
		time.Sleep(5 * time.Millisecond) // psql is starting
	}
	began := time.Now()
	_, err := s.Append(t.Context(), lease.Term, lease.Head.Position, batch(0))
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("append behind a lock: %v", err)
	}
	if took := time.Since(began); took > 4500*time.Millisecond {
		t.Errorf("append behind a lock took %s", took)
	}
	if h, err := s.Head(t.Context()); err != nil || h.Revision != 0 {
		t.Errorf("head behind a lock: %d, %v", h.Revision, err)
	}
}

// TestReadOnly: a server that was demoted refuses to write; the store says
// unavailable, and is well again when a primary is.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	dsn := migrated.DSN(t)
	s := open(t, dsn)
	lease := acquire(t, s)
	setting := func(sql string) {
		pgtest.Exec(t, dsn, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I `+sql+`', current_database()); END $$`)
		// Sessions have their settings from when they began.
		pgtest.Exec(t, dsn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
	}
	// Superusers may set it anew, so a session that says otherwise is closed too.
	setting(`SET default_transaction_read_only = on`)
	eventually(t, "append to a read-only server", func() bool {
		_, err := s.Append(t.Context(), lease.Term, lease.Head.Position, batch(0))
		if !errors.Is(err, store.ErrUnavailable) {
			t.Fatalf("append to a read-only server: %v", err)
		}
		return strings.Contains(err.Error(), "25006")
	})
	pgtest.Exec(t, dsn, `SET default_transaction_read_only = off; DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET default_transaction_read_only', current_database()); END $$`)
	eventually(t, "append to a primary", func() bool {
		_, err := s.Append(t.Context(), lease.Term, lease.Head.Position, batch(0))
		if err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
}

func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for end := time.Now().Add(testkit.Patience); !happened(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}

// TestNoSecrets: whatever is wrong with a connection string, its password is in
// no error and no log line.
func TestNoSecrets(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	var log bytes.Buffer
	for _, dsn := range []string{
		"postgres://weir:" + secret + "@127.0.0.1:1/weir",
		"host=127.0.0.1 port=1 user=weir password=" + secret,
		"postgres://weir:" + secret + "@127.0.0.1:port/weir",
		"postgres://weir:" + secret + "/x@127.0.0.1:1/weir?a=b@c",
		"host=127.0.0.1 passwort=1 password = '" + secret,
		"weir:" + secret + "@127.0.0.1",
		"postgres://weir:" + secret + "@127.0.0.1:1/weir?sslmode=" + secret,
		"postgres://127.0.0.1:1/weir?user=weir&password=" + secret + "&sslmode=maybe",
		"postgres://weir:" + secret + "%zz@127.0.0.1:1/weir",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		s, err := postgres.Open(ctx, postgres.Options{DSN: dsn, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if s != nil {
			s.Close()
		}
		for _, err := range []error{err, postgres.Migrate(ctx, dsn)} {
			if err == nil {
				t.Errorf("%s was taken", dsn)
			} else if strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the password: %v", err)
			}
		}
		cancel()
	}
	if strings.Contains(log.String(), secret) {
		t.Errorf("the log shows the password: %s", log.String())
	}
}
