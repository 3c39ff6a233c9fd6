package importer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// headOf is the time from which on Prometheus has samples in memory: as it says, or as
// its blocks say.
func headOf(ctx context.Context, prom *promapi.Client, folder string) (head sample.Millis, known bool, err error) {
	if prom != nil {
		h, err := prom.Head(ctx)
		switch {
		case err == nil:
			return h.Min, true, nil
		case errors.Is(err, promapi.ErrEmpty):
			return 0, false, nil
		}
		if !promapi.IsUnknown(err) {
			return 0, false, err
		}
	}
	if head, known, err = newest(folder); err != nil {
		return 0, false, err
	}
	if segments, err := filepath.Glob(filepath.Join(folder, "wal", "0*")); err == nil && len(segments) > 0 && !known {
		return 0, false, hazard("HEAD", "data folder %s has a write-ahead log and no blocks, so it is not known where the samples in memory begin: give --prometheus-url", folder)
	}
	return head, known, nil
}

// partial are the hints of blocks that Prometheus makes of a part of its samples, while those
// in order of the same time are in memory: they end after those in memory begin, by default in the
// future, since a block ends with its range of two hours. Prometheus leaves them out, too, when
// it asks what of its memory is in blocks.
var partial = []string{"from-out-of-order", "from-stale-series", "from-selected-series"}

// newest is the end of the newest block in a data folder that has all samples of its time.
func newest(folder string) (end sample.Millis, found bool, err error) {
	metas, err := filepath.Glob(filepath.Join(folder, "*", "meta.json"))
	if err != nil {
		return 0, false, err
	}
	for _, path := range metas {
		var meta struct {
			ULID       string        `json:"ulid"`
			MaxTime    sample.Millis `json:"maxTime"`
			Compaction struct {
				Hints []string `json:"hints"`
			} `json:"compaction"`
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // Prometheus has removed the block meanwhile
		}
		if err != nil || json.Unmarshal(data, &meta) != nil || meta.ULID == "" {
			return 0, false, fmt.Errorf("read the block %s: it has no valid meta.json", filepath.Dir(path))
		}
		if !slices.ContainsFunc(meta.Compaction.Hints, func(hint string) bool { return slices.Contains(partial, hint) }) {
			end, found = max(end, meta.MaxTime), true
		}
	}
	return end, found, nil
}

// checkServer refuses a data folder that is not that of the server that is asked: what the
// server says about retention, memory and samples would be about other blocks. The note says
// if it is not known.
func checkServer(ctx context.Context, prom *promapi.Client, dir string) (note string, err error) {
	const then = "what was checked would be about other blocks; give the data folder of that server, or its URL"
	sure := false
	path, err := prom.DataFolder(ctx)
	switch {
	case err == nil:
		own, err := os.Stat(dir)
		if err != nil {
			return "", fmt.Errorf("data folder of Prometheus: %w", err)
		}
		if its, err := os.Stat(path); err == nil && its.IsDir() { // else it is the name in a container
			if !os.SameFile(own, its) {
				return "", hazard("DATA_FOLDER", "the data folder of Prometheus at %s is %s, and --data-dir is %s: %s", prom.URL(), path, dir, then)
			}
			sure = true
		}
	case !promapi.IsUnknown(err):
		return "", err
	}
	before, err := blocksIn(dir)
	if err != nil {
		return "", err
	}
	loaded, err := prom.Blocks(ctx)
	if err != nil && !promapi.IsUnknown(err) {
		return "", err
	}
	after, err := blocksIn(dir) // it may have compacted meanwhile
	if err != nil {
		return "", err
	}
	if len(loaded) > 0 {
		has := func(id string) bool { return slices.Contains(before, id) || slices.Contains(after, id) }
		if !slices.ContainsFunc(loaded, has) {
			return "", hazard("DATA_FOLDER", "Prometheus at %s has %d blocks, such as %s, and --data-dir %s has none of them: %s", prom.URL(), len(loaded), loaded[0], dir, then)
		}
		sure = true
	}
	if head, err := prom.Head(ctx); err == nil {
		end, found, err := newest(dir)
		if err != nil {
			return "", err
		}
		if found && end > rangeEnd(head.Max) { // older releases drop the hint when they join such blocks
			return "", hazard("DATA_FOLDER", "a block in --data-dir %s has samples until %s, and the newest sample of Prometheus at %s is from %s: %s",
				dir, (end - 1).Std().Format(time.RFC3339), prom.URL(), head.Max.Std().Format(time.RFC3339), then)
		}
	}
	if !sure {
		note = fmt.Sprintf("whether %s is the data folder of Prometheus at %s is not known: Prometheus does not tell, or calls it %q, as in a container", dir, prom.URL(), path)
	}
	return note, nil
}

// rangeEnd is the end of the block of two hours to which a sample will belong.
func rangeEnd(at sample.Millis) sample.Millis {
	const length = 2 * 60 * 60 * 1000
	return (at/length + 1) * length
}

// blocksIn are the names of the blocks in a data folder.
func blocksIn(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("data folder of Prometheus: %w", err)
	}
	for _, e := range entries {
		if blockName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func checkDataDir(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("data folder of Prometheus: %w", err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == "wal", name == "chunks_head", name == "lock", blockName.MatchString(name):
			return nil
		}
	}
	return fmt.Errorf("folder %s is not a data folder of Prometheus: it has neither wal nor chunks_head nor a block", path)
}
