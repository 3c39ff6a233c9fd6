package postgres_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

// TestExam18 is the exam once more, as a role that owns nothing, on the newest
// major version. The other tests run on the version that the machine has.
func TestExam18(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	s := secure(t, pgtest.StartMajor(t, 18))
	storetest.Run(t, s.driver(t))
}

// TestHistory18: what an earlier release stored in Postgres 18 is upgraded there,
// and goes back and forth, as on the version that the machine has.
func TestHistory18(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	s := pgtest.StartMajor(t, 18)
	t.Run("Upgrade", func(t *testing.T) { testUpgrade(t, func(testing.TB) string { return s.DSN() }) })
	t.Run("Rollback", func(t *testing.T) { testRollback(t, s.DSN()) })
}

// No new store is made in a Postgres that is older than what is supported, and nothing else
// either. One that is there is upgraded and works, and the log warns.
func TestOldPostgres(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	s := pgtest.StartMajor(t, 14)
	dsn := s.DSN()
	version := strings.Fields(pgtest.Exec(t, dsn, "SHOW server_version"))[0]
	err := postgres.Migrate(t.Context(), dsn)
	if want := fmt.Sprintf("the server is Postgres %s; a new store needs Postgres 15 or newer", version); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("migrate: %v, want an error with %q", err, want)
	}
	if tables := pgtest.Exec(t, dsn, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"); tables != "" {
		t.Errorf("the refused migration made %s", tables)
	}

	restore(t, dsn, 1)
	migrate(t, dsn)
	var log bytes.Buffer
	used, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, Settings: storetest.Settings, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { used.Close() })
	if want := `msg="Postgres is older than what is supported" version=` + version; !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %q:\n%s", want, log.String())
	}
	if since := storetest.CheckHistory(t, used); len(since) != 0 {
		t.Errorf("the dump holds %d entries more than its history", len(since))
	}
	storetest.GoOn(t, used, 4)
}
