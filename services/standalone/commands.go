package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/loopback"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
)

// Commands are the subcommands of the weir binary; "version" comes with every
// program.
func Commands() []cli.Command {
	return []cli.Command{runCommand(), demoCommand(), simCommand(), backfillCommand(), gapsCommand(), restateCommand(), auditCommand(), collector.CountersCommand(), pushCommand(), doctorCommand()}
}

// both are the settings of the two services, less those that make no sense in
// one process.
func both(c *collector.Config, x *exposer.Config) []cli.Setting {
	table := slices.DeleteFunc(slices.Concat(c.Settings(), x.Settings()), func(s cli.Setting) bool {
		switch s.Env {
		case "WEIR_COLLECTOR_ADDRESS", "WEIR_COLLECTOR_TLS", "WEIR_COLLECTOR_CA_FILE", "WEIR_COLLECTOR_CERT_FILE",
			"WEIR_COLLECTOR_KEY_FILE", "WEIR_COLLECTOR_SERVER_NAME", "WEIR_COLLECTOR_TOKEN",
			"WEIR_COLLECTOR_LISTEN", "WEIR_GRPC_REFLECTION",
			"WEIR_GRPC_CERT_FILE", "WEIR_GRPC_KEY_FILE", "WEIR_GRPC_CLIENT_CA_FILE", "WEIR_GRPC_TOKEN":
			return true
		}
		return false
	})
	for i := range table {
		if table[i].Env == "WEIR_DRAIN" {
			table[i].Default = "1s" // nobody balances load over one process
		}
	}
	return table
}

// simulatedFile is the store of weir run --simulate if none is configured.
const simulatedFile = "weir-simulated.db"

// cloudflareURL is WEIR_CLOUDFLARE_URL where it is not set.
const cloudflareURL = "https://api.cloudflare.com/client/v4"

// validate checks both services' settings, and what holds between them.
func validate(c *collector.Config, x *exposer.Config) error {
	bad := []error{c.Validate(), x.Validate()}
	for _, l := range []cli.Listener{{Setting: "WEIR_EXPOSER_LISTEN", Address: x.Listen}, {Setting: "WEIR_EXPOSER_OPS_LISTEN", Address: x.OpsListen}} {
		bad = append(bad, cli.Apart(cli.Listener{Setting: "WEIR_COLLECTOR_OPS_LISTEN", Address: c.OpsListen}, l)...)
	}
	if errors.Join(bad...) == nil {
		bad = append(bad, x.CheckReplay(c.Shown()))
	}
	return errors.Join(bad...)
}

// inProcess fills what the exposer's own table would have.
func inProcess(x *exposer.Config) { x.Collector.Addresses = []string{"127.0.0.1:9820"} }

func runCommand() cli.Command {
	var (
		c          collector.Config
		x          exposer.Config
		simulated  bool
		sqliteFile = "weir.db"
		admin      string
	)
	inProcess(&x)
	return cli.Command{
		Name: "run", Summary: "run collector and exposer in one process with a SQLite file",
		Help: "Needs a Cloudflare API token (CF_API_TOKEN or CF_API_TOKEN_FILE), or --simulate for a simulated Cloudflare whose zones end in .example.",
		Settings: append(both(&c, &x), cli.Setting{
			Env: "WEIR_SIMULATE", Default: "false", Value: cli.Bool(&simulated),
			Help: "collect from a simulated Cloudflare instead of the real one, into weir-simulated.db unless a store is configured",
		}, cli.Setting{
			Env: "WEIR_GRPC_LISTEN", Default: "127.0.0.1:9820", Value: cli.TextThat(&admin, `a loopback address (host:port), or "off"`, checkAdmin),
			Help: "loopback address of the collector's gRPC services, for weir gaps, restate and audit; off: they cannot be used",
		}),
		Validate: func() error {
			bad := []error{validate(&c, &x)}
			switch {
			case simulated && c.CloudflareURL != cloudflareURL:
				bad = append(bad, cli.Problem{Setting: "WEIR_CLOUDFLARE_URL", Reason: "has no effect with WEIR_SIMULATE; remove one of them"})
			case simulated && c.Tokens():
				bad = append(bad, cli.Problem{Setting: "WEIR_SIMULATE", Reason: "is set together with a Cloudflare API token; remove one of them"})
			case !simulated && !c.Tokens():
				bad = append(bad, cli.Problem{Setting: "CF_API_TOKEN", Reason: "is not set; set it or CF_API_TOKEN_FILE to a Cloudflare API token, list credentials in the configuration file, or use --simulate to collect from a simulated Cloudflare"})
			}
			return errors.Join(bad...)
		},
		Hangup: c.Log.Hangup,
		Run: func(ctx context.Context, _ []string) error {
			log := c.Log.New(os.Stderr)
			source := "Cloudflare, with the token given"
			if simulated {
				source = "a SIMULATED Cloudflare"
				if c.SQLiteFile == sqliteFile {
					c.SQLiteFile = simulatedFile
				}
				stop, err := simulate(ctx, &c, clock.System(), log)
				if err != nil {
					return err
				}
				defer stop()
			}
			deps := Deps{Logger: log}
			if admin != "off" {
				if c.GRPCAdminToken.IsZero() && c.DatabaseURL.IsZero() {
					token, err := adminToken(c.SQLiteFile)
					if err != nil {
						return err
					}
					c.GRPCAdminToken = token
				}
				listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", admin)
				if err != nil {
					return fmt.Errorf("gRPC listener (WEIR_GRPC_LISTEN; set another address, or off): %w", err)
				}
				deps.GRPC = listener
			}
			greet(os.Stdout, source, x.Listen)
			return Run(ctx, c, x, deps)
		},
	}
}

