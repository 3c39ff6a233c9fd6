// Package store is the interface between the collector and its database: one log of
// entries, one lease, a few records. Two drivers implement it, postgres and sqlite, and
// both pass the tests in storetest; only package collector imports a driver.
//
// One row, log(head, chain, term, holder, expires_at, …), is both lease and counter.
// Acquiring the lease raises the term in that row; an append is one statement that moves
// the head only WHERE term = mine. So the append of a deposed leader fails inside the
// database (G9), and revisions are gapless in commit order because the row's lock orders
// the appends (G4).
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
	// ErrConflict: the head is not at the expected position. Nothing was written;
	// read the head and coverage again.
	ErrConflict = errors.New("the head of the log is not at the expected revision")
	// ErrDuplicate: a bucket with that key is already stored. Nothing of the batch
	// was written and no revision was used; read coverage again.
	ErrDuplicate = errors.New("bucket is already stored")
	// ErrLate: the batch arrived after its deadline. Nothing was written; date it anew.
	ErrLate = errors.New("the batch arrived after its deadline")
	// ErrHeld: another process holds the lease; [HeldError] names it.
	ErrHeld = errors.New("lease is held by another process")
	// ErrCompacted: entries behind that revision were dropped by retention.
	ErrCompacted = errors.New("revision is older than the oldest stored entry")
	// ErrBeyondHead: the log has no such revision yet.
	ErrBeyondHead = errors.New("revision is beyond the head")
	// ErrUnavailable: the database is unreachable or cannot serve requests now.
	// Whether a write was committed is unknown: read [Store.Head].
	ErrUnavailable = errors.New("database is unavailable")
	// ErrCorrupt: the database reports that it is damaged, or a row is missing from
	// the log. A row whose payload is damaged is no error: see [Entry.Damage].
	ErrCorrupt = errors.New("stored data is damaged")
	// ErrDenied: the database role lacks a right. Nothing was written. It lasts until
	// the right is granted.
	ErrDenied = errors.New("the database role lacks a right")
	// ErrNoSpace: the database's disk is full or its quota is used up. It is an
	// ErrUnavailable, and lasts until there is space.
	ErrNoSpace = fmt.Errorf("%w: no space left", ErrUnavailable)
	// ErrReadOnly: the database does not accept writes. It is an ErrUnavailable, and
	// lasts until writes are allowed again.
	ErrReadOnly = fmt.Errorf("%w: it is read-only", ErrUnavailable)
	// ErrReplaced: the database file is no longer at its path, so writes would be lost
	// with the process. It is an ErrUnavailable, and lasts until the file is restored
	// or the process is restarted.
	ErrReplaced = fmt.Errorf("%w: its file was removed or replaced", ErrUnavailable)
	// ErrInvalid: the database can never store a value of the batch. Nothing was
	// written; the rest of the batch can be.
	ErrInvalid = errors.New("the store cannot hold a value")
	// ErrEncoding: the database's encoding lacks a character. For an append it is
	// like ErrInvalid.
	ErrEncoding = errors.New("the database's encoding cannot represent every text")
	// ErrSchema: the schema is missing, older than this binary needs or newer than it
	// supports. It lasts until the schema is migrated or restored.
	ErrSchema = errors.New("database schema is incompatible with this binary")
	// ErrSettings: a property of the store differs from the configured one.
	ErrSettings = errors.New("store was created with another setting")
)

// Term numbers the leaders of a store, ascending.
type Term uint64

// Settings are properties of the store itself, fixed when it is created.
type Settings struct {
	StoreID         string // set by the driver at creation; ignored on input
	SampleTimestamp string // "end" or "start"
	Simulated       bool
	// AnySource, in wanted settings, accepts an existing store with either value of
	// Simulated. Not stored.
	AnySource bool
}

// Head is the state of the log row, read from the primary.
type Head struct {
	Settings
	bucket.Position                 // of the newest entry
	CommittedAt     time.Time       // of the newest entry, the collector's clock; zero when empty
	ProgressAt      time.Time       // stream time: the leader's last heartbeat, the collector's clock
	Floor           bucket.Revision // entries at or below it may have been dropped
	Term            Term
	Holder          string    // name of the process that holds or last held the lease
	ExpiresAt       time.Time // of the lease, the database's clock
	Now             time.Time // the database's clock
}

// Lease is a term that was just acquired.
type Lease struct {
	Term Term
	Head Head
}

