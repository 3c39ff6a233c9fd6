package e2e

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
)

var footprints = flag.Bool("footprint", false, "measure what a zone costs, in half an hour, and compare it with docs/operations.md")

// onRequest skips a measurement that nobody asked for.
func onRequest(t *testing.T) {
	t.Helper()
	if !*footprints {
		t.Skip("takes a quarter of an hour: run make footprint")
	}
}

// storedZones is how many zones the stores are measured with: those of the demo, and
// ones of a few hundred requests a minute.
const storedZones = 40

// What a zone costs a store, as docs/operations.md says: a collector works for five days
// of virtual time on each database, then for two more with a retention of two days, so that a month
// of Postgres is dropped.
func TestFootprintOfTheStore(t *testing.T) {
	onRequest(t)
	day := func(month time.Month, n int) time.Time { return time.Date(2026, month, n, 0, 0, 0, 0, time.UTC) }
	for _, driver := range []struct {
		name string
		open func(t *testing.T, c *collector.Config) (size func() storeSize)
	}{{"SQLite", measuredFile}, {"Postgres", measuredDatabase}} {
		t.Run(driver.name, func(t *testing.T) {
			var c collector.Config
			cli.Defaults(c.Settings())
			c.Token, c.CloudflareURL, c.Simulated = cli.NewSecret(cfsim.DemoToken), "http://127.0.0.1:1"+cfsim.Prefix, true
			size := driver.open(t, &c)
			collect(t, c, day(time.January, 29), day(time.January, 30))
			first := size()
			collect(t, c, day(time.January, 30), day(time.February, 3))
			whole := size()
			t.Logf("growth from %+v to %+v", first, whole)
			if !c.DatabaseURL.IsZero() {
				pgtest.Exec(t, c.DatabaseURL.Reveal(), "VACUUM FULL")
				if packed := size(); packed.bytes < whole.bytes*4/5 {
					t.Errorf("VACUUM FULL makes %d bytes of %d: the tables are bloated", packed.bytes, whole.bytes)
				} else {
					t.Logf("rewritten by VACUUM FULL: %+v", packed)
				}
			}
			documentedAs(t, "the store on "+driver.name+", a zone and 30 days", float64(whole.bytes-first.bytes)/4*30/storedZones/1e6, .2)

			c.Retention = 48 * time.Hour
			collect(t, c, day(time.February, 3), day(time.February, 3).Add(2*time.Hour))
			dropped := size()
			collect(t, c, day(time.February, 3).Add(2*time.Hour), day(time.February, 5))
			later := size()
			t.Logf("with a retention of two days: %+v, and two days later %+v", dropped, later)
			if driver.name == "Postgres" {
				// Three of five days go. What is left of them is a row for each bucket, for a week.
				if dropped.bytes > whole.bytes*2/3 {
					t.Errorf("Postgres has %d bytes after a month was dropped, of %d before", dropped.bytes, whole.bytes)
				}
			} else if dropped.bytes < whole.bytes || later.bytes > dropped.bytes+dropped.bytes/20 || dropped.unused < dropped.bytes/2 {
				t.Errorf("the file of SQLite has %+v after buckets were deleted and %+v two days later: it should keep its %d bytes and fill them again", dropped, later, whole.bytes)
			}
		})
	}
}

// What Postgres writes to its write-ahead log in a day, as docs/operations.md says, and how much of it does
// not depend on the number of zones. The first change of a page after a checkpoint writes the whole page, so
// there is a checkpoint every five minutes of virtual time, as with Postgres's defaults.
func TestFootprintOfTheWriteAheadLog(t *testing.T) {
	onRequest(t)
	const few = 8
	small, large := logOfADay(t, few), logOfADay(t, storedZones)
	zone := (large - small) / (storedZones - few)
	t.Logf("write-ahead log of a day: %.1f MB with %d zones, %.1f with %d, so %.1f without any", small, few, large, storedZones, small-few*zone)
	documentedAs(t, fmt.Sprintf("write-ahead log of Postgres, %d zones and a day", few), small, .25)
	documentedAs(t, fmt.Sprintf("write-ahead log of Postgres, %d zones and a day", storedZones), large, .25)
}

// logOfADay is how many MB of write-ahead log a collector of some zones causes in a day.
func logOfADay(t *testing.T, zones int) float64 {
	t.Helper()
	var c collector.Config
	cli.Defaults(c.Settings())
	c.Token, c.CloudflareURL, c.Simulated = cli.NewSecret(cfsim.DemoToken), "http://127.0.0.1:1"+cfsim.Prefix, true
	dsn := pgtest.Start(t, "full_page_writes=on", "checkpoint_timeout=1d", "autovacuum=on", "track_counts=on").DSN()
	c.DatabaseURL, c.Migrate, c.Pooler = cli.NewSecret(dsn), true, "transaction"
	position := func() float64 {
		t.Helper()
		n, err := strconv.ParseFloat(strings.TrimSpace(pgtest.Exec(t, dsn, "SELECT pg_current_wal_insert_lsn() - '0/0'")), 64)
		if err != nil {
			t.Fatal(err)
		}
		return n / 1e6
	}
	day := func(n int) time.Time { return time.Date(2026, time.January, n, 0, 0, 0, 0, time.UTC) }
	collectOf(t, c, zones, day(29), day(30)) // with the catch-up
	before := position()
	collectOf(t, c, zones, day(30), day(31), func() { pgtest.Exec(t, dsn, "CHECKPOINT") })
	return position() - before
}

