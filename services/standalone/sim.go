package standalone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/oklog/run"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
)

// simSettings are those of "weir sim".
type simSettings struct {
	log           cli.Log
	listen, admin string
	seed          int64
	recorded      string
	at            time.Time
}

func simCommand() cli.Command {
	var s simSettings
	return cli.Command{
		Name: "sim", Summary: "the simulated Cloudflare API alone",
		Help: "Answers GraphQL and REST below /client/v4 with the token that it prints. The admin listener injects faults, shows the request log and tells true values.",
		Settings: append([]cli.Setting{
			{Flag: "listen", Key: "-", Default: "127.0.0.1:9830", Value: cli.Address(&s.listen), Help: "address of the simulated API"},
			{Flag: "admin-listen", Key: "-", Default: "127.0.0.1:9831", Value: cli.Address(&s.admin), Help: "address of the admin listener"},
			{Flag: "seed", Key: "-", Default: "1", Value: cli.Int(&s.seed, 0, 1<<62), Help: "seed of all traffic and all chance"},
			{Flag: "recorded", Key: "-", Value: cli.Text(&s.recorded), Help: "CSV file of readings of the real API to repeat (zone, asked_until, bucket_start, requests) instead of the demo's zones"},
			{Flag: "at", Key: "-", Value: cli.Time(&s.at), Help: "stand still at this time instead of following the machine's clock"},
		}, s.log.Settings()...),
		Validate: func() error {
			return errors.Join(cli.Apart(cli.Listener{Setting: "--admin-listen", Address: s.admin}, cli.Listener{Setting: "--listen", Address: s.listen})...)
		},
		Run: func(ctx context.Context, _ []string) error { return s.run(ctx) },
	}
}

func (s *simSettings) run(ctx context.Context) error {
	clk := clock.System()
	if !s.at.IsZero() {
		clk = clock.NewManual(s.at)
	}
	config := cfsim.Demo(clk, uint64(s.seed))
	if s.recorded != "" {
		file, err := os.Open(s.recorded)
		if err != nil {
			return fmt.Errorf("open recorded readings: %w", err)
		}
		config, err = cfsim.Recorded(clk, uint64(s.seed), file)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	config.Announce = true
	config.Logger = s.log.New(os.Stderr)
	sim, err := cfsim.New(config)
	if err != nil {
		return err
	}
	api, err := net.Listen("tcp", s.listen)
	if err != nil {
		return fmt.Errorf("simulated API: %w", err)
	}
	admin, err := net.Listen("tcp", s.admin)
	if err != nil {
		return errors.Join(fmt.Errorf("admin listener: %w", err), api.Close())
	}
	fmt.Printf("weir sim: WEIR_CLOUDFLARE_URL=http://%s/client/v4 CF_API_TOKEN=%s\nweir sim: admin at http://%s/\n", api.Addr(), cfsim.DemoToken, admin.Addr())
	var g run.Group
	for _, serve := range []func(context.Context) error{
		func(ctx context.Context) error { return sim.Serve(ctx, api) },
		func(ctx context.Context) error { return sim.ServeAdmin(ctx, admin) },
	} {
		ctx, cancel := context.WithCancel(ctx)
		g.Add(func() error { return serve(ctx) }, func(error) { cancel() })
	}
	return g.Run()
}
