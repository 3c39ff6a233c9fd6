package collector

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

// settings are the properties that a new store gets.
func (c *Config) settings() store.Settings {
	return store.Settings{SampleTimestamp: c.SampleTimestamp, Simulated: c.Simulated}
}

// openStore opens the configured database, migrated where that is this
// process's business.
func openStore(ctx context.Context, c Config, deps Deps) (store.Store, error) {
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
	s, err := postgres.Open(ctx, postgres.Options{
		DSN: c.DatabaseURL.Reveal(), TransactionPooling: c.Pooler == "transaction",
		Settings: c.settings(), ChangeSampleTimestamp: c.ChangeTimestamp, Logger: deps.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("open store (WEIR_DATABASE_URL): %w", explain(err))
	}
	return s, nil
}

// explain names the settings behind a store's refusal.
func explain(err error) error {
	if errors.Is(err, store.ErrSettings) {
		return fmt.Errorf("%w (set CF_SAMPLE_TIMESTAMP to what the store has, or WEIR_CHANGE_SAMPLE_TIMESTAMP=true to change the store)", err)
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
