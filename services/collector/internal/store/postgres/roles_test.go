package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

// TestRoles: on a server that asks everybody for TLS and a password, a role that
// owns nothing passes the whole exam, retention and new months included; and no
// role can do more than it should.
func TestRoles(t *testing.T) {
	t.Parallel()
	s := secure(t, pgtest.Start(t))
	t.Run("Exam", func(t *testing.T) {
		testkit.InAll(t)
		t.Parallel()
		storetest.Run(t, s.driver(t))
	})
	t.Run("ExamThroughPgBouncer", func(t *testing.T) {
		testkit.InAll(t)
		t.Parallel()
		pooled := newPgBouncer(t, transactions, s.as(s.template, writer))
		storetest.Run(t, throughPgBouncer(pooled, true, func(testing.TB) string { return s.Copy(s.template) }))
	})
	t.Run("Reader", func(t *testing.T) { t.Parallel(); testReader(t, s) })
	t.Run("Forbidden", func(t *testing.T) { t.Parallel(); testForbidden(t, s) })
	t.Run("Least", func(t *testing.T) { t.Parallel(); testLeast(t, s) })
	t.Run("Grant", func(t *testing.T) { t.Parallel(); testGrant(t, s) })
	t.Run("Introduce", func(t *testing.T) { t.Parallel(); testIntroduce(t, s) })
	t.Run("NewFunctions", func(t *testing.T) { t.Parallel(); testNewFunctions(t, s) })
	t.Run("Schema", func(t *testing.T) { t.Parallel(); testHiddenSchema(t, s) })
}

// driver is the driver as the writer has it.
func (s *secured) driver(*testing.T) storetest.Driver {
	return storetest.Driver{
		Shared: true,
		Wakes:  true,
		Create: func(t *testing.T) storetest.Opener {
			dsn := s.as(s.Copy(s.template), writer)
			return func(settings store.Settings) (store.Store, error) {
				opened, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, Settings: settings, Logger: testkit.Logger(t)})
				if err != nil {
					return nil, err
				}
				if err := opened.CheckRights(t.Context()); err != nil {
					return nil, errors.Join(err, opened.Close())
				}
				return opened, nil
			}
		},
	}
}

// testReader: a role that may only read reads everything, and each of its writes
// is refused by the database.
func testReader(t *testing.T, s *secured) {
	dsn := s.Copy(s.template)
	storetest.WriteHistory(t, open(t, s.as(dsn, writer)))
	r := open(t, s.as(dsn, reader))
	storetest.CheckHistory(t, r)
	head, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if versions, err := r.Datasets(t.Context()); err != nil || len(versions) != 3 {
		t.Errorf("%d dataset versions, %v", len(versions), err)
	}
	if size, err := r.Size(t.Context()); err != nil || size == 0 {
		t.Errorf("size is %d, %v", size, err)
	}
	now := time.Now()
	records := store.Batch{CommittedAt: now, Records: []store.Record{{Kind: "gap", Key: "1", Value: []byte(`1`)}}}
	for what, write := range map[string]func() error{
		"acquire": func() error { _, err := r.Acquire(t.Context(), "historian", time.Hour); return err },
		"renew":   func() error { return r.Renew(t.Context(), head.Term, time.Hour, now) },
		"release": func() error { return r.Release(t.Context(), head.Term) },
		"append":  func() error { _, err := r.Append(t.Context(), head.Term, head.Position, batch(0)); return err },
		"append in a new month": func() error {
			_, err := r.Append(t.Context(), head.Term, head.Position, batch(100*288))
			return err
		},
		"append records": func() error { _, err := r.Append(t.Context(), head.Term, head.Position, records); return err },
		"reserve": func() error {
			_, err := r.Reserve(t.Context(), store.Permits{User: "v", Want: 1, Limit: 1, Now: now, UseBy: now, Span: time.Minute})
			return err
		},
		"retire": func() error {
			_, err := r.Retire(t.Context(), head.Term, bucket.TimeOf(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)), time.Time{})
			return err
		},
	} {
		err := write()
		denied(t, what+" as a reader", err)
		if err != nil && !strings.Contains(err.Error(), "--grant-writer") {
			t.Errorf("%s: %q does not say what helps", what, err)
		}
	}
	after, err := r.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if after.Position != head.Position || after.Term != head.Term || after.Floor != head.Floor || after.Holder != head.Holder {
		t.Errorf("the head was %+v before a reader's writes, and is %+v", head, after)
	}
	storetest.CheckHistory(t, r)
	err = r.CheckRights(t.Context())
	denied := fmt.Sprint(err)
	if !errors.Is(err, store.ErrDenied) || strings.Contains(denied, "SELECT") {
		t.Errorf("rights of a reader: %v", err)
	}
	for _, right := range postgres.WriterRights() {
		if !strings.HasPrefix(right, "SELECT") && !strings.Contains(denied, right) {
			t.Errorf("the missing right %s is not named in %s", right, denied)
		}
	}
	if want := "collector migrate --grant-writer=" + reader; !strings.Contains(denied, want) {
		t.Errorf("%q does not say %q", denied, want)
	}
}

