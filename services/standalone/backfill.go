package standalone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/dial"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
	"github.com/weir-metrics/weir/services/standalone/internal/importer"
	"github.com/weir-metrics/weir/services/standalone/internal/progress"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

func backfillCommand() cli.Command {
	return cli.Command{
		Name: "backfill", Summary: "bring history from Cloudflare into the store, compare Prometheus with the store, and load what it lacks",
		Commands: []cli.Command{planCommand(), fetchCommand(), statusCommand(), pauseCommand(), resumeCommand(), cancelCommand(), verifyCommand(), exportCommand(), importCommand(), cleanCommand()},
	}
}

// outputs are the forms of a command's result on stdout. Progress goes to stderr.
type output string

const (
	asText output = "text"
	asJSON output = "json"
)

func outputSetting(o *output) cli.Setting {
	return cli.Setting{Flag: "output", Key: "-", Default: string(asText), Value: cli.Enum(o, asText, asJSON), Help: "text for people, or json for programs: the form of the result on stdout"}
}

// print writes a result. In the text nothing that others wrote acts on the terminal.
func (o output) print(w io.Writer, result any, text func(io.Writer)) error {
	if o == asText {
		var b strings.Builder
		text(&b)
		_, err := io.WriteString(w, cli.Plain(b.String()))
		return err
	}
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(result)
}

// labelled are the flags of the labels that are written.
type labelled struct {
	job, instance string
	more, added   []string
}

func (l *labelled) settings() []cli.Setting {
	return []cli.Setting{
		{Flag: "job", Key: "-", Value: cli.Text(&l.job), Help: "label job of the scraped series; not given: read from --prometheus-url. Prometheus shows it for cloudflare_zone_requests[1d]"},
		{Flag: "instance", Key: "-", Value: cli.Text(&l.instance), Help: "label instance of the scraped series, in the same way"},
		{Flag: "label", Key: "-", Value: cli.List(&l.more), Help: "further labels of the scraped series, as name=value; external labels only for a receiver that stores them, as Mimir does"},
		{Flag: "ignore-label", Key: "-", Value: cli.List(&l.added), Help: "labels that the receiver adds to what it stores, such as receive and tenant_id of Thanos Receive: not written and not compared"},
	}
}

func (l *labelled) labels() ([]export.Label, error) {
	pairs := slices.Clone(l.more)
	for _, own := range []struct{ name, value string }{{"job", l.job}, {"instance", l.instance}} {
		if own.value != "" {
			pairs = append(pairs, own.name+"="+own.value)
		}
	}
	return export.ParseLabels(pairs)
}

func (l *labelled) validate() error {
	if _, err := l.labels(); err != nil {
		return cli.Problem{Setting: "--label", Value: strings.Join(l.more, ","), Reason: err.Error()}
	}
	return nil
}

// opened is what most commands work with.
type opened struct {
	conn  *grpc.ClientConn
	store *history.Store
	prom  *promapi.Client // nil: none is configured
}

func open(ctx context.Context, collectors dial.Config, prometheus promapi.Config) (*opened, error) {
	o := &opened{}
	var err error
	if prometheus.URL != "" {
		if o.prom, err = promapi.New(prometheus); err != nil {
			return nil, err
		}
	}
	if o.conn, err = dial.Open(collectors, nil); err != nil {
		return nil, err
	}
	if o.store, err = history.Open(ctx, o.conn); err != nil {
		o.close()
		return nil, unanswered(err, collectors.Addresses)
	}
	return o, nil
}

// unanswered says where no collector responded, if that is what an error means.
func unanswered(err error, addresses []string) error {
	if status.Code(err) == codes.Unavailable && client.Reason(err) == "" {
		return fmt.Errorf("no collector responds at %s; WEIR_COLLECTOR_ADDRESS must name one that runs: %w", strings.Join(addresses, ", "), err)
	}
	return err
}

func (o *opened) close() {
	if o.prom != nil {
		o.prom.Close()
	}
	_ = o.conn.Close() // a connection that has been read from
}

// meter shows a step on stderr. It begins with the first call.
func meter(name string) (set func(done, total int), end func()) {
	var m *progress.Meter
	var stop func()
	return func(done, total int) {
			if m == nil {
				m = progress.New(os.Stderr, name)
				stop = m.Remind()
			}
			m.Set(done, total)
		}, func() {
			if m != nil {
				stop()
				m.Close()
			}
		}
}

// interrupted is the error of a command that was told to stop before its end: what it did
// not do must not look done.
func interrupted(ctx context.Context, err error, code int) error {
	if err != nil && ctx.Err() != nil {
		return cli.CodeError{Code: code, Err: errors.New("interrupted; run the same command again")}
	}
	return err
}

