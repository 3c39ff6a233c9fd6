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
	// ErrHeld: the lease is held by another process; [HeldError] says by which.
	ErrHeld = errors.New("lease is held by another process")
	// ErrCompacted: entries behind that revision were dropped by retention.
	ErrCompacted = errors.New("revision is older than the oldest kept entry")
	// ErrBeyondHead: the log has no such revision yet.
	ErrBeyondHead = errors.New("revision is beyond the head")
	// ErrUnavailable: the database cannot be reached or refuses to work now.
	// Whether a write took place is unknown: [Store.Head] tells.
	ErrUnavailable = errors.New("database is unavailable")
	// ErrCorrupt: the database itself says that it is damaged, or a row is
	// missing from the log. A row whose payload is damaged is no error: see
	// [Entry.Damage].
	ErrCorrupt = errors.New("stored data is damaged")
	// ErrDenied: the database's role may not do that. Nothing was written. It
	// passes when somebody grants the right.
	ErrDenied = errors.New("the database role lacks a right")
	// ErrNoSpace: the disk, or a quota, that the database writes to is full. It
	// is a kind of ErrUnavailable, and ends when somebody makes room.
	ErrNoSpace = fmt.Errorf("%w: no space is left for it", ErrUnavailable)
	// ErrReadOnly: the database takes no writes. It is a kind of ErrUnavailable,
	// and ends when somebody allows them again.
	ErrReadOnly = fmt.Errorf("%w: it is read-only", ErrUnavailable)
	// ErrReplaced: the database's file is no longer where it was opened, so what is
	// written there would be lost with the process. It is a kind of ErrUnavailable,
	// and ends when somebody puts the file back or restarts the process.
	ErrReplaced = fmt.Errorf("%w: its file was removed or replaced", ErrUnavailable)
	// ErrInvalid: the database cannot hold a value of the batch, whenever it is
	// asked. Nothing was written; the rest of the batch can be.
	ErrInvalid = errors.New("the store cannot hold a value")
	// ErrEncoding: the database's encoding does not have a character. Of an
	// append it says what ErrInvalid says.
	ErrEncoding = errors.New("the database's encoding does not hold every text")
	// ErrSchema: the schema is missing, older than this binary needs or newer
	// than it understands. Retrying helps when somebody has mended it.
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
	// AnySource asks for either where settings are wanted; a new store then holds
	// what Simulated says. Not stored.
	AnySource bool
}

// Head is the state of the log row, read from the primary.
type Head struct {
	Settings
	bucket.Position                 // of the newest entry
	CommittedAt     time.Time       // of the newest entry, the collector's clock; zero when empty
	ProgressAt      time.Time       // stream time: when the leader last said that it lives, the collector's clock
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
	// Damage says why Payload is not given, although the entry is stored; empty
	// for all others. Its place in the log, its chain and its key are as stored.
	Damage string
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
	Kind string
	Key  string
	// Value is JSON; nil deletes the record. It may come back with other
	// spacing and another order of keys.
	Value []byte
}

// Batch is what one append commits, all or nothing.
type Batch struct {
	CommittedAt time.Time // the collector's trusted clock; what is below a millisecond is dropped
	Entries     []NewEntry
	Records     []Record // of several with the same kind and key the last one counts
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
	// Block names what is granted, so that it can be settled; unique for ever.
	// Empty: it counts until UseBy + Span whatever comes of it.
	Block string
	// Spent settles blocks that were granted before.
	Spent []Spent
	// OwnTime counts by the caller's clock, which is for worlds whose time does
	// not go as fast as the store's. Otherwise the store counts by its own: what
	// callers' clocks say of each other's permits may be wrong by hours.
	OwnTime bool
}

// Spent is the last word on a block: none of its permits is in use or will be
// used any more. Those that were used count from when they were, the others no
// more. It may be said again, and changes nothing then. A block that nobody
// settles, since its process died, counts as if all were used at the last moment.
type Spent struct {
	Block string
	Uses  []Use
}

// Use is a number of permits whose requests were over, answered or given up, at
// least Ago before [Permits].Now: a duration, which no clock that is set changes.
type Use struct {
	N   int
	Ago time.Duration
}

// Grant answers [Permits].
type Grant struct {
	N       int       // 0 to Want
	RetryAt time.Time // when N is 0: the earliest time at which more are free
}