// denied: the database itself refused, for want of a right.
func denied(t *testing.T, what string, err error) {
	t.Helper()
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !errors.Is(err, store.ErrDenied) || errors.Is(err, store.ErrUnavailable) || !ok || e.Code != "42501" {
		t.Errorf("%s: %v; want SQLSTATE 42501", what, err)
	}
}

// testForbidden: what no collector does is refused to its role, and all of it to
// a reader.
func testForbidden(t *testing.T, s *secured) {
	dsn := s.Copy(s.template)
	storetest.WriteHistory(t, open(t, s.as(dsn, writer)))
	nobody := map[string]string{
		"change a bucket":               `UPDATE bucket SET payload = 'x'`,
		"delete a bucket":               `DELETE FROM bucket`,
		"empty the log":                 `TRUNCATE bucket`,
		"delete an event":               `DELETE FROM event`,
		"change an event":               `UPDATE event SET payload = 'x'`,
		"move the floor":                `UPDATE log SET floor = 0`,
		"change the floor's chain":      `UPDATE log SET floor_chain = chain`,
		"change whose store it is":      `UPDATE log SET store_id = 'x'`,
		"call it real":                  `UPDATE log SET simulated = NOT simulated`,
		"delete the log's row":          `DELETE FROM log`,
		"change what a record is about": `UPDATE record SET key = 'x'`,
		"forget permits":                `DELETE FROM permit`,
		"change the schema's version":   `UPDATE schema SET version = 9`,
		"insert past the parent":        `INSERT INTO bucket_2026_11 SELECT * FROM bucket LIMIT 1`,
		"read past the parent":          `SELECT * FROM bucket_2026_11`,
		"drop a month":                  `DROP TABLE bucket_2026_11`,
		"detach a month":                `ALTER TABLE bucket DETACH PARTITION bucket_2026_11`,
		"drop the guard":                `DROP TRIGGER bucket_is_final ON bucket`,
		"disable the guard":             `ALTER TABLE bucket DISABLE TRIGGER bucket_is_final`,
		"switch triggers off":           `SET session_replication_role = replica`,
		"make a table":                  `CREATE TABLE mine ()`,
		"change a function":             `ALTER FUNCTION drop_month(bigint, bigint) RESET search_path`,
		"look at migrations":            `SELECT * FROM migration`,
	}
	readers := map[string]string{
		"take the lease":     `UPDATE log SET term = term + 1`,
		"insert a bucket":    `INSERT INTO bucket SELECT * FROM bucket LIMIT 1`,
		"insert an event":    `INSERT INTO event SELECT * FROM event LIMIT 1`,
		"change a record":    `UPDATE record SET value = '1'`,
		"delete a record":    `DELETE FROM record`,
		"insert a record":    `INSERT INTO record VALUES ('a', 'b', '1')`,
		"insert permits":     `INSERT INTO permit VALUES ('a', 1, '[]')`,
		"change permits":     `UPDATE permit SET blocks = '[]'`,
		"add a month":        `SELECT add_month(1893456000)`,
		"drop a month":       `SELECT drop_month((SELECT term FROM log), 1793491200, now())`,
		"lock out everybody": `BEGIN; LOCK TABLE bucket IN ACCESS EXCLUSIVE MODE`,
		"hold the lease row": `BEGIN; SELECT * FROM log FOR UPDATE`,
	}
	for role, forbidden := range map[string][]map[string]string{writer: {nobody}, reader: {nobody, readers}} {
		conn, err := pgx.Connect(t.Context(), s.as(dsn, role)+"&default_query_exec_mode=simple_protocol")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.WithoutCancel(t.Context()))
		for _, list := range forbidden {
			for what, sql := range list {
				_, err := conn.Exec(t.Context(), sql)
				if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "42501" {
					t.Errorf("%s may %s: %v", role, what, err)
				}
				if _, err := conn.Exec(t.Context(), "ROLLBACK"); err != nil { // what is between BEGIN and its error
					t.Fatal(err)
				}
			}
		}
	}

	// What runs with the owner's rights does its own work and no other.
	conn, err := pgx.Connect(t.Context(), s.as(dsn, writer))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	pgtest.Exec(t, s.Local(dsn), `ALTER TABLE bucket DETACH PARTITION bucket_2026_11; CREATE TABLE bucket_1999_01 (revision bigint, chain bytea)`)
	for _, sql := range []string{
		`CREATE TEMP TABLE log (term bigint, floor bigint, floor_chain bytea)`,
		`CREATE TEMP TABLE bucket_2026_10 (revision bigint, chain bytea)`,
		`INSERT INTO pg_temp.log VALUES (77, 0, '')`,
		`SET search_path = pg_temp, public`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for what, tc := range map[string]struct {
		sql  string
		want bool
	}{
		"a forged term":       {`SELECT public.drop_month(77, 1790812800, now())`, false},
		"a kept month":        {`SELECT public.drop_month((SELECT term FROM public.log), 1793491200, now())`, true},
		"somebody else's":     {`SELECT public.drop_month((SELECT term FROM public.log), 915148800, now())`, true},
		"a month there isn't": {`SELECT public.drop_month((SELECT term FROM public.log), 0, now())`, true},
	} {
		var leads bool
		if err := conn.QueryRow(t.Context(), tc.sql).Scan(&leads); err != nil || leads != tc.want {
			t.Errorf("drop %s: %t, %v; want %t", what, leads, err, tc.want)
		}
	}
	for _, table := range []string{"bucket_2026_10", "bucket_2026_11", "bucket_1999_01"} {
		pgtest.Exec(t, s.Local(dsn), `SELECT revision FROM `+table)
	}
	for _, first := range []int64{1793491201, 1793491200 + 86400} { // 1 November and after
		_, err := conn.Exec(t.Context(), `SELECT public.add_month($1)`, first)
		if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "22023" {
			t.Errorf("a month that begins at %d: %v", first, err)
		}
	}
}

