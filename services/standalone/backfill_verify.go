package standalone

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/dial"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
	"github.com/weir-metrics/weir/services/standalone/internal/verify"
)

// The exit codes of "weir backfill verify" besides 0.
const (
	exitDifferences  = 1
	exitNotVerified  = 2
	defaultGrace     = "5m"
	defaultNotWanted = "job,instance"
)

func verifyCommand() cli.Command {
	var (
		collectors    dial.Config
		prometheus    promapi.Config
		what          selection
		restated      bool
		match, ignore []string
		replay        int
		round, grace  time.Duration
		findings      string
		out           output
	)
	return cli.Command{
		Name: "verify", Summary: "compare what Prometheus holds with the store, sample by sample",
		Help: `Prints what is missing in Prometheus, extra there, or different, by dataset, zone and range. Works with Prometheus,
VictoriaMetrics, Thanos Query and Mimir.

A sample that a scrape need not have shown yet is pending, which is no difference: until --grace after the commit
of a window that was on time, and until the rounds in which older windows are shown otherwise. --replay-hours and
--round must be those of the exposer and the scrape job.

Exit codes: 0 samples are equal and nothing differs, 1 there are differences, 2 it could not be verified: an error, all
samples are pending, or buckets of the store cannot be read.`,
		Settings: slices.Concat(required(what.openEnded(), "start"), []cli.Setting{
			asRestated(&restated),
			{Flag: "match", Key: "-", Value: cli.List(&match), Help: `matchers of the series that are compared, such as job="weir"; in a shell '"job=""weir"""', or give the flag once for each`},
			{Flag: "ignore-label", Key: "-", Default: defaultNotWanted, Value: cli.List(&ignore), Help: "labels that are not compared: those that Prometheus adds to the store's"},
			{Env: "CF_METRICS_REPLAY_HOURS", Flag: "replay-hours", Key: "-", Default: "24", Value: cli.Int(&replay, 1, 720), Help: "maximum age of a sample that the exposer shows to this Prometheus"},
			{Flag: "round", Key: "-", Default: "0", Value: cli.Duration(&round, 0, 720*time.Hour), Help: "parameter round of the scrape job; 0: it has none"},
			{Flag: "grace", Key: "-", Default: defaultGrace, Value: cli.Duration(&grace, 0, 24*time.Hour), Help: "time from when a sample is shown until Prometheus must have it: two scrape intervals and the delay of the stream"},
			{Flag: "findings", Key: "-", Value: cli.Text(&findings), Help: "file for every difference, for --missing-only of import and export"},
			outputSetting(&out),
		}, collectors.Settings(), required(prometheus.Settings(), "WEIR_PROMETHEUS_URL")),
		Validate: func() error {
			bad := []error{collectors.Validate(), prometheus.Validate(), what.past(clock.System().Now())}
			for _, m := range match {
				if err := verify.CheckMatch(m); err != nil {
					bad = append(bad, cli.Problem{Setting: "--match", Value: m, Reason: err.Error()})
				}
			}
			return errors.Join(bad...)
		},
		Run: func(ctx context.Context, _ []string) error {
			clk := clock.System()
			report, err := compare(ctx, collectors, prometheus, findings, verify.Options{
				Selection: what.history(clk.Now(), restated), Schedule: verify.Schedule{Age: time.Duration(replay) * time.Hour, Round: round, Grace: grace},
				Match: match, Ignore: ignore, Clock: clk,
			})
			if err != nil {
				return interrupted(ctx, cli.CodeError{Code: exitNotVerified, Err: fmt.Errorf("%w: %w", verify.ErrNotVerified, err)}, exitNotVerified)
			}
			if err := out.print(os.Stdout, report, report.Text); err != nil {
				return cli.CodeError{Code: exitNotVerified, Err: err}
			}
			switch report.Result {
			case verify.Differences:
				return cli.CodeError{Code: exitDifferences, Err: verify.ErrDifferences}
			case verify.NotVerified:
				return cli.CodeError{Code: exitNotVerified, Err: fmt.Errorf("%w: %s", verify.ErrNotVerified, report.Reason)}
			}
			return nil
		},
	}
}

// required marks a setting of a table, by its variable or flag.
func required(table []cli.Setting, name string) []cli.Setting {
	for i := range table {
		if table[i].Env == name || table[i].Flag == name {
			table[i].Required = true
		}
	}
	return table
}

func compare(ctx context.Context, collectors dial.Config, prometheus promapi.Config, findings string, options verify.Options) (*verify.Report, error) {
	o, err := open(ctx, collectors, prometheus)
	if err != nil {
		return nil, err
	}
	defer o.close()
	var f *replacement
	if findings != "" {
		if f, err = replace(findings); err != nil {
			return nil, fmt.Errorf("write findings: %w", err)
		}
		defer f.discard()
		options.Findings = f
	}
	set, end := meter("verify")
	options.Progress = set
	report, err := verify.Run(ctx, o.store, o.prom, options)
	end()
	if err != nil {
		return nil, err
	}
	if f != nil {
		if err := f.commit(); err != nil {
			return nil, fmt.Errorf("write findings: %w", err)
		}
	}
	return report, nil
}

// replacement is a file that takes the place of another one when it is whole. What is not a
// regular file, such as /dev/stdout, is written to as it is.
type replacement struct {
	*os.File
	path string // empty: it is written to as it is
}

// replace opens the replacement of a file, beside it. A symbolic link stays, and what it
// points to is replaced.
func replace(path string) (*replacement, error) {
	old, err := os.Stat(path)
	if err == nil && !old.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		return &replacement{File: f}, err
	}
	mode := os.FileMode(0o644)
	if err == nil {
		mode = old.Mode().Perm()
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(fmt.Sprintf("%s.%d.tmp", path, os.Getpid()), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	return &replacement{File: f, path: path}, err
}

// commit puts the file in its place.
func (r *replacement) commit() error {
	if err := r.Close(); err != nil || r.path == "" {
		return err
	}
	return os.Rename(r.Name(), r.path)
}

// discard removes what was not put in its place.
func (r *replacement) discard() {
	_ = r.Close() // twice after a commit
	if r.path != "" {
		_ = os.Remove(r.Name()) // it is gone after a commit
	}
}

// loadPicks reads the missing samples of a findings file, and its checksum.
func loadPicks(path string, store *history.Store) (*verify.Picks, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("read findings: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	picks, err := verify.LoadMissing(io.TeeReader(f, sum))
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("read findings of %s: %w", path, err)
	case picks.Header.StoreID != store.Info.ID:
		return nil, "", fmt.Errorf("the findings in %s are of the store %s; the collector has %s", path, picks.Header.StoreID, store.Info.ID)
	case picks.Samples == 0:
		return nil, "", fmt.Errorf("the findings in %s have no missing sample", path)
	}
	return picks, hex.EncodeToString(sum.Sum(nil)), nil
}
