package postgres_test

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

var dumpFile = flag.String("postgres.dump", "", "write a dump of a store with history at the present schema to this file")

// TestWriteDump makes a fixture of TestUpgrade of the schema as it is, when
// asked to: before the next migration is written.
func TestWriteDump(t *testing.T) {
	if *dumpFile == "" {
		t.Skip("writes a fixture, with -postgres.dump=FILE")
	}
	dsn := migrated.DSN(t)
	storetest.WriteHistory(t, open(t, dsn))
	out, err := exec.Command("pg_dump", "--no-owner", "--no-privileges", "--dbname="+dsn).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// psql's own commands, which only its newest releases know.
	out = regexp.MustCompile(`(?m)^\\(un)?restrict .*\n`).ReplaceAll(out, nil)
	testkit.WriteFile(t, *dumpFile, out)
}

// restore makes an empty database one of a dump of a schema.
func restore(t *testing.T, dsn string, version int) {
	t.Helper()
	dump, err := os.ReadFile(fmt.Sprintf("testdata/dump_%d.sql", version))
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, dsn, string(dump))
}

// TestUpgrade: a store of each earlier schema, as pg_dump had saved it, becomes
// one of this schema with everything in it, and goes on.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	testUpgrade(t, pgtest.DSN)
}

// testUpgrade is TestUpgrade in empty databases that are made for it.
func testUpgrade(t *testing.T, empty func(testing.TB) string) {
	t.Helper()
	dumps, err := filepath.Glob("testdata/dump_*.sql")
	if err != nil || len(dumps) != postgres.SchemaVersion {
		t.Fatalf("there are dumps %v, %v; want one of each schema up to version %d (TestWriteDump)", dumps, err, postgres.SchemaVersion)
	}
	for version := 1; version <= postgres.SchemaVersion; version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			t.Parallel()
			dsn := empty(t)
			restore(t, dsn, version)
			for range 2 {
				migrate(t, dsn)
			}
			s := open(t, dsn)
			if since := storetest.CheckHistory(t, s); len(since) != 0 {
				t.Errorf("the dump holds %d entries more than its history", len(since))
			}
			storetest.GoOn(t, s, 40)
			if since := storetest.CheckHistory(t, s); len(since) != 40 {
				t.Errorf("%d entries were appended to the history, want 40", len(since))
			}
			lease, err := s.Acquire(t.Context(), "historian", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			if border, err := s.Retire(t.Context(), lease.Term, firstWindow, time.Now().AddDate(10, 0, 0)); err != nil || border != firstWindow {
				t.Errorf("retire October: up to %s, %v", border, err)
			}
			if h, err := s.Head(t.Context()); err != nil || h.Floor < 9 {
				t.Errorf("the floor is %d, %v; want it above October's entries", h.Floor, err)
			}
		})
	}
}

// TestRollback: after an upgrade the release before still works on the schema,
// and what it writes is there for the release after (write, upgrade, write, roll
// back, write, upgrade, write).
func TestRollback(t *testing.T) {
	t.Parallel()
	testRollback(t, pgtest.DSN(t))
}

// testRollback is TestRollback in an empty database.
func testRollback(t *testing.T, dsn string) {
	t.Helper()
	const before = postgres.SchemaVersion - 1
	restore(t, dsn, before)
	old := rollBack(t, dsn, before)
	old.append(t, 0)

	migrate(t, dsn)
	s := open(t, dsn)
	storetest.GoOn(t, s, 2)
	old = rollBack(t, dsn, before)
	for n := 1; n < 4; n++ {
		old.append(t, n)
	}
	old.retire(t)
	old.reserve(t)

	migrate(t, dsn)
	head := storetest.GoOn(t, s, 2)
	if want := old.at.Revision + 2; head.Revision != want {
		t.Errorf("the head is %d, want %d", head.Revision, want)
	}
	// January was the release before's first entry, and the floor since it retired it.
	at := bucket.Position{Revision: head.Revision - 7}
	var err error
	if at.Chain, err = s.ChainAt(t.Context(), at.Revision); err != nil {
		t.Fatal(err)
	}
	entries, err := s.ReadLog(t.Context(), at.Revision, 10)
	if err != nil || len(entries) != 7 {
		t.Fatalf("%d entries since the upgrade, %v; want 7", len(entries), err)
	}
	for _, e := range entries {
		if want := (bucket.Position{Revision: at.Revision + 1, Chain: at.Chain.Next(e.Kind, e.CommittedAt, e.Payload)}); e.Position != want {
			t.Fatalf("entry after revision %d is at %v, want %v", at.Revision, e.Position, want)
		}
		at = e.Position
	}
	if at != head {
		t.Errorf("the log ends at %v, the head is %v", at, head)
	}
}

// previous is the writer of the release before, by the statements that it had.
// They are a copy on purpose: the next schema must serve them as they were.
type previous struct {
	conn *pgx.Conn
	term int64
	at   bucket.Position
}

// rollBack starts the release whose newest migration is version.
func rollBack(t *testing.T, dsn string, version int) *previous {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.WithoutCancel(t.Context())) })
	p := &previous{conn: conn}
	var found store.Schema
	p.row(t, `SELECT version, oldest_compatible FROM schema`, nil, &found.Version, &found.OldestCompatible)
	if err := found.Check(version); err != nil {
		t.Fatalf("the release before refuses the schema: %v", err)
	}
	var chain []byte
	p.row(t, `UPDATE log SET term = term + 1, holder = $1, expires_at = now() + $2
		WHERE holder = $1 OR expires_at IS NULL OR expires_at <= now() RETURNING term, head, chain`,
		[]any{"historian", time.Hour}, &p.term, &p.at.Revision, &chain)
	p.at.Chain = bucket.Chain(chain)
	return p
}