// Entry is one line of the log as stored.
type Entry struct {
	bucket.Position
	CommittedAt time.Time
	NewEntry
	// Damage says why a stored entry has no Payload here; empty for all others. Its
	// position, chain and key are as stored.
	Damage string
}

// NewEntry is the content of an entry to append. For buckets all fields are set; for
// other kinds Key holds what applies (the dataset, the scope, a start) and may be zero.
type NewEntry struct {
	Kind           bucket.Kind
	Key            bucket.Key
	End            bucket.Time // exclusive end of the window
	Finality       bucket.Finality
	Origin         bucket.Origin
	Variant        string
	Rows           int
	SampleInterval float64
	// Payload is the entry's protobuf message, deterministically encoded: the bytes
	// that every stream sends. Never changed after commit.
	Payload []byte
}

// Record is a small document beside the log: a scope, an entitlement, a gap.
// Unlike entries, records change; (Kind, Key) is unique.
type Record struct {
	Kind string
	Key  string
	// Value is JSON; nil deletes the record. It may be returned with other white
	// space and another order of keys.
	Value []byte
}

// Batch is what one append commits, all or nothing.
type Batch struct {
	CommittedAt time.Time // the collector's trusted clock; truncated to milliseconds
	Entries     []NewEntry
	Records     []Record // of several with the same kind and key the last one is stored
	// Deadline, by the store's clock ([Head.Now]), is when the batch may be committed at the
	// latest; zero: at any time. See [AppendWithin].
	Deadline time.Time
}

// AppendWithin is how long after the reading of the time that dates it a batch may arrive. A
// leader that was suspended in between would otherwise commit entries that are older than what
// a collector has said to be complete, a minute behind its clock while no lease is held. The
// rest of that minute is for the statement and for the difference between clocks.
const AppendWithin = 20 * time.Second

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
	// Late, if not nil, asks for late commits besides.
	Late *LateQuery
}

// LateQuery asks for the late commits (carousel.Late) of the datasets and scopes of a
// snapshot, whether their buckets are in it or not. What only an operator's request wanted
// (bucket.Backfill) is never late.
type LateQuery struct {
	// Since: of buckets whose window ends after it.
	Since bucket.Time
	// Within: of buckets that were younger than it when they were committed.
	Within time.Duration
	// Found is called after the last entry of the snapshot, ascending by dataset, with
	// late commits of buckets with rows, newest first, until it reports that this
	// dataset's are enough.
	Found func(Entry) (enough bool)
}

// ListQuery selects buckets by window.
type ListQuery struct {
	Filter
	// Window: buckets that lie in it wholly.
	Window bucket.Window
	// After continues behind this key in the order (dataset, start, scope);
	// nil starts at the beginning.
	After *bucket.Key
	// Restated has, in the place of a bucket that was restated, the newest restatement:
	// an entry of kind [bucket.KindRestatement] with the bucket's key. If that is
	// damaged, it has no payload: an older value is known to be wrong.
	Restated bool
}

// Run is a range of windows of one dataset and scope that are final without a gap.
type Run struct {
	Dataset string
	Scope   bucket.Scope
	Window  bucket.Window
}

// Permits is a request for permits to send requests to Cloudflare.
type Permits struct {
	User   string // the Cloudflare user that the limit belongs to: a label, never a token
	Want   int    // at least 1
	Limit  int    // maximum number of requests of this user in any Span
	Now    time.Time
	UseBy  time.Time     // unused permits expire then
	Span   time.Duration // five minutes; permits count against Limit until UseBy + Span
	Holder string        // for people
	// Block is a unique id of the granted block, so that it can be settled. Empty: the
	// block counts until UseBy + Span.
	Block string
	// Spent settles blocks that were granted before.
	Spent []Spent
	// OwnTime counts by the caller's clock, for tests and simulations with virtual
	// time. Otherwise the store counts by its own clock, since callers' clocks may
	// differ by hours.
	OwnTime bool
}

// Spent settles a block: none of its permits is in use or will be used. The used ones
// count from when their requests ended, the others no longer count. Settling again has no
// effect. A block that is never settled, because its process died, counts as if all
// permits were used at the last moment.
type Spent struct {
	Block string
	Uses  []Use
}

