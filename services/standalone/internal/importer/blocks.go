package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
	"github.com/weir-metrics/weir/services/standalone/internal/verify"
)

// BlockOptions say what is loaded.
type BlockOptions struct {
	Folder   string // of an export
	DataDir  string // of Prometheus
	Promtool string
	DryRun   bool
	Clock    clock.Clock
	// Compared and Made are told about the progress of both steps; may be nil.
	Compared, Made func(done, total int)
}

// BlockResult is what an import has done.
type BlockResult struct {
	Samples  int64    `json:"samples"`
	Files    int      `json:"files"`
	Blocks   []string `json:"blocks"`
	Kept     int      `json:"files_loaded_before"`
	Commands []string `json:"commands"`
	Notes    []string `json:"notes,omitempty"`
	DryRun   bool     `json:"dry_run,omitempty"`
}

// journalName is the file in the folder of an export that has what was loaded.
const journalName = "blocks.json"

// journal is what has been done about each file.
type journal struct {
	DataDir string `json:"data_folder"`
	// Files has the blocks of each file that promtool has read completely.
	Files map[string][]string `json:"files"`
	// Moved are blocks that have been in the data folder, in which Prometheus compacts them.
	Moved map[string]bool `json:"moved"`
	// Loaded are files whose blocks have all been moved.
	Loaded map[string]bool `json:"loaded"`
}

