package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// RecordsBeside reads the records of one kind from a file that another process
// may have open: read-only and without its lock, for commands that report. The
// file must exist and be migrated.
func RecordsBeside(ctx context.Context, path, kind string) (_ []store.Record, err error) {
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("open SQLite store: %w", err)
	}
	s := &Store{path: path}
	if s.reader, err = connect(path, reading, true, 1); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.reader.Close()) }()
	if err := checkSchema(ctx, s.reader); err != nil {
		return nil, fmt.Errorf("open SQLite store %s: %w", path, err)
	}
	return s.Records(ctx, kind)
}
