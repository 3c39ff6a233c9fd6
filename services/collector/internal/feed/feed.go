package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
)

// Why a stream cannot start or continue; also store.ErrCompacted and
// store.ErrUnavailable.
var (
	ErrOtherStore     = errors.New("resume point belongs to another store")
	ErrHistoryChanged = errors.New("the history of the store changed before the resume point")
	ErrFutureRevision = errors.New("revision is beyond the head of the store")
	ErrBehind         = errors.New("this process has not read the log that far yet")
	ErrSlowReader     = errors.New("stream fell behind the lag limit")
	ErrStopped        = errors.New("feed is stopped")
)

// Source is what the feed needs of store.Store.
type Source interface {
	Head(ctx context.Context) (store.Head, error)
	ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]store.Entry, error)
	ChainAt(ctx context.Context, rev bucket.Revision) (bucket.Chain, error)
	Wake() <-chan struct{}
}

// Config configures a [Feed]. Zero numbers mean the default.
type Config struct {
	Source     Source
	Unreadable *unreadable.Register // collects entries that cannot be read; may be nil
	Logger     *slog.Logger         // nil: no logs

	// Now is the collector's clock. Nil: the machine's.
	Now func() time.Time
	// Poll is the longest interval between reads of the head; a wake-up of the
	// store shortens it. Default 1 s.
	Poll time.Duration
	// Heartbeat is how often progress is repeated without new entries, so that
	// clients can tell a quiet stream from a dead one. Default 2 s.
	Heartbeat time.Duration
	// Away is how long the store may be unreachable before streams end with
	// store.ErrUnavailable. Default 15 s.
	Away time.Duration
	// Catchup is how long [Feed.Open] waits for this process to reach a resume
	// point that the store already has. Default 2 s.
	Catchup time.Duration
	// Timeout is the timeout of each call to the source. Default 5 s.
	Timeout time.Duration
	// Entries and Bytes limit the ring, and so the lag of a live stream. Defaults
	// 16,384 entries and 64 MiB.
	Entries, Bytes int
	// Page is how many entries are read from the store at once. Default 256.
	Page int
	// Readers is how many cursors read the store concurrently: a thousand streams
	// that resume from old points must not overload the database. Default 4.
	Readers int
}

// Feed follows one store. Methods are safe for concurrent use.
type Feed struct {
	c     Config
	log   *slog.Logger
	often *quiet.Log
	nudge chan struct{} // asks Run to read the head now
	turns chan struct{} // a semaphore of cursors that read the store

	mu       sync.Mutex
	ready    bool // a head has been read
	stopped  bool // Run has ended
	away     error
	settings store.Settings
	floor    bucket.Revision
	ring     ring
	era      int       // number of histories seen; a cursor belongs to one
	progress time.Time // belongs to ring.head()
	complete time.Time // belongs to ring.head(); see completeUntil
	report   []byte    // progress frame for ring.head(), progress and complete
	beat     uint64    // raised whenever streams have something to send
	changed  chan struct{}
	encoded  uint64
	// Owned by Run:
	failing time.Time // when the source began to fail; zero while it responds
	logged  bool      // the failure was logged
	beaten  time.Time // when beat was last raised
}

// New returns a feed; it reads nothing until Run.
func New(c Config) *Feed {
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Poll = cmp.Or(c.Poll, time.Second)
	c.Heartbeat = cmp.Or(c.Heartbeat, 2*time.Second)
	c.Away = cmp.Or(c.Away, 15*time.Second)
	c.Catchup = cmp.Or(c.Catchup, 2*time.Second)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.Entries = cmp.Or(c.Entries, 16384)
	c.Bytes = cmp.Or(c.Bytes, 64<<20)
	c.Page = cmp.Or(c.Page, 256)
	c.Readers = cmp.Or(c.Readers, 4)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Feed{
		c: c, log: c.Logger, often: quiet.New(c.Logger, time.Minute),
		nudge:   make(chan struct{}, 1),
		turns:   make(chan struct{}, c.Readers),
		ring:    ring{maxEntries: c.Entries, maxBytes: c.Bytes},
		changed: make(chan struct{}),
	}
}

