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

// Snapshot implements [store.Store].
func (s *Store) Snapshot(ctx context.Context, q store.SnapshotQuery, emit func(store.Entry) error) (head store.Head, err error) {
	err = s.scan(ctx, "snapshot", func(tx *sql.Tx) error {
		before, err := tx.PrepareContext(ctx, `SELECT chain FROM bucket WHERE revision = ?1 UNION ALL SELECT chain FROM event WHERE revision = ?1`)
		if err != nil {
			return err
		}
		defer before.Close()
		var last bucket.Position // most entries follow the one that came before them
		emitOne := func(e store.Entry) error {
			one, known := []store.Entry{e}, store.Before{}
			if last.Revision > 0 {
				known[last.Revision] = last.Chain[:]
			}
			for _, revision := range known.Missing(one) {
				var chain []byte
				if err := before.QueryRowContext(ctx, revision).Scan(&chain); err != nil && !errors.Is(err, sql.ErrNoRows) {
					return err
				}
				known[bucket.Revision(revision)] = chain
			}
			known.Check(one)
			if last = e.Position; e.Damage != "" {
				last = bucket.Position{}
			}
			if err := emit(one[0]); err != nil {
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
		for _, id := range ids {
			if err := lateCommit(ctx, tx, id, q); err != nil {
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

// lateCommit tells the query of the newest late commit of a dataset: the condition is
// that of carousel.Late.
func lateCommit(ctx context.Context, tx *sql.Tx, dataset string, q store.SnapshotQuery) error {
	if q.Late == nil {
		return nil
	}
	var w where
	w.and(`dataset = ?`, dataset)
	w.endsAfter(q.Since)
	if err := w.scopes(q.Filter); err != nil {
		return err
	}
	w.and(`row_count > ?`, 0)
	w.and(`committed_at > 1000 * (window_end + max(2 * (window_end - window_start), min(10 * (window_end - window_start), ?)))`, int64(carousel.SmallSpan/time.Second))
	var at sql.NullInt64
	if err := tx.QueryRowContext(ctx, `SELECT max(committed_at) FROM bucket`+w.String(), w.args...).Scan(&at); err != nil {
		return err
	}
	if at.Valid {
		q.Late(dataset, time.UnixMilli(at.Int64).UTC())
	}
	return nil
}

// listPage is how many buckets List holds in memory.
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
		for {
			page, err := s.page(ctx, id, q, after)
			if err != nil {
				return err
			}
			for _, e := range page {
				if err := emit(e); err != nil {
					return err
				}
			}
			if len(page) < listPage {
				break
			}
			after = &page[len(page)-1].Key
		}
	}
	return nil
}

func (s *Store) page(ctx context.Context, dataset string, q store.ListQuery, after *bucket.Key) (page []store.Entry, err error) {
	var w where
	w.and(`dataset = ?`, dataset)
	w.and(`window_start >= ? AND window_start < ? AND window_end <= ?`, int64(q.Window.Start), int64(q.Window.End), int64(q.Window.End))
	if after != nil {
		w.and(`(window_start, scope_kind, scope_id) > (?, ?, unhex(?))`, int64(after.Start), int64(after.Scope.Kind), after.Scope.ID)
	}
	if err := w.scopes(q.Filter); err != nil {
		return nil, err
	}
	err = s.scan(ctx, "list buckets", func(tx *sql.Tx) error {
		page, err = collect(ctx, tx, selectBucket+w.String()+` ORDER BY window_start, scope_kind, scope_id LIMIT ?`, append(w.args, listPage)...)
		return err
	})
	return page, err
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
func (s *Store) Coverage(ctx context.Context, f store.Filter, since bucket.Time) (runs []store.Run, err error) {
	err = s.scan(ctx, "read coverage", func(tx *sql.Tx) error {
		ids, err := datasets(ctx, tx, f)
		if err != nil {
			return err
		}
		for _, id := range ids {
			final, err := coverageOf(ctx, tx, id, f, since)
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

func coverageOf(ctx context.Context, tx *sql.Tx, dataset string, f store.Filter, since bucket.Time) (map[bucket.Scope]bucket.Spans, error) {
	var w where
	w.and(`dataset = ?`, dataset)
	w.endsAfter(since)
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
