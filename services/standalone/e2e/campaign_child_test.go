package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/exposer"
)

// childVariable makes this test binary a collector or an exposer of the
// campaign: a process that can be killed, with the one thing that the shipped
// programs do not offer, a clock that runs fast.
const childVariable = "WEIR_CAMPAIGN_CHILD"

// part is what a child is to be.
type part struct {
	Role       string // "collector" or "exposer"
	Name       string // of a collector in the lease
	Listen     string // gRPC or HTTP
	Ops        string
	Database   string
	Cloudflare string
	Collectors []string // of an exposer
	Folder     string   // for files
	Lookback   time.Duration
	// Origin is the machine time at which the common clock stood at From.
	Origin, From time.Time
	Speed        float64
}

// How a child ends by itself.
const (
	exitContent = 0
	exitStart   = 10 // it could not start: the database is away, an address is taken
	exitRun     = 11 // it ran, and gave up
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(childVariable); spec != "" {
		os.Exit(child(spec))
	}
	// These tests wait more than they work, so more of them run at a time than there
	// are processors, unless somebody says how many.
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		_ = flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))) // a number is always accepted
	}
	os.Exit(m.Run())
}

func child(spec string) int {
	var p part
	if err := json.Unmarshal([]byte(spec), &p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitStart
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	start := p.collector
	if p.Role == "exposer" {
		start = p.exposer
	}
	run, err := start(ctx, log)
	if err != nil {
		log.Error("cannot start", "err", err)
		return exitStart
	}
	if err := run(ctx); err != nil {
		log.Error("ended", "err", err)
		if errors.Is(err, syscall.EADDRINUSE) {
			return exitStart
		}
		return exitRun
	}
	return exitContent
}

// clock is the campaign's, wherever it stands when this process starts.
func (p *part) clock() clock.Clock {
	passed := time.Duration(float64(time.Since(p.Origin)) * p.Speed)
	return clock.Chasing(p.From.Add(passed), p.Speed)
}

func (p *part) collector(ctx context.Context, log *slog.Logger) (func(context.Context) error, error) {
	var c collector.Config
	cli.Defaults(c.Settings())
	c.Token, c.CloudflareURL, c.Simulated = cli.NewSecret(cfsim.DemoToken), p.Cloudflare, true
	c.Holder, c.Lookback, c.Drain = p.Name, p.Lookback, 2*time.Second
	c.DatabaseURL, c.SQLiteFile = cli.NewSecret(p.Database), filepath.Join(p.Folder, "weir.db")
	c.Listen, c.OpsListen = p.Listen, p.Ops
	made, err := collector.New(ctx, c, collector.Deps{Clock: p.clock(), BudgetClock: p.clock(), Logger: log})
	if err != nil {
		return nil, err
	}
	return made.Run, nil
}

func (p *part) exposer(_ context.Context, log *slog.Logger) (func(context.Context) error, error) {
	c := exposerConfig(p.Collectors...)
	c.Listen, c.OpsListen = p.Listen, p.Ops
	made, err := exposer.New(c, exposer.Deps{
		Clock: p.clock(), Logger: log, Backoff: client.Backoff{Min: 20 * time.Millisecond, Max: 500 * time.Millisecond},
	})
	if err != nil {
		return nil, err
	}
	return made.Run, nil
}

var errNoSpec = errors.New("a child needs a specification")

// environment is what makes a process this child.
func (p *part) environment() (string, error) {
	if p.Role == "" {
		return "", errNoSpec
	}
	spec, err := json.Marshal(p)
	return childVariable + "=" + string(spec), err
}
