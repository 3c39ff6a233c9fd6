package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// where collects conditions and their arguments.
type where struct {
	conditions []string
	args       []any
}

func (w *where) and(condition string, args ...any) {
	w.conditions = append(w.conditions, condition)
	w.args = append(w.args, args...)
}

func (w *where) String() string { return ` WHERE ` + strings.Join(w.conditions, ` AND `) }

// scopes restricts to the filter's scopes.
func (w *where) scopes(f store.Filter) error {
	if len(f.Scopes) == 0 {
		return nil
	}
	pairs := make([][2]any, len(f.Scopes))
	for i, s := range f.Scopes {
		pairs[i] = [2]any{s.Kind, s.ID}
	}
	// One argument however many scopes, so that the number of SQLite's
	// variables is no limit.
	list, err := json.Marshal(pairs)
	if err != nil {
		return err
	}
	w.and(`(scope_kind, scope_id) IN (SELECT value ->> 0, unhex(value ->> 1) FROM json_each(?))`, string(list))
	return nil
}

// datasets returns the ids to look at, ascending: those of the filter, or all
// that have buckets. The statement hops from id to id in the key's index
// instead of reading it all.
func datasets(ctx context.Context, tx *sql.Tx, f store.Filter) ([]string, error) {
	if len(f.Datasets) > 0 {
		return slices.Compact(slices.Sorted(slices.Values(f.Datasets))), nil
	}
	rows, err := tx.QueryContext(ctx, `WITH RECURSIVE d (dataset) AS (
			SELECT min(dataset) FROM bucket
			UNION ALL
			SELECT (SELECT min(b.dataset) FROM bucket b WHERE b.dataset > d.dataset) FROM d WHERE d.dataset IS NOT NULL
		) SELECT dataset FROM d WHERE dataset IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, rows.Err()
}

// endsAfter restricts to windows that end after t. The bound on the start says
// the same once more, in terms of the index.
func (w *where) endsAfter(t bucket.Time) {
	w.and(`window_start > ? AND window_end > ?`, int64(t.Add(-store.MaxWindow)), int64(t))
}

// checker holds entries against the chain of the log.
type checker struct {
	before *sql.Stmt       // reads the chain of a revision
	last   bucket.Position // of the entry before: most follow it
}

func newChecker(ctx context.Context, tx *sql.Tx) (*checker, error) {
	before, err := tx.PrepareContext(ctx, `SELECT chain FROM bucket WHERE revision = ?1 UNION ALL SELECT chain FROM event WHERE revision = ?1`)
	return &checker{before: before}, err
}

func (c *checker) close() { _ = c.before.Close() }

// entry returns the entry with what is wrong with it.
func (c *checker) entry(ctx context.Context, e store.Entry) (store.Entry, error) {
	one, known := []store.Entry{e}, store.Before{}
	if c.last.Revision > 0 {
		known[c.last.Revision] = c.last.Chain[:]
	}
	for _, revision := range known.Missing(one) {
		var chain []byte
		if err := c.before.QueryRowContext(ctx, revision).Scan(&chain); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return e, err
		}
		known[bucket.Revision(revision)] = chain
	}
	known.Check(one)
	if c.last = e.Position; one[0].Damage != "" {
		c.last = bucket.Position{}
	}
	return one[0], nil
}

// Snapshot implements [store.Store].
func (s *Store) Snapshot(ctx context.Context, q store.SnapshotQuery, emit func(store.Entry) error) (head store.Head, err error) {
	err = s.scan(ctx, "snapshot", func(tx *sql.Tx) error {
		check, err := newChecker(ctx, tx)
		if err != nil {
			return err
		}
		defer check.close()
		emitOne := func(e store.Entry) error {
			e, err := check.entry(ctx, e)
			if err != nil {
				return err
			}
			if err := emit(e); err != nil {
				return foreign{err}
			}
			return nil
		}
		// The first read fixes the moment that all others see.
		if head, err = s.head(ctx, tx); err != nil {
			return err
		}
		versions, err := collect(ctx, tx, selectEvent+` WHERE kind = ? ORDER BY revision`, int64(bucket.KindDatasetVersion))
		if err != nil {
			return err
		}
		for _, e := range versions {
			if len(q.Datasets) > 0 && !slices.Contains(q.Datasets, e.Key.Dataset) {
				continue
			}
			if err := emitOne(e); err != nil {
				return err
			}
		}
		ids, err := datasets(ctx, tx, q.Filter)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := snapshotDataset(ctx, tx, id, q, emitOne); err != nil {
				return err
			}
		}
		if q.Late == nil {
			return nil
		}
		for _, id := range ids {
			if err := lateCommits(ctx, tx, id, q, check); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return store.Head{}, err
	}
	return head, nil
}

func snapshotDataset(ctx context.Context, tx *sql.Tx, dataset string, q store.SnapshotQuery, emit func(store.Entry) error) error {
	var w where
	w.and(`dataset = ?`, dataset)
	w.endsAfter(q.Since)
	if err := w.scopes(q.Filter); err != nil {
		return err
	}
	if q.MaxWindows > 0 {
		var oldest sql.NullInt64
		err := tx.QueryRowContext(ctx, `SELECT min(window_start) FROM (SELECT DISTINCT window_start FROM bucket`+w.String()+` ORDER BY window_start DESC LIMIT ?)`,
			append(slices.Clip(w.args), q.MaxWindows)...).Scan(&oldest)
		if err != nil || !oldest.Valid {
			return err
		}
		w.and(`window_start >= ?`, oldest.Int64)
	}
	return each(ctx, tx, emit, selectBucket+w.String()+` ORDER BY window_start, scope_kind, scope_id`, w.args...)
}

// lateCommits passes the late commits of a dataset to the query, newest first. The
// condition is that of carousel.Late.
func lateCommits(ctx context.Context, tx *sql.Tx, dataset string, q store.SnapshotQuery, check *checker) error {
	var w where
	w.and(`dataset = ?`, dataset)
	w.endsAfter(q.Late.Since)
	if err := w.scopes(q.Filter); err != nil {
		return err
	}
	w.and(`row_count > 0 AND origin <> ?`, int64(bucket.Backfill))
	w.and(`committed_at > 1000 * (window_end + iif(window_end - window_start >= ?, ?, max(2 * (window_end - window_start), min(10 * (window_end - window_start), ?))))`,
		int64(carousel.Long/time.Second), int64(carousel.LongSpan/time.Second), int64(carousel.SmallSpan/time.Second))
	w.and(`committed_at < 1000 * window_end + ?`, q.Late.Within.Milliseconds())
	for {
		entries, err := collect(ctx, tx, selectBucket+w.String()+` ORDER BY committed_at DESC, revision DESC LIMIT ?`, append(slices.Clip(w.args), listPage)...)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e, err = check.entry(ctx, e); err != nil {
				return err
			}
			if q.Late.Found(e) {
				return nil
			}
		}
		if len(entries) < listPage {
			return nil
		}
		last := entries[len(entries)-1]
		w.and(`(committed_at, revision) < (?, ?)`, last.CommittedAt.UnixMilli(), number(last.Revision))
	}
}

// listPage is how many buckets List reads at a time.
const listPage = 200

// List implements [store.Store].
func (s *Store) List(ctx context.Context, q store.ListQuery, emit func(store.Entry) error) error {
	var ids []string
	err := s.scan(ctx, "list buckets", func(tx *sql.Tx) (err error) {
		ids, err = datasets(ctx, tx, q.Filter)
		return err
	})
	if err != nil {
		return err
	}
	for _, id := range ids {
		if q.After != nil && id < q.After.Dataset {
			continue
		}
		after := q.After
		if after != nil && id != after.Dataset {
			after = nil
		}
		read := func(ctx context.Context, after *bucket.Key) ([]store.Entry, error) { return s.page(ctx, id, q, after) }
		if err := store.Ahead(ctx, listPage, after, read, emit); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) page(ctx context.Context, dataset string, q store.ListQuery, after *bucket.Key) (page []store.Entry, err error) {
	query, args, err := selectPage(dataset, q, after)
	if err != nil {
		return nil, err
	}
	err = s.scan(ctx, "list buckets", func(tx *sql.Tx) error {
		page, err = collect(ctx, tx, query, args...)
		if err != nil || !q.Restated {
			return err
		}
		return restate(ctx, tx, dataset, page)
	})
	return page, err
}

// restate replaces buckets of one dataset by their newest restatements.
func restate(ctx context.Context, tx *sql.Tx, dataset string, page []store.Entry) error {
	wanted := make([][3]any, len(page))
	for i := range page {
		k := page[i].Key
		wanted[i] = [3]any{int64(k.Start), k.Scope.Kind, k.Scope.ID}
	}
	list, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	newest, err := collect(ctx, tx, selectEvent+` JOIN json_each(?) ON revision = (SELECT max(r.revision) FROM event r WHERE r.kind = 5 AND r.dataset = ?
		AND r.window_start = value ->> 0 AND r.scope_kind = value ->> 1 AND r.scope_id = unhex(value ->> 2))`, string(list), dataset)
	if err != nil {
		return err
	}
	store.Restate(page, newest)
	return nil
}

// selectPage is the statement of a page. It has one lower bound: with two SQLite begins at the
// first in the order of the conditions, and each page would read what all pages before it
// have read.
func selectPage(dataset string, q store.ListQuery, after *bucket.Key) (query string, args []any, err error) {
	var w where
	w.and(`dataset = ?`, dataset)
	if after != nil && after.Start >= q.Window.Start {
		w.and(`(window_start, scope_kind, scope_id) > (?, ?, unhex(?))`, int64(after.Start), int64(after.Scope.Kind), after.Scope.ID)
	} else {
		w.and(`window_start >= ?`, int64(q.Window.Start))
	}
	w.and(`window_start < ? AND window_end <= ?`, int64(q.Window.End), int64(q.Window.End))
	if err := w.scopes(q.Filter); err != nil {
		return "", nil, err
	}
	return selectBucket + w.String() + ` ORDER BY window_start, scope_kind, scope_id LIMIT ?`, append(w.args, listPage), nil
}

// Buckets implements [store.Store].
func (s *Store) Buckets(ctx context.Context, keys []bucket.Key, emit func(store.Entry) error) error {
	for part := range slices.Chunk(keys, listPage) {
		wanted := make([][4]any, len(part))
		for i, k := range part {
			wanted[i] = [4]any{k.Dataset, int64(k.Start), k.Scope.Kind, k.Scope.ID}
		}
		list, err := json.Marshal(wanted)
		if err != nil {
			return err
		}
		var page []store.Entry
		err = s.scan(ctx, "read buckets", func(tx *sql.Tx) error {
			page, err = collect(ctx, tx, selectBucket+` JOIN json_each(?) ON dataset = value ->> 0 AND window_start = value ->> 1
				AND scope_kind = value ->> 2 AND scope_id = unhex(value ->> 3)`, string(list))
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range page {
			if err := emit(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// Coverage implements [store.Store]. It reads the keys in the order of their
// index and joins them here: sorting them by scope first, as SQL would have to,
// takes longer and more memory.
func (s *Store) Coverage(ctx context.Context, f store.Filter, since bucket.Time) ([]store.Run, error) {
	var w where
	w.endsAfter(since)
	return s.runs(ctx, f, w)
}

// Unserved implements [store.Store].
func (s *Store) Unserved(ctx context.Context, f store.Filter, since bucket.Time, age time.Duration) ([]store.Run, error) {
	var w where
	w.endsAfter(since)
	w.and(`row_count > 0 AND origin <> ? AND committed_at >= 1000 * window_end + ?`, int64(bucket.Backfill), age.Milliseconds())
	return s.runs(ctx, f, w)
}

func (s *Store) runs(ctx context.Context, f store.Filter, w where) (runs []store.Run, err error) {
	err = s.scan(ctx, "read coverage", func(tx *sql.Tx) error {
		ids, err := datasets(ctx, tx, f)
		if err != nil {
			return err
		}
		for _, id := range ids {
			final, err := coverageOf(ctx, tx, id, f, where{slices.Clip(w.conditions), slices.Clip(w.args)})
			if err != nil {
				return err
			}
			for _, scope := range slices.SortedFunc(maps.Keys(final), bucket.Scope.Compare) {
				for _, w := range final[scope] {
					runs = append(runs, store.Run{Dataset: id, Scope: scope, Window: w})
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return runs, nil
}

func coverageOf(ctx context.Context, tx *sql.Tx, dataset string, f store.Filter, w where) (map[bucket.Scope]bucket.Spans, error) {
	w.and(`dataset = ?`, dataset)
	if err := w.scopes(f); err != nil {
		return nil, err
	}
	rows, err := tx.QueryContext(ctx, `SELECT scope_kind, lower(hex(scope_id)), window_start, window_end FROM bucket`+w.String()+` ORDER BY window_start`, w.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	final := make(map[bucket.Scope]bucket.Spans)
	for rows.Next() {
		var scope bucket.Scope
		var w bucket.Window
		if err := rows.Scan(&scope.Kind, &scope.ID, &w.Start, &w.End); err != nil {
			return nil, err
		}
		final[scope] = final[scope].Add(w)
	}
	return final, rows.Err()
}
