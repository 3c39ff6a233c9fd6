package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/pressly/goose/v3"

	"github.com/weir-metrics/weir/migrations"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// schemaVersion is the newest migration that this binary knows and needs.
const schemaVersion = 2

// Migrate creates the database file if there is none and brings its schema up
// to this binary's. It does nothing to a schema that is new enough. ErrInUse
// while a store is open on the file.
func Migrate(ctx context.Context, path string) (err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("migrate SQLite store: %w", err)
	}
	lock, err := lockFile(path, true)
	if err != nil {
		return fmt.Errorf("migrate SQLite store %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return migrate(ctx, path, true)
}

// migrate is Migrate for who holds the lock.
func migrate(ctx context.Context, path string, durable bool) (err error) {
	db, err := connect(path, writing, durable, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := fs.Sub(migrations.SQLite, "sqlite")
	if err != nil {
		return fmt.Errorf("migrate SQLite store: %w", err)
	}
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithTableName("migration"), goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrate SQLite store: %w", err)
	}
	// A newer release has migrated the file. Its schema says whether we may run on it;
	// there is nothing to migrate.
	if have, err := provider.GetDBVersion(ctx); err == nil && have > schemaVersion {
		return nil
	}
	if _, err := provider.Up(ctx); err != nil {
		return failed(ctx, fmt.Sprintf("migrate SQLite store %s", path), true, err)
	}
	return nil
}

// checkSchema returns ErrSchema unless this binary may run on the tables.
func checkSchema(ctx context.Context, db *sql.DB) error {
	found, err := readSchema(ctx, db)
	if err != nil {
		return failed(ctx, "read the schema's version", false, err)
	}
	return found.Check(schemaVersion)
}

// readSchema is the zero Schema where there is none.
func readSchema(ctx context.Context, db interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
},
) (found store.Schema, err error) {
	var tables int
	if err := db.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'schema'`).Scan(&tables); err != nil || tables == 0 {
		return found, err
	}
	err = db.QueryRowContext(ctx, `SELECT version, oldest_compatible FROM schema`).Scan(&found.Version, &found.OldestCompatible)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return found, err
}
