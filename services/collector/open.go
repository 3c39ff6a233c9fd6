package collector

import (
	"context"
	"fmt"

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
			return nil, fmt.Errorf("open store %s: %w", c.SQLiteFile, err)
		}
		return s, nil
	}
	s, err := postgres.Open(ctx, postgres.Options{
		DSN: c.DatabaseURL.Reveal(), TransactionPooling: c.Pooler == "transaction",
		Settings: c.settings(), ChangeSampleTimestamp: c.ChangeTimestamp, Logger: deps.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

// Migrate brings the schema of the configured database up to this binary's. A
// collector does it by itself for a SQLite file; for Postgres only when asked,
// since it needs rights that a running collector should not have.
func Migrate(ctx context.Context, c Config) error {
	if c.DatabaseURL.IsZero() {
		if err := sqlite.Migrate(ctx, c.SQLiteFile); err != nil {
			return fmt.Errorf("migrate %s: %w", c.SQLiteFile, err)
		}
		return nil
	}
	if err := postgres.Migrate(ctx, c.DatabaseURL.Reveal()); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}
