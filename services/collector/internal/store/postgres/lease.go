package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

const headColumns = `store_id, sample_timestamp, simulated, head, chain, committed_at, progress_at, floor, term, holder, expires_at, clock_timestamp()`

func scanHead(row pgx.Row) (store.Head, error) {
	var h store.Head
	var chain []byte
	var committed, progress, expires pgtype.Timestamptz
	var term int64 // one below zero too: it is compared, and replaced by Acquire
	err := row.Scan(&h.StoreID, &h.SampleTimestamp, &h.Simulated, &h.Revision, &chain, &committed, &progress, &h.Floor, &term, &h.Holder, &expires, &h.Now)
	if err != nil {
		return store.Head{}, err
	}
	h.Chain, h.Term = bucket.Chain(chain), store.Term(term)
	h.CommittedAt, h.ProgressAt, h.ExpiresAt, h.Now = utc(committed), utc(progress), utc(expires), h.Now.UTC()
	return h, nil
}

// Head implements [store.Store].
func (s *Store) Head(ctx context.Context) (store.Head, error) {
	h, err := scanHead(s.writer.QueryRow(ctx, `SELECT `+headColumns+` FROM log`))
	return h, s.failed(ctx, "read the head", false, err)
}

// nextTerm is [store.NextTerm], but for the term that is drawn.
var nextTerm = fmt.Sprintf(`CASE WHEN term >= 0 AND term < %d THEN term + 1 ELSE `, int64(store.MaxTerm))

// Acquire implements [store.Store]. now() is the moment at which the statement
// arrived: waiting for an append to finish makes nobody's lease look older.
func (s *Store) Acquire(ctx context.Context, holder string, ttl time.Duration) (store.Lease, error) {
	if err := store.ValidLease(holder, ttl); err != nil {
		return store.Lease{}, err
	}
	bounded, cancel := write(ctx)
	defer cancel()
	h, err := scanHead(s.writer.QueryRow(bounded, `UPDATE log SET term = `+nextTerm+`$3 END, holder = $1, expires_at = now() + $2
		WHERE holder = $1 OR expires_at IS NULL OR expires_at <= now() OR expires_at > now() + $4::interval RETURNING `+headColumns,
		holder, ttl, int64(store.FreshTerm()), store.MaxLease))
	if errors.Is(err, pgx.ErrNoRows) {
		h, err := s.Head(ctx)
		if err != nil {
			return store.Lease{}, err
		}
		return store.Lease{}, fmt.Errorf("acquire the lease: %w", &store.HeldError{Holder: h.Holder, Until: h.ExpiresAt})
	}
	if err != nil {
		return store.Lease{}, s.failed(ctx, "acquire the lease", true, err)
	}
	return store.Lease{Term: h.Term, Head: h}, nil
}

// Renew implements [store.Store].
func (s *Store) Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error {
	if err := store.ValidTTL(ttl); err != nil {
		return err
	}
	bounded, cancel := write(ctx)
	defer cancel()
	// greatest ignores NULL, and nothing is later than NULL.
	tag, err := s.writer.Exec(bounded, `UPDATE log SET expires_at = now() + $2,
		progress_at = CASE WHEN progress_at > $3::timestamptz + $4::interval THEN $3 ELSE greatest(progress_at, $3) END WHERE term = $1`,
		int64(term), ttl, nullable(progress), store.MaxAhead)
	if err == nil && tag.RowsAffected() == 0 {
		err = store.ErrDeposed
	}
	return s.failed(ctx, "renew the lease", true, err)
}

// Release implements [store.Store]. The next term belongs to nobody: that is
// what ends this one.
func (s *Store) Release(ctx context.Context, term store.Term) error {
	bounded, cancel := write(ctx)
	defer cancel()
	_, err := s.writer.Exec(bounded, `UPDATE log SET term = `+nextTerm+`$2 END, expires_at = now() WHERE term = $1`, int64(term), int64(store.FreshTerm()))
	return s.failed(ctx, "release the lease", true, err)
}
