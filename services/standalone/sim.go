package standalone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/scenario"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/proc"
	"github.com/weir-metrics/weir/internal/smallfile"
)

// simSettings are those of "weir sim".
type simSettings struct {
	log           cli.Log
	listen, admin string
	seed          int64
	recorded      string
	scenario      string
	at            time.Time

	zones           int
	plans           []string
	sampling        bool
	revised, shrunk float64 // shares of minutes
	latency         time.Duration
	failing         float64 // share of requests
	statuses        []string
}

// demoZones is how many zones the demo's world has.
const demoZones = 8

func simCommand() cli.Command {
	var s simSettings
	return cli.Command{
		Name: "sim", Summary: "run the simulated Cloudflare API",
		Help: "Serves GraphQL and REST under /client/v4 for the tokens that it prints. The admin listener injects faults and has the request log and the true values.",
		Settings: append([]cli.Setting{
			{Flag: "listen", Key: "-", Default: "127.0.0.1:9830", Value: cli.Address(&s.listen), Help: "address of the simulated API"},
			{Flag: "admin-listen", Key: "-", Default: "127.0.0.1:9832", Value: cli.Address(&s.admin), Help: "address of the admin listener"},
			{Flag: "seed", Key: "-", Default: "1", Value: cli.Int(&s.seed, 0, 1<<62), Help: "seed of the traffic and of all random choices"},
			{Flag: "recorded", Key: "-", Value: cli.Text(&s.recorded), Help: "CSV file of recorded readings of the real API (zone, asked_until, bucket_start, requests) to replay instead of the demo's zones"},
			{Flag: "scenario", Key: "-", Value: cli.Text(&s.scenario), Help: "YAML file of a world: clock, accounts, zones with their plans, traffic, cardinality and products, tokens, sampling, limits and faults, as internal/cfsim/scenario describes it; other flags of the world must not be given"},
			{Flag: "zones", Key: "-", Default: strconv.Itoa(demoZones), Value: cli.Int(&s.zones, 1, 100_000), Help: "number of zones: first the demo's, then zone-00009.example and so on; 10,000 zones need 0.9 GB of memory"},
			{Flag: "plans", Key: "-", Value: cli.List(&s.plans), Help: "plans of the zones, assigned in turn: free, pro, business, enterprise; empty: the demo's plans, and all four in turn for other zones"},
			{Flag: "sampling", Key: "-", Default: "false", Value: cli.Bool(&s.sampling), Help: "answer large queries to adaptive datasets from a sample of 10 % or 1 %"},
			{Flag: "late-revisions", Key: "-", Default: "0%", Value: cli.Share(&s.revised, 0, 1), Help: "share of minutes that grow by up to 3 % after 15 minutes, an hour or a day"},
			{Flag: "late-shrinking", Key: "-", Default: "0%", Value: cli.Share(&s.shrunk, 0, 1), Help: "share of minutes that shrink by up to 3 % after 15 minutes, an hour or a day"},
			{Flag: "latency", Key: "-", Default: "0s", Value: cli.Duration(&s.latency, 0, 5*time.Minute), Help: "additional latency of every response"},
			{Flag: "error-share", Key: "-", Default: "0%", Value: cli.Share(&s.failing, 0, 1), Help: "share of requests that fail"},
			{Flag: "error-statuses", Key: "-", Default: "502", Value: cli.List(&s.statuses), Help: "HTTP statuses of failed requests, in equal shares: 400 to 499 with an error in the API's format, 500 to 599 with an HTML page"},
			{Flag: "at", Key: "-", Value: cli.Time(&s.at), Help: "freeze the clock at this time instead of using the machine's clock"},
		}, s.log.Settings()...),
		Validate: func() error { return s.validate() },
		Run:      func(ctx context.Context, _ []string) error { return s.run(ctx) },
	}
}

func (s *simSettings) validate() error {
	bad := cli.Apart(cli.Listener{Setting: "--admin-listen", Address: s.admin}, cli.Listener{Setting: "--listen", Address: s.listen})
	for _, p := range s.plans {
		if !slices.Contains(cfsim.Plans(), cfsim.Plan(p)) {
			bad = append(bad, cli.Problem{Setting: "--plans", Value: p, Reason: "must be free, pro, business or enterprise"})
		}
	}
	for _, text := range s.statuses {
		if n, err := strconv.Atoi(text); err != nil || n < 400 || n > 599 {
			bad = append(bad, cli.Problem{Setting: "--error-statuses", Value: text, Reason: "must be a whole number from 400 to 599"})
		}
	}
	if s.failing > 0 && len(s.statuses) == 0 {
		bad = append(bad, cli.Problem{Setting: "--error-statuses", Reason: "must have a status, since --error-share makes requests fail"})
	}
	if s.recorded != "" && (s.zones != demoZones || len(s.plans) > 0) {
		bad = append(bad, cli.Problem{Setting: "--recorded", Value: s.recorded, Reason: "defines its own zones; remove --zones and --plans"})
	}
	if s.scenario != "" {
		bad = append(bad, s.besideScenario()...)
	}
	return errors.Join(bad...)
}

