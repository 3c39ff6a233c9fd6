package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Append implements [store.Store].
func (s *Store) Append(ctx context.Context, term store.Term, at bucket.Position, batch store.Batch) (bucket.Position, error) {
	if err := batch.Validate(); err != nil {
		return bucket.Position{}, fmt.Errorf("append: %w", err)
	}
	positions := batch.Positions(at)
	head := at
	if len(positions) > 0 {
		head = positions[len(positions)-1]
	}
	err := s.write(ctx, "append", func(tx *sql.Tx) error {
		if err := s.move(ctx, tx, term, at, head, &batch); err != nil {
			return err
		}
		if err := insertEntries(ctx, tx, &batch, positions); err != nil {
			return err
		}
		return writeRecords(ctx, tx, &batch)
	})
	if err != nil {
		return bucket.Position{}, err
	}
	if len(positions) > 0 {
		select {
		case s.wake <- struct{}{}:
		default: // one wake-up is pending already
		}
	}
	return head, nil
}

// move is the fence: it advances the head if term and position match, and returns which
// of the two does not otherwise.
func (s *Store) move(ctx context.Context, tx *sql.Tx, term store.Term, at, head bucket.Position, batch *store.Batch) error {
	committed := millis(batch.CommittedAt)
	late := !batch.Deadline.IsZero() && s.clock.Now().After(batch.Deadline)
	committed.Valid = len(batch.Entries) > 0
	moved, err := affected(tx.ExecContext(ctx, `UPDATE log SET head = ?, chain = ?, committed_at = coalesce(?, committed_at)
		WHERE term = ? AND head = ? AND chain = ? AND NOT ?`,
		number(head.Revision), head.Chain[:], committed, int64(term), number(at.Revision), at.Chain[:], late))
	if err != nil || moved == 1 {
		return err
	}
	have, err := s.head(ctx, tx)
	switch {
	case err != nil:
		return err
	case have.Term != term:
		return fmt.Errorf("%w: the store has term %d, this process has %d", store.ErrDeposed, have.Term, term)
	case have.Position == at && late:
		return fmt.Errorf("%w, %s", store.ErrLate, batch.Deadline.UTC().Format(time.RFC3339Nano))
	}
	return fmt.Errorf("%w: head is %d, expected %d", store.ErrConflict, have.Revision, at.Revision)
}

const (
	columns      = `revision, dataset, scope_kind, scope_id, window_start, window_end, committed_at, sample_interval, row_count, finality, origin, variant, chain, checksum, payload`
	placeholders = `?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?`
)

func insertEntries(ctx context.Context, tx *sql.Tx, batch *store.Batch, positions []bucket.Position) error {
	if len(batch.Entries) == 0 {
		return nil
	}
	insertBucket, err := tx.PrepareContext(ctx, `INSERT INTO bucket (`+columns+`) VALUES (`+placeholders+`)`)
	if err != nil {
		return err
	}
	defer insertBucket.Close()
	insertEvent, err := tx.PrepareContext(ctx, `INSERT INTO event (`+columns+`, kind) VALUES (`+placeholders+`, ?)`)
	if err != nil {
		return err
	}
	defer insertEvent.Close()
	for i := range batch.Entries {
		e, at := &batch.Entries[i], positions[i]
		scope, err := hex.DecodeString(e.Key.Scope.ID)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(e.Payload)
		args := []any{
			number(at.Revision), e.Key.Dataset, int64(e.Key.Scope.Kind), scope, int64(e.Key.Start), int64(e.End),
			batch.CommittedAt.UnixMilli(), e.SampleInterval, e.Rows, int64(e.Finality), int64(e.Origin), e.Variant,
			at.Chain[:], sum[:], e.Payload,
		}
		if e.Kind == bucket.KindBucket {
			_, err = insertBucket.ExecContext(ctx, args...)
		} else {
			_, err = insertEvent.ExecContext(ctx, append(args, int64(e.Kind))...)
		}
		if duplicate(err) {
			return fmt.Errorf("%w: %s", store.ErrDuplicate, e.Key)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", at.Revision, err)
		}
	}
	return nil
}

func writeRecords(ctx context.Context, tx *sql.Tx, batch *store.Batch) error {
	put, remove := batch.FinalRecords()
	for _, r := range put {
		if _, err := tx.ExecContext(ctx, `INSERT INTO record (kind, key, value) VALUES (?, ?, ?)
			ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value`, r.Kind, r.Key, string(r.Value)); err != nil {
			return fmt.Errorf("record %s %s: %w", r.Kind, r.Key, err)
		}
	}
	for _, r := range remove {
		if _, err := tx.ExecContext(ctx, `DELETE FROM record WHERE kind = ? AND key = ?`, r.Kind, r.Key); err != nil {
			return fmt.Errorf("record %s %s: %w", r.Kind, r.Key, err)
		}
	}
	return nil
}
