package collector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/services/collector/internal/audit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

// driftCommand is "collector drift".
func driftCommand() cli.Command {
	var c Config
	var format string
	settings := existing(&c)
	return cli.Command{
		Name: "drift", Summary: "report how windows settled, how far final buckets moved at Cloudflare since, and the delay that follows",
		Help: "Reads what the leader has recorded, from any machine that reaches the database; a SQLite file may be in use. " +
			"Nothing is asked of Cloudflare and nothing is changed. Figures about settling are up to an hour old.",
		Settings: append(settings, cli.Setting{
			Flag: "format", Key: "-", Default: "text", Value: cli.Enum(&format, "text", "json"), Help: "tables for people, or one JSON array for programs",
		}),
		Run: func(ctx context.Context, _ []string) error { return WriteDrift(ctx, c, format, os.Stdout) },
	}
}

// existing are the settings of a command on a store that exists: what a store is created
// with is taken as it is.
func existing(c *Config) []cli.Setting {
	return slices.DeleteFunc(c.DatabaseSettings(), func(s cli.Setting) bool {
		return s.Env == "CF_SAMPLE_TIMESTAMP" || s.Env == "WEIR_CHANGE_SAMPLE_TIMESTAMP"
	})
}

// WriteDrift prints the drift report of the configured database, as "text" or
// "json".
func WriteDrift(ctx context.Context, c Config, format string, w io.Writer) error {
	records, err := c.driftRecords(ctx)
	if err != nil {
		return err
	}
	drifts, unreadable := audit.ReadDrifts(records)
	reports := audit.Reports(drifts)
	text := audit.Text(reports)
	if format == "json" {
		out, err := json.MarshalIndent(reports, "", "  ")
		if err != nil {
			return fmt.Errorf("encode drift report: %w", err)
		}
		text = string(out) + "\n"
	}
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("print drift report: %w", err)
	}
	for _, u := range unreadable {
		err = errors.Join(err, fmt.Errorf("the figures of dataset %s cannot be read: %w", u.Key, u.Err))
	}
	return err
}

// driftRecords reads the leader's figures without disturbing it.
func (c *Config) driftRecords(ctx context.Context) (_ []store.Record, err error) {
	if c.DatabaseURL.IsZero() {
		records, err := sqlite.RecordsBeside(ctx, c.SQLiteFile, audit.KindDrift)
		if err != nil {
			return nil, fmt.Errorf("read drift figures (WEIR_SQLITE_FILE is %s): %w", c.SQLiteFile, err)
		}
		return records, nil
	}
	s, err := postgres.Open(ctx, postgres.Options{
		DSN: c.DatabaseURL.Reveal(), TransactionPooling: c.Pooler == "transaction", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, fmt.Errorf("read drift figures (WEIR_DATABASE_URL): %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Records(ctx, audit.KindDrift)
}