// testLeast: of a writer's rights none can be spared, and the lack of each is
// told by name before anything is written.
func testLeast(t *testing.T, s *secured) {
	for _, right := range postgres.WriterRights() {
		t.Run(right, func(t *testing.T) {
			t.Parallel()
			dsn := s.Copy(s.template)
			pgtest.Exec(t, s.Local(dsn), "REVOKE "+right+" FROM "+writer)
			o := postgres.Options{DSN: s.as(dsn, writer), Settings: storetest.Settings, Logger: testkit.Logger(t)}
			missing, err := postgres.Open(t.Context(), o)
			if err == nil {
				err = missing.CheckRights(t.Context())
				missing.Close()
				if !strings.Contains(fmt.Sprint(err), " lacks "+right+";") {
					t.Errorf("the check says %v", err)
				}
			}
			if !errors.Is(err, store.ErrDenied) {
				t.Errorf("open without it: %v", err)
			}
			if err := everything(t, o); !errors.Is(err, store.ErrDenied) {
				t.Errorf("everything that a collector does, without the right: %v", err)
			}
			grant(t, s.as(dsn, owner), postgres.Grants{Writers: []string{writer}})
			if err := everything(t, o); err != nil {
				t.Errorf("after the grant: %v", err)
			}
		})
	}
}

