package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
)

// Whoever migrates waits for whoever holds the lock, and changes nothing
// meanwhile.
func TestMigrateWaitsForTheLock(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	pgtest.Exec(t, dsn, `CREATE TABLE migration_lock (one boolean PRIMARY KEY DEFAULT true CHECK (one))`)
	pgtest.Exec(t, dsn, `INSERT INTO migration_lock DEFAULT VALUES`)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	holder, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), `SELECT one FROM migration_lock FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- postgres.Migrate(t.Context(), dsn) }()
	eventually(t, "the migration waits", func() bool {
		select {
		case err := <-done:
			t.Fatalf("the migration ended with %v while another held the lock", err)
		default:
		}
		var waiting, tables int
		err := holder.QueryRow(t.Context(), `SELECT
			(SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()
				AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())),
			(SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migration_lock')`).Scan(&waiting, &tables)
		if err != nil {
			t.Fatal(err)
		}
		if tables != 0 {
			t.Fatalf("%d tables were made while another held the lock", tables)
		}
		return waiting > 0
	})
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the migration did not go on when the lock was free")
	}
	open(t, dsn)
}
