package export

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
	"github.com/weir-metrics/weir/services/standalone/internal/verify"
)

const (
	// longest is how many days a file covers at most.
	longest = 30
	// zoneDays is how many days of zones a file of more than one day covers at most:
	// promtool reads a file once for each of its days.
	zoneDays = 300
)

// files divides a range at midnight UTC, for so many zones (a zone of several groups of
// datasets counts for each).
func files(r bucket.Window, zones int) (files []File) {
	days := min(max(zoneDays/max(zones, 1), 1), longest)
	for start := r.Start; start < r.End; {
		end := min(r.End, start.Floor(history.Day).Add(time.Duration(days)*history.Day))
		files = append(files, File{Name: fmt.Sprintf("weir-%s-%s.om", stampOf(start), stampOf(end)), Start: start, End: end})
		start = end
	}
	return files
}

// Options say what is exported.
type Options struct {
	history.Selection
	Folder string
	// Labels are written into every sample: job, instance, external labels.
	Labels []Label
	// Picks restricts the samples; nil: all. PicksSum is the checksum of their file.
	Picks    *verify.Picks
	PicksSum string
	Clock    clock.Clock
	Progress func(done, total int) // may be nil
}

// Result is what an export has written.
type Result struct {
	*Manifest
	Folder  string `json:"folder"`
	Samples int64  `json:"samples"`
	Kept    int    `json:"files_kept"` // from an export before
	// Unreadable are stored buckets that the files lack, also those from an export before.
	Unreadable int64 `json:"buckets_unreadable"`
	// Commands make blocks of the files.
	Commands []string `json:"commands"`
}

// ErrEmpty means that there is nothing to export.
var ErrEmpty = errors.New("the store has no sample that can be read in the range: nothing was exported")

// Run writes the files that the folder does not have yet.
func Run(ctx context.Context, store *history.Store, o Options) (*Result, error) {
	plan, err := store.Plan(o.Selection)
	if err != nil {
		return nil, err
	}
	if now := bucket.TimeOf(o.Clock.Now()); o.Range.End > now {
		return nil, fmt.Errorf("range ends at %s, which is in the future: end at %s or before, since a file is kept when the export is continued", o.Range.End, now)
	}
	if err := checkLabels(o.Labels, plan.Groups); err != nil {
		return nil, err
	}
	m := &Manifest{
		Format: format, StoreID: store.Info.ID, SampleTimestamp: store.Info.Stamp.String(), Start: o.Range.Start, End: o.Range.End,
		Datasets: o.Datasets, Zones: o.Zones, Restated: o.Restated, MissingOnly: o.PicksSum, Labels: o.Labels,
	}
	zones := 0
	for _, batches := range plan.Batches {
		for _, scopes := range batches {
			zones += len(scopes)
		}
	}
	m.Files = files(o.Range, zones)
	if err := os.MkdirAll(o.Folder, 0o755); err != nil {
		return nil, fmt.Errorf("make a folder for the export: %w", err)
	}
	release, err := Hold(o.Folder)
	if err != nil {
		return nil, err
	}
	defer release()
	if err := m.open(o.Folder); err != nil {
		return nil, err
	}
	e := &exporter{store: store, plan: plan, o: &o, result: &Result{Manifest: m, Folder: o.Folder}}
	for i := range m.Files {
		e.total += len(history.Days(bucket.Window{Start: m.Files[i].Start, End: m.Files[i].End})) * len(plan.Groups)
	}
	e.step(0)
	for i := range m.Files {
		if err := e.file(ctx, &m.Files[i]); err != nil {
			return nil, err
		}
	}
	for _, f := range m.Files {
		e.result.Samples += f.Samples
		e.result.Unreadable += f.Unreadable
		if f.Samples > 0 {
			e.result.Commands = append(e.result.Commands, Command("promtool", filepath.Join(o.Folder, f.Name), "DATA_FOLDER"))
		}
	}
	switch {
	case e.result.Samples == 0 && e.result.Unreadable > 0:
		return nil, fmt.Errorf("%w; it has %d buckets that cannot be read", ErrEmpty, e.result.Unreadable)
	case e.result.Samples == 0:
		return nil, ErrEmpty
	}
	return e.result, nil
}

