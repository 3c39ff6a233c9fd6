package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/weir-metrics/weir/migrations"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

const (
	// schemaVersion is the newest migration that this binary knows and needs.
	schemaVersion = 4
	// oldestMajor is the oldest major version of Postgres that is supported: the tests run it.
	oldestMajor = 15
)

// Migrate upgrades the schema to this binary's version. If the schema is new enough, it
// does nothing and needs no rights. Any number of processes may call it concurrently. It
// works through a pooler in transaction mode. ErrEncoding if there is a migration to run
// and the database's encoding is not UTF8. It makes no new schema in a Postgres that is too
// old to be supported; one that is there is upgraded.
//
// The role that migrates owns the tables. The role of a collector need not own anything:
// see [Grant].
func Migrate(ctx context.Context, dsn string) (err error) {
	conn, err := dial(ctx, dsn)
	if err != nil {
		return fmt.Errorf("migrate Postgres store: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	found, err := readSchema(ctx, conn)
	if err != nil {
		return failed(ctx, "read the schema's version", false, err)
	}
	if found.Version >= schemaVersion {
		return nil
	}
	if old, err := tooOld(ctx, conn); err != nil {
		return failed(ctx, "migrate Postgres store", false, err)
	} else if old != "" && found.Version == 0 {
		return fmt.Errorf("migrate Postgres store: the server is Postgres %s; a new store needs Postgres %d or newer", old, oldestMajor)
	}
	if err := checkEncoding(ctx, conn); err != nil {
		return failed(ctx, "migrate Postgres store", false, err)
	}
	unlock, err := lockMigrations(ctx, conn)
	if err != nil {
		return failed(ctx, "lock the migrations", true, owner(err))
	}
	defer func() { err = errors.Join(err, unlock()) }()
	return failed(ctx, "migrate Postgres store", true, owner(up(ctx, conn.Config())))
}

// owner adds which role must run migrations, if a right is missing.
func owner(err error) error {
	if state(err) == lacksRight {
		return fmt.Errorf("%w: migrations must run as the role that owns the tables or may create them: %w", store.ErrDenied, err)
	}
	return err
}

// lockMigrations takes the lock of a row and holds it by an open transaction,
// so that the server gives it back however we end. goose offers an advisory
// lock, which a transaction pooler cannot carry, and a table with leases and
// heartbeats, which a row lock makes unnecessary.
func lockMigrations(ctx context.Context, conn *pgx.Conn) (unlock func() error, err error) {
	for _, sql := range []string{
		`CREATE TABLE IF NOT EXISTS migration_lock (one boolean PRIMARY KEY DEFAULT true CHECK (one))`,
		`INSERT INTO migration_lock DEFAULT VALUES ON CONFLICT DO NOTHING`,
	} {
		// IF NOT EXISTS looks before it creates: of two that create at once one
		// fails, and what it wanted is there.
		if _, err := conn.Exec(ctx, sql); err != nil && !exists(err) {
			return nil, err
		}
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	for _, sql := range []string{
		// The transaction idles while the migrations run on another connection.
		`SET LOCAL idle_in_transaction_session_timeout = 0`,
		`SET LOCAL statement_timeout = 0`,
		`SET LOCAL lock_timeout = 0`,
		`SELECT one FROM migration_lock FOR UPDATE`,
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return nil, err // the connection is closed next, and the transaction with it
		}
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectTimeout)
		defer cancel()
		if err := tx.Rollback(ctx); err != nil {
			return failed(ctx, "unlock the migrations", true, err)
		}
		return nil
	}, nil
}

func up(ctx context.Context, config *pgx.ConnConfig) (err error) {
	db := stdlib.OpenDB(*config)
	db.SetConnMaxIdleTime(time.Minute)
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := fs.Sub(migrations.Postgres, "postgres")
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files,
		goose.WithTableName("migration"), goose.WithLogger(goose.NopLogger()), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// rower is a pool or a connection.
type rower interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// readSchema is the zero Schema where there is none.
func readSchema(ctx context.Context, db rower) (store.Schema, error) {
	var found store.Schema
	var exists bool
	if err := db.QueryRow(ctx, `SELECT to_regclass('schema') IS NOT NULL`).Scan(&exists); err != nil {
		return found, err
	}
	if !exists {
		return found, hidden(ctx, db)
	}
	err := db.QueryRow(ctx, `SELECT version, oldest_compatible FROM schema`).Scan(&found.Version, &found.OldestCompatible)
	if errors.Is(err, pgx.ErrNoRows) {
		return store.Schema{}, nil
	}
	return found, err
}

// tooOld returns the server's version if it is older than what is supported, else nothing.
func tooOld(ctx context.Context, db rower) (version string, err error) {
	var number int
	err = db.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int`).Scan(&version, &number)
	if err != nil || number >= oldestMajor*10_000 {
		return "", err
	}
	return version, nil
}

// checkEncoding returns ErrEncoding, with the commands that mend it, unless the
// database holds every text: zones and accounts may have any name.
func checkEncoding(ctx context.Context, db rower) error {
	var encoding, database string
	err := db.QueryRow(ctx, `SELECT current_setting('server_encoding'), current_database()`).Scan(&encoding, &database)
	if err != nil || encoding == "UTF8" {
		return err
	}
	other := pgx.Identifier{database + "_utf8"}.Sanitize()
	return fmt.Errorf("%w: database %q has encoding %s; it must be UTF8, and the encoding of a database cannot be changed. "+
		"Create another database: CREATE DATABASE %s TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'; copy the data, if there is any, while no collector runs: "+
		"pg_dump --encoding=UTF8 --dbname=%s | psql --dbname=%s; then change the database name in the connection string",
		store.ErrEncoding, database, encoding, other, database, database+"_utf8")
}

// CheckEncoding is [Store.CheckEncoding] of a database that is not open.
func CheckEncoding(ctx context.Context, dsn string) error {
	conn, err := dial(ctx, dsn)
	if err != nil {
		return fmt.Errorf("check the database's encoding: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return failed(ctx, "check the database's encoding", false, checkEncoding(ctx, conn))
}

// CheckEncoding returns ErrEncoding, with the commands that mend it, unless the
// database's encoding is UTF8.
func (s *Store) CheckEncoding(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+writeTimeout)
	defer cancel()
	return s.failed(ctx, "check the database's encoding", false, checkEncoding(ctx, s.writer))
}
