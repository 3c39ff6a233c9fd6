package standalone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/dial"
	"github.com/weir-metrics/weir/internal/ops"
	"github.com/weir-metrics/weir/internal/proc"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
	"github.com/weir-metrics/weir/services/standalone/internal/push"
)

// protocol is how samples are sent.
type protocol string

const (
	remoteWrite1 protocol = "remote-write"
	remoteWrite2 protocol = "remote-write-2"
	otlp         protocol = "otlp"
)

// pushing are the settings of a push.
type pushing struct {
	log         cli.Log
	collectors  dial.Config
	destination promapi.Config
	protocol    protocol
	labels      []string
	from        push.Start
	cursor      string
	report      string
	maxLag      time.Duration
	maxPause    time.Duration
	listen      string
	webConfig   string
	pprof       bool
	drain       time.Duration
}

// minPause is the first pause after a failure.
const minPause = 500 * time.Millisecond

// requestTimeout ends a request that the destination does not answer.
const requestTimeout = time.Minute

func pushCommand() cli.Command {
	p := &pushing{}
	return cli.Command{
		Name: "push", Summary: "send the samples of the log to a receiver of remote write or OTLP",
		Help: `Follows a collector and sends the samples of each bucket once it is stored, at least once, in the order of the log, to
one destination. The cursor file has the place up to which the destination has everything: it is written after the
destination has acknowledged. Two processes cannot use one cursor file.

Samples that the destination refuses are written to the report as windows, which weir backfill import --missing-only
takes, and the push goes on. See docs/push.md.`,
		Settings: p.settings(), Validate: p.validate, Hangup: p.log.Hangup,
		Run: func(ctx context.Context, _ []string) error { return p.run(ctx, p.log.New(os.Stderr)) },
	}
}

func (p *pushing) settings() []cli.Setting {
	return slices.Concat(p.destination.DestinationSettings(), []cli.Setting{
		{Env: "WEIR_PUSH_PROTOCOL", Flag: "protocol", Default: string(remoteWrite1), Value: cli.Enum(&p.protocol, remoteWrite1, remoteWrite2, otlp), Help: "remote write 1.0, which every receiver takes, remote write 2.0, or OTLP over HTTP with protobuf"},
		{Env: "WEIR_PUSH_EXTERNAL_LABELS", Flag: "external-labels", Value: cli.List(&p.labels), Help: "labels that every series gets, as name=value, such as job=weir; with OTLP they are attributes of the resource"},
		{Env: "WEIR_PUSH_FROM", Flag: "from", Default: "now", Value: from(&p.from), Help: "where to begin without a cursor: now, with what is stored from now on; beginning, with the first entry of the log; or an age such as 24h, with the windows that are younger"},
		{Env: "WEIR_PUSH_CURSOR_FILE", Flag: "cursor-file", Required: true, Value: cli.Text(&p.cursor), Help: "file with the place in the log up to which the destination has everything, on a disk that outlives the process"},
		{Env: "WEIR_PUSH_REPORT_FILE", Flag: "report-file", Value: cli.Text(&p.report), Help: "file for the windows of refused samples; empty: the cursor file's name with .refused.jsonl"},
		{Env: "WEIR_PUSH_MAX_LAG", Flag: "max-lag", Default: "30m", Value: cli.Duration(&p.maxLag, time.Minute, 720*time.Hour), Help: "lag behind the log above which the process is not ready"},
		{Env: "WEIR_PUSH_MAX_PAUSE", Flag: "max-pause", Default: "1m", Value: cli.Duration(&p.maxPause, minPause, time.Hour), Help: "longest pause before a failed request is sent again; Retry-After of the destination may be longer, up to an hour"},
		{Env: "WEIR_PUSH_OPS_LISTEN", Flag: "ops-listen", Default: ":9831", Value: cli.Address(&p.listen), Help: "address of the operations listener: own metrics, health"},
		{Env: "WEIR_PUSH_OPS_WEB_CONFIG_FILE", Flag: "ops-web-config-file", Value: cli.Text(&p.webConfig), Help: "Prometheus web configuration file of the operations listener; reloaded for each request"},
		{Env: "WEIR_PPROF", Default: "false", Value: cli.Bool(&p.pprof), Help: "serve profiles on the operations listener"},
		{Env: "WEIR_DRAIN", Default: "10s", Value: cli.Duration(&p.drain, 0, 10*time.Minute), Help: "time that the batch in flight has to be acknowledged at shutdown; otherwise it is sent again after the next start"},
	}, p.collectors.Settings(), p.log.Settings())
}

// from is the value of WEIR_PUSH_FROM.
func from(p *push.Start) cli.Value { return &start{p, ""} }

type start struct {
	p    *push.Start
	text string
}

// Set implements [cli.Value].
func (s *start) Set(text string) error {
	switch text {
	case "now":
		*s.p = push.Start{}
	case "beginning":
		*s.p = push.Start{Beginning: true}
	default:
		var age time.Duration
		if cli.Duration(&age, time.Minute, 87600*time.Hour).Set(text) != nil {
			return errors.New("must be " + s.Allowed())
		}
		*s.p = push.Start{Age: age}
	}
	s.text = text
	return nil
}

