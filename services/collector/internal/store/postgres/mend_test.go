package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
)

// TestMend: what an operator must mend, and what is wrong with one value, has an
// error of its own, nothing is written, and the same store goes on when it is
// mended.
func TestMend(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	const encode = `UPDATE pg_database SET encoding = pg_char_to_encoding('%s') WHERE datname = current_database()`
	plain := batch(1)
	with := func(value string) store.Batch {
		b := batch(1)
		b.Records = []store.Record{{Kind: "scope", Key: "z", Value: []byte(value)}}
		return b
	}
	for name, c := range map[string]struct {
		want       error
		harm, mend string
		others     bool // sessions that exist are not concerned
		batch      store.Batch
	}{
		"database read-only": {store.ErrReadOnly, `ALTER DATABASE %s SET default_transaction_read_only = on`, `ALTER DATABASE %s RESET default_transaction_read_only`, true, plain},
		"lost right":         {store.ErrDenied, `REVOKE INSERT ON bucket FROM mend_writer`, `GRANT INSERT ON bucket TO mend_writer`, false, plain},
		"lost schema":        {store.ErrSchema, `REVOKE USAGE ON SCHEMA public FROM public, mend_writer`, `GRANT USAGE ON SCHEMA public TO public`, true, plain},
		"missing table":      {store.ErrSchema, `ALTER TABLE event RENAME TO gone`, `ALTER TABLE gone RENAME TO event`, false, plain},
		"missing column":     {store.ErrSchema, `ALTER TABLE record RENAME COLUMN value TO gone`, `ALTER TABLE record RENAME COLUMN gone TO value`, false, with(`1`)},
		"LATIN1":             {store.ErrEncoding, fmt.Sprintf(encode, "LATIN1"), fmt.Sprintf(encode, "UTF8"), true, with(`"Кошка"`)},
		"SQL_ASCII":          {store.ErrEncoding, fmt.Sprintf(encode, "SQL_ASCII"), fmt.Sprintf(encode, "UTF8"), true, with(`"\u2028"`)},
		"half a character":   {store.ErrInvalid, ``, ``, false, with(`"\ud800"`)},
		"a check": {
			store.ErrInvalid, `ALTER TABLE record ADD CONSTRAINT small CHECK (value <> '7')`, `ALTER TABLE record DROP CONSTRAINT small`, false, with(`7`),
		},
		"a trigger": {
			store.ErrInvalid, `CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not that one'; END $$; CREATE TRIGGER no BEFORE INSERT ON record FOR EACH ROW EXECUTE FUNCTION no()`,
			`DROP TRIGGER no ON record`, false, with(`7`),
		},
		"a quota": {
			store.ErrNoSpace, `CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'could not extend file "base/5/16384": Disk quota exceeded' USING ERRCODE = 'XX000'; END $$; CREATE TRIGGER no BEFORE INSERT ON record FOR EACH ROW EXECUTE FUNCTION no()`,
			`DROP TRIGGER no ON record`, false, with(`7`),
		},
	} {
		t.Run(name, func(t *testing.T) {
			dsn := server.DSN()
			admin := server.Local(dsn)
			migrate(t, dsn)
			pgtest.Exec(t, admin, `DO $$ BEGIN CREATE ROLE mend_writer LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
			grant(t, dsn, postgres.Grants{Writers: []string{"mend_writer"}})
			s := open(t, strings.Replace(dsn, "postgres@", "mend_writer@", 1))
			lease := acquire(t, s)
			at := mustAppend(t, s, lease.Term, lease.Head.Position, batch(0))
			act := func(sql string) {
				sql = strings.ReplaceAll(sql, "%s", pgtest.Exec(t, admin, `SELECT current_database()`))
				pgtest.Exec(t, admin, `SET default_transaction_read_only = off; `+sql)
				if !c.others {
					return
				}
				pgtest.Exec(t, admin, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'mend_writer'`)
				eventually(t, "new sessions", func() bool { _, err := s.Head(t.Context()); return err == nil || strings.Contains(sql, "REVOKE USAGE") })
			}
			act(c.harm)
			_, err := s.Append(t.Context(), lease.Term, at, c.batch)
			for range 5 { // pools may still have a session that has ended
				if store.Reason(err) != "unavailable" {
					break
				}
				_, err = s.Append(t.Context(), lease.Term, at, c.batch)
			}
			wantErr(t, name, err, c.want)
			if store.NeedsRepair(err) == store.ContentRejected(err) {
				t.Errorf("%v is to be mended (%t), and of the content (%t); want one of them", err, store.NeedsRepair(err), store.ContentRejected(err))
			}
			if name == "database read-only" {
				_, err := s.Acquire(t.Context(), "test", time.Hour)
				wantErr(t, "acquire", err, store.ErrReadOnly)
				wantErr(t, "renew", s.Renew(t.Context(), lease.Term, time.Hour, time.Time{}), store.ErrReadOnly)
			}
			if strings.Contains(c.harm, "encoding") {
				wantErr(t, "check of the encoding", s.CheckEncoding(t.Context()), store.ErrEncoding)
			}
			if n := pgtest.Exec(t, admin, `SELECT count(*) FROM bucket`); n != "1" {
				t.Errorf("%s buckets are stored, want 1", n)
			}
			if c.mend == "" {
				mustAppend(t, s, lease.Term, at, plain)
				return
			}
			act(c.mend)
			eventually(t, "append when it is mended", func() bool {
				head, err := s.Append(t.Context(), lease.Term, at, c.batch)
				return err == nil && head.Revision == 2
			})
		})
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: error is %v, want %v", what, got, want)
	}
}

