package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	codes "modernc.org/sqlite/lib"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// OpenBeside opens a file that another process may have open: read-only and without its
// lock, for commands that report. Everything that writes fails with ErrReadOnly. The file
// must exist and be migrated.
func OpenBeside(ctx context.Context, path string, clk clock.Clock) (_ *Store, err error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open SQLite store: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil { // a URL of SQLite has no relative paths
		return nil, fmt.Errorf("open SQLite store: %w", err)
	}
	s := &Store{path: path, clock: clk, scans: make(chan struct{}, maxScans), wake: make(chan struct{}, 1), beside: true}
	if s.clock == nil {
		s.clock = clock.System()
	}
	if s.reader, err = connect(path, reading, true, maxReaders); err != nil {
		return nil, err
	}
	if err := checkSchema(ctx, s.reader); err != nil {
		if code(err) == codes.SQLITE_CANTOPEN { // whose text does not say more
			err = fmt.Errorf("this user cannot open it, or the files beside it (-wal, -shm): run the command as the user of the collector: %w", err)
		}
		return nil, errors.Join(fmt.Errorf("open SQLite store %s: %w", path, err), s.Close())
	}
	return s, nil
}

// RecordsBeside reads the records of one kind from a file as [OpenBeside] opens it.
func RecordsBeside(ctx context.Context, path, kind string) (_ []store.Record, err error) {
	s, err := OpenBeside(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Records(ctx, kind)
}