// Blocks makes blocks of the files of an export in Prometheus's data folder. With prom it
// checks first what is known of the server, and compares; store may be nil without it.
func Blocks(ctx context.Context, store *history.Store, prom *promapi.Client, o BlockOptions) (*BlockResult, error) {
	if err := checkDataDir(o.DataDir); err != nil {
		return nil, err
	}
	for _, folder := range []string{o.Folder, o.DataDir} {
		release, err := export.Hold(folder)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	m, err := export.Load(o.Folder)
	if err != nil {
		return nil, err
	}
	r := &BlockResult{DryRun: o.DryRun, Blocks: []string{}}
	staging, err := m.StagingIn(o.DataDir, o.Folder)
	if err != nil {
		return nil, err
	}
	tool, err := findPromtool(ctx, o.Promtool)
	if err != nil {
		return nil, err
	}
	j, err := loadJournal(o.Folder, o.DataDir)
	if err != nil {
		return nil, err
	}
	var todo []export.File
	for _, f := range m.Files {
		switch {
		case !f.Done:
			return nil, hazard("NOT_WHOLE", "file %s of the export is not finished: run weir backfill export again", f.Name)
		case f.Samples == 0:
			continue
		case j.Loaded[f.Name]:
			r.Kept++
			continue
		}
		if f.Unreadable > 0 {
			r.Notes = append(r.Notes, fmt.Sprintf("file %s lacks %d stored buckets that could not be read when it was exported", f.Name, f.Unreadable))
		}
		if err := f.Check(o.Folder); err != nil {
			return nil, hazard("NOT_WHOLE", "%v", err)
		}
		s, err := Scan(filepath.Join(o.Folder, f.Name), o.Clock.Now())
		if err != nil {
			return nil, err
		}
		if s.Samples != f.Samples || s.First != f.First || s.Last != f.Last {
			return nil, hazard("NOT_WHOLE", "file %s has %d samples; its manifest says %d", f.Name, s.Samples, f.Samples)
		}
		todo = append(todo, f)
		r.Samples += f.Samples
		r.Files++
		r.Commands = append(r.Commands, export.Command(tool, filepath.Join(o.Folder, f.Name), filepath.Join(staging, f.Name)))
	}
	if len(todo) == 0 {
		r.Notes = append(r.Notes, "all files have been loaded before")
		return r, nil
	}
	if err := checkBlocks(ctx, store, prom, m, todo, &o, r); err != nil {
		return nil, err
	}
	if o.DryRun {
		return r, nil
	}
	if !slices.Contains(m.Staging, staging) || !slices.Contains(m.Others, journalName) {
		m.Staging, m.Others = append(m.Staging, staging), append(m.Others, journalName)
		if err := m.Save(o.Folder); err != nil {
			return nil, err
		}
	}
	if o.Made != nil {
		o.Made(0, len(todo))
	}
	for i, f := range todo {
		blocks, err := loadFile(ctx, tool, staging, f, j, &o)
		if err != nil {
			return nil, fmt.Errorf("load %s: %w", f.Name, err)
		}
		r.Blocks = append(r.Blocks, blocks...)
		if o.Made != nil {
			o.Made(i+1, len(todo))
		}
	}
	return r, os.RemoveAll(staging)
}

// checkBlocks refuses what would do harm to the server.
func checkBlocks(ctx context.Context, store *history.Store, prom *promapi.Client, m *export.Manifest, files []export.File, o *BlockOptions, r *BlockResult) error {
	first, last := files[0].First, files[0].Last
	for _, f := range files {
		first, last = min(first, f.First), max(last, f.Last)
	}
	if prom != nil {
		note, err := checkServer(ctx, prom, o.DataDir)
		if err != nil {
			return err
		}
		if note != "" {
			r.Notes = append(r.Notes, note)
		}
	}
	head, known, err := headOf(ctx, prom, o.DataDir)
	switch {
	case err != nil:
		return err
	case !known:
		r.Notes = append(r.Notes, "Prometheus has no sample in memory: nothing can reach into it")
	case last >= head:
		return hazard("HEAD", "the newest sample is from %s, and Prometheus holds samples from %s on in memory: a block that reaches into them makes it drop its own at the next restart; export with an end at or before %s, the scrapes bring the rest",
			last.Std().Format(time.RFC3339), head.Std().Format(time.RFC3339), bucket.Time(head/1000).Floor(time.Hour))
	}
	if prom == nil {
		r.Notes = append(r.Notes, "no Prometheus was asked: its retention, its labels and what it holds were not checked")
		return nil
	}
	note, err := checkRetention(ctx, prom, first, o.Clock.Now())
	if err != nil {
		return err
	}
	if note != "" {
		r.Notes = append(r.Notes, note)
	}
	if m.StoreID != store.Info.ID {
		return fmt.Errorf("the export is of the store %s; the collector has %s", m.StoreID, store.Info.ID)
	}
	if _, err := Resolve(ctx, prom, store, m.Labels, nil, o.Clock.Now()); err != nil {
		return err
	}
	report, err := verify.Run(ctx, store, prom, verify.Options{
		Selection: history.Selection{
			Range:    bucket.Window{Start: bucket.Time(first / 1000).Floor(history.Day), End: min(m.End, bucket.Time(last/1000).Floor(history.Day).Add(history.Day))},
			Datasets: m.Datasets, Zones: m.Zones, Restated: m.Restated,
		},
		Match: Matchers(m.Labels), Ignore: names(m.Labels), Known: true, Clock: o.Clock, Progress: o.Compared,
	})
	if err != nil {
		return fmt.Errorf("compare before the import: %w", err)
	}
	return checkOverlap(report)
}

var (
	blockName   = regexp.MustCompile(`^[0-9A-HJKMNP-TV-Z]{26}$`)
	toolVersion = regexp.MustCompile(`version (\d+)\.(\d+)\.(\d+)`)
)

// findPromtool returns the path of a promtool that is new enough.
func findPromtool(ctx context.Context, name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find promtool: %w: install Prometheus's tools, or name the program with --promtool", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	m := toolVersion.FindSubmatch(out)
	if err != nil || m == nil {
		return "", fmt.Errorf("ask %s for its version: it answers %q", path, clip(string(out)))
	}
	major, _ := strconv.Atoi(string(m[1])) // digits: one that is too large is as good as the largest
	minor, _ := strconv.Atoi(string(m[2]))
	if slices.Compare([]int{major, minor}, []int{2, 39}) < 0 {
		return "", fmt.Errorf("promtool %s is version %s.%s.%s; it must be 2.39 or newer", path, m[1], m[2], m[3])
	}
	return path, nil
}

func loadJournal(folder, dataDir string) (*journal, error) {
	j := &journal{DataDir: dataDir, Files: map[string][]string{}, Moved: map[string]bool{}, Loaded: map[string]bool{}}
	data, err := os.ReadFile(filepath.Join(folder, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		return j, nil
	}
	if err == nil {
		err = json.Unmarshal(data, j)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was loaded before: %w", err)
	}
	if j.DataDir != dataDir {
		return nil, fmt.Errorf("the export has been loaded into %s before: for another data folder export the range again, into another folder", j.DataDir)
	}
	return j, nil
}

func (j *journal) save(folder string) error {
	data, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return err
	}
	if err := export.WriteWhole(filepath.Join(folder, journalName), append(data, '\n')); err != nil {
		return fmt.Errorf("write what was loaded: %w", err)
	}
	return nil
}

// loadFile makes the blocks of a file and moves them. It is continued after each of its
// steps: blocks are made anew unless the journal has all, and those that it has are moved
// unless they have been.
func loadFile(ctx context.Context, tool, staging string, f export.File, j *journal, o *BlockOptions) ([]string, error) {
	folder := filepath.Join(staging, f.Name)
	blocks, made := j.Files[f.Name]
	if !made {
		if err := os.RemoveAll(folder); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, tool, "tsdb", "create-blocks-from", "openmetrics", export.MaxBlock, "--quiet", filepath.Join(o.Folder, f.Name), folder)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 10 * time.Second
		tie(cmd)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, clip(strings.TrimSpace(string(out))))
		}
		entries, err := os.ReadDir(folder)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if blockName.MatchString(e.Name()) {
				blocks = append(blocks, e.Name())
			}
		}
		if len(blocks) == 0 {
			return nil, errors.New("promtool made no block")
		}
		if err := own(folder, o.DataDir); err != nil {
			return nil, err
		}
		j.Files[f.Name] = blocks
		if err := j.save(o.Folder); err != nil {
			return nil, err
		}
	}
	for _, b := range blocks {
		if j.Moved[b] {
			continue
		}
		to := filepath.Join(o.DataDir, b)
		err := os.Rename(filepath.Join(folder, b), to)
		if errors.Is(err, fs.ErrNotExist) {
			if _, err = os.Stat(filepath.Join(to, "meta.json")); err != nil { // a kill came before the journal
				return nil, fmt.Errorf("block %s was made before, and is neither in %s nor in %s: find out with weir backfill verify what Prometheus lacks, export that into another folder (--missing-only), and import it", b, folder, o.DataDir)
			}
		}
		if err != nil {
			return nil, err
		}
		j.Moved[b] = true
		if err := j.save(o.Folder); err != nil {
			return nil, err
		}
	}
	j.Loaded[f.Name] = true
	return blocks, j.save(o.Folder)
}

// own gives files to the owner of the data folder: Prometheus rarely runs as root, and
// could not delete blocks of root.
func own(folder, dataDir string) error {
	info, err := os.Stat(dataDir)
	if err != nil {
		return err
	}
	as, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || as.Uid == 0 {
		return nil
	}
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(as.Uid), int(as.Gid))
	})
}
