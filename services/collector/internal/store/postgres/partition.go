package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// month is a partition of bucket: the windows that start in a calendar month of
// UTC. Aligned windows of sizes that divide a day also end in it, at the latest
// with it, so dropping a month drops whole windows.
type month struct{ from, until bucket.Time }

func monthOf(t bucket.Time) month {
	y, m, _ := t.Std().Date()
	return month{
		from:  bucket.TimeOf(time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)),
		until: bucket.TimeOf(time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC)),
	}
}

// table is the partition's name; the order of names is that of time.
func (m month) table() string { return "bucket_" + m.from.Std().Format("2006_01") }

func parseMonth(table string) (month, error) {
	t, err := time.Parse("bucket_2006_01", table)
	if err != nil {
		return month{}, fmt.Errorf("%w: table %s is attached to bucket as a partition, but its name is not bucket_YYYY_MM", store.ErrCorrupt, table)
	}
	return monthOf(bucket.TimeOf(t)), nil
}

// months caches which partitions exist.
type months struct {
	mu         sync.Mutex // held while partitions are made: one at a time is enough
	known      map[month]bool
	aheadAfter time.Time // no attempt to make the next month's before this
}

func (m *months) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known = nil
}

// A partition is created three days before it is needed, which leaves three days to
// resolve a failure.
const (
	ahead      = 3 * 24 * time.Hour
	aheadRetry = 10 * time.Minute
)

// ensureMonths creates the partitions of the entries, and the next one.
func (s *Store) ensureMonths(ctx context.Context, entries []store.NewEntry) error {
	needed := make(map[month]bool)
	var newest bucket.Time
	for i := range entries {
		if e := &entries[i]; e.Kind == bucket.KindBucket {
			needed[monthOf(e.Key.Start)] = true
			newest = max(newest, e.Key.Start)
		}
	}
	if len(needed) == 0 {
		return nil
	}
	s.months.mu.Lock()
	defer s.months.mu.Unlock()
	if s.months.known == nil {
		known, err := partitions(ctx, s.writer)
		if err != nil {
			return err
		}
		s.months.known = make(map[month]bool, len(known))
		for _, m := range known {
			s.months.known[m] = true
		}
	}
	for m := range needed {
		if s.months.known[m] {
			continue
		}
		if err := s.attach(ctx, m); err != nil {
			return fmt.Errorf("add partition %s: %w", m.table(), err)
		}
		s.months.known[m] = true
	}
	next := monthOf(newest.Add(ahead))
	if s.months.known[next] || time.Now().Before(s.months.aheadAfter) {
		return nil
	}
	if err := s.attach(ctx, next); err != nil {
		s.months.aheadAfter = time.Now().Add(aheadRetry)
		level := slog.LevelWarn // there are days left
		if left := next.from.Sub(newest); left < 24*time.Hour {
			level = slog.LevelError
		}
		s.often.Log(ctx, level, "", "cannot create next month's partition; without it no bucket of that month can be stored", "partition", next.table(), "err", err)
		return nil
	}
	s.months.known[next] = true
	return nil
}

// attach makes a partition, with the rights of the tables' owner.
func (s *Store) attach(ctx context.Context, m month) error {
	_, err := s.writer.Exec(ctx, `SELECT add_month($1)`, int64(m.from))
	// Another process, which leads or has just led, was there first.
	if exists(err) {
		return nil
	}
	return err
}

// partitions lists those that are attached, oldest first.
func partitions(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
},
) ([]month, error) {
	rows, err := db.Query(ctx, `SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'bucket'::regclass ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (month, error) {
		var table string
		if err := row.Scan(&table); err != nil {
			return month{}, err
		}
		return parseMonth(table)
	})
}

// Retire implements [store.Store]: it drops the partitions that end at or
// before the border, each in a transaction of its own.
func (s *Store) Retire(ctx context.Context, term store.Term, before bucket.Time, forget time.Time) (bucket.Time, error) {
	bounded, cancel := write(ctx)
	defer cancel()
	have, err := partitions(bounded, s.writer)
	if err != nil {
		return 0, s.failed(ctx, "retire", true, err)
	}
	if h, err := s.Head(bounded); err != nil {
		return 0, fmt.Errorf("retire: %w", err)
	} else if h.Term != term {
		return 0, fmt.Errorf("retire: %w: the store has term %d, this process has %d", store.ErrDeposed, h.Term, term)
	}
	for _, m := range have {
		if m.until > before {
			continue
		}
		bounded, cancel := write(ctx)
		err := s.drop(bounded, term, m, forget)
		cancel()
		if err != nil {
			return 0, s.failed(ctx, "drop partition "+m.table(), true, err)
		}
	}
	border := monthOf(before).from
	bounded, cancelForget := write(ctx)
	defer cancelForget()
	var leads bool
	err = s.writer.QueryRow(bounded, `SELECT drop_restatements($1, $2)`, int64(term), int64(border)).Scan(&leads)
	if err == nil && !leads {
		err = store.ErrDeposed
	}
	if err != nil {
		return 0, s.failed(ctx, "drop restatements", true, err)
	}
	err = s.writer.QueryRow(bounded, `SELECT forget_dropped($1, $2)`, int64(term), forget).Scan(&leads)
	if err == nil && !leads {
		err = store.ErrDeposed
	}
	if err != nil {
		return 0, s.failed(ctx, "remove tombstones", true, err)
	}
	return border, nil
}

// drop drops a partition, with the rights of the tables' owner, and raises the
// floor.
func (s *Store) drop(ctx context.Context, term store.Term, m month, forget time.Time) error {
	s.months.forget()
	var leads bool
	err := s.writer.QueryRow(ctx, `SELECT drop_month($1, $2, $3)`, int64(term), int64(m.from), forget).Scan(&leads)
	if err == nil && !leads {
		err = store.ErrDeposed
	}
	return err
}