// besideScenario are the flags whose part of the world a scenario defines.
func (s *simSettings) besideScenario() (bad []error) {
	for _, flag := range []struct {
		name  string
		given bool
	}{
		{"--recorded", s.recorded != ""},
		{"--zones", s.zones != demoZones},
		{"--plans", len(s.plans) > 0},
		{"--seed", s.seed != 1},
		{"--at", !s.at.IsZero()},
		{"--sampling", s.sampling},
		{"--late-revisions", s.revised > 0},
		{"--late-shrinking", s.shrunk > 0},
		{"--latency", s.latency > 0},
		{"--error-share", s.failing > 0},
	} {
		if flag.given {
			bad = append(bad, cli.Problem{Setting: flag.name, Reason: "must not be given with --scenario, whose file says it"})
		}
	}
	return bad
}

// world is the configuration of the simulator.
func (s *simSettings) world() (cfsim.Config, error) {
	if s.scenario != "" {
		text, err := smallfile.Read(s.scenario, smallfile.YAML)
		if err != nil {
			return cfsim.Config{}, fmt.Errorf("read scenario: %w", err)
		}
		config, err := scenario.Read(text, clock.System())
		if err != nil {
			return config, fmt.Errorf("scenario %s:\n%w", s.scenario, err)
		}
		return config, nil
	}
	clk := clock.System()
	if !s.at.IsZero() {
		clk = clock.NewManual(s.at)
	}
	var plans []cfsim.Plan
	for _, p := range s.plans {
		plans = append(plans, cfsim.Plan(p))
	}
	config := cfsim.Sized(clk, uint64(s.seed), s.zones, plans)
	if s.recorded != "" {
		file, err := os.Open(s.recorded)
		if err != nil {
			return config, fmt.Errorf("open recorded readings: %w", err)
		}
		config, err = cfsim.Recorded(clk, uint64(s.seed), file)
		if err := errors.Join(err, file.Close()); err != nil {
			return config, err
		}
	}
	config.Sampling.Enabled, config.Latency = s.sampling, s.latency
	config.Settling.Revisions, config.Settling.Downward = s.revised, s.shrunk
	config.Faults = append(config.Faults, s.faults()...)
	return config, nil
}

// faults are those of the settings: of each status one, which strikes its share of
// the requests that no fault before it has struck.
func (s *simSettings) faults() (out []cfsim.Fault) {
	for i, text := range s.statuses {
		status, err := strconv.Atoi(text)
		each := s.failing / float64(len(s.statuses))
		if err != nil || each == 0 {
			continue
		}
		f := cfsim.Fault{Kind: cfsim.FaultHTML, Status: status, Probability: min(each/(1-each*float64(i)), 1)}
		if status < 500 {
			f.Kind = cfsim.FaultRefusal
		}
		out = append(out, f)
	}
	return out
}

// secondToken adds a token of another user that sees the last of several accounts
// alone, so that two credentials can be tried; empty where there is one account.
func secondToken(c *cfsim.Config) string {
	if len(c.Accounts) < 2 {
		return ""
	}
	last := c.Accounts[len(c.Accounts)-1]
	t := cfsim.GoodToken("second-" + cfsim.DemoToken)
	t.Accounts = []string{last.ID}
	c.Tokens = append(c.Tokens, t)
	return t.Secret
}

// simGreeting says how to use a simulator on these listen addresses.
func simGreeting(api, admin, token string) string {
	return fmt.Sprintf("weir sim: WEIR_CLOUDFLARE_URL=http://%s%s CF_API_TOKEN=%s\nweir sim: admin at http://%s/\n",
		reachable(api), cfsim.Prefix, token, reachable(admin))
}

func (s *simSettings) run(ctx context.Context) error {
	config, err := s.world()
	if err != nil {
		return err
	}
	config.Announce = true
	token, second := "", ""
	if s.scenario == "" {
		second = secondToken(&config)
	}
	if len(config.Tokens) > 0 {
		token = config.Tokens[0].Secret
	}
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
	fmt.Print(simGreeting(api.Addr().String(), admin.Addr().String(), token))
	if second != "" {
		fmt.Printf("weir sim: a second token, of another user and for one account: %s\n", second)
	}
	g := proc.NewGroup(ctx, nil)
	g.Add(func(ctx context.Context) error { return sim.Serve(ctx, api) })
	g.Add(func(ctx context.Context) error { return sim.ServeAdmin(ctx, admin) })
	return g.Run()
}