func (s *start) String() string { return s.text }

// Allowed implements [cli.Value].
func (*start) Allowed() string { return "now, beginning, or a duration from 1m to 87600h" }

func (p *pushing) validate() error {
	bad := []error{p.collectors.Validate(), p.destination.ValidateDestination()}
	labels, err := export.ParseLabels(p.labels)
	if err != nil {
		bad = append(bad, cli.Problem{Setting: "WEIR_PUSH_EXTERNAL_LABELS", Reason: err.Error()})
	}
	for _, l := range labels {
		if l.Name == "zone" || l.Name == "account" {
			bad = append(bad, cli.Problem{Setting: "WEIR_PUSH_EXTERNAL_LABELS", Reason: fmt.Sprintf("must not have %s, which belongs to the data", l.Name)})
		}
	}
	if p.destination.URL != "" {
		if err := deliver.CheckTarget(p.destination.URL, p.protocol == otlp); err != nil {
			bad = append(bad, cli.Problem{Setting: "WEIR_PUSH_DESTINATION_URL", Reason: err.Error()})
		}
	}
	if p.report == p.cursor && p.cursor != "" {
		bad = append(bad, cli.Problem{Setting: "WEIR_PUSH_REPORT_FILE", Reason: "must not be the cursor file"})
	}
	return errors.Join(bad...)
}

func (p *pushing) run(ctx context.Context, log *slog.Logger) (err error) {
	clk, registry := clock.System(), prometheus.NewRegistry()
	secrets := reload.NewWatch(log, clk.Now)
	registry.MustRegister(secrets)
	file, cursor, err := push.OpenCursor(p.cursor, p.destination.URL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	report, err := push.OpenReport(p.reportFile(), file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, report.Close()) }()
	to, err := p.sender(secrets, clk)
	if err != nil {
		return err
	}
	conn, err := dial.Open(p.collectors, secrets)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	pusher := push.New(push.Config{
		Conn: conn, To: to, Labels: p.seriesLabels(), Repeatable: p.protocol != otlp, File: file, Cursor: cursor, Start: p.from,
		Report: report.Path, MaxLag: p.maxLag, Grace: p.drain, Min: minPause, Max: p.maxPause,
		Clock: clk, Logger: log, Meter: push.NewMeter(registry),
	})
	build := cli.BuildInfo()
	operations, err := ops.New(ops.Config{
		Service: "weir-push", Summary: "Sends final Cloudflare buckets to a receiver of remote write or OTLP.",
		Version: build.Version, Revision: build.Revision, Registry: registry, Ready: pusher.Ready, Pprof: p.pprof, Logger: log,
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", p.listen)
	if err != nil {
		return fmt.Errorf("operations listener: %w", err)
	}
	log.Info("pushing", "destination", p.destination.URL, "protocol", string(p.protocol), "cursor", p.cursor, "revision", revisionOf(cursor))
	g := proc.NewGroup(ctx, operations.Drain)
	// Follows the log and sends.
	pushed := make(chan struct{})
	g.Add(func(ctx context.Context) error {
		defer close(pushed)
		return pusher.Run(ctx)
	})
	// Serves health, readiness and own metrics, until the last batch is done.
	g.AddUnder(pushed, func(ctx context.Context) error {
		return ops.Serve(ctx, ops.ServerConfig{
			Name: "operations", Listener: listener, Logger: log,
			WebConfigFile: p.webConfig, WebConfigSetting: "WEIR_PUSH_OPS_WEB_CONFIG_FILE", Watch: secrets,
		}, operations)
	})
	return g.Run()
}

func revisionOf(c *push.Cursor) string {
	if c == nil {
		return "none"
	}
	if h := c.History; h != nil {
		return fmt.Sprintf("none: windows from %s to %s are to be sent first", max(h.Day, h.Since), h.Through)
	}
	return fmt.Sprint(c.Revision)
}

func (p *pushing) reportFile() string {
	if p.report != "" {
		return p.report
	}
	return strings.TrimSuffix(p.cursor, ".json") + ".refused.jsonl"
}

// external are the configured labels, which validate has checked.
func (p *pushing) external() []export.Label {
	labels, _ := export.ParseLabels(p.labels)
	return labels
}

// seriesLabels are those that series get; with OTLP the resource has them.
func (p *pushing) seriesLabels() []export.Label {
	if p.protocol == otlp {
		return nil
	}
	return p.external()
}

func (p *pushing) sender(secrets *reload.Watch, clk clock.Clock) (deliver.Sender, error) {
	api, err := promapi.Reloading(p.destination, promapi.Destination, secrets)
	if err != nil {
		return nil, fmt.Errorf("destination: %w", err)
	}
	client := api.HTTP()
	client.Timeout = requestTimeout
	switch p.protocol {
	case otlp:
		return deliver.NewOTLP(p.destination.URL, client, p.external(), clk.Now)
	case remoteWrite2:
		return deliver.NewRemoteWrite2(p.destination.URL, client, clk.Now)
	}
	return deliver.NewRemoteWrite(p.destination.URL, client, clk.Now)
}