// Use is a number of permits whose requests ended, with a response or without, at least
// Ago before [Permits].Now. It is a duration, so that setting a clock does not affect it.
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
	// database's clock, ends more than MaxLease from now, or is already held by the
	// same holder, and raises the term; see NextTerm. ErrHeld otherwise. ttl must be
	// positive and at most MaxLease.
	Acquire(ctx context.Context, holder string, ttl time.Duration) (Lease, error)
	// Renew extends the lease and records the stream time (zero: unchanged): no later
	// commit of the term has an earlier time. The stream time never goes back, except
	// that one more than MaxAhead ahead of progress is invalid and is replaced.
	// ErrDeposed when term is not the newest, or has expired and was released.
	Renew(ctx context.Context, term Term, ttl time.Duration, progress time.Time) error
	// Release ends the lease so that a standby need not wait for it to expire. It ends
	// the term too: operations still in progress with that term fail with ErrDeposed.
	// Releasing an old term does nothing.
	Release(ctx context.Context, term Term) error

	// Append commits a batch at position at, which must be the head, and returns the
	// new head. A batch without entries writes only its records, under the same
	// conditions. ErrDeposed, ErrConflict, ErrLate, ErrDuplicate,
	// ErrUnavailable (outcome unknown: read Head). See [NeedsRepair] and [ContentRejected]
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
	// Snapshot reads in one repeatable-read transaction and emits the stored versions
	// of the matching datasets, ascending by revision, then buckets by (dataset, start,
	// scope). It emits all versions, not only those of emitted buckets, since the store
	// does not decode payloads. Emit's error ends it and is returned unchanged. The
	// emitted entry's payload is valid only during the call. Emit must not call
	// Snapshot, List or Coverage: they share few connections, so it could deadlock. A
	// reader that stalls for minutes may lose its snapshot (ErrUnavailable). An entry
	// whose chain does not follow from that of the preceding entry has Damage.
	Snapshot(ctx context.Context, q SnapshotQuery, emit func(Entry) error) (Head, error)
	// List emits buckets by (dataset, start, scope) in bounded memory; it does
	// not hold a transaction open while emit runs, so buckets that are appended
	// meanwhile may or may not come. Payloads and errors as in Snapshot.
	List(ctx context.Context, q ListQuery, emit func(Entry) error) error
	// Buckets emits the stored buckets with the given distinct keys, in any order. It
	// looks up each key separately, so its cost does not depend on other buckets of the
	// same windows. Payloads, errors and memory are as in List.
	Buckets(ctx context.Context, keys []bucket.Key, emit func(Entry) error) error
	// Coverage returns the final ranges of windows that end after since,
	// ordered by dataset, scope, start. Ranges of one dataset and scope neither
	// overlap nor touch.
	Coverage(ctx context.Context, f Filter, since bucket.Time) ([]Run, error)
	// Unserved is Coverage of the buckets with rows whose window had ended for an age or
	// longer when they were committed, without those that only an operator's request wanted
	// (bucket.Backfill): nobody expected them in the replay.
	Unserved(ctx context.Context, f Filter, since bucket.Time, age time.Duration) ([]Run, error)
	// Datasets returns every stored dataset version, ascending by revision.
	Datasets(ctx context.Context) ([]Entry, error)

	// Records returns the records of one kind, ordered by key.
	Records(ctx context.Context, kind string) ([]Record, error)
	// AuditEvents returns up to limit entries of kind [bucket.KindAudit] before a
	// revision (0: from the newest on), newest first. Retention keeps them.
	AuditEvents(ctx context.Context, before bucket.Revision, limit int) ([]Entry, error)
	// Reserve grants permits, atomically across processes. It needs no term:
	// command-line tools share the same budget.
	Reserve(ctx context.Context, p Permits) (Grant, error)

	// Retire drops buckets whose window ends at or before the time before; it may keep
	// more (Postgres drops whole partitions). It returns the time up to which
	// everything is dropped, which is at most before. Restatements are dropped with their
	// buckets; entries of other kinds stay. Fenced by term.
	//
	// Dropping an entry committed at or before forget raises the floor. One
	// committed later (an old window that came late) is replaced by a tombstone, an
	// entry of kind [bucket.KindDropped] with its revision, chain, key and time, so that
	// followers of the log can pass it, until a Retire with a later forget.
	Retire(ctx context.Context, term Term, before bucket.Time, forget time.Time) (bucket.Time, error)
	// Size is the database's size on disk in bytes.
	Size(ctx context.Context) (int64, error)

	// Wake is signalled (without blocking, at most one pending) when the log may have
	// grown, as far as the driver can tell. It is a hint: callers must also poll.
	Wake() <-chan struct{}
	// Close releases everything; no method may be called after it.
	Close() error
}
