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

// Why a stream cannot begin or go on; besides these, store.ErrCompacted and
// store.ErrUnavailable.
var (
	ErrOtherStore     = errors.New("resume point is of another store")
	ErrHistoryChanged = errors.New("the store's history changed behind the resume point")
	ErrFutureRevision = errors.New("revision is beyond the head of the store")
	ErrBehind         = errors.New("this process has not read that far yet")
	ErrSlowReader     = errors.New("stream fell behind the newest entries kept in memory")
	ErrStopped        = errors.New("feed is stopped")
)

// Source is what the feed needs of store.Store.
type Source interface {
	Head(ctx context.Context) (store.Head, error)
	ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]store.Entry, error)
	ChainAt(ctx context.Context, rev bucket.Revision) (bucket.Chain, error)
	Wake() <-chan struct{}
}

// Config shapes a [Feed]. Zero numbers mean the default.
type Config struct {
	Source     Source
	Unreadable *unreadable.Register // told of entries that cannot be read; nil: nobody is
	Logger     *slog.Logger         // nil: no logs

	// Poll is the longest pause between looks at the head; a wake-up of the
	// store shortens it. Default 1 s.
	Poll time.Duration
	// Heartbeat is how often progress is repeated when nothing happens, so that
	// clients can tell a quiet stream from a dead one. Default 2 s.
	Heartbeat time.Duration
	// Away is how long the store may be unreachable before streams end with
	// store.ErrUnavailable. Default 15 s.
	Away time.Duration
	// Catchup is how long [Feed.Open] waits for this process to read as far as a
	// resume point that the store does have. Default 2 s.
	Catchup time.Duration
	// Timeout bounds each call to the source. Default 5 s.
	Timeout time.Duration
	// Entries and Bytes bound the ring, and with it how far a live stream may
	// lag. Defaults 16,384 entries and 64 MiB.
	Entries, Bytes int
	// Page is how many entries are read from the store at once. Default 256.
	Page int
	// Readers is how many cursors read the store at once: a thousand streams
	// that come back with old points take turns, and leave the database to
	// others. Default 4.
	Readers int
}

// Feed follows one store. Methods are safe for concurrent use.
type Feed struct {
	c     Config
	log   *slog.Logger
	often *quiet.Log
	nudge chan struct{} // asks Run to look at the head now
	turns chan struct{} // held by a cursor while it reads the store

	mu       sync.Mutex
	ready    bool // a head has been read
	stopped  bool // Run has ended
	away     error
	settings store.Settings
	floor    bucket.Revision
	ring     ring
	era      int       // number of histories seen; a cursor belongs to one
	progress time.Time // belongs to ring.head()
	report   []byte    // progress frame for ring.head() and progress
	beat     uint64    // raised whenever streams have something to send
	changed  chan struct{}
	encoded  uint64
	// Owned by Run:
	failing time.Time // when the source began to fail; zero while it answers
	told    bool      // that it does
	beaten  time.Time // when beat was raised last
}

// New returns a feed; it reads nothing until Run.
func New(c Config) *Feed {
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
	Err      error     // why the store is away; nil while it answers
}

// Stats returns the present state.
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