// everything is all that a collector does to a store, once.
func everything(t *testing.T, o postgres.Options) error {
	s, err := postgres.Open(t.Context(), o)
	if err != nil {
		return err
	}
	defer s.Close()
	lease, err := s.Acquire(t.Context(), "test", time.Hour)
	if err != nil {
		return err
	}
	b := batch(int(lease.Term))
	b.Entries = append(b.Entries, store.NewEntry{Kind: bucket.KindState, Payload: []byte("state")})
	b.Records = []store.Record{{Kind: "gap", Key: "1", Value: []byte(`1`)}}
	head, err := s.Append(t.Context(), lease.Term, lease.Head.Position, b)
	if err != nil {
		return err
	}
	b.Entries, b.Records = nil, append(b.Records, store.Record{Kind: "gap", Key: "2"})
	b.Records[0].Value = []byte(`2`)
	if _, err := s.Append(t.Context(), lease.Term, head, b); err != nil {
		return err
	}
	if _, err := s.ReadLog(t.Context(), lease.Head.Revision, 10); err != nil {
		return err
	}
	if _, err := s.Snapshot(t.Context(), store.SnapshotQuery{}, func(store.Entry) error { return nil }); err != nil {
		return err
	}
	now := time.Now()
	for range 2 {
		if _, err := s.Reserve(t.Context(), store.Permits{User: "u", Want: 1, Limit: 100, Now: now, UseBy: now, Span: time.Minute}); err != nil {
			return err
		}
	}
	if _, err := s.Retire(t.Context(), lease.Term, firstWindow.Add(60*24*time.Hour), time.Time{}); err != nil {
		return err
	}
	return s.Release(t.Context(), lease.Term)
}

// testGrant: what it is asked for it does exactly, as often as one likes; what is
// wrong with the request it says.
func testGrant(t *testing.T, s *secured) {
	dsn := s.Copy(s.template)
	asOwner := s.as(dsn, owner)
	acl := func() string {
		return pgtest.Exec(t, s.Local(dsn), `SELECT relname, relacl FROM pg_class WHERE relacl IS NOT NULL AND relnamespace = 'public'::regnamespace
			UNION ALL SELECT relname || '.' || attname, attacl FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid WHERE attacl IS NOT NULL AND relnamespace = 'public'::regnamespace
			UNION ALL SELECT oid::regprocedure::text, proacl FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1`)
	}
	before := acl()
	both := postgres.Grants{Writers: []string{writer}, Readers: []string{reader}}
	for range 2 {
		grant(t, asOwner, both)
	}
	if after := acl(); after != before {
		t.Errorf("granted again, rights are\n%s\nand were\n%s", after, before)
	}
	pgtest.Exec(t, s.Local(dsn), `CREATE ROLE "Odd ""name" LOGIN PASSWORD 'weir_odd'; GRANT ALL ON bucket, log, record TO "Odd ""name"`)
	grant(t, asOwner, postgres.Grants{Writers: []string{`Odd "name`}})
	if got := pgtest.Exec(t, s.Local(dsn), `SELECT has_table_privilege('Odd "name', 'bucket', 'DELETE'), has_table_privilege('Odd "name', 'bucket', 'INSERT')`); got != "f|t" {
		t.Errorf("a role that had more than it should may delete and insert: %s", got)
	}
	// A writer that becomes a reader is no writer any more.
	grant(t, asOwner, postgres.Grants{Readers: []string{`Odd "name`}})
	if got := pgtest.Exec(t, s.Local(dsn), `SELECT has_column_privilege('Odd "name', 'log', 'term', 'UPDATE'), has_table_privilege('Odd "name', 'bucket_view', 'SELECT')`); got != "f|t" {
		t.Errorf("a writer that became a reader may take the lease and read: %s", got)
	}

	before = acl()
	for _, tc := range []struct {
		dsn   string
		g     postgres.Grants
		want  error
		words []string
	}{
		{asOwner, postgres.Grants{Writers: []string{writer, "nobody_there"}}, nil, []string{`role "nobody_there" does not exist`, "CREATE ROLE"}},
		{asOwner, postgres.Grants{Writers: []string{owner}}, nil, []string{`"` + owner + `" owns the tables`}},
		{asOwner, postgres.Grants{Writers: []string{reader}, Readers: []string{reader}}, nil, []string{`"` + reader + `" is given as writer and as reader`}},
		{s.as(dsn, writer), both, store.ErrDenied, []string{"owner", owner}},
		{s.as(s.DSN(), owner), both, store.ErrSchema, []string{"has no schema", "collector migrate"}},
	} {
		err := postgres.Grant(t.Context(), tc.dsn, tc.g)
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("grant %v: %v, want %v", tc.g, err, tc.want)
		}
		if errors.Is(err, store.ErrUnavailable) {
			t.Errorf("grant %v is refused as if the database were away: %v", tc.g, err)
		}
		for _, w := range tc.words {
			if !strings.Contains(fmt.Sprint(err), w) {
				t.Errorf("grant %v: %q does not say %q", tc.g, err, w)
			}
		}
	}
	if after := acl(); after != before {
		t.Errorf("refused grants changed rights from\n%s\nto\n%s", before, after)
	}
	// Migrating is the owner's affair, unless there is nothing to do.
	if err := postgres.Migrate(t.Context(), s.as(dsn, writer)); err != nil {
		t.Errorf("migrate what is migrated, as the writer: %v", err)
	}
	err := postgres.Migrate(t.Context(), s.as(s.DSN(), writer))
	if !errors.Is(err, store.ErrDenied) || !strings.Contains(err.Error(), "the role that owns the tables") {
		t.Errorf("migrate as the writer: %v", err)
	}
}

