package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// retireBatch bounds how long one transaction of Retire keeps appends waiting.
const retireBatch = 500

// Retire implements [store.Store]. It deletes in batches, each fenced and with
// the floor raised in the same transaction, so breaking off leaves a store that
// is right and merely larger. The file does not shrink: later appends reuse the
// pages.
func (s *Store) Retire(ctx context.Context, term store.Term, before bucket.Time) (bucket.Time, error) {
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
				n, err := retireSome(ctx, tx, id, before)
				more = n == retireBatch
				return err
			})
			if err != nil {
				return 0, err
			}
		}
	}
	return before, nil
}

func fence(ctx context.Context, tx *sql.Tx, term store.Term) error {
	var have store.Term
	if err := tx.QueryRowContext(ctx, `SELECT term FROM log`).Scan(&have); err != nil {
		return err
	}
	if have != term {
		return fmt.Errorf("%w: term is %d, ours %d", store.ErrDeposed, have, term)
	}
	return nil
}

// retireSome drops up to retireBatch buckets of one dataset and raises the floor
// to the highest revision dropped.
func retireSome(ctx context.Context, tx *sql.Tx, dataset string, before bucket.Time) (n int, err error) {
	rows, err := tx.QueryContext(ctx, `DELETE FROM bucket WHERE revision IN (
			SELECT revision FROM bucket WHERE dataset = ?1 AND window_start < ?2 AND window_end <= ?2 ORDER BY window_start LIMIT ?3
		) RETURNING revision, chain`, dataset, int64(before), retireBatch)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var highest int64
	var chain []byte
	for rows.Next() {
		var revision int64
		var c []byte
		if err := rows.Scan(&revision, &c); err != nil {
			return 0, err
		}
		if revision > highest {
			highest, chain = revision, c
		}
		n++
	}
	if err := rows.Err(); err != nil || n == 0 {
		return n, err
	}
	_, err = tx.ExecContext(ctx, `UPDATE log SET floor = ?1, floor_chain = ?2 WHERE floor < ?1`, highest, chain)
	return n, err
}
