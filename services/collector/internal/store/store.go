// Package store is the seam between the collector and its database: one log of
// entries, one lease, a few records. Two drivers implement it, postgres and
// sqlite, and both pass the exam in storetest; nothing but the collector's
// door imports a driver.
//
// One row, log(head, chain, term, holder, expires_at, …), is lease and counter
// at once. Taking the lease raises the term in that row; an append is one
// statement that moves the head only WHERE term = mine. So a deposed leader's
// append fails inside the database, whatever it believes (G9), and revisions
// are gapless in commit order because the row's lock orders the appends (G4).
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Errors of every driver. Callers compare with errors.Is; the text around them
// names the object.
var (
	// ErrDeposed: the term is no longer the newest; another process leads.
	ErrDeposed = errors.New("deposed: another process holds a newer term")
	// ErrConflict: the head is not where the writer believed. Nothing was
	// written; read the head and coverage again.
	ErrConflict = errors.New("the log moved on: head is not where the writer expected it")
	// ErrDuplicate: a bucket with that key is stored. Nothing of the batch was
	// written and no revision was used; read coverage again.
	ErrDuplicate = errors.New("bucket is already stored")
	// ErrHeld: the lease is held by another process.
	ErrHeld = errors.New("lease is held by another process")
	// ErrCompacted: entries behind that revision were dropped by retention.
	ErrCompacted = errors.New("revision is older than the oldest kept entry")
	// ErrUnavailable: the database cannot be reached or refuses to work now.
	// Whether a write took place is unknown.
	ErrUnavailable = errors.New("database is unavailable")
	// ErrSchema: the schema is missing, older than this binary needs or newer
	// than it understands. Retrying does not help.
	ErrSchema = errors.New("database schema does not fit this binary")
	// ErrSettings: a property of the store differs from what was asked for.
	ErrSettings = errors.New("store was created with another setting")
)

// Term numbers the leaders of a store, ascending.
type Term uint64

// Settings are properties of the store itself, fixed when it is created.
type Settings struct {
	StoreID         string // made by the driver at creation; ignored on input
	SampleTimestamp string // "end" or "start"
	Simulated       bool
}

// Head is the state of the log row, read from the primary.
type Head struct {
	Settings
	bucket.Position                 // of the newest entry
	CommittedAt     time.Time       // of the newest entry, the collector's clock; zero when empty
	ProgressAt      time.Time       // when the leader last said that it was up to date, the collector's clock
	Floor           bucket.Revision // entries at or below it may have been dropped
	Term            Term
	Holder          string    // name of the process that holds or last held the lease
	ExpiresAt       time.Time // of the lease, the database's clock
	Now             time.Time // the database's clock
}

// Lease is a term that was just taken.
type Lease struct {
	Term Term
	Head Head
}

// Entry is one line of the log as stored.
type Entry struct {
	bucket.Position
	CommittedAt time.Time
	NewEntry
}

// NewEntry is what the writer gives for one entry. For buckets all fields are
// set; for other kinds Key holds what applies (the dataset, the scope, a start)
// and may be zero.
type NewEntry struct {
	Kind           bucket.Kind
	Key            bucket.Key
	End            bucket.Time // exclusive end of the window
	Finality       bucket.Finality
	Origin         bucket.Origin
	Variant        string
	Rows           int
	SampleInterval float64
	// Payload is the entry's message of the contract, deterministically
	// encoded: the bytes that every stream sends. Never changed after commit.
	Payload []byte
}

// Record is a small document beside the log: a scope, an entitlement, a gap.
// Unlike entries, records change; (Kind, Key) is unique.
type Record struct {
	Kind  string
	Key   string
	Value []byte // JSON; nil deletes the record
}

// Batch is what one append commits, all or nothing.
type Batch struct {
	CommittedAt time.Time // the collector's trusted clock
	Entries     []NewEntry
	Records     []Record
}

// Filter restricts by dataset and scope; an empty list means all.
type Filter struct {
	Datasets []string
	Scopes   []bucket.Scope
}

// SnapshotQuery selects the buckets of a consistent view.
type SnapshotQuery struct {
	Filter
	// Since: buckets whose window ends after it.
	Since bucket.Time
	// MaxWindows: of those, the newest so many window starts per dataset; 0: all.
	MaxWindows int
}

// ListQuery selects buckets by window.
type ListQuery struct {
	Filter
	// Window: buckets that lie in it wholly.
	Window bucket.Window
	// After continues behind this key in the order (dataset, start, scope);
	// nil starts at the beginning.
	After *bucket.Key
}

// Run is a range of windows of one dataset and scope that are final without a gap.
type Run struct {
	Dataset string
	Scope   bucket.Scope
	Window  bucket.Window
}

// Permits is a request for leave to send requests to Cloudflare.
type Permits struct {
	User   string // the Cloudflare user that the limit belongs to: a label of ours, never a token
	Want   int    // at least 1
	Limit  int    // most requests of this user in any Span
	Now    time.Time
	UseBy  time.Time     // the permits lapse unused after it
	Span   time.Duration // five minutes; permits count against Limit until UseBy + Span
	Holder string        // for people
}

