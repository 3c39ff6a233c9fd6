package sqlite_test

import (
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

var dumpFile = flag.String("sqlite.dump", "", "write a dump of a store with history at the present schema to this file")

// TestWriteDump makes a fixture of TestUpgrade of the schema as it is, when
// asked to: before the next migration is written.
func TestWriteDump(t *testing.T) {
	if *dumpFile == "" {
		t.Skip("writes a fixture, with -sqlite.dump=FILE")
	}
	path := newFile(t)
	storetest.WriteHistory(t, open(t, path))
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	strs := func(query string) (out []string) {
		t.Helper()
		rows, err := db.Query(query)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				t.Fatal(err)
			}
			out = append(out, s)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return out
	}
	const ours = ` FROM sqlite_schema WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\' AND sql IS NOT NULL`
	var dump strings.Builder
	add := func(statements []string) {
		for _, s := range statements {
			dump.WriteString(s + ";\n")
		}
	}
	add(strs(`SELECT sql` + ours + ` AND type = 'table'`))
	for _, table := range strs(`SELECT name` + ours + ` AND type = 'table'`) {
		columns := strs(`SELECT 'quote(' || name || ')' FROM pragma_table_info('` + table + `')`)
		add(strs(`SELECT 'INSERT INTO ` + table + ` VALUES (' || ` + strings.Join(columns, ` || ', ' || `) + ` || ')' FROM ` + table))
	}
	add(strs(`SELECT sql` + ours + ` AND type <> 'table' ORDER BY type = 'view', name`))
	testkit.WriteFile(t, *dumpFile, []byte(dump.String()))
}

// TestUpgrade: a store of each schema so far becomes one of this schema with
// everything in it, and goes on.
func TestUpgrade(t *testing.T) {
	dumps, err := filepath.Glob("testdata/dump_*.sql")
	if err != nil || len(dumps) != sqlite.SchemaVersion {
		t.Fatalf("there are dumps %v, %v; want one of each schema up to version %d (TestWriteDump)", dumps, err, sqlite.SchemaVersion)
	}
	for version := 1; version <= sqlite.SchemaVersion; version++ {
		dump, err := os.ReadFile(fmt.Sprintf("testdata/dump_%d.sql", version))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "weir.db")
		mustExecute(t, path, string(dump))
		for range 2 {
			if err := sqlite.Migrate(t.Context(), path); err != nil {
				t.Fatal(err)
			}
		}
		s := open(t, path)
		if since := storetest.CheckHistory(t, s); len(since) != 0 {
			t.Errorf("the dump holds %d entries more than its history", len(since))
		}
		storetest.GoOn(t, s, 40)
		if since := storetest.CheckHistory(t, s); len(since) != 40 {
			t.Errorf("%d entries were appended to the history, want 40", len(since))
		}
	}
}
