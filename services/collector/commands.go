package collector

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"

	"github.com/weir-metrics/weir/internal/cli"
)

// Commands are the subcommands of the collector's binary; "version" comes with
// every program.
func Commands() []cli.Command {
	var run, database, list Config
	var grants Grants
	return []cli.Command{
		{
			Name: "run", Summary: "collect and serve until stopped",
			Settings: run.Settings(), Validate: run.Validate, Hangup: run.Log.Hangup,
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
			Help: "Safe to repeat and to run from several places at once. An older collector of the previous minor version goes on working on the migrated schema. A Postgres that does not answer is waited for, for a minute.\n\n" +
				"On Postgres the role that migrates owns the tables. A collector should run as another, which --grant-writer gives what it needs.",
			Settings: slices.Concat(database.DatabaseSettings(), grants.Settings()),
			Run: func(ctx context.Context, _ []string) error {
				return migrate(ctx, database, grants, slog.New(slog.NewTextHandler(os.Stderr, nil)))
			},
		},
		driftCommand(),
		{
			Name: "catalogue", Summary: "print the datasets that would be collected, as Markdown",
			Settings: list.CatalogueSettings(),
			Validate: list.Validate,
			Run: func(context.Context, []string) error {
				return list.WriteCatalogue(os.Stdout)
			},
		},
	}
}

// WriteCatalogue prints the configured datasets as Markdown.
func (c *Config) WriteCatalogue(w io.Writer) error {
	datasets, err := c.catalogue()
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, datasets.DatasetsMarkdown())
	if err != nil {
		return fmt.Errorf("print catalogue: %w", err)
	}
	return nil
}
