package collector

import (
	"context"
	"fmt"

	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

// settings are the properties that a new store gets.
func (c *Config) settings() store.Settings {
	return store.Settings{SampleTimestamp: c.SampleTimestamp, Simulated: c.Simulated}
}

// openStore opens the configured database, migrated where that is this
// process's business.
func openStore(ctx context.Context, c Config, deps Deps) (store.Store, error) {
	if err := Migrate(ctx, c, c.Migrate); err != nil {
		return nil, err
	}
	s, err := sqlite.Open(ctx, sqlite.Options{
		Path: c.SQLiteFile, Settings: c.settings(), ChangeSampleTimestamp: c.ChangeTimestamp, Clock: deps.Clock,
	})
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", c.SQLiteFile, err)
	}
	return s, nil
}

// Migrate brings the schema up to this binary's. An embedded SQLite file is
// always migrated; Postgres only when asked, since that needs rights that a
// running collector should not have.
func Migrate(ctx context.Context, c Config, postgresToo bool) error {
	if err := sqlite.Migrate(ctx, c.SQLiteFile); err != nil {
		return fmt.Errorf("migrate %s: %w", c.SQLiteFile, err)
	}
	return nil
}
