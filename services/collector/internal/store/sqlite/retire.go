package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// retireBatch bounds how long one transaction of Retire keeps appends waiting.
const retireBatch = 500

// Retire implements [store.Store]. It deletes in batches, each fenced and with
// the floor raised in the same transaction, so breaking off leaves a store that
// is right and merely larger. The file does not shrink: later appends reuse the
// pages.
func (s *Store) Retire(ctx context.Context, term store.Term, before bucket.Time, forget time.Time) (bucket.Time, error) {
	var ids []string
	err := s.write(ctx, "retire", func(tx *sql.Tx) (err error) {
		if err := fence(ctx, tx, term); err != nil {
			return err
		}
		ids, err = datasets(ctx, tx, store.Filter{})
		return err
	})
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		for more := true; more; {
			err := s.write(ctx, "retire "+id, func(tx *sql.Tx) error {
				if err := fence(ctx, tx, term); err != nil {
					return err
				}
				n, err := retireSome(ctx, tx, id, before, millis(forget))
				more = n == retireBatch
				return err
			})
			if err != nil {
				return 0, err
			}
		}
	}
	for more := true; more; {
		err := s.write(ctx, "retire restatements", func(tx *sql.Tx) error {
			if err := fence(ctx, tx, term); err != nil {
				return err
			}
			n, err := retireRestatements(ctx, tx, before)
			more = n == retireBatch
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	err = s.write(ctx, "remove tombstones", func(tx *sql.Tx) error {
		if err := fence(ctx, tx, term); err != nil {
			return err
		}
		return forgetDropped(ctx, tx, millis(forget))
	})
	return before, err
}

func fence(ctx context.Context, tx *sql.Tx, term store.Term) error {
	var have store.Term
	if err := tx.QueryRowContext(ctx, `SELECT term FROM log`).Scan(&have); err != nil {
		return err
	}
	if have != term {
		return fmt.Errorf("%w: the store has term %d, this process has %d", store.ErrDeposed, have, term)
	}
	return nil
}

// retireSome drops up to retireBatch buckets of one dataset. The floor rises to the
// highest revision of those that were committed at or before forget; the others
// leave an event in their place.
func retireSome(ctx context.Context, tx *sql.Tx, dataset string, before bucket.Time, forget any) (n int, err error) {
	// Both statements must mean the same rows, so the order is total.
	const some = `revision IN (SELECT revision FROM bucket WHERE dataset = ?1 AND window_start < ?2 AND window_end <= ?2
		ORDER BY window_start, scope_kind, scope_id LIMIT ?3)`
	_, err = tx.ExecContext(ctx, `INSERT INTO event (kind, `+columns+`)
		SELECT ?5, `+strings.TrimSuffix(columns, `checksum, payload`)+`?6, x'' FROM bucket WHERE committed_at > ?4 AND `+some,
		dataset, int64(before), retireBatch, forget, int64(bucket.KindDropped), noContent[:])
	if err != nil {
		return 0, err
	}
	rows, err := tx.QueryContext(ctx, `DELETE FROM bucket WHERE `+some+` RETURNING revision, chain, committed_at <= ?4`,
		dataset, int64(before), retireBatch, forget)
	if err != nil {
		return 0, err
	}
	return raiseFloor(ctx, tx, rows)
}

// retireRestatements replaces up to retireBatch restatements by tombstones; those that are
// no longer needed go with the others.
func retireRestatements(ctx context.Context, tx *sql.Tx, before bucket.Time) (n int64, err error) {
	done, err := tx.ExecContext(ctx, `REPLACE INTO event (kind, `+columns+`)
		SELECT ?3, `+strings.TrimSuffix(columns, `checksum, payload`)+`?4, x'' FROM event
		WHERE revision IN (SELECT revision FROM event WHERE kind = 5 AND window_end <= ?1 LIMIT ?2)`,
		int64(before), retireBatch, int64(bucket.KindDropped), noContent[:])
	if err != nil {
		return 0, err
	}
	return done.RowsAffected()
}

// noContent is the checksum of a payload without bytes.
var noContent = sha256.Sum256(nil)

// forgetDropped removes tombstones that are no longer needed.
func forgetDropped(ctx context.Context, tx *sql.Tx, forget any) error {
	rows, err := tx.QueryContext(ctx, `DELETE FROM event WHERE kind = ?1 AND committed_at <= ?2 RETURNING revision, chain, true`,
		int64(bucket.KindDropped), forget)
	if err != nil {
		return err
	}
	_, err = raiseFloor(ctx, tx, rows)
	return err
}

// raiseFloor raises the floor to the highest revision of rows that are gone for
// good, and returns the number of rows.
func raiseFloor(ctx context.Context, tx *sql.Tx, rows *sql.Rows) (n int, err error) {
	defer rows.Close()
	var highest int64
	var chain []byte
	for rows.Next() {
		var revision int64
		var c []byte
		var forgotten bool
		if err := rows.Scan(&revision, &c, &forgotten); err != nil {
			return 0, err
		}
		if forgotten && revision > highest {
			highest, chain = revision, c
		}
		n++
	}
	if err := rows.Err(); err != nil || highest == 0 {
		return n, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE log SET floor = ?1, floor_chain = ?2 WHERE floor < ?1`, highest, chain)
	return n, err
}