// Command is the promtool command for a file. It exists since Prometheus 2.24, and
// Prometheus loads what overlaps with its blocks since 2.39.
func Command(promtool, file, target string) string {
	return strings.Join([]string{promtool, "tsdb", "create-blocks-from", "openmetrics", MaxBlock, quoted(file), quoted(target)}, " ")
}

// MaxBlock makes blocks of days: of two hours, a month would be 360 blocks.
const MaxBlock = "--max-block-duration=24h"

func quoted(path string) string {
	if strings.ContainsAny(path, " '\"\\$`*?&;|<>()") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

func stampOf(t bucket.Time) string { return t.Std().Format("20060102T150405Z") }

// exporter is the state of one run.
type exporter struct {
	store       *history.Store
	plan        *history.Plan
	o           *Options
	result      *Result
	done, total int
	more        []sample.Label
}

func (e *exporter) step(n int) {
	e.done += n
	if e.o.Progress != nil {
		e.o.Progress(e.done, e.total)
	}
}

// file writes one file, unless it is there.
func (e *exporter) file(ctx context.Context, f *File) error {
	days := history.Days(bucket.Window{Start: f.Start, End: f.End})
	if f.Done && f.Samples > 0 { // what had no sample may have some by now
		if err := f.Check(e.o.Folder); err != nil {
			return fmt.Errorf("%w: remove it with weir backfill clean and export again", err)
		}
		e.result.Kept++
		e.step(len(days) * len(e.plan.Groups))
		return nil
	}
	if err := os.Remove(filepath.Join(e.o.Folder, partName)); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a run that was killed
		return fmt.Errorf("remove the part of an unfinished file: %w", err)
	}
	w := &partsWriter{folder: e.o.Folder, open: map[string]*part{}}
	err := e.parts(ctx, w, f, days)
	if err == nil && f.Samples > 0 {
		if err = e.join(w, f); err != nil {
			err = fmt.Errorf("write %s: %w", f.Name, err)
		}
	}
	if err := errors.Join(err, w.close()); err != nil {
		return err
	}
	f.Done = true
	return e.result.Save(e.o.Folder)
}

// parts writes the samples of a file, day by day, so that those of a series ascend
// although two datasets may have had it one after another.
func (e *exporter) parts(ctx context.Context, w *partsWriter, f *File, days []bucket.Window) error {
	*f = File{Name: f.Name, Start: f.Start, End: f.End}
	e.more = e.more[:0]
	for _, l := range e.o.Labels {
		e.more = append(e.more, sample.Label{Name: l.Name, Value: l.Value})
	}
	now := e.o.Clock.Now()
	for i := range e.plan.Groups {
		for _, day := range days {
			if err := e.day(ctx, w, f, i, day, now); err != nil {
				return err
			}
			e.step(1)
		}
	}
	return nil
}

