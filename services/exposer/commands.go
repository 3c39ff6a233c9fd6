package exposer

import (
	"context"
	"os"

	"github.com/weir-metrics/weir/internal/cli"
)

// Commands are the commands of the exposer binary. Package cli adds "version"
// to every program.
func Commands() []cli.Command {
	var config Config
	return []cli.Command{{
		Name:     "run",
		Summary:  "follow a collector and serve its buckets to Prometheus",
		Settings: config.Settings(),
		Validate: config.Validate,
		Hangup:   config.Log.Hangup,
		Run: func(ctx context.Context, _ []string) error {
			x, err := New(config, Deps{Logger: config.Log.New(os.Stderr)})
			if err != nil {
				return err
			}
			return x.Run(ctx)
		},
	}}
}