// Stats describes the feed for metrics.
type Stats struct {
	Head     bucket.Revision
	Progress time.Time // zero before the first
	Entries  int       // in the ring
	Bytes    int       // of their frames
	Encoded  uint64    // entries encoded for the ring since start
	Err      error     // why the store is unavailable; nil while it is available
}

// Stats returns the current state.
func (f *Feed) Stats() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Stats{
		Head: f.ring.head().Revision, Progress: f.progress,
		Entries: len(f.ring.items), Bytes: f.ring.bytes, Encoded: f.encoded, Err: f.away,
	}
}

// Run follows the store until ctx ends and returns nil. When it returns, every
// cursor gets [ErrStopped].
func (f *Feed) Run(ctx context.Context) error {
	defer f.update(func() { f.stopped = true })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-f.c.Source.Wake():
		case <-f.nudge:
		}
		err := f.poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		f.judge(err)
		timer.Reset(f.c.Poll)
	}
}

// judge tracks outages of the store, and sends the heartbeat.
func (f *Feed) judge(err error) {
	now := time.Now()
	switch {
	case err == nil && !f.failing.IsZero():
		level := slog.LevelInfo
		if !f.logged { // neither was the outage
			level = slog.LevelDebug
		}
		f.log.Log(context.Background(), level, "store is available again", "away", now.Sub(f.failing))
		f.failing, f.logged = time.Time{}, false
		f.update(func() { f.away = nil })
	case err != nil:
		if f.failing.IsZero() {
			f.failing = now
		}
		level := slog.LevelWarn
		if store.NeedsRepair(err) { // an operator must act
			level = slog.LevelError
		}
		if f.often.Log(context.Background(), level, store.Reason(err), "store is unavailable, streams are waiting", "err", err, "since", f.failing.UTC().Format(time.RFC3339)) {
			f.logged = true
		}
	}
	if !f.failing.IsZero() && now.Sub(f.failing) >= f.c.Away {
		f.update(func() { f.away = err })
	}
	if now.Sub(f.beaten) >= f.c.Heartbeat {
		f.update(func() {})
	}
}

// update changes the shared state and wakes every stream.
func (f *Feed) update(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	f.beat++
	f.beaten = time.Now()
	close(f.changed)
	f.changed = make(chan struct{})
}

// poll brings the ring up to the head of the store.
func (f *Feed) poll(ctx context.Context) error {
	now := f.c.Now()
	h, err := call(ctx, f.c.Timeout, f.c.Source.Head)
	if err != nil {
		return fmt.Errorf("read the head of the log: %w", err)
	}
	// Only this goroutine changes the ring, so these values stay valid.
	f.mu.Lock()
	first, same, at := !f.ready, f.settings.StoreID == h.StoreID, f.ring.head()
	f.mu.Unlock()
	switch {
	case first:
		f.log.Info("following the store", "store_id", h.StoreID, "revision", h.Revision)
		f.restart(h, now)
		return nil
	case !same, h.Revision < at.Revision, h.Revision == at.Revision && h.Chain != at.Chain:
		f.historyChanged(at, h, now)
		return nil
	}
	for at.Revision < h.Revision {
		page, err := call(ctx, f.c.Timeout, func(ctx context.Context) ([]store.Entry, error) {
			return f.c.Source.ReadLog(ctx, at.Revision, f.c.Page)
		})
		switch {
		case errors.Is(err, store.ErrCompacted):
			// This process was suspended for longer than the retention, or entries were dropped
			// right after they were appended, and after the head was read. Live streams are now
			// below the ring and below the floor, which is that of the present head.
			h, err = call(ctx, f.c.Timeout, f.c.Source.Head)
			switch {
			case err != nil:
				return fmt.Errorf("read the head of the log: %w", err)
			case h.StoreID != f.settings.StoreID, h.Revision < at.Revision:
				f.historyChanged(at, h, now)
				return nil
			}
			f.log.Warn("entries were dropped before they were read, restarting at the head", "revision", at.Revision, "head", h.Revision)
			f.update(func() { f.begin(h, now) })
			return nil
		case err != nil:
			return fmt.Errorf("read the log after revision %d: %w", at.Revision, err)
		}
		items := make([]item, 0, len(page))
		for i := range page {
			if !follows(at, &page[i]) {
				break
			}
			items = append(items, f.encode(&page[i]))
			at = page[i].Position
		}
		if len(items) < len(page) || len(page) == 0 {
			// Either an entry does not follow, or the head that was just read is
			// gone. Read the head again, to start at that of the new history.
			h, err = call(ctx, f.c.Timeout, f.c.Source.Head)
			if err != nil {
				return fmt.Errorf("read the head of the log: %w", err)
			}
			f.historyChanged(at, h, now)
			return nil
		}
		f.publish(items, at, h, now)
	}
	f.publish(nil, at, h, now)
	return nil
}