// Store is the database of one collector deployment. Methods are safe for
// concurrent use, respect ctx, and return errors of this package.
//
// When ctx ends first, a method that only reads returns an error that wraps
// ctx's error. A method that writes returns one that wraps [ErrUnavailable] as
// well: the statement may have been committed and its answer lost.
type Store interface {
	// Head reads the log row from the primary.
	Head(ctx context.Context) (Head, error)

	// Acquire takes the lease for holder if it is free, has expired by the
	// database's clock, ends more than MaxLease from now, or is already held by that
	// very holder, and raises the term; see NextTerm. ErrHeld otherwise. ttl is above
	// zero and MaxLease at most.
	Acquire(ctx context.Context, holder string, ttl time.Duration) (Lease, error)
	// Renew extends the lease and records the stream time (zero: leave it): the
	// term dates no later commit before it. It never goes back, except that one
	// more than MaxAhead ahead of progress cannot be a leader's and is replaced.
	// ErrDeposed when term is not the newest, or has expired and was released.
	Renew(ctx context.Context, term Term, ttl time.Duration, progress time.Time) error
	// Release ends the lease so that a standby need not wait for it to expire.
	// The term ends with it: whatever is still under way with that term fails
	// with ErrDeposed. Releasing a term that is over does nothing.
	Release(ctx context.Context, term Term) error

	// Append commits a batch at position at, which must be the head, and
	// returns the new head. A batch without entries writes its records alone,
	// fenced just the same. ErrDeposed, ErrConflict, ErrDuplicate,
	// ErrUnavailable (outcome unknown: read Head). See [Mendable] and [OfContent]
	// for others.
	Append(ctx context.Context, term Term, at bucket.Position, batch Batch) (bucket.Position, error)

	// ReadLog returns up to limit entries after the revision, ascending and
	// without a gap; none when after is the head or beyond it. ErrCompacted when
	// after is below the floor. Limit is at least 1.
	ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]Entry, error)
	// ChainAt is the chain of a revision from the floor (included) to the head:
	// ErrCompacted below, ErrBeyondHead above. The zero revision has the zero
	// chain, always.
	ChainAt(ctx context.Context, rev bucket.Revision) (bucket.Chain, error)
	// Snapshot reads in one repeatable-read transaction and emits the stored
	// versions of the matching datasets, ascending by revision, then buckets by
	// (dataset, start, scope). The store does not look into payloads, so all
	// versions come, not only those that an emitted bucket names: they are few.
	// Emit's error ends it and is returned as it is. The emitted entry's payload
	// belongs to emit only during the call. Emit must not begin another Snapshot,
	// List or Coverage: there are few connections for those, and it could wait
	// for its own. A reader that stalls for minutes may lose its snapshot
	// (ErrUnavailable). An entry whose chain does not follow from the stored one of
	// the entry before it has Damage.
	Snapshot(ctx context.Context, q SnapshotQuery, emit func(Entry) error) (Head, error)
	// List emits buckets by (dataset, start, scope) in bounded memory; it does
	// not hold a transaction open while emit runs, so buckets that are appended
	// meanwhile may or may not come. Payloads and errors as in Snapshot.
	List(ctx context.Context, q ListQuery, emit func(Entry) error) error
	// Buckets emits the buckets that are stored under the keys, which differ, in any
	// order; it looks each up by itself, however many others are of the same
	// windows. Payloads, errors and memory are as in List.
	Buckets(ctx context.Context, keys []bucket.Key, emit func(Entry) error) error
	// Coverage returns the final ranges of windows that end after since,
	// ordered by dataset, scope, start. Ranges of one dataset and scope neither
	// overlap nor touch.
	Coverage(ctx context.Context, f Filter, since bucket.Time) ([]Run, error)
	// Datasets returns every stored dataset version, ascending by revision.
	Datasets(ctx context.Context) ([]Entry, error)

	// Records returns the records of one kind, ordered by key.
	Records(ctx context.Context, kind string) ([]Record, error)
	// Reserve grants permits, atomically across processes. It needs no term:
	// command-line tools spend from the same account.
	Reserve(ctx context.Context, p Permits) (Grant, error)

	// Retire drops buckets whose window ends at or before the border; it may keep
	// more than asked (Postgres drops whole partitions). It returns the border up
	// to which everything is gone, which never exceeds before. Entries of other
	// kinds stay. Fenced by term.
	//
	// What was committed at or before forget raises the floor. A bucket that was
	// committed later (an old window that came late) leaves an entry of kind
	// [bucket.KindDropped] in its place, with its revision, chain, key and time,
	// until a Retire with a later forget: who follows the log passes it.
	Retire(ctx context.Context, term Term, before bucket.Time, forget time.Time) (bucket.Time, error)
	// Size is the database's size on disk in bytes.
	Size(ctx context.Context) (int64, error)

	// Wake is signalled (without blocking, at most one pending) when the log
	// may have grown, as far as the driver can tell; polling is the truth.
	Wake() <-chan struct{}
	// Close releases everything; no method may be called after it.
	Close() error
}
