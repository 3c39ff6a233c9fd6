package exposer

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/loopback"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/dial"
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
	BackfillMaxHours int
	MaxBackfills     int
	Interval         time.Duration // default step of /cloudflare/backfill

	Listen       string
	WebConfig    string
	OpsListen    string
	OpsWebConfig string
	Pprof        bool
	Drain        time.Duration
}

// Settings is the table of "exposer run".
func (c *Config) Settings() []cli.Setting {
	return append([]cli.Setting{
		{Env: "WEIR_COLLECTOR_ADDRESS", Default: "127.0.0.1:9820", Value: cli.List(&c.Collector.Addresses), Help: "comma-separated host:port of the collectors; the exposer follows any one of them. A single entry means every address that its name resolves to; with several entries, each means one collector"},
		{Env: "WEIR_COLLECTOR_TLS", Default: "false", Value: cli.Bool(&c.Collector.TLS), Help: "connect to the collectors over TLS"},
		{Env: "WEIR_COLLECTOR_CA_FILE", Value: cli.Text(&c.Collector.CAFile), Help: "PEM file with the CA certificates that verify the collectors; empty: the system's root certificates"},
		{Env: "WEIR_COLLECTOR_CERT_FILE", Value: cli.Text(&c.Collector.CertFile), Help: "PEM file with the client certificate for the collectors; reloaded for each connection"},
		{Env: "WEIR_COLLECTOR_KEY_FILE", Value: cli.Text(&c.Collector.KeyFile), Help: "PEM file with the key of the client certificate"},
		{Env: "WEIR_COLLECTOR_SERVER_NAME", Value: cli.Text(&c.Collector.ServerName), Help: "server name to verify in the collectors' certificates; empty: the host of the address"},
		{Env: "WEIR_COLLECTOR_TOKEN", Value: cli.SecretText(&c.Collector.Token), Help: "bearer token for the collectors; the first line of the file is used, and the file is reloaded for each call"},
		{Env: "CF_METRICS_REPLAY_HOURS", Default: "24", Value: cli.Int(&c.ReplayHours, 1, 720), Help: "maximum age of a sample on /metrics; the out_of_order_time_window of Prometheus must be at least 2 h longer"},
		{Env: "WEIR_REPLAY_SOFT_SAMPLES", Default: "100000", Value: cli.Int(&c.SoftSamples, 1, 10_000_000), Help: "soft limit on the samples of /metrics; above it the oldest windows are left out, first those of breakdowns, then those of totals"},
		{Env: "WEIR_REPLAY_HARD_SAMPLES", Default: "250000", Value: cli.Int(&c.HardSamples, 1, 10_000_000), Help: "hard limit on the samples of /metrics; above it /metrics answers 503"},
		{Env: "WEIR_EXPOSER_MAX_SCRAPES", Default: "64", Value: cli.Int(&c.MaxScrapes, 1, 10_000), Help: "maximum number of concurrent scrapes"},
		{Env: "CF_BACKFILL_MAX_HOURS", Default: "168", Value: cli.Int(&c.BackfillMaxHours, 1, 24*3660), Help: "maximum range of one backfill request, in hours; a range given by the parameter hours starts at the preceding midnight UTC"},
		{Env: "WEIR_EXPOSER_MAX_BACKFILLS", Default: "2", Value: cli.Int(&c.MaxBackfills, 1, 100), Help: "maximum number of concurrent backfill requests"},
		{Env: "CF_COLLECTION_INTERVAL_SECONDS", Default: "60", Value: cli.Duration(&c.Interval, time.Second, time.Hour), Help: "default of the parameter step_seconds of /cloudflare/backfill"},
		{Env: "WEIR_EXPOSER_LISTEN", Default: ":9810", Value: cli.Address(&c.Listen), Help: "address of the data listener: /metrics, /backfill"},
		{Env: "WEIR_EXPOSER_WEB_CONFIG_FILE", Value: cli.Text(&c.WebConfig), Help: "Prometheus web configuration file (TLS, basic authentication) of the data listener; reloaded for each request"},
		{Env: "WEIR_EXPOSER_OPS_LISTEN", Default: ":9811", Value: cli.Address(&c.OpsListen), Help: "address of the operations listener: own metrics, health"},
		{Env: "WEIR_EXPOSER_OPS_WEB_CONFIG_FILE", Value: cli.Text(&c.OpsWebConfig), Help: "Prometheus web configuration file of the operations listener; reloaded for each request"},
		{Env: "WEIR_PPROF", Default: "false", Value: cli.Bool(&c.Pprof), Help: "serve profiles on the operations listener"},
		{Env: "WEIR_DRAIN", Default: "10s", Value: cli.Duration(&c.Drain, 0, 10*time.Minute), Help: "time between reporting not ready and closing the listeners at shutdown"},
	}, c.Log.Settings()...)
}

// Validate checks rules that involve more than one setting. It returns every
// problem.
func (c *Config) Validate() error {
	var bad []error
	problem := func(setting, format string, args ...any) {
		bad = append(bad, cli.Problem{Setting: setting, Reason: fmt.Sprintf(format, args...)})
	}
	d := &c.Collector
	if len(d.Addresses) == 0 {
		problem("WEIR_COLLECTOR_ADDRESS", "must name at least one host:port")
	}
	for _, a := range d.Addresses {
		host, port, err := net.SplitHostPort(a)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || n == 0 {
			problem("WEIR_COLLECTOR_ADDRESS", "%q must be host:port, with a port from 1 to 65535", a)
		}
	}
	if (d.CertFile == "") != (d.KeyFile == "") {
		problem("WEIR_COLLECTOR_CERT_FILE", "must be set together with WEIR_COLLECTOR_KEY_FILE")
	}
	if !d.Token.IsZero() {
		if err := d.CheckToken(); err != nil {
			problem("WEIR_COLLECTOR_TOKEN", "%v", err)
		}
	}
	if !d.TLS {
		if d.CAFile != "" || d.CertFile != "" || d.ServerName != "" {
			problem("WEIR_COLLECTOR_TLS", "must be true when a CA, a certificate or a server name is set: without TLS they have no effect")
		}
		if !d.Token.IsZero() && slices.ContainsFunc(d.Addresses, func(a string) bool { return !onLoopback(a) }) {
			problem("WEIR_COLLECTOR_TLS", "must be true when WEIR_COLLECTOR_TOKEN is set and a collector is not on loopback: the token would be sent in plain text")
		}
	}
	bad = append(bad, cli.Apart(cli.Listener{Setting: "WEIR_EXPOSER_OPS_LISTEN", Address: c.OpsListen}, cli.Listener{Setting: "WEIR_EXPOSER_LISTEN", Address: c.Listen})...)
	if c.SoftSamples > c.HardSamples {
		problem("WEIR_REPLAY_SOFT_SAMPLES", "must be at most WEIR_REPLAY_HARD_SAMPLES (%d)", c.HardSamples)
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

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && loopback.Host(host)
}