func (e *exporter) day(ctx context.Context, w *partsWriter, f *File, group int, day bucket.Window, now time.Time) error {
	g := &e.plan.Groups[group]
	q := history.Query{Range: day, Restated: e.o.Restated}
	if len(e.o.Zones) > 0 {
		for _, batch := range e.plan.Batches[group] {
			for _, scope := range batch {
				q.Scopes = append(q.Scopes, scope.Scope)
			}
		}
	}
	datasets := g.Datasets
	if len(e.o.Datasets) > 0 {
		datasets = slices.DeleteFunc(slices.Clone(datasets), func(id string) bool { return !slices.Contains(e.o.Datasets, id) })
	}
	var lists []listed
	defer func() {
		for _, l := range lists {
			l.stop()
		}
	}()
	for _, id := range datasets {
		if e.o.Picks != nil && !e.o.Picks.Day(id, day.Start.Floor(history.Day)) {
			continue
		}
		q.Datasets = []string{id}
		l, err := open(e.store.Buckets(ctx, q, func(error) { f.Unreadable++ }))
		if err != nil {
			return err
		}
		lists = append(lists, l)
	}
	// Datasets of one family follow one another; they do not overlap.
	slices.SortStableFunc(lists, func(a, b listed) int { return int(a.start() - b.start()) })
	for _, l := range lists {
		for b := l.first; b != nil; {
			sets := b.Sets
			if e.o.Picks != nil {
				sets = e.o.Picks.Of(b)
			}
			for i := range sets {
				if err := e.set(w, f, &sets[i], now); err != nil {
					return fmt.Errorf("bucket %s: %w", b.Key, err)
				}
			}
			var err error
			if b, err = l.next(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *exporter) set(w *partsWriter, f *File, set *sample.Set, now time.Time) error {
	if err := set.At.Check(now); err != nil {
		return err
	}
	set.More = e.more
	p, err := w.of(set.Family)
	if err != nil {
		return err
	}
	p.room = expo.AppendSet(p.room[:0], expo.OpenMetrics, set)
	if _, err := p.w.Write(p.room); err != nil {
		return fmt.Errorf("write a part: %w", err)
	}
	p.bytes += int64(len(p.room))
	f.Samples += int64(set.Len())
	if f.First == 0 || set.At < f.First {
		f.First = set.At
	}
	f.Last = max(f.Last, set.At)
	return nil
}

// join writes the file from its parts, and reads it again before it counts as written.
func (e *exporter) join(w *partsWriter, f *File) error {
	path := filepath.Join(e.o.Folder, f.Name)
	out, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	sum := sha256.New()
	n, err := w.join(io.MultiWriter(out, sum))
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	f.Bytes, f.SHA256 = n, hex.EncodeToString(sum.Sum(nil))
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	if err := syncFolder(e.o.Folder); err != nil {
		return err
	}
	return f.Check(e.o.Folder)
}

// part is the samples of one family of a file. Its file has no name any more: nothing is
// left of an export that is killed.
type part struct {
	family *bucket.Family
	file   *os.File
	w      *bufio.Writer
	bytes  int64 // written
	room   []byte
}

type partsWriter struct {
	folder string
	open   map[string]*part
}

func (w *partsWriter) of(family *bucket.Family) (*part, error) {
	p := w.open[family.Name]
	if p == nil {
		path := filepath.Join(w.folder, partName)
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
		if err != nil {
			return nil, fmt.Errorf("open a part: %w", err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("open a part: %w", errors.Join(err, f.Close()))
		}
		p = &part{file: f, w: bufio.NewWriterSize(f, 64<<10)}
		w.open[family.Name] = p
	}
	p.family = family // the newest definition has the best help
	return p, nil
}

func (w *partsWriter) close() error {
	var errs []error
	for _, p := range w.open {
		errs = append(errs, p.file.Close())
	}
	return errors.Join(errs...)
}

// join writes all parts, in order of name, with headers and the end.
func (w *partsWriter) join(out io.Writer) (n int64, err error) {
	var names []string
	for name := range w.open {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		head, err := out.Write(expo.AppendHeader(nil, expo.OpenMetrics, name, w.open[name].family))
		if err != nil {
			return n, err
		}
		p := w.open[name]
		if err := p.w.Flush(); err != nil {
			return n, err
		}
		if _, err := p.file.Seek(0, io.SeekStart); err != nil {
			return n, err
		}
		body, err := io.Copy(out, p.file)
		if err != nil {
			return n, err
		}
		if body != p.bytes {
			return n, fmt.Errorf("the part of %s has %d bytes; %d were written", name, body, p.bytes)
		}
		n += int64(head) + body
	}
	end, err := out.Write(expo.AppendEnd(nil, expo.OpenMetrics))
	return n + int64(end), err
}