// Grant answers [Permits].
type Grant struct {
	N       int       // 0 to Want
	RetryAt time.Time // when N is 0: the earliest time at which more are free
}

// Store is the database of one collector deployment. Methods are safe for
// concurrent use, respect ctx, and return errors of this package.
type Store interface {
	// Head reads the log row from the primary.
	Head(ctx context.Context) (Head, error)

	// Acquire takes the lease for holder if it is free, has expired by the
	// database's clock, or is already held by that very holder, and raises the
	// term. ErrHeld otherwise. ttl is above zero.
	Acquire(ctx context.Context, holder string, ttl time.Duration) (Lease, error)
	// Renew extends the lease and records progress (zero: leave it). Progress
	// never goes back. ErrDeposed when term is not the newest, or has expired
	// and was released.
	Renew(ctx context.Context, term Term, ttl time.Duration, progress time.Time) error
	// Release ends the lease so that a standby need not wait for it to expire.
	Release(ctx context.Context, term Term) error

	// Append commits a batch at position at, which must be the head, and
	// returns the new head. A batch without entries writes its records alone,
	// fenced just the same. ErrDeposed, ErrConflict, ErrDuplicate,
	// ErrUnavailable (outcome unknown: read Head).
	Append(ctx context.Context, term Term, at bucket.Position, batch Batch) (bucket.Position, error)

	// ReadLog returns up to limit entries after the revision, ascending.
	// ErrCompacted when after is below the floor.
	ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]Entry, error)
	// ChainAt is the chain of a kept revision; ErrCompacted below the floor.
	// The zero revision has the zero chain.
	ChainAt(ctx context.Context, rev bucket.Revision) (bucket.Chain, error)
	// Snapshot reads in one repeatable-read transaction and emits the newest
	// version of every dataset and every version that an emitted bucket names,
	// then buckets by (dataset, start, scope). Emit's error ends it. The
	// emitted entry and its payload belong to emit only during the call.
	Snapshot(ctx context.Context, q SnapshotQuery, emit func(Entry) error) (Head, error)
	// List emits buckets by (dataset, start, scope) in bounded memory; it does
	// not hold a transaction open between pages. Payloads as in Snapshot.
	List(ctx context.Context, q ListQuery, emit func(Entry) error) error
	// Coverage returns the final ranges of windows that end after since,
	// ordered by dataset, scope, start.
	Coverage(ctx context.Context, f Filter, since bucket.Time) ([]Run, error)
	// Datasets returns every stored dataset version, ascending by revision.
	Datasets(ctx context.Context) ([]Entry, error)

	// Records returns the records of one kind, ordered by key.
	Records(ctx context.Context, kind string) ([]Record, error)
	// Reserve grants permits, atomically across processes.
	Reserve(ctx context.Context, p Permits) (Grant, error)

	// Retire drops buckets whose window ends at or before the border and
	// raises the floor; it may keep more than asked (Postgres drops whole
	// partitions). It returns the border up to which everything is gone, which
	// never exceeds before. Fenced by term.
	Retire(ctx context.Context, term Term, before bucket.Time) (bucket.Time, error)
	// Size is the database's size on disk in bytes.
	Size(ctx context.Context) (int64, error)

	// Wake is signalled (without blocking, at most one pending) when the log
	// may have grown, as far as the driver can tell; polling is the truth.
	Wake() <-chan struct{}
	// Close releases everything; no method may be called after it.
	Close() error
}

// Validate reports everything that no driver could store.
func (b *Batch) Validate() error {
	if b.CommittedAt.IsZero() {
		return errors.New("batch without a commit time")
	}
	for i := range b.Entries {
		e := &b.Entries[i]
		if len(e.Payload) == 0 {
			return fmt.Errorf("entry %d (%s) has no payload", i, e.Key)
		}
		if e.Kind != bucket.KindBucket {
			continue
		}
		if err := e.Key.Scope.Validate(); err != nil {
			return fmt.Errorf("bucket %s: %w", e.Key, err)
		}
		if e.Key.Dataset == "" || e.End <= e.Key.Start {
			return fmt.Errorf("bucket %s: needs a dataset and an end after its start", e.Key)
		}
	}
	for _, r := range b.Records {
		if r.Kind == "" || r.Key == "" {
			return fmt.Errorf("record with kind %q and key %q: both are required", r.Kind, r.Key)
		}
	}
	return nil
}

// Positions returns where each entry of the batch will stand when it is
// appended at the given head. Both drivers and the writer use it, so that a
// chain is computed in one way.
func (b *Batch) Positions(at bucket.Position) []bucket.Position {
	out := make([]bucket.Position, len(b.Entries))
	for i := range b.Entries {
		at = bucket.Position{
			Revision: at.Revision + 1,
			Chain:    at.Chain.Next(b.Entries[i].Kind, b.CommittedAt, b.Entries[i].Payload),
		}
		out[i] = at
	}
	return out
}