// checkAdmin checks the value of WEIR_GRPC_LISTEN: without TLS the token must not leave
// this machine.
func checkAdmin(address string) error {
	if address == "off" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || n == 0 || !loopback.Host(host) {
		return errors.New(`must be a loopback address such as 127.0.0.1:9820, or "off"`)
	}
	return nil
}

func demoCommand() cli.Command {
	var (
		c     collector.Config
		x     exposer.Config
		speed int
	)
	inProcess(&x)
	table := slices.DeleteFunc(both(&c, &x), func(s cli.Setting) bool {
		switch s.Env {
		case "WEIR_GRPC_ADMIN_TOKEN", "CF_API_TOKEN", "WEIR_CLOUDFLARE_URL", "WEIR_CLOUDFLARE_CA_FILE", "WEIR_DATABASE_URL", "WEIR_SQLITE_FILE", "WEIR_POSTGRES_POOLER", "WEIR_MIGRATE":
			return true // the demo brings its own
		}
		return s.Key == "credentials"
	})
	return cli.Command{
		Name: "demo", Summary: "collect a simulated day at high speed, then continue in real time",
		Help: "Simulates eight zones on all plans and collects the last 24 hours faster than real time, then continues in real time. The store is temporary.",
		Settings: append(table, cli.Setting{
			Flag: "speed", Key: "-", Default: "600", Value: cli.Int(&speed, 2, 10_000), Help: "speed of the first day as a multiple of real time",
		}),
		Validate: func() error { return validate(&c, &x) },
		Run: func(ctx context.Context, _ []string) error {
			folder, err := os.MkdirTemp("", "weir-demo-")
			if err != nil {
				return fmt.Errorf("make a folder for the demo's store: %w", err)
			}
			defer func() { _ = os.RemoveAll(folder) }() // nothing in it is worth an error
			c.SQLiteFile = filepath.Join(folder, "demo.db")
			log := c.Log.New(os.Stderr)
			clk := clock.Chasing(time.Now().Add(-24*time.Hour), float64(speed))
			stop, err := simulate(ctx, &c, clk, log)
			if err != nil {
				return err
			}
			defer stop()
			greet(os.Stdout, fmt.Sprintf("a SIMULATED Cloudflare, starting 24 hours ago at %d times real time (catches up in about %s)", speed, (24*time.Hour/time.Duration(speed)).Round(time.Second)), x.Listen)
			return Run(ctx, c, x, Deps{Clock: clk, Logger: log})
		},
	}
}

// greet says what is collected, and where to look.
func greet(w io.Writer, source, listen string) {
	base := "http://" + reachable(listen)
	fmt.Fprintf(w, `weir: collecting from %s
weir: samples for Prometheus at %s/metrics, history at %s/backfill?hours=24
weir: in Prometheus query  sum by (zone) (sum_over_time(cloudflare_zone_requests[1h]))
weir: (a plain cloudflare_zone_requests is empty there: a sample has the time of its bucket, and an instant query looks back only 5 minutes)
`, source, base, base)
}

// reachable is a listen address as this machine's browser would write it.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
