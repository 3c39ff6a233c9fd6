package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/dial"
	"github.com/weir-metrics/weir/services/standalone/internal/importer"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// receiver is where an import goes.
type receiver string

const (
	toBlocks      receiver = "blocks"
	toRemoteWrite receiver = "remote-write"
	toVictoria    receiver = "victoriametrics"
)

// importing are the flags of an import.
type importing struct {
	collectors dial.Config
	prometheus promapi.Config
	what       selection
	restated   bool
	as         labelled
	to         receiver
	dataDir    string
	promtool   string
	write      promapi.Config
	window     time.Duration
	missing    string
	offline    bool
	partial    bool
	dry        bool
	out        output
}

func importCommand() cli.Command {
	i := &importing{}
	return cli.Command{
		Name: "import", Summary: "load stored samples into Prometheus or another receiver",
		Help: `--to blocks FOLDER loads an export: promtool makes blocks in --data-dir. Prometheus shows them within a minute.
--to remote-write sends a range, or --missing-only, to --remote-write-url, ascending in each series.
--to victoriametrics does the same with /api/v1/import of the server at --prometheus-url.

Every import compares first: remote-write and victoriametrics send only what the receiver lacks, so the same
command continues an import that was interrupted. What would do harm is refused with the reason: a retention that
is shorter than the range, other values in the range, labels that would make series beside those that are scraped,
times in milliseconds, stepped families, a block that reaches into the samples that Prometheus has in memory, the data
folder of another Prometheus.

Exit codes: 0 done, 1 refused or failed, also if the receiver refused samples.`,
		Args: "[FOLDER]",
		Settings: slices.Concat([]cli.Setting{
			{Flag: "to", Key: "-", Required: true, Value: cli.Enum(&i.to, toBlocks, toRemoteWrite, toVictoria), Help: "where samples go"},
			{Flag: "data-dir", Key: "-", Value: cli.Text(&i.dataDir), Help: "data folder of Prometheus (--storage.tsdb.path), for blocks"},
			{Flag: "promtool", Key: "-", Default: "promtool", Value: cli.Text(&i.promtool), Help: "promtool, 2.39 or newer: a name in PATH, or a path"},
			{Flag: "offline", Key: "-", Default: "false", Value: cli.Bool(&i.offline), Help: "load blocks without asking Prometheus or the collector: only the files and the data folder are checked"},
			{Flag: "out-of-order-window", Key: "-", Default: "0", Value: cli.Duration(&i.window, 0, 87600*time.Hour), Help: "out-of-order window of a receiver of remote write that does not tell it, such as Mimir and Thanos Receive; 0: unknown"},
			{Flag: "missing-only", Key: "-", Value: cli.Text(&i.missing), Help: "findings file of weir backfill verify: send exactly the samples that are missing there, instead of a range"},
			{Flag: "partial", Key: "-", Default: "false", Value: cli.Bool(&i.partial), Help: "send what the receiver takes although it refuses a part as too old"},
			dryRun(&i.dry),
			asRestated(&i.restated),
		}, i.what.openEnded(), i.as.settings(), []cli.Setting{outputSetting(&i.out)}, i.collectors.Settings(), i.prometheus.Settings(), i.write.RemoteWriteSettings()),
		Validate: i.validate,
		Run:      i.run,
	}
}

func (i *importing) validate() error {
	bad := []error{i.collectors.Validate(), i.prometheus.Validate(), i.write.ValidateRemoteWrite(), i.what.past(clock.System().Now()), i.as.validate()}
	problem := func(setting, format string, args ...any) {
		bad = append(bad, cli.Problem{Setting: setting, Reason: fmt.Sprintf(format, args...)})
	}
	if i.window > 0 && i.to != toRemoteWrite {
		problem("--out-of-order-window", "is for --to remote-write only")
	}
	if i.to != toRemoteWrite && i.write.URL != "" {
		problem("WEIR_REMOTE_WRITE_URL", "is for --to remote-write only")
	}
	if i.to == toBlocks {
		if i.dataDir == "" {
			problem("--data-dir", "is required with --to blocks")
		}
		switch {
		case i.offline && i.prometheus.URL != "":
			problem("WEIR_PROMETHEUS_URL", "is not asked with --offline: remove one of them")
		case !i.offline && i.prometheus.URL == "":
			problem("WEIR_PROMETHEUS_URL", "is required with --to blocks, so that labels, retention and values can be checked; or give --offline")
		}
		if i.missing != "" || i.what.given() {
			problem("--to", "blocks loads what was exported: give the range or --missing-only to weir backfill export")
		}
		return errors.Join(bad...)
	}
	if i.prometheus.URL == "" {
		problem("WEIR_PROMETHEUS_URL", "is required: the receiver is compared first")
	}
	if i.to == toRemoteWrite && i.write.URL == "" {
		problem("WEIR_REMOTE_WRITE_URL", "is required with --to remote-write")
	}
	if i.dataDir != "" || i.offline {
		problem("--data-dir", "and --offline are for --to blocks only")
	}
	bad = append(bad, rangeOrFindings(&i.what, i.missing))
	return errors.Join(bad...)
}