func exportCommand() cli.Command {
	var (
		collectors dial.Config
		prometheus promapi.Config
		what       selection
		restated   bool
		as         labelled
		missing    string
		out        output
	)
	return cli.Command{
		Name: "export", Summary: "write stored samples as OpenMetrics files, from which promtool makes blocks",
		Help: `Writes files of at most 30 days, divided at midnight UTC, and a manifest into FOLDER. A file appears when it is
whole. The same command continues an export that was interrupted; two at once in one folder are refused. Prints the
promtool commands that make blocks.

The samples must have the labels of the series that Prometheus scrapes, or they become series beside them. Give
--job and --instance (and --label for further target labels), or --prometheus-url to read them from there.`,
		Args:     "FOLDER",
		Settings: slices.Concat(what.openEnded(), []cli.Setting{asRestated(&restated), {Flag: "missing-only", Key: "-", Value: cli.Text(&missing), Help: "findings file of weir backfill verify: export exactly the samples that are missing there, instead of a range"}}, as.settings(), []cli.Setting{outputSetting(&out)}, collectors.Settings(), prometheus.Settings()),
		Validate: func() error {
			bad := []error{collectors.Validate(), prometheus.Validate(), what.past(clock.System().Now()), as.validate(), rangeOrFindings(&what, missing)}
			return errors.Join(bad...)
		},
		Run: func(ctx context.Context, args []string) (err error) {
			defer func() { err = interrupted(ctx, err, cli.ExitError) }()
			if len(args) != 1 {
				return cli.Usagef("give one folder for the files; got %d arguments", len(args))
			}
			o, err := open(ctx, collectors, prometheus)
			if err != nil {
				return err
			}
			defer o.close()
			clk := clock.System()
			now := clk.Now()
			options := export.Options{Selection: what.history(now, restated), Folder: args[0], Clock: clk}
			if missing != "" {
				if options.Picks, options.PicksSum, err = loadPicks(missing, o.store); err != nil {
					return err
				}
				options.Selection = options.Picks.Selection()
				options.Range.End = min(options.Range.End, bucket.TimeOf(now))
			}
			if what.open(now) {
				options.Range.End = continuedEnd(&options)
			}
			given, err := as.labels()
			if err != nil {
				return err
			}
			if options.Labels, err = importer.Resolve(ctx, o.prom, o.store, given, as.added, clk.Now(), options.Range.End.Std()); err != nil {
				return err
			}
			set, end := meter("export")
			options.Progress = set
			result, err := export.Run(ctx, o.store, options)
			end()
			if err != nil {
				return err
			}
			return out.print(os.Stdout, result, func(w io.Writer) {
				for _, f := range result.Files {
					if f.Samples > 0 {
						fmt.Fprintf(w, "%s: %d samples, %d bytes\n", f.Name, f.Samples, f.Bytes)
					}
				}
				fmt.Fprintf(w, "%d samples with the labels %s in %s\n", result.Samples, importer.Text(options.Labels), result.Folder)
				if result.Kept > 0 {
					fmt.Fprintf(w, "%d files were there before\n", result.Kept)
				}
				if result.Unreadable > 0 {
					fmt.Fprintf(w, "%d stored buckets could not be read and are not in the files; the manifest says in which\n", result.Unreadable)
				}
				fmt.Fprintln(w, "make blocks with weir backfill import --to blocks, or with")
				for _, c := range result.Commands {
					fmt.Fprintln(w, "  "+c)
				}
			})
		},
	}
}

// continuedEnd is the end of an export that has none: that of the export that it continues, or
// the present.
func continuedEnd(o *export.Options) bucket.Time {
	if old, err := export.Load(o.Folder); err == nil && old.Start == o.Range.Start && old.MissingOnly == o.PicksSum {
		return old.End
	}
	return o.Range.End
}

// rangeOrFindings requires one of both.
func rangeOrFindings(what *selection, missing string) error {
	switch {
	case missing == "" && what.start.IsZero():
		return cli.Problem{Setting: "--start", Reason: "is required, or --missing-only"}
	case missing != "" && what.given():
		return cli.Problem{Setting: "--missing-only", Reason: "has its own selection; remove --start, --end, --dataset, --zone and --account"}
	}
	return nil
}

func cleanCommand() cli.Command {
	var (
		dry bool
		out output
	)
	return cli.Command{
		Name: "clean", Summary: "remove what an export and its import made, and nothing else",
		Help: "Removes the files that the manifest in FOLDER names, the folders of an import that did not end, the manifest, and the folder if it is then empty. A file that has changed since is kept and named, and so is what no export made. What Prometheus has loaded stays.",
		Args: "FOLDER",
		Settings: []cli.Setting{
			dryRun(&dry),
			outputSetting(&out),
		},
		Run: func(_ context.Context, args []string) error {
			if len(args) != 1 {
				return cli.Usagef("give the folder of one export; got %d arguments", len(args))
			}
			c, err := export.Clean(args[0], dry)
			if c == nil {
				return err
			}
			verb := "removed"
			if dry {
				verb = "would remove"
			}
			return errors.Join(err, out.print(os.Stdout, c, func(w io.Writer) {
				for _, path := range c.Removed {
					fmt.Fprintln(w, verb, path)
				}
				for _, reason := range c.Kept {
					fmt.Fprintln(w, "kept:", reason)
				}
			}), keptError(c))
		},
	}
}

func keptError(c *export.Cleaned) error {
	if len(c.Kept) == 0 {
		return nil
	}
	return fmt.Errorf("%d files were kept, and the manifest with them", len(c.Kept))
}
