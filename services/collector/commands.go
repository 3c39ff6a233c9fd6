package collector

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/cli"
)

// Commands are the subcommands of the collector's binary; "version" comes with
// every program.
func Commands() []cli.Command {
	var run, database Config
	var grants Grants
	var patience time.Duration
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
			Help: "Idempotent, and safe to run concurrently. A collector of the previous minor version continues to work on the migrated schema. If Postgres does not respond, the command waits for it, for up to --migrate-wait, and logs that it does.\n\n" +
				"On Postgres the role that migrates owns the tables. Run the collector as another role; --grant-writer grants it the rights that it needs.",
			Settings: slices.Concat(database.DatabaseSettings(), grants.Settings(), []cli.Setting{
				{Env: "WEIR_MIGRATE_WAIT", Default: "1m", Value: cli.Duration(&patience, 0, mostMigrateWait), Help: "how long to wait for a Postgres that does not respond"},
			}),
			Run: func(ctx context.Context, _ []string) error {
				return migrate(ctx, database, grants, patience, slog.New(slog.NewTextHandler(os.Stderr, nil)))
			},
		},
		driftCommand(),
		CountersCommand(),
		catalogueCommand(),
	}
}