// TestFullDisk: no space is told from a database that is away. Postgres may end
// itself over it, which is the latter.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	server, disk, err := pgtest.StartOnDisk(t, 256<<20, "shared_buffers=16MB", "min_wal_size=32MB")
	if errors.Is(err, pgtest.ErrNoMount) {
		t.Skipf("needs a file system of its own, which this machine may not mount: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dsn := server.DSN()
	migrate(t, dsn)
	s := open(t, dsn)
	lease := acquire(t, s)
	at := mustAppend(t, s, lease.Term, lease.Head.Position, batch(0))
	disk.Fill()
	large := func(n int) store.Batch {
		b := batch(n)
		b.Entries[0].Payload = []byte(strings.Repeat(fmt.Sprint(n), 100_000))
		return b
	}
	n := 1
	for ; ; n++ {
		head, err := s.Append(t.Context(), lease.Term, at, large(n))
		if err != nil {
			if r := store.Reason(err); r != "no_space" && r != "unavailable" {
				t.Errorf("append %d to a full disk: %s, %v", n, r, err)
			}
			t.Log(n, err)
			break
		}
		at = head
	}
	disk.Free()
	server.Revive()
	eventually(t, "append when there is room again", func() bool {
		h, err := s.Head(t.Context())
		if err == nil {
			_, err = s.Append(t.Context(), lease.Term, h.Position, large(n))
		}
		return err == nil
	})
}

// TestEncodingOfSessions: what is sent is UTF-8, whatever a database, a role or a
// connection string says, and is kept as such.
func TestEncodingOfSessions(t *testing.T) {
	t.Parallel()
	dsn := migrated.DSN(t)
	pgtest.Exec(t, dsn, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET client_encoding = ''LATIN1''', current_database()); END $$`)
	s := open(t, dsn+"&client_encoding=LATIN1")
	lease := acquire(t, s)
	b := batch(0)
	b.Records = []store.Record{{Kind: "scope", Key: "z", Value: []byte(`"Grüße, Кошка"`)}}
	mustAppend(t, s, lease.Term, lease.Head.Position, b)
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var length int
	if err := conn.QueryRow(t.Context(), `SELECT length(value #>> '{}') FROM record`).Scan(&length); err != nil || length != 12 {
		t.Errorf("%d characters are stored, %v; want 12", length, err)
	}
	if records, err := s.Records(t.Context(), "scope"); err != nil || string(records[0].Value) != `"Grüße, Кошка"` {
		t.Errorf("read back: %s, %v", records, err)
	}
}
