package exposer

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/dial"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// Config of an exposer. Fields are filled by the table of [Config.Settings].
type Config struct {
	Log cli.Log

	Collector dial.Config

	ReplayHours      int
	SoftSamples      int
	HardSamples      int
	MaxScrapes       int
	Counters         bool
	Compat           string
	Status           bool
	BackfillMaxHours int
	MaxBackfills     int
	Interval         time.Duration // default step of /cloudflare/backfill

	Listen       string
	WebConfig    string
	Tokens       string
	OpsListen    string
	OpsWebConfig string
	Pprof        bool
	Drain        time.Duration
}

// Values of WEIR_EXPOSER_COMPAT.
const (
	noCompat      = "none"
	lablabsCompat = "lablabs"
)

// Settings is the table of "exposer run".
func (c *Config) Settings() []cli.Setting {
	return slices.Concat(c.Collector.Settings(), []cli.Setting{
		{Env: "CF_METRICS_REPLAY_HOURS", Default: "24", Value: cli.Int(&c.ReplayHours, 1, 720), Help: "maximum age of a sample on /metrics: older windows come round in pages until then; the out_of_order_time_window of Prometheus must be at least 2 h longer"},
		{Env: "WEIR_REPLAY_SOFT_SAMPLES", Default: "100000", Value: cli.Int(&c.SoftSamples, 1, 10_000_000), Help: "soft limit on the samples of /metrics; above it windows are left out, the oldest first: those of pages, of breakdowns and then of totals, then those of the newest windows in the same way"},
		{Env: "WEIR_REPLAY_HARD_SAMPLES", Default: "250000", Value: cli.Int(&c.HardSamples, 1, 10_000_000), Help: "hard limit on the samples of /metrics; above it /metrics answers 503"},
		{Env: "WEIR_EXPOSER_MAX_SCRAPES", Default: "64", Value: cli.Int(&c.MaxScrapes, 1, 10_000), Help: "maximum number of concurrent scrapes, of /metrics, /counters and /counters/compat/lablabs each"},
		{Env: "WEIR_EXPOSER_COUNTERS", Default: "true", Value: cli.Bool(&c.Counters), Help: "serve /counters, which takes a second stream from the collector and memory for each series"},
		{Env: "WEIR_EXPOSER_COMPAT", Default: noCompat, Value: cli.Enum(&c.Compat, noCompat, lablabsCompat), Help: "lablabs: serve /counters/compat/lablabs, the counters under the names of lablabs/cloudflare-exporter (docs/compat.md)"},
		{Env: "WEIR_EXPOSER_STATUS", Default: "true", Value: cli.Bool(&c.Status), Help: "serve the status page, /status, /status/scope and /status.json, which show names and states of zones and accounts"},
		{Env: "CF_BACKFILL_MAX_HOURS", Default: "168", Value: cli.Int(&c.BackfillMaxHours, 1, 24*3660), Help: "maximum range of one backfill request, in hours; a range given by the parameter hours starts at the preceding midnight UTC"},
		{Env: "WEIR_EXPOSER_MAX_BACKFILLS", Default: "2", Value: cli.Int(&c.MaxBackfills, 1, 100), Help: "maximum number of concurrent backfill requests"},
		{Env: "CF_COLLECTION_INTERVAL_SECONDS", Default: "60", Value: cli.Duration(&c.Interval, time.Second, time.Hour), Help: "default of the parameter step_seconds of /cloudflare/backfill"},
		{Env: "WEIR_EXPOSER_LISTEN", Default: ":9810", Value: cli.Address(&c.Listen), Help: "address of the data listener: /metrics, /counters, /backfill, /status"},
		{Env: "WEIR_EXPOSER_WEB_CONFIG_FILE", Value: cli.Text(&c.WebConfig), Help: "Prometheus web configuration file (TLS, basic authentication) of the data listener; reloaded for each request"},
		{Env: "WEIR_EXPOSER_TOKENS_FILE", Value: cli.Text(&c.Tokens), Help: "YAML file with the digests of bearer tokens that the data listener asks for, and the accounts and zones that each may read; reloaded for each request"},
		{Env: "WEIR_EXPOSER_OPS_LISTEN", Default: ":9811", Value: cli.Address(&c.OpsListen), Help: "address of the operations listener: own metrics, health"},
		{Env: "WEIR_EXPOSER_OPS_WEB_CONFIG_FILE", Value: cli.Text(&c.OpsWebConfig), Help: "Prometheus web configuration file of the operations listener; reloaded for each request"},
		{Env: "WEIR_PPROF", Default: "false", Value: cli.Bool(&c.Pprof), Help: "serve profiles on the operations listener"},
		{Env: "WEIR_DRAIN", Default: "10s", Value: cli.Duration(&c.Drain, 0, 10*time.Minute), Help: "time between reporting not ready and closing the listeners at shutdown"},
	}, c.Log.Settings())
}

// Validate checks rules that involve more than one setting. It returns every
// problem.
func (c *Config) Validate() error {
	bad := []error{c.Collector.Validate()}
	bad = append(bad, cli.Apart(cli.Listener{Setting: "WEIR_EXPOSER_OPS_LISTEN", Address: c.OpsListen}, cli.Listener{Setting: "WEIR_EXPOSER_LISTEN", Address: c.Listen})...)
	if c.SoftSamples > c.HardSamples {
		bad = append(bad, cli.Problem{Setting: "WEIR_REPLAY_SOFT_SAMPLES", Reason: fmt.Sprintf("must be at most WEIR_REPLAY_HARD_SAMPLES (%d)", c.HardSamples)})
	}
	if c.Compat == lablabsCompat && !c.Counters {
		bad = append(bad, cli.Problem{Setting: "WEIR_EXPOSER_COMPAT", Reason: fmt.Sprintf("%s needs counters: WEIR_EXPOSER_COUNTERS must be true", c.Compat)})
	}
	return errors.Join(bad...)
}

// CheckReplay returns a problem for each dataset whose samples would never be
// shown. It is for a caller that knows the datasets before the stream delivers
// them.
func (c *Config) CheckReplay(datasets []bucket.Definition, start bool) error {
	stamp := sample.End
	if start {
		stamp = sample.Start
	}
	var bad []error
	for i := range datasets {
		d, age := &datasets[i], time.Duration(c.ReplayHours)*time.Hour
		if err := recent.Check(d, stamp, age); err != nil && recent.Span(d, stamp, age) == 0 {
			bad = append(bad, cli.Problem{Setting: "CF_METRICS_REPLAY_HOURS", Reason: err.Error()})
		}
	}
	return errors.Join(bad...)
}
