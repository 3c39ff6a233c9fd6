package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

const columns = `revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at, sample_interval, row_count, finality, origin, variant, chain, checksum, payload`

// appendSQL is the one statement. Everything in it hangs on moved: without its
// row nothing is inserted, written, deleted or announced.
const appendSQL = `
WITH moved AS (
	UPDATE log SET head = $4, chain = $5, committed_at = coalesce($6::timestamptz, committed_at)
	WHERE term = $1 AND head = $2 AND chain = $3 AND ($27::timestamptz IS NULL OR clock_timestamp() <= $27)
	RETURNING head
), new AS (
	SELECT e.*, $6::timestamptz AS committed_at
	FROM moved, unnest($7::smallint[], $8::bigint[], $9::text[], $10::smallint[], $11::bytea[], $12::bigint[], $13::bigint[],
		$14::double precision[], $15::integer[], $16::smallint[], $17::smallint[], $18::text[], $19::bytea[], $20::bytea[], $21::bytea[])
		AS e (kind, revision, dataset, scope_kind, scope_id, window_start, window_end,
			sample_interval, row_count, finality, origin, variant, chain, checksum, payload)
), buckets AS (
	INSERT INTO bucket (` + columns + `) SELECT ` + columns + ` FROM new WHERE kind = 1
), events AS (
	INSERT INTO event (kind, ` + columns + `) SELECT kind, ` + columns + ` FROM new WHERE kind <> 1
), put AS (
	INSERT INTO record (kind, key, value)
	SELECT r.kind, r.key, r.value::jsonb FROM moved, unnest($22::text[], $23::text[], $24::text[]) AS r (kind, key, value)
	ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at
), removed AS (
	DELETE FROM record USING moved, unnest($25::text[], $26::text[]) AS r (kind, key)
	WHERE record.kind = r.kind AND record.key = r.key
)
SELECT CASE WHEN $4 > $2 THEN pg_notify('` + channel + `', moved.head::text)::text END FROM moved`

// Append implements [store.Store].
func (s *Store) Append(ctx context.Context, term store.Term, at bucket.Position, batch store.Batch) (bucket.Position, error) {
	if err := batch.Validate(); err != nil {
		return bucket.Position{}, fmt.Errorf("append: %w", err)
	}
	bounded, cancel := write(ctx)
	defer cancel()
	head, args, err := appendArgs(term, at, &batch)
	if err != nil {
		return bucket.Position{}, fmt.Errorf("append: %w", err)
	}
	if err := s.ensureMonths(bounded, batch.Entries); err != nil {
		return bucket.Position{}, s.failed(ctx, "append", true, err)
	}
	err = s.appendOnce(bounded, args)
	if state(err) == checkViolation {
		// A partition that we knew of is gone: retention, by another process.
		// The statement failed as a whole, so it may be tried again.
		s.months.forget()
		if err = s.ensureMonths(bounded, batch.Entries); err == nil {
			err = s.appendOnce(bounded, args)
		}
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return bucket.Position{}, s.refused(ctx, term, at, &batch)
	case duplicate(err):
		e, _ := errors.AsType[*pgconn.PgError](err)
		return bucket.Position{}, fmt.Errorf("append: %w: %s", store.ErrDuplicate, e.Detail)
	case err != nil:
		return bucket.Position{}, s.failed(ctx, "append", true, err)
	}
	if head != at {
		s.signal()
	}
	return head, nil
}

func (s *Store) appendOnce(ctx context.Context, args []any) error {
	var notified *string
	return s.writer.QueryRow(ctx, appendSQL, args...).Scan(&notified)
}

// refused says why the log's row did not match.
func (s *Store) refused(ctx context.Context, term store.Term, at bucket.Position, batch *store.Batch) error {
	have, err := s.Head(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("append: %w", err)
	case have.Term != term:
		return fmt.Errorf("append: %w: the store has term %d, this process has %d", store.ErrDeposed, have.Term, term)
	case have.Position == at && !batch.Deadline.IsZero():
		return fmt.Errorf("append: %w, %s", store.ErrLate, batch.Deadline.UTC().Format(time.RFC3339Nano))
	}
	return fmt.Errorf("append: %w: head is %d, expected %d", store.ErrConflict, have.Revision, at.Revision)
}

// number is a revision as Postgres counts. One that no log reaches stays beyond
// every head instead of turning negative.
func number(r bucket.Revision) int64 { return int64(min(r, math.MaxInt64)) }

// appendArgs are the arguments of appendSQL, and the head that they lead to.
func appendArgs(term store.Term, at bucket.Position, batch *store.Batch) (bucket.Position, []any, error) {
	positions := batch.Positions(at)
	head, committed := at, batch.CommittedAt
	n := len(positions)
	var (
		kind, scopeKind, finality, origin = make([]int16, n), make([]int16, n), make([]int16, n), make([]int16, n)
		revision, start, end              = make([]int64, n), make([]int64, n), make([]int64, n)
		dataset, variant                  = make([]string, n), make([]string, n)
		scope, chain, checksum, payload   = make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n)
		interval                          = make([]float64, n)
		rows                              = make([]int32, n)
	)
	for i := range batch.Entries {
		e := &batch.Entries[i]
		id, err := hex.DecodeString(e.Key.Scope.ID)
		if err != nil {
			return head, nil, err
		}
		sum := sha256.Sum256(e.Payload)
		head = positions[i]
		kind[i], revision[i], dataset[i] = int16(e.Kind), number(head.Revision), e.Key.Dataset
		scopeKind[i], scope[i], start[i], end[i] = int16(e.Key.Scope.Kind), id, int64(e.Key.Start), int64(e.End)
		interval[i], rows[i], finality[i], origin[i] = e.SampleInterval, int32(e.Rows), int16(e.Finality), int16(e.Origin)
		variant[i], chain[i], checksum[i], payload[i] = e.Variant, positions[i].Chain[:], sum[:], e.Payload
	}
	timestamp := nullable(committed)
	if n == 0 {
		timestamp = nil // of the newest entry, which is another
	}
	put, remove := batch.FinalRecords()
	putKind, putKey, value := make([]string, len(put)), make([]string, len(put)), make([]string, len(put))
	for i, r := range put {
		putKind[i], putKey[i], value[i] = r.Kind, r.Key, string(r.Value)
	}
	removeKind, removeKey := make([]string, len(remove)), make([]string, len(remove))
	for i, r := range remove {
		removeKind[i], removeKey[i] = r.Kind, r.Key
	}
	return head, []any{
		int64(term), number(at.Revision), at.Chain[:], number(head.Revision), head.Chain[:], timestamp,
		kind, revision, dataset, scopeKind, scope, start, end, interval, rows, finality, origin, variant, chain, checksum, payload,
		putKind, putKey, value, removeKind, removeKey, nullable(batch.Deadline),
	}, nil
}
