package collector

import (
	"context"
	"log/slog"
	"os"
	"slices"

	"github.com/weir-metrics/weir/internal/cli"
)

// Commands are the subcommands of the collector's binary; "version" comes with
// every program.
func Commands() []cli.Command {
	var run, database Config
	var grants Grants
	return []cli.Command{
		{
			Name: "run", Summary: "collect and serve until stopped",
			Settings: run.Settings(), Validate: run.validateToRun, Hangup: run.Log.Hangup,
			Run: func(ctx context.Context, _ []string) error {
				log := run.Log.New(os.Stderr)
				c, err := New(ctx, run, Deps{Logger: log})
				if err != nil {
					return err
				}
				return c.Run(ctx)
			},
		},
		{
			Name: "migrate", Summary: "bring the database schema up to this version",
			Help: "Idempotent, and safe to run concurrently. A collector of the previous minor version continues to work on the migrated schema. If Postgres does not respond, the command waits for up to a minute.\n\n" +
				"On Postgres the role that migrates owns the tables. Run the collector as another role; --grant-writer grants it the rights that it needs.",
			Settings: slices.Concat(database.DatabaseSettings(), grants.Settings()),
			Run: func(ctx context.Context, _ []string) error {
				return migrate(ctx, database, grants, slog.New(slog.NewTextHandler(os.Stderr, nil)))
			},
		},
		driftCommand(),
		CountersCommand(),
		catalogueCommand(),
	}
}