func (p *previous) row(t *testing.T, sql string, args []any, into ...any) {
	t.Helper()
	if err := p.conn.QueryRow(t.Context(), sql, args...).Scan(into...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (p *previous) exec(t *testing.T, statements ...string) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), p.conn, func(tx pgx.Tx) error {
		for _, sql := range statements {
			if _, err := tx.Exec(t.Context(), sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// append adds a bucket of the n-th month of 2027, whose partition it makes, and
// a record.
func (p *previous) append(t *testing.T, n int) {
	t.Helper()
	month := func(n int) int64 { return time.Date(2027, time.Month(n+1), 1, 0, 0, 0, 0, time.UTC).Unix() }
	table := fmt.Sprintf("bucket_2027_%02d", n+1)
	p.exec(t,
		`SET LOCAL lock_timeout = '1s'`,
		fmt.Sprintf(`CREATE TABLE %[1]s (LIKE bucket INCLUDING ALL,
			CONSTRAINT %[1]s_window CHECK (window_start >= %[2]d AND window_start < %[3]d AND window_end <= %[3]d))`, table, month(n), month(n+1)),
		fmt.Sprintf(`ALTER TABLE bucket ATTACH PARTITION %s FOR VALUES FROM (%d) TO (%d)`, table, month(n), month(n+1)))
	const columns = `revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at, sample_interval, row_count, finality, origin, variant, chain, checksum, payload`
	payload := fmt.Appendf(nil, "by the release before, %d", n)
	sum := sha256.Sum256(payload)
	committed := time.Date(2027, 6, 1, 0, 0, n, 0, time.UTC)
	next := bucket.Position{Revision: p.at.Revision + 1, Chain: p.at.Chain.Next(bucket.KindBucket, committed, payload)}
	var notified *string
	p.row(t, `
WITH moved AS (
	UPDATE log SET head = $4, chain = $5, committed_at = coalesce($6::timestamptz, committed_at)
	WHERE term = $1 AND head = $2 AND chain = $3
	RETURNING head
), new AS (
	SELECT e.*, $6::timestamptz AS committed_at
	FROM moved, unnest($7::smallint[], $8::bigint[], $9::text[], $10::smallint[], $11::bytea[], $12::bigint[], $13::bigint[],
		$14::double precision[], $15::integer[], $16::smallint[], $17::smallint[], $18::text[], $19::bytea[], $20::bytea[], $21::bytea[])
		AS e (kind, revision, dataset, scope_kind, scope_id, window_start, window_end,
			sample_interval, row_count, finality, origin, variant, chain, checksum, payload)
), buckets AS (
	INSERT INTO bucket (`+columns+`) SELECT `+columns+` FROM new WHERE kind = 1
), events AS (
	INSERT INTO event (kind, `+columns+`) SELECT kind, `+columns+` FROM new WHERE kind <> 1
), put AS (
	INSERT INTO record (kind, key, value)
	SELECT r.kind, r.key, r.value::jsonb FROM moved, unnest($22::text[], $23::text[], $24::text[]) AS r (kind, key, value)
	ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
), removed AS (
	DELETE FROM record USING moved, unnest($25::text[], $26::text[]) AS r (kind, key)
	WHERE record.kind = r.kind AND record.key = r.key
)
SELECT CASE WHEN $4 > $2 THEN pg_notify('weir_log', moved.head::text)::text END FROM moved`,
		[]any{
			p.term, int64(p.at.Revision), p.at.Chain[:], int64(next.Revision), next.Chain[:], committed,
			[]int16{1},
			[]int64{int64(next.Revision)},
			[]string{"http_5m"},
			[]int16{1},
			[][]byte{make([]byte, 16)},
			[]int64{month(n)},
			[]int64{month(n) + 300},
			[]float64{1},
			[]int32{1},
			[]int16{1},
			[]int16{1},
			[]string{"rollup"},
			[][]byte{next.Chain[:]},
			[][]byte{sum[:]},
			[][]byte{payload},
			[]string{"scope"},
			[]string{"before"},
			[]string{"1"},
			[]string{"scope"},
			[]string{"none"},
		}, &notified)
	p.at = next
}

// retire drops the partition of January 2027.
func (p *previous) retire(t *testing.T) {
	t.Helper()
	var highest int64
	var chain []byte
	p.row(t, `SELECT revision, chain FROM bucket_2027_01 ORDER BY revision DESC LIMIT 1`, nil, &highest, &chain)
	p.exec(t,
		`SET LOCAL lock_timeout = '1s'`,
		`LOCK TABLE ONLY bucket IN ACCESS EXCLUSIVE MODE`,
		`LOCK TABLE bucket_2027_01 IN ACCESS EXCLUSIVE MODE`,
		fmt.Sprintf(`UPDATE log SET floor = greatest(floor, %[2]d), floor_chain = CASE WHEN %[2]d > floor THEN '\x%[3]x'::bytea ELSE floor_chain END
			WHERE term = %[1]d`, p.term, highest, chain),
		`DROP TABLE bucket_2027_01`)
}

// reserve adds a block of permits of another user.
func (p *previous) reserve(t *testing.T) {
	t.Helper()
	p.exec(t, `INSERT INTO permit (username, number, blocks) VALUES ('before', 0 + 1, '[]'::text::jsonb)
		ON CONFLICT (username) DO UPDATE SET number = excluded.number, blocks = excluded.blocks WHERE permit.number = 0`)
}
