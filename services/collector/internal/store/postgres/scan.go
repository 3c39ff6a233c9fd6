package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
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

// among restricts to the filter's scopes in the order of the key's index: the condition is
// no bound of the index, for which Postgres would walk it once for each scope and sort.
func (w *where) among(f store.Filter) {
	kinds, ids := make([]int16, len(f.Scopes)), make([][]byte, len(f.Scopes))
	for i, s := range f.Scopes {
		kinds[i], ids[i] = int16(s.Kind), scopeID(s)
	}
	w.and(`((scope_kind, scope_id) IN (SELECT * FROM unnest(?::smallint[], ?::bytea[]))) IS TRUE`, kinds, ids)
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

// pageSize is how many buckets are read at a time.
const pageSize = 500

// page reads the next buckets of one dataset behind a key, if there is one.
func page(ctx context.Context, db queryer, w where, after *bucket.Key) ([]store.Entry, error) {
	w.conditions, w.args = slices.Clip(w.conditions), slices.Clip(w.args)
	if after != nil {
		// The first bound says the same once more, in terms of the partitions.
		w.and(`window_start >= ? AND (window_start, scope_kind, scope_id) > (?, ?::smallint, ?::bytea)`, int64(after.Start), int64(after.Start), int16(after.Scope.Kind), scopeID(after.Scope))
	}
	query := selectBucket + w.String() + inOrder + ` LIMIT ` + w.arg(pageSize)
	return collect(ctx, db, query, w.args...)
}

const inOrder = ` ORDER BY window_start, scope_kind, scope_id`

// pageAmong is [page] for a few scopes of many: the keys come from the index alone, and only
// their rows are read. The conditions are [where.among] and others on the key; the bounds say
// once more which partitions have the rows.
func pageAmong(ctx context.Context, db queryer, w where, bounds bucket.Window, after *bucket.Key) ([]store.Entry, error) {
	w.conditions, w.args = slices.Clip(w.conditions), slices.Clip(w.args)
	if after != nil {
		bounds.Start = max(bounds.Start, after.Start)
		w.and(`(window_start, scope_kind, scope_id) > (?, ?::smallint, ?::bytea)`, int64(after.Start), int16(after.Scope.Kind), scopeID(after.Scope))
	}
	within := ` window_start >= ` + w.arg(int64(bounds.Start)) + ` AND window_start < ` + w.arg(int64(bounds.End))
	query := selectBucket + ` JOIN (SELECT dataset AS of, window_start AS begins, scope_kind AS kind, scope_id AS id FROM bucket` +
		w.String() + ` AND` + within + inOrder + ` LIMIT ` + w.arg(pageSize) + `) wanted
			ON dataset = of AND window_start = begins AND scope_kind = kind AND scope_id = id
		WHERE` + within + inOrder
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
		if err := lateCommits(ctx, tx, id, q); err != nil {
			return err
		}
	}
	return nil
}

// lateCommits passes the late commits of a dataset to the query, newest first. The
// condition is that of carousel.Late.
func lateCommits(ctx context.Context, tx pgx.Tx, dataset string, q store.SnapshotQuery) error {
	var w where
	w.and(`dataset = ?`, dataset)
	w.endsAfter(q.Late.Since)
	w.scopes(q.Filter)
	w.and(`row_count > 0 AND origin <> ?`, int16(bucket.Backfill))
	w.and(`extract(epoch FROM committed_at) > window_end + CASE WHEN window_end - window_start >= ? THEN ? ELSE greatest(2 * (window_end - window_start), least(10 * (window_end - window_start), ?)) END`,
		int64(carousel.Long/time.Second), int64(carousel.LongSpan/time.Second), int64(carousel.SmallSpan/time.Second))
	w.and(`1000 * extract(epoch FROM committed_at) < 1000 * window_end + ?`, q.Late.Within.Milliseconds())
	for {
		entries, err := chained(ctx, tx)(collect(ctx, tx, selectBucket+w.String()+` ORDER BY committed_at DESC, revision DESC LIMIT `+strconv.Itoa(pageSize), w.args...))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if q.Late.Found(e) {
				return nil
			}
		}
		if len(entries) < pageSize {
			return nil
		}
		last := entries[len(entries)-1]
		w.and(`(committed_at, revision) < (?, ?)`, last.CommittedAt, number(last.Revision))
	}
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
		some := len(q.Filter.Scopes) > 0
		if some {
			w.and(`window_end <= ?`, int64(q.Window.End))
			w.among(q.Filter)
		} else {
			w.and(`window_start >= ? AND window_start < ? AND window_end <= ?`, int64(q.Window.Start), int64(q.Window.End), int64(q.Window.End))
		}
		read := func(ctx context.Context, after *bucket.Key) (entries []store.Entry, err error) {
			err = s.scanning(ctx, func() error {
				if some {
					entries, err = pageAmong(ctx, s.reader, w, q.Window, after)
				} else {
					entries, err = page(ctx, s.reader, w, after)
				}
				if err != nil || !q.Restated {
					return err
				}
				return restate(ctx, s.reader, id, entries)
			})
			return entries, s.failed(ctx, "list buckets", false, err)
		}
		if err := store.Ahead(ctx, pageSize, after, read, emit); err != nil {
			return err
		}
	}
	return nil
}

// restate replaces buckets of one dataset by their newest restatements.
func restate(ctx context.Context, db queryer, dataset string, page []store.Entry) error {
	starts, kinds, ids := make([]int64, len(page)), make([]int16, len(page)), make([][]byte, len(page))
	for i := range page {
		k := page[i].Key
		starts[i], kinds[i], ids[i] = int64(k.Start), int16(k.Scope.Kind), scopeID(k.Scope)
	}
	newest, err := collect(ctx, db, `SELECT newest.* FROM unnest($2::bigint[], $3::smallint[], $4::bytea[]) AS wanted (begins, scope, id)
		CROSS JOIN LATERAL (`+selectEvent+` WHERE kind = 5 AND dataset = $1 AND window_start = begins AND scope_kind = scope AND scope_id = id
			ORDER BY revision DESC LIMIT 1) newest`, dataset, starts, kinds, ids)
	if err != nil {
		return err
	}
	store.Restate(page, newest)
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
func (s *Store) Coverage(ctx context.Context, f store.Filter, since bucket.Time) ([]store.Run, error) {
	var w where
	w.endsAfter(since)
	return s.runs(ctx, f, w)
}

// Unserved implements [store.Store].
func (s *Store) Unserved(ctx context.Context, f store.Filter, since bucket.Time, age time.Duration) ([]store.Run, error) {
	var w where
	w.endsAfter(since)
	w.and(`row_count > 0 AND origin <> ? AND 1000 * extract(epoch FROM committed_at) >= 1000 * window_end + ?`, int16(bucket.Backfill), age.Milliseconds())
	return s.runs(ctx, f, w)
}

func (s *Store) runs(ctx context.Context, f store.Filter, w where) (runs []store.Run, err error) {
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