// storeSize is how large a store is, and how much of that is free for what comes.
type storeSize struct{ bytes, unused int64 }

// collect lets a collector work from one time to another, in virtual time. Every five minutes
// it calls what the caller wants called.
func collect(t *testing.T, c collector.Config, from, to time.Time, regularly ...func()) {
	t.Helper()
	collectOf(t, c, storedZones, from, to, regularly...)
}

// collectOf is collect with a number of zones.
func collectOf(t *testing.T, c collector.Config, zones int, from, to time.Time, regularly ...func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(from))
		served, err := collector.New(t.Context(), c, collector.Deps{
			BudgetClock: clock.System(), // the database's goes by another time
			Transport:   cfsimtest.Transport(cfsimtest.New(t, cfsim.Sized(clock.System(), 7, zones, nil))),
			GRPC:        bufconn.Listen(1 << 16), Ops: bufconn.Listen(1 << 16), Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithDeadline(t.Context(), to)
		defer cancel()
		go func() {
			for tick := time.NewTicker(5 * time.Minute); ; {
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
				for _, call := range regularly {
					call()
				}
			}
		}()
		if err := served.Run(ctx); err != nil {
			t.Error(err)
		}
	})
}

// measuredFile is a SQLite file. Its header says how many of its pages are free.
func measuredFile(t *testing.T, c *collector.Config) func() storeSize {
	c.SQLiteFile = filepath.Join(t.TempDir(), "weir.db")
	return func() storeSize {
		t.Helper()
		file, err := os.ReadFile(c.SQLiteFile)
		if err != nil {
			t.Fatal(err)
		}
		page, free := int64(binary.BigEndian.Uint16(file[16:])), int64(binary.BigEndian.Uint32(file[36:]))
		return storeSize{bytes: int64(len(file)), unused: free * page}
	}
}

// measuredDatabase is a Postgres whose autovacuum looks at its tables every second, since
// time flies. It prints what the tables are made of.
func measuredDatabase(t *testing.T, c *collector.Config) func() storeSize {
	dsn := pgtest.Start(t, "autovacuum_naptime=1s", "track_counts=on", "autovacuum=on").DSN()
	c.DatabaseURL, c.Migrate = cli.NewSecret(dsn), true
	c.Pooler = "transaction" // a session would wait for notifications, and virtual time for it
	return func() storeSize {
		t.Helper()
		t.Log("dataset, buckets, rows of a bucket, bytes of its content and their range by zone:\n" + pgtest.Exec(t, dsn, `
			SELECT dataset, sum(n), round(sum(rows) / sum(n), 1), round(sum(bytes) / sum(n)), round(min(bytes / n)) || ' to ' || round(max(bytes / n))
			FROM (SELECT dataset, scope_id, count(*) AS n, sum(row_count) AS rows, sum(octet_length(payload)) AS bytes FROM bucket GROUP BY 1, 2) z
			GROUP BY 1 ORDER BY 1`))
		t.Log("month, MB of its table, its TOAST and its indexes:\n" + pgtest.Exec(t, dsn, `
			SELECT relid, round(pg_relation_size(relid) / 1e6, 1), round(pg_table_size(relid) / 1e6 - pg_relation_size(relid) / 1e6, 1), round(pg_indexes_size(relid) / 1e6, 1)
			FROM pg_partition_tree('bucket') WHERE isleaf ORDER BY 1`))
		t.Log("table, live and dead rows, kB in all, autovacuums:\n" + pgtest.Exec(t, dsn, `
			SELECT relname, n_live_tup, n_dead_tup, round(pg_total_relation_size(relid) / 1e3), autovacuum_count
			FROM pg_stat_user_tables ORDER BY 1`))
		bytes, err := strconv.ParseInt(strings.TrimSpace(pgtest.Exec(t, dsn, `SELECT pg_database_size(current_database())`)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return storeSize{bytes: bytes}
	}
}

// documentedAs compares a measurement with the row of docs/operations.md that begins
// with what was measured: its first number must be no further away than a share of it.
func documentedAs(t *testing.T, what string, measured, within float64) {
	t.Helper()
	t.Logf("%s: %.3g", what, measured)
	m := regexp.MustCompile(`(?m)^\| ` + regexp.QuoteMeta(what) + ` \| ([0-9.]+)`).FindSubmatch(testkit.RepoFile(t, "docs/operations.md"))
	if m == nil {
		t.Errorf("docs/operations.md has no row %q with a number; measured: %.3g", what, measured)
		return
	}
	if said, err := strconv.ParseFloat(string(m[1]), 64); err != nil || math.Abs(measured-said) > said*within {
		t.Errorf("%s: docs/operations.md says %s, measured: %.3g (%v)", what, m[1], measured, err)
	}
}
