package collector

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// Store is the database of a deployment, opened; see package store. It has a
// name here for [Deps.OpenStore] and the tests behind it.
type Store = store.Store

// OpenTemporary opens a new store in a temporary file that is removed on Close.
// Nothing in it outlives a power cut. Of the configuration it takes what a new
// store is created with; the lease goes by Deps.LeaseClock.
func OpenTemporary(ctx context.Context, c Config, deps Deps) (Store, error) {
	s, err := sqlite.Open(ctx, sqlite.Options{Ephemeral: true, Settings: c.settings(), Clock: deps.LeaseClock})
	if err != nil {
		return nil, fmt.Errorf("open temporary store: %w", err)
	}
	return s, nil
}

// OpenStore opens the configured database as a collector does at its start, for
// tests that look into what a collector has left.
func OpenStore(ctx context.Context, c Config, deps Deps) (Store, error) {
	return openStore(ctx, c, deps, nil)
}

// settings are the properties that a new store gets.
func (c *Config) settings() store.Settings {
	return store.Settings{SampleTimestamp: c.SampleTimestamp, Simulated: c.Simulated, AnySource: c.anySource}
}

// openStore opens the configured database, migrated where that is this
// process's business.
func openStore(ctx context.Context, c Config, deps Deps, secrets *reload.Watch) (store.Store, error) {
	if c.DatabaseURL.IsZero() || c.Migrate {
		if err := Migrate(ctx, c); err != nil {
			return nil, err
		}
	}
	if c.DatabaseURL.IsZero() {
		s, err := sqlite.Open(ctx, sqlite.Options{
			Path: c.SQLiteFile, Settings: c.settings(), ChangeSampleTimestamp: c.ChangeTimestamp, Clock: deps.LeaseClock,
		})
		if err != nil {
			return nil, fmt.Errorf("open store (WEIR_SQLITE_FILE is %s): %w", c.SQLiteFile, explain(err))
		}
		return s, nil
	}
	s, err := openPostgres(ctx, c, deps, secrets)
	if err != nil {
		return nil, fmt.Errorf("open store (WEIR_DATABASE_URL): %w", explain(err))
	}
	return s, nil
}

// openPostgres opens the database and makes sure that this process's role may do
// all that a collector does, so that a missing right is told at the start and
// not by the first month that has to be dropped.
func openPostgres(ctx context.Context, c Config, deps Deps, secrets *reload.Watch) (store.Store, error) {
	if c.DatabaseURL.File() == "" {
		secrets = nil // it cannot change
	}
	tracked := reload.Track(secrets, "WEIR_DATABASE_URL_FILE")
	s, err := postgres.Open(ctx, postgres.Options{
		DSN: c.DatabaseURL.Reveal(), TransactionPooling: c.Pooler == "transaction",
		Reread: func() (string, error) {
			now, err := c.DatabaseURL.Reread()
			return now.Reveal(), err
		},
		Report:   tracked.Report,
		Settings: c.settings(), ChangeSampleTimestamp: c.ChangeTimestamp, Logger: deps.Logger,
	})
	if err != nil {
		return nil, err
	}
	if err := s.CheckRights(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// checkEncodingOf refuses a Postgres database that does not hold every text.
func checkEncodingOf(ctx context.Context, c Config) error {
	if c.DatabaseURL.IsZero() {
		return nil
	}
	if err := postgres.CheckEncoding(ctx, c.DatabaseURL.Reveal()); err != nil {
		return fmt.Errorf("%w (WEIR_DATABASE_URL)", err)
	}
	return nil
}

// checkEncoding refuses a new store in a database that does not hold every text.
// One that is in use goes on, with a lasting problem: what it cannot hold becomes
// gaps, and everything else is stored, until somebody moves it.
func (c *Collector) checkEncoding(ctx context.Context) error {
	db, checks := c.store.(interface{ CheckEncoding(context.Context) error })
	if !checks {
		return nil
	}
	err := db.CheckEncoding(ctx)
	if !errors.Is(err, store.ErrEncoding) {
		return err
	}
	head, headErr := c.store.Head(ctx)
	if headErr != nil || head.Revision == 0 {
		return errors.Join(fmt.Errorf("%w (WEIR_DATABASE_URL)", err), headErr)
	}
	c.trouble.Set(trouble.StoreNotWritable, "encoding", "names that the database's encoding does not have cannot be stored: "+err.Error())
	return nil
}

// explain names the settings behind a store's refusal.
func explain(err error) error {
	if errors.Is(err, store.ErrSettings) && !errors.Is(err, store.ErrSource) {
		return fmt.Errorf("%w (set CF_SAMPLE_TIMESTAMP to what the store has, or WEIR_CHANGE_SAMPLE_TIMESTAMP=true to change the store)", err)
	}
	if errors.Is(err, postgres.ErrTransactionPooler) {
		return fmt.Errorf("%w (set WEIR_POSTGRES_POOLER=transaction, or the pooler to session mode)", err)
	}
	return err
}

// Migrate brings the schema of the configured database up to this binary's. A
// collector does it by itself for a SQLite file; for Postgres only when asked,
// since it needs rights that a running collector should not have.
func Migrate(ctx context.Context, c Config) error {
	if c.DatabaseURL.IsZero() {
		if info, err := os.Stat(c.SQLiteFile); err == nil && info.IsDir() {
			return fmt.Errorf("WEIR_SQLITE_FILE is %s, which is a folder; it must be a file, which is made if it does not exist", c.SQLiteFile)
		}
		if err := sqlite.Migrate(ctx, c.SQLiteFile); err != nil {
			return fmt.Errorf("migrate (WEIR_SQLITE_FILE is %s): %w", c.SQLiteFile, err)
		}
		return nil
	}
	if err := postgres.Migrate(ctx, c.DatabaseURL.Reveal()); err != nil {
		return fmt.Errorf("migrate (WEIR_DATABASE_URL): %w", err)
	}
	return nil
}

// Grants name Postgres roles that get rights on the store's tables.
type Grants struct{ Writers, Readers []string }

// Settings is the part of the table of "collector migrate" that is about roles.
func (g *Grants) Settings() []cli.Setting {
	return []cli.Setting{
		{Env: "WEIR_GRANT_WRITER", Value: cli.List(&g.Writers), Help: "Postgres roles that get, after the migration, exactly the rights that a collector needs; they must exist"},
		{Env: "WEIR_GRANT_READER", Value: cli.List(&g.Readers), Help: "Postgres roles that get SELECT on tables and views, and no other right; they must exist"},
	}
}

// Grant gives rights on the configured database, which must be Postgres and
// migrated, to roles. The connection's role must own the tables.
func Grant(ctx context.Context, c Config, g Grants) error {
	if len(g.Writers)+len(g.Readers) == 0 {
		return nil
	}
	if c.DatabaseURL.IsZero() {
		return errors.New("WEIR_GRANT_WRITER and WEIR_GRANT_READER are for Postgres: WEIR_DATABASE_URL must be set")
	}
	if err := postgres.Grant(ctx, c.DatabaseURL.Reveal(), postgres.Grants(g)); err != nil {
		return fmt.Errorf("%w (WEIR_DATABASE_URL)", err)
	}
	return nil
}
