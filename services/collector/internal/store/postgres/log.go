package postgres

import (
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// selectBucket and selectEvent give the columns that scanEntry reads. A payload
// that is too large to be handed out is not read: a page of them would not fit
// into memory.
var (
	selectBucket = `SELECT 1::smallint, ` + stored + ` FROM bucket`
	selectEvent  = `SELECT kind, ` + stored + ` FROM event`
)

var stored = strings.TrimSuffix(columns, `payload`) + `octet_length(payload), CASE WHEN octet_length(payload) <= ` + strconv.Itoa(store.MaxPayload) + ` THEN payload END`

// queryer is a pool or a transaction.
type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func scanEntry(row pgx.CollectableRow) (store.Entry, error) {
	var e store.Entry
	var scope, chain, sum []byte
	var committed pgtype.Timestamptz
	var size int64
	err := row.Scan(&e.Kind, &e.Revision, &e.Key.Dataset, &e.Key.Scope.Kind, &scope, &e.Key.Start, &e.End, &committed,
		&e.SampleInterval, &e.Rows, &e.Finality, &e.Origin, &e.Variant, &chain, &sum, &size, &e.Payload)
	if err != nil {
		return store.Entry{}, err
	}
	e.Key.Scope.ID = hex.EncodeToString(scope)
	e.CommittedAt = utc(committed)
	e.Verify(sum, size)
	e.ReadChain(chain)
	return e, nil
}

// collect reads all entries of a query.
func collect(ctx context.Context, db queryer, query string, args ...any) ([]store.Entry, error) {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanEntry)
}

// ReadLog implements [store.Store]. The floor is read after the entries: it
// only grows, so if it is not above after then, nothing was missing before.
func (s *Store) ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]store.Entry, error) {
	if limit < 1 {
		return nil, fmt.Errorf("read the log: limit is %d; it must be at least 1", limit)
	}
	entries, err := collect(ctx, s.reader, `(`+selectBucket+` WHERE revision > $1 ORDER BY revision LIMIT $2)
		UNION ALL (`+selectEvent+` WHERE revision > $1 ORDER BY revision LIMIT $2) ORDER BY revision LIMIT $2`, number(after), limit)
	if err != nil {
		return nil, s.failed(ctx, "read the log", false, err)
	}
	var floor bucket.Revision
	if err := s.reader.QueryRow(ctx, `SELECT floor FROM log`).Scan(&floor); err != nil {
		return nil, s.failed(ctx, "read the log", false, err)
	}
	if after < floor {
		return nil, fmt.Errorf("read the log: %w: requested entries after revision %d, the floor is %d", store.ErrCompacted, after, floor)
	}
	return entries, nil
}

// ChainAt implements [store.Store].
func (s *Store) ChainAt(ctx context.Context, rev bucket.Revision) (bucket.Chain, error) {
	if rev == 0 {
		return bucket.Chain{}, nil
	}
	var head, floor bucket.Revision
	var floorChain, found []byte
	err := s.reader.QueryRow(ctx, `SELECT head, floor, floor_chain, coalesce(
			(SELECT chain FROM bucket WHERE revision = $1 LIMIT 1), (SELECT chain FROM event WHERE revision = $1)) FROM log`, number(rev)).
		Scan(&head, &floor, &floorChain, &found)
	switch {
	case err != nil:
		return bucket.Chain{}, s.failed(ctx, "read a chain", false, err)
	case rev > head:
		return bucket.Chain{}, fmt.Errorf("read a chain: %w: requested revision %d, the head is %d", store.ErrBeyondHead, rev, head)
	case rev < floor:
		return bucket.Chain{}, fmt.Errorf("read a chain: %w: requested revision %d, the floor is %d", store.ErrCompacted, rev, floor)
	case rev == floor && len(floorChain) == len(bucket.Chain{}):
		return bucket.Chain(floorChain), nil
	case len(found) != len(bucket.Chain{}):
		return bucket.Chain{}, fmt.Errorf("read a chain: %w: revision %d is missing between floor %d and head %d", store.ErrCorrupt, rev, floor, head)
	}
	return bucket.Chain(found), nil
}

// Datasets implements [store.Store].
func (s *Store) Datasets(ctx context.Context) ([]store.Entry, error) {
	entries, err := collect(ctx, s.reader, selectEvent+` WHERE kind = $1 ORDER BY revision`, int16(bucket.KindDatasetVersion))
	if err != nil {
		return nil, s.failed(ctx, "read dataset versions", false, err)
	}
	return entries, nil
}

// AuditEvents implements [store.Store].
func (s *Store) AuditEvents(ctx context.Context, before bucket.Revision, limit int) ([]store.Entry, error) {
	if before == 0 {
		before = math.MaxInt64
	}
	entries, err := collect(ctx, s.reader, selectEvent+` WHERE kind = $1 AND revision < $2 ORDER BY revision DESC LIMIT $3`, int16(bucket.KindAudit), number(before), limit)
	if err != nil {
		return nil, s.failed(ctx, "read audit events", false, err)
	}
	return entries, nil
}

// Records implements [store.Store].
func (s *Store) Records(ctx context.Context, kind string) ([]store.Record, error) {
	rows, err := s.reader.Query(ctx, `SELECT key, value::text FROM record WHERE kind = $1 ORDER BY key`, kind)
	if err != nil {
		return nil, s.failed(ctx, "read records of kind "+kind, false, err)
	}
	records, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (store.Record, error) {
		r := store.Record{Kind: kind}
		var value string
		err := row.Scan(&r.Key, &value)
		r.Value = []byte(value)
		return r, err
	})
	if err != nil {
		return nil, s.failed(ctx, "read records of kind "+kind, false, err)
	}
	return records, nil
}

// Reserve implements [store.Store] by compare-and-swap on the user's row: a sum
// over rows of many permits could be read by two processes at once, and holding
// a lock over two statements is what this package does not do.
func (s *Store) Reserve(ctx context.Context, p store.Permits) (store.Grant, error) {
	if err := p.Validate(); err != nil {
		return store.Grant{}, err
	}
	bounded, cancel := write(ctx)
	defer cancel()
	for {
		grant, done, err := s.reserve(bounded, p)
		if err != nil {
			return store.Grant{}, s.failed(ctx, "reserve permits", true, err)
		}
		if done {
			return grant, nil
		}
	}
}

// reserve tries once; it is not done when another process was faster, which
// then got its permits: somebody always moves on.
func (s *Store) reserve(ctx context.Context, p store.Permits) (grant store.Grant, done bool, err error) {
	var now time.Time
	var number int64
	var stored string
	var blocks []store.PermitBlock
	err = s.writer.QueryRow(ctx, `SELECT clock_timestamp(), coalesce(number, 0), coalesce(blocks::text, '')
		FROM (VALUES ($1::text)) AS asked (username) LEFT JOIN permit USING (username)`, p.User).Scan(&now, &number, &stored)
	if err != nil {
		return store.Grant{}, false, err
	}
	if grant, blocks = p.GrantAt(now, p.Known(stored, now)); blocks == nil {
		return grant, true, nil
	}
	next := number + 1
	if next < number {
		next = 0 // it only has to differ
	}
	tag, err := s.writer.Exec(ctx, `INSERT INTO permit (username, number, blocks) VALUES ($1, $4, $3::text::jsonb)
		ON CONFLICT (username) DO UPDATE SET number = excluded.number, blocks = excluded.blocks WHERE permit.number = $2`,
		p.User, number, store.EncodePermits(blocks), next)
	return grant, err == nil && tag.RowsAffected() == 1, err
}
