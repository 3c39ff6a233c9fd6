// Package postgres keeps a store in Postgres 14 or newer, for a leader and any
// number of standbys and tools. It is the same store as package sqlite: both
// pass the exam in storetest.
//
// # One statement
//
// An append is one statement in autocommit: an UPDATE of the row in log, WHERE
// the term and the head are those of the writer, feeds the INSERTs. The row's
// lock puts appends in order, so revisions are gapless in commit order (G4); a
// deposed leader's UPDATE finds no row, so its INSERTs insert nothing (G9); a
// key that is taken fails the whole statement, and no revision was used. And no
// lock outlives a client that vanishes between two statements, since there are
// no two.
//
// # Behind a pooler
//
// Nothing here belongs to a session: no advisory locks, no prepared statements
// with [Options.TransactionPooling], and LISTEN, which a transaction pooler
// cannot carry, only without it. NOTIFY and LISTEN are a wake-up; reading by
// revision is the truth.
//
// # Time-outs
//
// Whatever a writer does must end before the lease that it was begun under can
// be another's: the holder trusts its lease for 10 s of 15 s, so there are 5 s.
// Writer sessions get statement_timeout and idle_in_transaction_session_timeout
// of 4 s, and every write a context of 5 s, whose end sends the server a cancel
// request. They are set once a connection is made, since a pooler refuses such
// start-up parameters. A transaction pooler would give them to whoever comes next,
// so behind one there are none, but for a snapshot's transaction; give the role the
// same limits (ALTER ROLE … SET statement_timeout), or the pooler its own
// (query_timeout). Through any pooler a context that ends closes the connection
// and no more. This is about how soon a successor can begin. That only one
// of them writes is settled by the term, not by a clock.
//
// # Roles
//
// The role that migrates owns the tables. The role of a running collector owns
// nothing and has the rights of writerRights, which [Grant] gives and
// [Store.CheckRights] checks; partitions are added and dropped by two functions
// with the owner's rights. The exam is passed by such a role.
//
// # Unknown outcomes
//
// When the connection breaks during an append, it may have been committed. The
// caller gets ErrUnavailable, reads the head and compares: the position before
// or the one after. The driver never repeats a write by itself. Pools drop
// broken connections, so a restarted server is found again by the next call.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Options configure a store. DSN is required.
type Options struct {
	// DSN is a postgres:// URL or key=value settings, as of libpq. It may hold
	// a password and appears in no error and no log line.
	DSN string
	// Reread reloads the connection string, so that a changed password, role or host
	// needs no restart; another store does. Nil: DSN never changes. Files that it names
	// (passfile, sslrootcert, …) are reloaded in both cases.
	Reread func() (string, error)
	// Report, if not nil, is called with the result of each reload: whether another
	// string is used now, or why it cannot be used; the last valid one then stays in
	// use. It may be called from any goroutine.
	Report func(changed bool, err error)
	// TransactionPooling: the connection goes through a pooler in transaction mode,
	// such as PgBouncer. No prepared statements, no session settings, no LISTEN. Its
	// pool must have MaxReaders plus four connections for each collector: every scan
	// that waits for a slow reader holds one.
	TransactionPooling bool
	// MaxReaders is the maximum number of connections for reading, at least 3; 0: 8.
	// Writing uses up to 4 more, and LISTEN one.
	MaxReaders int
	// Settings of the store if it is new; compared with what is stored if not.
	// With an empty SampleTimestamp the store keeps its own.
	Settings store.Settings
	// ChangeSampleTimestamp stores another SampleTimestamp instead of rejecting it.
	ChangeSampleTimestamp bool
	// Logger logs background errors; nil: the default logger.
	Logger *slog.Logger
}

// Store implements [store.Store].
type Store struct {
	log       *slog.Logger
	often     *quiet.Log
	address   address
	writer    *pgxpool.Pool
	reader    *pgxpool.Pool
	scans     chan struct{} // leaves two readers to the short reads that feed and lease live on
	wake      chan struct{}
	listening listening
	months    months
	stop      context.CancelFunc
	running   sync.WaitGroup
}

var _ store.Store = (*Store)(nil)

