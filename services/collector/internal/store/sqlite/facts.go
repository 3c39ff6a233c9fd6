package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Facts asks a file about itself, read-only and without its lock. It also works if the
// schema is missing or another release's; what depends on the tables is then left out.
func Facts(ctx context.Context, path string, clk clock.Clock) (f store.Facts, err error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return f, fmt.Errorf("inspect SQLite store: %w", err)
	case info.IsDir():
		return f, fmt.Errorf("inspect SQLite store: %s is a folder; it must be a file", path)
	}
	if path, err = filepath.Abs(path); err != nil { // a URL of SQLite has no relative paths
		return f, fmt.Errorf("inspect SQLite store: %w", err)
	}
	if clk == nil {
		clk = clock.System()
	}
	s := &Store{path: path, clock: clk, beside: true}
	if s.reader, err = connect(path, reading, true, 1); err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	f = store.Facts{Driver: "sqlite", SchemaWant: schemaVersion, Settings: map[string]string{}, Free: free(filepath.Dir(path)), Now: clk.Now()}
	if f.Size, err = s.Size(ctx); err != nil {
		return f, err
	}
	err = s.read(ctx, "inspect the file", func(tx *sql.Tx) error { return s.facts(ctx, tx, &f) })
	return f, err
}

func (s *Store) facts(ctx context.Context, tx *sql.Tx, f *store.Facts) error {
	var mode string
	err := tx.QueryRowContext(ctx, `SELECT sqlite_version(), (SELECT encoding FROM pragma_encoding), (SELECT journal_mode FROM pragma_journal_mode)`).
		Scan(&f.Version, &f.Encoding, &mode)
	if err != nil {
		return err
	}
	f.Settings["journal_mode"] = mode
	if f.Schema, err = readSchema(ctx, tx); err != nil || f.Schema.Version == 0 || f.Schema.Check(schemaVersion) != nil {
		return err
	}
	h, err := s.head(ctx, tx)
	if errors.Is(err, sql.ErrNoRows) { // migrated, and no collector has begun
		return nil
	}
	if err != nil {
		return err
	}
	f.StoreID, f.Simulated, f.Head, f.Term = h.StoreID, h.Simulated, uint64(h.Revision), uint64(h.Term)
	f.ExpiresAt, f.Progress = h.ExpiresAt, h.ProgressAt
	if h.ExpiresAt.After(h.Now) {
		f.Holder = store.HolderName(h.Holder)
	}
	var bucket, event sql.NullInt64
	// Revisions are gapless, so the buckets of a day are at most the difference of two.
	err = tx.QueryRowContext(ctx, `SELECT
			(SELECT committed_at FROM bucket ORDER BY revision LIMIT 1), (SELECT committed_at FROM event ORDER BY revision LIMIT 1),
			coalesce((SELECT max(revision) - min(revision) + 1 FROM bucket), 0),
			?1 - coalesce((SELECT revision FROM bucket WHERE committed_at < ?2 ORDER BY revision DESC LIMIT 1), ?1)`,
		int64(h.Revision), h.Now.Add(-24*time.Hour).UnixMilli()).Scan(&bucket, &event, &f.Buckets, &f.LastDay)
	for _, at := range []sql.NullInt64{bucket, event} {
		if t := fromMillis(at); !t.IsZero() && (f.OldestCommit.IsZero() || t.Before(f.OldestCommit)) {
			f.OldestCommit = t
		}
	}
	return err
}
