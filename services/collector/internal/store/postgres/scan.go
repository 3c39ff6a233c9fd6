package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// where collects conditions and their arguments. A ? in a condition stands for
// the next argument.
type where struct {
	conditions []string
	args       []any
}

func (w *where) and(condition string, args ...any) {
	for _, a := range args {
		condition = strings.Replace(condition, "?", w.arg(a), 1)
	}
	w.conditions = append(w.conditions, condition)
}

func (w *where) arg(a any) string {
	w.args = append(w.args, a)
	return fmt.Sprintf("$%d", len(w.args))
}

func (w *where) String() string {
	return ` WHERE ` + strings.Join(w.conditions, ` AND `)
}

// scopes restricts to the filter's scopes. The condition on the id alone can be
// checked inside the key's index.
func (w *where) scopes(f store.Filter) {
	if len(f.Scopes) == 0 {
		return
	}
	kinds, ids := make([]int16, len(f.Scopes)), make([][]byte, len(f.Scopes))
	for i, s := range f.Scopes {
		kinds[i], ids[i] = int16(s.Kind), scopeID(s)
	}
	all := w.arg(ids)
	w.and(`scope_id = ANY (` + all + `::bytea[]) AND (scope_kind, scope_id) IN (SELECT * FROM unnest(` + w.arg(kinds) + `::smallint[], ` + all + `::bytea[]))`)
}

// scopeID is the stored form of a scope's id; an id that no scope can have
// matches nothing.
func scopeID(s bucket.Scope) []byte {
	id, err := hex.DecodeString(s.ID)
	if err != nil || id == nil {
		return []byte{}
	}
	return id
}

// endsAfter restricts to windows that end after t. The bound on the start says
// the same once more, in terms of the index and of the partitions.
func (w *where) endsAfter(t bucket.Time) {
	w.and(`window_start > ? AND window_end > ?`, int64(t.Add(-store.MaxWindow)), int64(t))
}

