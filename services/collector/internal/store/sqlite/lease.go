package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Only one process has the file, so nobody competes for the lease. It exists so that the
// collector has one way to lead, and so that two leaders inside one process (a stuck one
// and its successor) are fenced as on Postgres.

// Head implements [store.Store].
func (s *Store) Head(ctx context.Context) (head store.Head, err error) {
	err = s.read(ctx, "read the head", func(tx *sql.Tx) error {
		head, err = s.head(ctx, tx)
		return err
	})
	return head, err
}

func (s *Store) head(ctx context.Context, tx *sql.Tx) (store.Head, error) {
	var h store.Head
	var chain []byte
	var committed, progress, expires sql.NullInt64
	var term int64 // one below zero too: it is compared, and replaced by Acquire
	err := tx.QueryRowContext(ctx, `SELECT store_id, sample_timestamp, simulated, head, chain, committed_at, progress_at, floor, term, holder, expires_at FROM log`).
		Scan(&h.StoreID, &h.SampleTimestamp, &h.Simulated, &h.Revision, &chain, &committed, &progress, &h.Floor, &term, &h.Holder, &expires)
	if err != nil {
		return store.Head{}, err
	}
	h.Chain, h.Term = bucket.Chain(chain), store.Term(term)
	h.CommittedAt, h.ProgressAt, h.ExpiresAt = fromMillis(committed), fromMillis(progress), fromMillis(expires)
	h.Now = store.Millis(s.clock.Now())
	return h, nil
}

// Acquire implements [store.Store].
func (s *Store) Acquire(ctx context.Context, holder string, ttl time.Duration) (lease store.Lease, err error) {
	if err := store.ValidLease(holder, ttl); err != nil {
		return store.Lease{}, err
	}
	err = s.write(ctx, "acquire the lease", func(tx *sql.Tx) error {
		h, err := s.head(ctx, tx)
		if err != nil {
			return err
		}
		if h.Holder != holder && h.ExpiresAt.After(h.Now) && !h.ExpiresAt.After(h.Now.Add(store.MaxLease)) {
			return &store.HeldError{Holder: h.Holder, Until: h.ExpiresAt}
		}
		h.Term, h.Holder, h.ExpiresAt = store.NextTerm(h.Term), holder, h.Now.Add(ttl)
		lease = store.Lease{Term: h.Term, Head: h}
		_, err = tx.ExecContext(ctx, `UPDATE log SET term = ?, holder = ?, expires_at = ?`, int64(h.Term), h.Holder, millis(h.ExpiresAt))
		return err
	})
	if err != nil {
		return store.Lease{}, err
	}
	return lease, nil
}

// Renew implements [store.Store].
func (s *Store) Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error {
	if err := store.ValidTTL(ttl); err != nil {
		return err
	}
	return s.write(ctx, "renew the lease", func(tx *sql.Tx) error {
		now := s.clock.Now()
		changed, err := affected(tx.ExecContext(ctx, `UPDATE log SET expires_at = ?2, progress_at = CASE WHEN progress_at > ?3 + ?4 THEN ?3
			ELSE max(coalesce(progress_at, ?3), coalesce(?3, progress_at)) END WHERE term = ?1`,
			int64(term), millis(now.Add(ttl)), millis(progress), store.MaxAhead.Milliseconds()))
		if err == nil && changed == 0 {
			err = store.ErrDeposed
		}
		return err
	})
}

// Release implements [store.Store].
func (s *Store) Release(ctx context.Context, term store.Term) error {
	return s.write(ctx, "release the lease", func(tx *sql.Tx) error {
		// The next term belongs to nobody: that is what ends this one.
		_, err := tx.ExecContext(ctx, `UPDATE log SET term = ?3, expires_at = ?2 WHERE term = ?1`, int64(term), millis(s.clock.Now()), int64(store.NextTerm(term)))
		return err
	})
}

func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}
