package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
	"github.com/weir-metrics/weir/services/standalone/internal/importer"
	"github.com/weir-metrics/weir/services/standalone/internal/verify"
)

const (
	// ripe is how long ago the range ended that is compared: its windows have become
	// final by their deadline, at 20 minutes, and the youngest are still shown at every
	// scrape, so that there is something to compare after the first.
	ripe = 25 * time.Minute
	// grace is the time from when a sample is shown until a query finds it, besides two
	// scrape intervals: the delay of the stream, and that of VictoriaMetrics.
	grace = 3 * time.Minute
	// newestOnly is the replay of a job that asks for the newest bucket alone, which it gets
	// while it is young.
	newestOnly = time.Hour
)

// Range is what is exported at a time: one to two hours, with a whole hour of the clock.
func Range(now time.Time) (from, to time.Time) {
	to = now.Add(-ripe).Truncate(5 * time.Minute)
	return to.Add(-time.Hour).Truncate(time.Hour), to
}

// Scraping is how the Prometheus asks for Weir's data.
type Scraping struct {
	Job string
	// Replay is the age up to which samples are shown to it.
	Replay time.Duration
	Config *doctor.JobConfig // nil: unknown
}

// Backfill does with a range what weir backfill does, apart from writing: export, the
// checks of an import, verify. With p nil nothing is imported into or compared with.
func Backfill(ctx context.Context, conn grpc.ClientConnInterface, p *Prometheus, s Scraping, clk clock.Clock) *doctor.Backfill {
	b := &doctor.Backfill{}
	b.From, b.To = Range(clk.Now())
	path := backfill{p: p, s: s, clock: clk, into: b, what: history.Selection{Range: bucket.Window{Start: bucket.TimeOf(b.From), End: bucket.TimeOf(b.To)}}}
	var err error
	if path.store, err = history.Open(ctx, conn); err != nil {
		b.Err = explain(ctx, err)
		return b
	}
	if b.Err = path.export(ctx); b.Err != nil || p == nil || b.Samples == 0 || len(b.Flaws) > 0 {
		return b
	}
	b.Compared = true
	if b.CompareErr = path.verify(ctx); b.CompareErr == nil && b.Different+b.Extra+b.Repeated == 0 {
		path.tryImport(ctx)
	}
	return b
}

// backfill is one run.
type backfill struct {
	p      *Prometheus
	s      Scraping
	clock  clock.Clock
	store  *history.Store
	what   history.Selection
	labels []export.Label // of the scraped series
	ignore []string       // names of labels that the store does not have
	into   *doctor.Backfill
}

// learn finds out which labels the scrape job gives.
func (b *backfill) learn(ctx context.Context) error {
	b.labels = []export.Label{{Name: "instance", Value: "weir"}, {Name: "job", Value: b.s.Job}}
	b.ignore = []string{"instance", "job"}
	if b.p == nil {
		return nil
	}
	sets, err := importer.LabelSets(ctx, b.p.api, b.store, nil, b.clock.Now())
	if err != nil {
		return err
	}
	for i, set := range sets {
		if i == 0 {
			b.labels = set
		}
		for _, l := range set {
			if !slices.Contains(b.ignore, l.Name) {
				b.ignore = append(b.ignore, l.Name)
			}
		}
		if len(sets) > 1 {
			b.into.Labels = append(b.into.Labels, importer.Text(set))
		}
	}
	return nil
}

// export writes the range to a temporary folder and reads it as an import would.
func (b *backfill) export(ctx context.Context) error {
	if err := b.learn(ctx); err != nil {
		b.into.CompareErr = err // labels of its own are as good for the export
	}
	folder, err := os.MkdirTemp("", "weir-doctor-")
	if err != nil {
		return fmt.Errorf("make a temporary folder (TMPDIR): %w", err)
	}
	defer func() { _ = os.RemoveAll(folder) }() // of the system's temporary folder
	written, err := export.Run(ctx, b.store, export.Options{Selection: b.what, Folder: folder, Labels: b.labels, Clock: b.clock})
	if errors.Is(err, export.ErrEmpty) {
		return nil
	}
	if err != nil {
		return explain(ctx, err)
	}
	b.into.Samples = int(written.Samples)
	for _, f := range written.Files {
		b.into.Bytes += f.Bytes
		if f.Samples == 0 {
			continue
		}
		read, err := importer.Scan(filepath.Join(folder, f.Name), b.clock.Now())
		if err == nil && read.Samples != f.Samples {
			err = fmt.Errorf("file %s has %d samples; its manifest says %d", f.Name, read.Samples, f.Samples)
		}
		if err != nil {
			b.into.Flaws = append(b.into.Flaws, err.Error())
		}
	}
	return nil
}

// verify compares the range with what the Prometheus holds.
func (b *backfill) verify(ctx context.Context) error {
	if b.into.CompareErr != nil {
		return b.into.CompareErr
	}
	since, err := b.p.since(ctx, b.s.Job)
	if err != nil {
		return err
	}
	schedule := verify.Schedule{Age: max(b.s.Replay, newestOnly), Grace: grace, Since: since}
	if c := b.s.Config; c != nil {
		schedule.Round, schedule.Grace = c.Round, grace+2*c.Interval
	}
	r, err := verify.Run(ctx, b.store, b.p.api, verify.Options{Selection: b.what, Schedule: schedule, Ignore: b.ignore, Clock: b.clock})
	if err != nil {
		return err
	}
	b.into.Equal, b.into.NotDue = int(r.Equal), int(r.Pending)
	count := func(k verify.Kind) int { return int(r.Differences[k]) }
	b.into.Missing, b.into.Different, b.into.Extra = count(verify.Missing), count(verify.Different), count(verify.Extra)
	b.into.Repeated = count(verify.Parallel) + count(verify.Repeated)
	for _, k := range []verify.Kind{verify.Different, verify.Extra, verify.Parallel, verify.Repeated, verify.Missing} {
		if i := slices.IndexFunc(r.Ranges, func(x verify.Range) bool { return x.Kind == k }); i >= 0 {
			b.into.Example = r.Ranges[i].Example
			break
		}
	}
	return nil
}

// tryImport makes an import that writes nothing.
func (b *backfill) tryImport(ctx context.Context) {
	var to importer.Sender = importer.NewVictoria(b.p.api.URL(), b.p.api.HTTP())
	var err error
	if !b.p.victoria {
		to, err = importer.NewRemoteWrite(b.p.api.URL()+"/api/v1/write", b.p.api.HTTP(), 0, b.clock)
	}
	if err == nil {
		_, err = importer.Push(ctx, b.store, b.p.api, to, importer.PushOptions{Selection: b.what, Labels: b.labels, DryRun: true, Clock: b.clock})
	}
	if err != nil {
		b.into.Flaws = append(b.into.Flaws, err.Error())
	}
}

// since is when the Prometheus scraped the job for the first time, as far as a day shows
// it. Zero: it has no series up of the job, so nothing that it lacks is excused.
func (p *Prometheus) since(ctx context.Context, job string) (time.Time, error) {
	// The steps of a subquery are whole minutes, in whose first there is none.
	first, err := p.query(ctx, fmt.Sprintf(`min(min_over_time(timestamp(up{job=%[1]q})[1d:1m]) or timestamp(up{job=%[1]q}))`, cmp.Or(p.label, job)))
	if err != nil || len(first) == 0 {
		return time.Time{}, err
	}
	return time.UnixMilli(int64(value(first) * 1000)), nil
}