// judge keeps account of the store's absence and of the heartbeat.
func (f *Feed) judge(err error) {
	now := time.Now()
	switch {
	case err == nil && !f.failing.IsZero():
		level := slog.LevelInfo
		if !f.told { // one that comes and goes is told as its absence is
			level = slog.LevelDebug
		}
		f.log.Log(context.Background(), level, "store answers again", "away", now.Sub(f.failing))
		f.failing, f.told = time.Time{}, false
		f.update(func() { f.away = nil })
	case err != nil:
		if f.failing.IsZero() {
			f.failing = now
		}
		level := slog.LevelWarn
		if store.Mendable(err) { // it does not pass by itself
			level = slog.LevelError
		}
		if f.often.Log(context.Background(), level, store.Reason(err), "store does not answer, streams wait", "err", err, "since", f.failing.UTC().Format(time.RFC3339)) {
			f.told = true
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
	h, err := call(ctx, f.c.Timeout, f.c.Source.Head)
	if err != nil {
		return fmt.Errorf("read the head of the log: %w", err)
	}
	// Only this goroutine changes the ring, so what is read here stays true.
	f.mu.Lock()
	first, same, at := !f.ready, f.settings.StoreID == h.StoreID, f.ring.head()
	f.mu.Unlock()
	switch {
	case first:
		f.log.Info("following the store", "store_id", h.StoreID, "revision", h.Revision)
		f.restart(h)
		return nil
	case !same, h.Revision < at.Revision, h.Revision == at.Revision && h.Chain != at.Chain:
		f.historyChanged(at, h)
		return nil
	}
	for at.Revision < h.Revision {
		page, err := call(ctx, f.c.Timeout, func(ctx context.Context) ([]store.Entry, error) {
			return f.c.Source.ReadLog(ctx, at.Revision, f.c.Page)
		})
		switch {
		case errors.Is(err, store.ErrCompacted):
			// This process slept for longer than the retention. Live streams
			// find themselves below the ring and below the floor.
			f.log.Warn("entries were dropped before they were read, beginning again at the head", "revision", at.Revision, "head", h.Revision)
			f.update(func() { f.begin(h) })
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
			// Either what was read does not follow, or a head that was just seen
			// is gone. Look again, so as to begin where the new history stands.
			h, err = call(ctx, f.c.Timeout, f.c.Source.Head)
			if err != nil {
				return fmt.Errorf("read the head of the log: %w", err)
			}
			f.historyChanged(at, h)
			return nil
		}
		f.publish(items, at, h)
	}
	f.publish(nil, at, h)
	return nil
}

// publish appends items, and adopts h's progress time once everything that h
// covers is in.
func (f *Feed) publish(items []item, at bucket.Position, h store.Head) {
	complete := at.Revision >= h.Revision
	f.mu.Lock()
	f.floor = h.Floor
	news := len(items) > 0 || complete && !h.ProgressAt.Equal(f.progress)
	f.mu.Unlock()
	if !news {
		return
	}
	f.update(func() {
		for _, i := range items {
			f.ring.push(i)
		}
		f.encoded += uint64(len(items))
		if complete {
			f.progress = h.ProgressAt
		}
		f.report = wire.ProgressFrame(f.settings.StoreID, f.ring.head(), f.progress)
	})
}

func (f *Feed) historyChanged(at bucket.Position, h store.Head) {
	f.log.Warn("the store's history changed, ending all streams",
		"store_id", h.StoreID, "revision", at.Revision, "chain", at.Chain, "new_head", h.Revision, "new_chain", h.Chain)
	f.restart(h)
}

// restart begins a new history at h.
func (f *Feed) restart(h store.Head) {
	f.update(func() {
		f.era++
		f.begin(h)
	})
}

// begin empties the ring at h. Called within update.
func (f *Feed) begin(h store.Head) {
	f.ready = true
	f.settings, f.floor, f.progress = h.Settings, h.Floor, h.ProgressAt
	f.ring.restart(h.Position)
	f.report = wire.ProgressFrame(h.StoreID, h.Position, h.ProgressAt)
}

// read is a call on behalf of a cursor, in its turn. Waiting for it does not
// count towards the time that the source may take.
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
	if away != nil { // in the meantime; the others in the queue need not try either
		return none, away
	}
	return call(ctx, f.c.Timeout, do)
}

// call bounds one call to the source. A source that does not answer in time is
// away, whatever its driver calls that.
func call[T any](ctx context.Context, timeout time.Duration, do func(context.Context) (T, error)) (T, error) {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	v, err := do(bounded)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil && !errors.Is(err, store.ErrUnavailable) {
		err = fmt.Errorf("%w: no answer within %s: %w", store.ErrUnavailable, timeout, err)
	}
	return v, err
}