// Open connects to a migrated database; see [Migrate]. ErrUnavailable when it
// cannot be reached ([Misconfigured] says when waiting does not help),
// ErrTransactionPooler, ErrSchema when it is not migrated or too new, ErrSettings
// when the store was created with others. Whether its role may do all that a
// collector does is for [Store.CheckRights] to say.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	if o.MaxReaders == 0 {
		o.MaxReaders = 8
	}
	if o.MaxReaders < 3 {
		return nil, fmt.Errorf("open Postgres store: max readers is %d; it must be at least 3", o.MaxReaders)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Store{log: o.Logger, often: quiet.New(o.Logger, time.Minute), scans: make(chan struct{}, o.MaxReaders-2), wake: make(chan struct{}, 1), stop: func() {}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if o.Report == nil {
		o.Report = func(bool, error) {}
	}
	s.address = address{reread: o.Reread, report: o.Report, pooled: o.TransactionPooling, dsn: o.DSN}
	if s.writer, err = s.newPool(writing, maxWriters); err != nil {
		return nil, fmt.Errorf("open Postgres store: %w", err)
	}
	if s.reader, err = s.newPool(reading, o.MaxReaders); err != nil {
		return nil, fmt.Errorf("open Postgres store: %w", err)
	}
	if !o.TransactionPooling {
		s.adopt(ctx)
		dsn, _ := s.address.current()
		if err := checkPooler(ctx, dsn); err != nil {
			return nil, fmt.Errorf("open Postgres store: %w", err)
		}
	}
	if err := s.ready(ctx, o); err != nil {
		return nil, fmt.Errorf("open Postgres store: %w", err)
	}
	if old, err := tooOld(ctx, s.reader); err != nil {
		return nil, s.failed(ctx, "open Postgres store", false, err)
	} else if old != "" {
		o.Logger.Warn("Postgres is older than what is supported", "version", old, "oldest_supported", oldestMajor)
	}
	if err := checkTLS(s.reader.Config().ConnConfig); err != nil { // once, however often it was tried
		o.Logger.Warn("Postgres connection may be unencrypted", "err", err)
	}
	background, stop := context.WithCancel(context.Background()) // until Close, not until ctx ends
	s.stop = stop
	if o.Reread != nil {
		s.running.Go(func() { s.follow(background) })
	}
	if !o.TransactionPooling {
		s.running.Go(func() { s.listen(background) })
	}
	return s, nil
}

// ready checks the schema, creates the log row of a new store, and compares an existing
// store with the settings.
func (s *Store) ready(ctx context.Context, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+writeTimeout)
	defer cancel()
	found, err := readSchema(ctx, s.writer)
	if err != nil {
		return s.failed(ctx, "read the schema's version", false, err)
	}
	if err := found.Check(schemaVersion); err != nil {
		return err
	}
	have, err := s.settings(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		id, err := o.Settings.NewID()
		if err != nil {
			return err
		}
		// Several processes may start at once: one row wins, and all compare with it.
		_, err = s.writer.Exec(ctx, `INSERT INTO log (store_id, sample_timestamp, simulated, chain, floor_chain)
			VALUES ($1, $2, $3, decode(repeat('00', 16), 'hex'), decode(repeat('00', 16), 'hex')) ON CONFLICT DO NOTHING`,
			id, o.Settings.SampleTimestamp, o.Settings.Simulated)
		if err != nil {
			return s.failed(ctx, "create the log", true, err)
		}
		have, err = s.settings(ctx)
		if err != nil {
			return s.failed(ctx, "read settings", false, err)
		}
	} else if err != nil {
		return s.failed(ctx, "read settings", false, err)
	}
	s.address.opened(have.StoreID)
	settled, err := have.Reconcile(o.Settings, o.ChangeSampleTimestamp)
	if err != nil || settled == have {
		return err
	}
	_, err = s.writer.Exec(ctx, `UPDATE log SET sample_timestamp = $1`, settled.SampleTimestamp)
	return s.failed(ctx, "change the sample timestamp", true, err)
}

func (s *Store) settings(ctx context.Context) (have store.Settings, err error) {
	err = s.writer.QueryRow(ctx, `SELECT store_id, sample_timestamp, simulated FROM log`).
		Scan(&have.StoreID, &have.SampleTimestamp, &have.Simulated)
	return have, err
}

// Close implements [store.Store].
func (s *Store) Close() error {
	s.stop()
	s.running.Wait()
	for _, p := range []*pgxpool.Pool{s.reader, s.writer} {
		if p != nil {
			p.Close()
		}
	}
	return nil
}

// Size implements [store.Store]. It is the size of the whole database.
func (s *Store) Size(ctx context.Context) (size int64, err error) {
	err = s.reader.QueryRow(ctx, `SELECT pg_database_size(current_database())`).Scan(&size)
	return size, s.failed(ctx, "size of the database", false, err)
}

// write limits a write to the time that the lease leaves for it.
func write(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, writeTimeout)
}

// scan waits for one of the connections that long reads may use.
func (s *Store) scan(ctx context.Context) (release func(), err error) {
	select {
	case s.scans <- struct{}{}:
		return func() { <-s.scans }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// farthest is what a time beyond it is read as: the contract has none after it.
var farthest = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// utc is a stored time, the zero one where there is none. Postgres has infinity
// too, and years that nothing else has.
func utc(t pgtype.Timestamptz) time.Time {
	switch {
	case !t.Valid, t.InfinityModifier == pgtype.NegativeInfinity, t.InfinityModifier == pgtype.Finite && t.Time.Year() < 1:
		return time.Time{}
	case t.InfinityModifier == pgtype.Infinity, t.Time.After(farthest):
		return farthest
	}
	return t.Time.UTC()
}

// nullable is how times are sent; zero is NULL.
func nullable(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = store.Millis(t)
	return &t
}