func (i *importing) run(ctx context.Context, args []string) (err error) {
	defer func() { err = interrupted(ctx, err, cli.ExitError) }()
	if i.to == toBlocks {
		if len(args) != 1 {
			return cli.Usagef("give the folder of one export; got %d arguments", len(args))
		}
		return i.blocks(ctx, args[0])
	}
	if len(args) > 0 {
		return cli.Usagef("unexpected argument %q: only --to blocks has a folder", args[0])
	}
	return i.push(ctx)
}

func (i *importing) blocks(ctx context.Context, folder string) error {
	options := importer.BlockOptions{Folder: folder, Promtool: i.promtool, DryRun: i.dry, Clock: clock.System()}
	var err error
	if options.DataDir, err = filepath.Abs(i.dataDir); err != nil {
		return err
	}
	o := &opened{}
	if !i.offline {
		if o, err = open(ctx, i.collectors, i.prometheus); err != nil {
			return err
		}
		defer o.close()
	}
	compared, endCompared := meter("compare")
	made, endMade := meter("make blocks")
	options.Compared, options.Made = compared, made
	result, err := importer.Blocks(ctx, o.store, o.prom, options)
	endCompared()
	endMade()
	if err != nil {
		return err
	}
	return i.out.print(os.Stdout, result, func(w io.Writer) {
		notes(w, result.Notes)
		for _, c := range result.Commands {
			fmt.Fprintln(w, c)
		}
		switch {
		case i.dry:
			fmt.Fprintf(w, "would load %d samples of %d files into %s\n", result.Samples, result.Files, options.DataDir)
		case result.Files > 0:
			fmt.Fprintf(w, "loaded %d samples of %d files as %d blocks into %s; a running Prometheus shows them within a minute\n", result.Samples, result.Files, len(result.Blocks), options.DataDir)
		}
		if result.Kept > 0 {
			fmt.Fprintf(w, "%d files were loaded before\n", result.Kept)
		}
	})
}

func notes(w io.Writer, all []string) {
	for _, n := range all {
		fmt.Fprintf(w, "note: %s\n", n)
	}
}

func (i *importing) push(ctx context.Context) error {
	o, err := open(ctx, i.collectors, i.prometheus)
	if err != nil {
		return err
	}
	defer o.close()
	clk := clock.System()
	options := importer.PushOptions{Selection: i.what.history(clk.Now(), i.restated), Added: i.as.added, Partial: i.partial, DryRun: i.dry, Clock: clk}
	if i.missing != "" {
		if options.Only, _, err = loadPicks(i.missing, o.store); err != nil {
			return err
		}
		options.Selection = options.Only.Selection()
	}
	to, end, err := i.sender(o.prom, clk)
	if err != nil {
		return err
	}
	defer end()
	if err := to.Flush(ctx); err != nil {
		return err
	}
	given, err := i.as.labels()
	if err != nil {
		return err
	}
	if options.Labels, err = importer.Resolve(ctx, o.prom, o.store, given, i.as.added, clk.Now(), options.Range.End.Std()); err != nil {
		return err
	}
	compared, endCompared := meter("compare")
	sent, endSent := meter("send")
	options.Compared, options.Sent = compared, sent
	result, err := importer.Push(ctx, o.store, o.prom, to, options)
	endCompared()
	endSent()
	if err != nil {
		return err
	}
	if err := i.out.print(os.Stdout, result, func(w io.Writer) { pushText(w, result) }); err != nil {
		return err
	}
	if result.Refused > 0 {
		return fmt.Errorf("%w: %d", importer.ErrRefused, result.Refused)
	}
	return nil
}

// sender returns what sends to the receiver, and what closes its connections. The
// credentials of the Prometheus API are for its scheme and host only.
func (i *importing) sender(prom *promapi.Client, clk clock.Clock) (importer.Sender, func(), error) {
	if i.to == toVictoria {
		return importer.NewVictoria(i.prometheus.URL, prom.HTTP()), func() {}, nil
	}
	target, err := url.Parse(i.write.URL)
	if err != nil {
		return nil, nil, fmt.Errorf("remote write URL: %w", err)
	}
	to, end := prom, func() {}
	if !prom.Serves(target) || i.write.Given() {
		if to, err = promapi.New(i.write); err != nil {
			return nil, nil, fmt.Errorf("remote write: %w", err)
		}
		end = to.Close
	}
	s, err := importer.NewRemoteWrite(i.write.URL, to.HTTP(), i.window, clk)
	return s, end, err
}

func pushText(w io.Writer, r *importer.PushResult) {
	notes(w, r.Notes)
	for _, x := range r.Refusals {
		fmt.Fprintf(w, "refused: %s [%s, %s], %d samples: %s\n", x.Series, x.First.Format(time.RFC3339Nano), x.Last.Format(time.RFC3339Nano), x.Samples, x.Reason)
	}
	if r.DryRun {
		fmt.Fprintf(w, "the receiver lacks %d samples; would send %d, of which it refuses %d as too old\n", r.Missing, r.Selected, r.TooOld)
		return
	}
	fmt.Fprintf(w, "the receiver lacked %d samples; %d sent, %d refused, %d left out as too old\n", r.Missing, r.Sent, r.Refused, r.TooOld)
}
