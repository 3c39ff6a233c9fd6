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

// Store is the open database of a deployment; see package store. It is exported for
// [Deps.OpenStore] and tests.
type Store = store.Store

// OpenTemporary opens a new store in a temporary file that is removed on Close.
// It does not survive a power failure. Of the configuration only the settings of a new
// store are used; the lease uses Deps.LeaseClock.
func OpenTemporary(ctx context.Context, c Config, deps Deps) (Store, error) {
	s, err := sqlite.Open(ctx, sqlite.Options{Ephemeral: true, Settings: c.settings(), Clock: deps.LeaseClock})
	if err != nil {
		return nil, fmt.Errorf("open temporary store: %w", err)
	}
	return s, nil
}

// OpenStore opens the configured database as a collector does at start, for tests that
// inspect the store of a collector.
func OpenStore(ctx context.Context, c Config, deps Deps) (Store, error) {
	return openStore(ctx, c, deps, nil)
}

// settings are the properties that a new store gets.
func (c *Config) settings() store.Settings {
	return store.Settings{SampleTimestamp: c.SampleTimestamp, Simulated: c.Simulated, AnySource: c.anySource}
}

// openStore opens the configured database. It migrates a SQLite file always, and
// Postgres if WEIR_MIGRATE is set.
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

// openPostgres opens the database and checks that this process's role has all rights
// that a collector needs, so that a missing right is reported at start and not when the
// first month must be dropped.
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

// checkEncodingOf rejects a Postgres database whose encoding cannot represent every text.
func checkEncodingOf(ctx context.Context, c Config) error {
	if c.DatabaseURL.IsZero() {
		return nil
	}
	if err := postgres.CheckEncoding(ctx, c.DatabaseURL.Reveal()); err != nil {
		return fmt.Errorf("%w (WEIR_DATABASE_URL)", err)
	}
	return nil
}

// checkEncoding rejects a new store in a database whose encoding cannot represent every
// text. A store that is in use continues, with a lasting problem: values that it cannot
// hold become gaps, and everything else is stored.
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
	c.trouble.Set(trouble.StoreNotWritable, "encoding", "text that the database's encoding cannot represent is not stored: "+err.Error())
	return nil
}

// explain adds the settings that caused a store's error.
func explain(err error) error {
	if errors.Is(err, store.ErrSettings) && !errors.Is(err, store.ErrSource) {
		return fmt.Errorf("%w (set CF_SAMPLE_TIMESTAMP to the store's value, or WEIR_CHANGE_SAMPLE_TIMESTAMP=true to change the store)", err)
	}
	if errors.Is(err, postgres.ErrTransactionPooler) {
		return fmt.Errorf("%w (set WEIR_POSTGRES_POOLER=transaction, or the pooler to session mode)", err)
	}
	return err
}

// Migrate upgrades the schema of the configured database to this binary's version. A
// collector does this automatically for a SQLite file, and for Postgres only if
// WEIR_MIGRATE is set, since it needs rights that a running collector should not have.
func Migrate(ctx context.Context, c Config) error {
	if c.DatabaseURL.IsZero() {
		if info, err := os.Stat(c.SQLiteFile); err == nil && info.IsDir() {
			return fmt.Errorf("WEIR_SQLITE_FILE is %s, which is a folder; it must be a file, which is created if it does not exist", c.SQLiteFile)
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

// Grants names the Postgres roles that get rights on the store's tables.
type Grants struct{ Writers, Readers []string }

// Settings is the part of the table of "collector migrate" that is about roles.
func (g *Grants) Settings() []cli.Setting {
	return []cli.Setting{
		{Env: "WEIR_GRANT_WRITER", Value: cli.List(&g.Writers), Help: "existing Postgres roles that get exactly the rights that a collector needs, after the migration"},
		{Env: "WEIR_GRANT_READER", Value: cli.List(&g.Readers), Help: "existing Postgres roles that get SELECT on tables and views, and no other right"},
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
