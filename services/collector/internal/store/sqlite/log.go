package sqlite

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// selectBucket and selectEvent give the columns that scanEntry reads. A payload
// that is too large to be handed out is not read: a page of them would not fit
// into memory.
var (
	selectBucket = `SELECT 1, ` + stored + ` FROM bucket`
	selectEvent  = `SELECT kind, ` + stored + ` FROM event`
)

// selectLog merges the two as they lie. With the order around a subquery SQLite
// would read and sort all that is left of the log for every page.
var selectLog = selectBucket + ` WHERE revision > ?1 UNION ALL ` + selectEvent + ` WHERE revision > ?1 ORDER BY revision LIMIT ?2`

var stored = strings.TrimSuffix(columns, `payload`) + `length(payload), CASE WHEN length(payload) <= ` + strconv.Itoa(store.MaxPayload) + ` THEN payload END`

// number is a revision as SQLite counts. One that no log reaches stays beyond
// every head instead of turning negative.
func number(r bucket.Revision) int64 { return int64(min(r, math.MaxInt64)) }

func scanEntry(rows *sql.Rows) (store.Entry, error) {
	var e store.Entry
	var scope, chain, sum []byte
	var committed, size int64
	err := rows.Scan(&e.Kind, &e.Revision, &e.Key.Dataset, &e.Key.Scope.Kind, &scope, &e.Key.Start, &e.End, &committed,
		&e.SampleInterval, &e.Rows, &e.Finality, &e.Origin, &e.Variant, &chain, &sum, &size, &e.Payload)
	if err != nil {
		return store.Entry{}, err
	}
	e.Key.Scope.ID = hex.EncodeToString(scope)
	e.CommittedAt = time.UnixMilli(committed).UTC()
	e.Verify(sum, size)
	e.ReadChain(chain)
	return e, nil
}

// each runs a query and hands over its entries one by one.
func each(ctx context.Context, tx *sql.Tx, emit func(store.Entry) error, query string, args ...any) error {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		e, err := scanEntry(rows)
		if err != nil {
			return err
		}
		if err := emit(e); err != nil {
			return err
		}
	}
	return rows.Err()
}

// collect is each into a slice.
func collect(ctx context.Context, tx *sql.Tx, query string, args ...any) ([]store.Entry, error) {
	var out []store.Entry
	err := each(ctx, tx, func(e store.Entry) error {
		out = append(out, e)
		return nil
	}, query, args...)
	return out, err
}

// ReadLog implements [store.Store].
func (s *Store) ReadLog(ctx context.Context, after bucket.Revision, limit int) (entries []store.Entry, err error) {
	if limit < 1 {
		return nil, fmt.Errorf("read the log: limit is %d; it must be at least 1", limit)
	}
	err = s.read(ctx, "read the log", func(tx *sql.Tx) error {
		var floor bucket.Revision
		if err := tx.QueryRowContext(ctx, `SELECT floor FROM log`).Scan(&floor); err != nil {
			return err
		}
		if after < floor {
			return fmt.Errorf("%w: requested entries after revision %d, the floor is %d", store.ErrCompacted, after, floor)
		}
		entries, err = collect(ctx, tx, selectLog, number(after), limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// ChainAt implements [store.Store].
func (s *Store) ChainAt(ctx context.Context, rev bucket.Revision) (chain bucket.Chain, err error) {
	if rev == 0 {
		return bucket.Chain{}, nil
	}
	err = s.read(ctx, "read a chain", func(tx *sql.Tx) error {
		var head, floor bucket.Revision
		var found []byte
		if err := tx.QueryRowContext(ctx, `SELECT head, floor, floor_chain FROM log`).Scan(&head, &floor, &found); err != nil {
			return err
		}
		switch {
		case rev > head:
			return fmt.Errorf("%w: requested revision %d, the head is %d", store.ErrBeyondHead, rev, head)
		case rev < floor:
			return fmt.Errorf("%w: requested revision %d, the floor is %d", store.ErrCompacted, rev, floor)
		case rev > floor:
			err := tx.QueryRowContext(ctx, `SELECT chain FROM bucket WHERE revision = ?1 UNION ALL SELECT chain FROM event WHERE revision = ?1`, number(rev)).Scan(&found)
			if errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("%w: revision %d is missing between floor %d and head %d", store.ErrCorrupt, rev, floor, head)
			}
			if err != nil {
				return err
			}
		}
		if len(found) != len(chain) {
			return fmt.Errorf("%w: chain of revision %d has %d bytes", store.ErrCorrupt, rev, len(found))
		}
		chain = bucket.Chain(found)
		return nil
	})
	return chain, err
}

// Datasets implements [store.Store].
func (s *Store) Datasets(ctx context.Context) (entries []store.Entry, err error) {
	err = s.read(ctx, "read dataset versions", func(tx *sql.Tx) error {
		entries, err = collect(ctx, tx, selectEvent+` WHERE kind = ? ORDER BY revision`, int64(bucket.KindDatasetVersion))
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// AuditEvents implements [store.Store].
func (s *Store) AuditEvents(ctx context.Context, before bucket.Revision, limit int) (entries []store.Entry, err error) {
	if before == 0 {
		before = math.MaxInt64
	}
	err = s.read(ctx, "read audit events", func(tx *sql.Tx) error {
		entries, err = collect(ctx, tx, selectEvent+` WHERE kind = ? AND revision < ? ORDER BY revision DESC LIMIT ?`, int64(bucket.KindAudit), number(before), limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// Records implements [store.Store].
func (s *Store) Records(ctx context.Context, kind string) (records []store.Record, err error) {
	err = s.read(ctx, "read records of kind "+kind, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT key, value FROM record WHERE kind = ? ORDER BY key`, kind)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r := store.Record{Kind: kind}
			if err := rows.Scan(&r.Key, &r.Value); err != nil {
				return err
			}
			records = append(records, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// Reserve implements [store.Store].
func (s *Store) Reserve(ctx context.Context, p store.Permits) (grant store.Grant, err error) {
	if err := p.Validate(); err != nil {
		return store.Grant{}, err
	}
	err = s.write(ctx, "reserve permits", func(tx *sql.Tx) error {
		var blocks []store.PermitBlock
		var stored string
		err := tx.QueryRowContext(ctx, `SELECT blocks FROM permit WHERE username = ?`, p.User).Scan(&stored)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		now := s.clock.Now()
		if grant, blocks = p.GrantAt(now, p.Known(stored, now)); blocks == nil {
			return nil
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO permit (username, blocks) VALUES (?, ?)
			ON CONFLICT (username) DO UPDATE SET blocks = excluded.blocks`, p.User, store.EncodePermits(blocks))
		return err
	})
	if err != nil {
		return store.Grant{}, err
	}
	return grant, nil
}