// publish appends items, and adopts h's times once all entries up to h are in the ring. h
// was read after now. The heartbeat reports a time of which there is no other news.
func (f *Feed) publish(items []item, at bucket.Position, h store.Head, now time.Time) {
	whole := at.Revision >= h.Revision
	f.mu.Lock()
	f.floor = h.Floor
	news := len(items) > 0 || whole && !h.ProgressAt.Equal(f.progress)
	if !news && whole {
		f.tell(h, now)
	}
	f.mu.Unlock()
	if !news {
		return
	}
	f.update(func() {
		for _, i := range items {
			f.ring.push(i)
		}
		f.encoded += uint64(len(items))
		if whole {
			f.progress = h.ProgressAt
		}
		f.tell(h, now)
	})
}

// tell adopts the time up to which the log is complete, and encodes the report. Called with
// the lock.
func (f *Feed) tell(h store.Head, now time.Time) {
	if f.ring.head().Revision >= h.Revision {
		f.complete = completeUntil(h, now)
	}
	f.report = wire.ProgressFrame(f.settings.StoreID, f.ring.head(), f.progress, f.complete)
}

// unled is how long an append can take from the reading of its time on ([store.AppendWithin]
// and the statement), with the difference between the clocks of two collectors: without a
// leader nothing is committed any more that is older.
const unled = time.Minute

// completeUntil is the time before which everything that will ever be committed is in the
// log up to h, which was read after now. A leader says it itself. Without one nobody
// commits, or a new leader does, later than now.
func completeUntil(h store.Head, now time.Time) time.Time {
	if at := now.Add(-unled); !h.ExpiresAt.After(h.Now) && at.After(h.ProgressAt) {
		return at
	}
	return h.ProgressAt
}

func (f *Feed) historyChanged(at bucket.Position, h store.Head, now time.Time) {
	f.log.Warn("history of the store changed, ending all streams",
		"store_id", h.StoreID, "revision", at.Revision, "chain", at.Chain, "new_head", h.Revision, "new_chain", h.Chain)
	f.restart(h, now)
}

// restart begins a new history at h.
func (f *Feed) restart(h store.Head, now time.Time) {
	f.update(func() {
		f.era++
		f.begin(h, now)
	})
}

// begin empties the ring at h. Called within update.
func (f *Feed) begin(h store.Head, now time.Time) {
	f.ready = true
	f.settings, f.floor, f.progress = h.Settings, h.Floor, h.ProgressAt
	f.ring.restart(h.Position)
	f.tell(h, now)
}

// read calls the source on behalf of a cursor, at most Config.Readers at a time.
// Waiting for a turn does not count towards the timeout.
func read[T any](ctx context.Context, f *Feed, do func(context.Context) (T, error)) (T, error) {
	var none T
	select {
	case f.turns <- struct{}{}:
		defer func() { <-f.turns }()
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
	f.mu.Lock()
	away := f.away
	f.mu.Unlock()
	if away != nil { // meanwhile; the others in the queue fail the same way
		return none, away
	}
	return call(ctx, f.c.Timeout, do)
}

// call makes one call to the source with a timeout. A source that does not respond in
// time is unavailable, whatever error its driver returns.
func call[T any](ctx context.Context, timeout time.Duration, do func(context.Context) (T, error)) (T, error) {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	v, err := do(bounded)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil && !errors.Is(err, store.ErrUnavailable) {
		err = fmt.Errorf("%w: no response within %s: %w", store.ErrUnavailable, timeout, err)
	}
	return v, err
}