// datasets returns the ids to look at, ascending: those of the filter, or all
// that have buckets. The statement hops from id to id in the key's index
// instead of reading it all.
func datasets(ctx context.Context, db queryer, f store.Filter) ([]string, error) {
	if len(f.Datasets) > 0 {
		return slices.Compact(slices.Sorted(slices.Values(f.Datasets))), nil
	}
	rows, err := db.Query(ctx, `WITH RECURSIVE d (dataset) AS (
			SELECT min(dataset) FROM bucket
			UNION ALL
			SELECT (SELECT min(b.dataset) FROM bucket b WHERE b.dataset > d.dataset) FROM d WHERE d.dataset IS NOT NULL
		) SELECT dataset FROM d WHERE dataset IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// pageSize is how many buckets are in memory at a time.
const pageSize = 500

// page reads the next buckets of one dataset behind a key, if there is one.
func page(ctx context.Context, db queryer, w where, after *bucket.Key) ([]store.Entry, error) {
	w.conditions, w.args = slices.Clip(w.conditions), slices.Clip(w.args)
	if after != nil {
		w.and(`(window_start, scope_kind, scope_id) > (?, ?::smallint, ?::bytea)`, int64(after.Start), int16(after.Scope.Kind), scopeID(after.Scope))
	}
	query := selectBucket + w.String() + ` ORDER BY window_start, scope_kind, scope_id LIMIT ` + w.arg(pageSize)
	return collect(ctx, db, query, w.args...)
}

// stopped carries emit's error past everything that would describe it.
type stopped struct{ error }

// Snapshot implements [store.Store]. It reads in pages: between them the
// transaction is idle, and a reader that stalls for a minute loses it, so that
// it cannot keep retention from dropping partitions for ever.
func (s *Store) Snapshot(ctx context.Context, q store.SnapshotQuery, emit func(store.Entry) error) (head store.Head, err error) {
	release, err := s.scan(ctx)
	if err != nil {
		return store.Head{}, s.failed(ctx, "snapshot", false, err)
	}
	defer release()
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, s.reader, options, func(tx pgx.Tx) error {
		if s.address.pooled {
			// The session has no settings of ours, and this one ends with the transaction.
			if _, err := tx.Exec(ctx, `SET LOCAL `+stalled+` = '`+session[reading][stalled]+`'`); err != nil {
				return err
			}
		}
		// Before the first SELECT, which fixes the moment that all others see:
		// a partition that is dropped after that moment and before it is read
		// would be missing without a trace. With the lock it cannot be.
		if _, err := tx.Exec(ctx, `LOCK TABLE bucket IN ACCESS SHARE MODE`); err != nil {
			return err
		}
		if head, err = scanHead(tx.QueryRow(ctx, `SELECT `+headColumns+` FROM log`)); err != nil {
			return err
		}
		return snapshot(ctx, tx, q, func(e store.Entry) error {
			if err := emit(e); err != nil {
				return stopped{err}
			}
			return nil
		})
	})
	if stop, ok := errors.AsType[stopped](err); ok {
		return store.Head{}, stop.error
	}
	if err != nil {
		return store.Head{}, s.failed(ctx, "snapshot", false, err)
	}
	return head, nil
}

func snapshot(ctx context.Context, tx pgx.Tx, q store.SnapshotQuery, emit func(store.Entry) error) error {
	versions, err := chained(ctx, tx)(collect(ctx, tx, selectEvent+` WHERE kind = $1 ORDER BY revision`, int16(bucket.KindDatasetVersion)))
	if err != nil {
		return err
	}
	for _, e := range versions {
		if len(q.Datasets) > 0 && !slices.Contains(q.Datasets, e.Key.Dataset) {
			continue
		}
		if err := emit(e); err != nil {
			return err
		}
	}
	ids, err := datasets(ctx, tx, q.Filter)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := snapshotDataset(ctx, tx, id, q, emit); err != nil {
			return err
		}
	}
	if q.Late == nil {
		return nil
	}
	for _, id := range ids {
		if err := lateCommit(ctx, tx, id, q); err != nil {
			return err
		}
	}
	return nil
}

// lateCommit tells the query of the newest late commit of a dataset: the condition is
// that of carousel.Late.
func lateCommit(ctx context.Context, tx pgx.Tx, dataset string, q store.SnapshotQuery) error {
	var w where
	w.and(`dataset = ?`, dataset)
	w.endsAfter(q.Since)
	w.scopes(q.Filter)
	w.and(`row_count > 0`)
	w.and(`extract(epoch FROM committed_at) > window_end + greatest(2 * (window_end - window_start), least(10 * (window_end - window_start), ?))`, int64(carousel.SmallSpan/time.Second))
	var at *time.Time
	if err := tx.QueryRow(ctx, `SELECT max(committed_at) FROM bucket`+w.String(), w.args...).Scan(&at); err != nil {
		return err
	}
	if at != nil {
		q.Late(dataset, at.UTC())
	}
	return nil
}

func snapshotDataset(ctx context.Context, tx pgx.Tx, dataset string, q store.SnapshotQuery, emit func(store.Entry) error) error {
	var w where
	w.and(`dataset = ?`, dataset)
	w.endsAfter(q.Since)
	w.scopes(q.Filter)
	if q.MaxWindows > 0 {
		newest := where{slices.Clip(w.conditions), slices.Clip(w.args)}
		var oldest *int64
		query := `SELECT min(window_start) FROM (SELECT DISTINCT window_start FROM bucket` + newest.String() +
			` ORDER BY window_start DESC LIMIT ` + newest.arg(q.MaxWindows) + `) w`
		err := tx.QueryRow(ctx, query, newest.args...).Scan(&oldest)
		if err != nil || oldest == nil {
			return err
		}
		w.and(`window_start >= ?`, *oldest)
	}
	return pages(emit, func(after *bucket.Key) ([]store.Entry, error) { return chained(ctx, tx)(page(ctx, tx, w, after)) }, nil)
}

// chained holds entries that were read against the chain of the log: most follow
// one another, and the chains before the others are read.
func chained(ctx context.Context, db queryer) func([]store.Entry, error) ([]store.Entry, error) {
	return func(entries []store.Entry, err error) ([]store.Entry, error) {
		if err != nil {
			return nil, err
		}
		before := store.Before{}
		if missing := before.Missing(entries); len(missing) > 0 {
			rows, err := db.Query(ctx, `SELECT revision, chain FROM bucket WHERE revision = ANY ($1::bigint[])
				UNION ALL SELECT revision, chain FROM event WHERE revision = ANY ($1::bigint[])`, missing)
			if err != nil {
				return nil, err
			}
			var revision bucket.Revision
			var chain []byte
			if _, err := pgx.ForEachRow(rows, []any{&revision, &chain}, func() error {
				before[revision] = slices.Clone(chain)
				return nil
			}); err != nil {
				return nil, err
			}
		}
		before.Check(entries)
		return entries, nil
	}
}

// pages emits page after page, until one is not full.
func pages(emit func(store.Entry) error, next func(*bucket.Key) ([]store.Entry, error), after *bucket.Key) error {
	for {
		entries, err := next(after)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := emit(e); err != nil {
				return err
			}
		}
		if len(entries) < pageSize {
			return nil
		}
		after = &entries[len(entries)-1].Key
	}
}

// List implements [store.Store].
func (s *Store) List(ctx context.Context, q store.ListQuery, emit func(store.Entry) error) error {
	var ids []string
	err := s.scanning(ctx, func() (err error) {
		ids, err = datasets(ctx, s.reader, q.Filter)
		return err
	})
	if err != nil {
		return s.failed(ctx, "list buckets", false, err)
	}
	for _, id := range ids {
		if q.After != nil && id < q.After.Dataset {
			continue
		}
		after := q.After
		if after != nil && id != after.Dataset {
			after = nil
		}
		var w where
		w.and(`dataset = ?`, id)
		w.and(`window_start >= ? AND window_start < ? AND window_end <= ?`, int64(q.Window.Start), int64(q.Window.End), int64(q.Window.End))
		w.scopes(q.Filter)
		err := pages(emit, func(after *bucket.Key) (entries []store.Entry, err error) {
			err = s.scanning(ctx, func() error {
				entries, err = page(ctx, s.reader, w, after)
				return err
			})
			return entries, s.failed(ctx, "list buckets", false, err)
		}, after)
		if err != nil {
			return err
		}
	}
	return nil
}

// Buckets implements [store.Store].
func (s *Store) Buckets(ctx context.Context, keys []bucket.Key, emit func(store.Entry) error) error {
	for part := range slices.Chunk(keys, pageSize) {
		var entries []store.Entry
		err := s.scanning(ctx, func() (err error) {
			entries, err = s.lookUp(ctx, part)
			return err
		})
		if err != nil {
			return s.failed(ctx, "read buckets", false, err)
		}
		for _, e := range entries {
			if err := emit(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookUp reads the buckets of keys. The bounds of the starts say the same once
// more, in terms of the partitions.
func (s *Store) lookUp(ctx context.Context, keys []bucket.Key) ([]store.Entry, error) {
	datasets, starts := make([]string, len(keys)), make([]int64, len(keys))
	kinds, ids := make([]int16, len(keys)), make([][]byte, len(keys))
	for i, k := range keys {
		datasets[i], starts[i], kinds[i], ids[i] = k.Dataset, int64(k.Start), int16(k.Scope.Kind), scopeID(k.Scope)
	}
	return collect(ctx, s.reader, selectBucket+`
		JOIN unnest($1::text[], $2::bigint[], $3::smallint[], $4::bytea[]) AS wanted (of, begins, kind, id)
			ON dataset = of AND window_start = begins AND scope_kind = kind AND scope_id = id
		WHERE window_start BETWEEN $5 AND $6`, datasets, starts, kinds, ids, slices.Min(starts), slices.Max(starts))
}

// scanning runs do while holding one of the connections that long reads may use.
func (s *Store) scanning(ctx context.Context, do func() error) error {
	release, err := s.scan(ctx)
	if err != nil {
		return err
	}
	defer release()
	return do()
}

// Coverage implements [store.Store]. A bucket begins a range unless the end of
// an earlier one reaches it; counting the beginnings numbers the ranges.
func (s *Store) Coverage(ctx context.Context, f store.Filter, since bucket.Time) (runs []store.Run, err error) {
	var w where
	w.endsAfter(since)
	if len(f.Datasets) > 0 {
		w.and(`dataset = ANY (?::text[])`, f.Datasets)
	}
	w.scopes(f)
	err = s.scanning(ctx, func() error {
		rows, err := s.reader.Query(ctx, `
			SELECT dataset, scope_kind, scope_id, min(window_start), max(window_end)
			FROM (
				SELECT dataset, scope_kind, scope_id, window_start, window_end, count(*) FILTER (WHERE begins) OVER same AS number
				FROM (
					SELECT dataset, scope_kind, scope_id, window_start, window_end,
						window_start > coalesce(max(window_end) OVER (same ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), window_start - 1) AS begins
					FROM bucket`+w.String()+`
					WINDOW same AS (PARTITION BY dataset, scope_kind, scope_id ORDER BY window_start)
				) marked
				WINDOW same AS (PARTITION BY dataset, scope_kind, scope_id ORDER BY window_start)
			) numbered
			GROUP BY dataset, scope_kind, scope_id, number
			ORDER BY dataset, scope_kind, scope_id, 4`, w.args...)
		if err != nil {
			return err
		}
		runs, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.Run, error) {
			var r store.Run
			var scope []byte
			err := row.Scan(&r.Dataset, &r.Scope.Kind, &scope, &r.Window.Start, &r.Window.End)
			r.Scope.ID = hex.EncodeToString(scope)
			return r, err
		})
		return err
	})
	if err != nil {
		return nil, s.failed(ctx, "read coverage", false, err)
	}
	return runs, nil
}