// testIntroduce: where one role has done everything, at an earlier schema, it
// becomes the writer of another's tables, and collects on.
func testIntroduce(t *testing.T, s *secured) {
	dump, err := os.ReadFile("testdata/dump_1.sql")
	if err != nil {
		t.Fatal(err)
	}
	dsn := s.DSN()
	pgtest.Exec(t, s.Local(dsn), `CREATE ROLE weir LOGIN PASSWORD 'weir'; GRANT CREATE ON SCHEMA public TO weir, `+owner+`; SET ROLE weir; `+string(dump))
	for range 2 {
		pgtest.Exec(t, s.Local(dsn), `REASSIGN OWNED BY weir TO `+owner)
		migrate(t, s.as(dsn, owner))
		grant(t, s.as(dsn, owner), postgres.Grants{Writers: []string{"weir"}})
	}
	w := open(t, s.as(dsn, "weir"))
	if err := w.CheckRights(t.Context()); err != nil {
		t.Error(err)
	}
	storetest.CheckHistory(t, w)
	storetest.GoOn(t, w, 40)
	if got := pgtest.Exec(t, s.Local(dsn), `SELECT count(*) FROM pg_class WHERE relowner = 'weir'::regrole`); got != "0" {
		t.Errorf("the writer owns %s tables and indexes", got)
	}
}

// testNewFunctions: who could use a function can use those that take its place.
func testNewFunctions(t *testing.T, s *secured) {
	dump, err := os.ReadFile("testdata/dump_2.sql")
	if err != nil {
		t.Fatal(err)
	}
	dsn := s.DSN()
	pgtest.Exec(t, s.Local(dsn), `GRANT CREATE ON SCHEMA public TO `+owner+`; SET ROLE `+owner+`; `+string(dump)+`; GRANT EXECUTE ON FUNCTION public.drop_month(bigint, bigint) TO `+writer)
	migrate(t, s.as(dsn, owner))
	for function, want := range map[string]string{
		"drop_month(bigint, bigint, timestamptz)": "t", "forget_dropped(bigint, timestamptz)": "t", "raise_floor(bigint, bigint, bytea)": "f",
	} {
		if got := pgtest.Exec(t, s.Local(dsn), fmt.Sprintf(`SELECT has_function_privilege('%s', '%s', 'EXECUTE')`, writer, function)); got != want {
			t.Errorf("the writer may execute %s: %s, want %s", function, got, want)
		}
	}
}

// testHiddenSchema: in a schema of their own tables look as if they did not
// exist to a role that may not use it, which is told apart.
func testHiddenSchema(t *testing.T, s *secured) {
	dsn := s.DSN()
	pgtest.Exec(t, s.Local(dsn), "CREATE SCHEMA weir AUTHORIZATION "+owner)
	in := func(role string) string { return s.as(dsn, role) + "&search_path=weir" }
	migrate(t, in(owner))
	_, err := postgres.Open(t.Context(), postgres.Options{DSN: in(writer), Settings: storetest.Settings, Logger: testkit.Logger(t)})
	if !errors.Is(err, store.ErrDenied) || !strings.Contains(err.Error(), "USAGE ON SCHEMA weir") {
		t.Errorf("open without USAGE: %v", err)
	}
	grant(t, in(owner), postgres.Grants{Writers: []string{writer}})
	if err := everything(t, postgres.Options{DSN: in(writer), Settings: storetest.Settings, Logger: testkit.Logger(t)}); err != nil {
		t.Errorf("in a schema of its own: %v", err)
	}
	if got := pgtest.Exec(t, s.Local(dsn), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`); got != "0" {
		t.Errorf("%s tables are in the schema public", got)
	}
}
