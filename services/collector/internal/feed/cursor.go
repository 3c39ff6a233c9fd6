package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Cursor is the position of one stream in the log. It belongs to one goroutine and
// needs no Close.
type Cursor struct {
	f      *Feed
	filter filter
	at     bucket.Position
	era    int
	live   bool   // has been inside the ring; from then on it must stay there
	beat   uint64 // of the last batch that ended at the head

	reported time.Time // when a batch with progress was last returned
}

// Batch is what a stream sends next, in this order. The frames are shared and must
// not be modified.
type Batch struct {
	// Entries are frames of matching entries, ascending; possibly none.
	Entries [][]byte
	// Progress is the frame of a progress message to be sent after them; nil
	// when there is none yet.
	Progress []byte
}

// Open returns a cursor behind the position at of the store, and the store's
// settings. Errors: [ErrOtherStore], [ErrHistoryChanged], [ErrFutureRevision],
// [ErrBehind], store.ErrCompacted, store.ErrUnavailable, [ErrStopped], or ctx's.
func (f *Feed) Open(ctx context.Context, storeID string, at bucket.Position, fl Filter) (*Cursor, store.Settings, error) {
	c := &Cursor{f: f, filter: compile(fl), at: at, reported: time.Now()}
	settings, err := c.open(ctx, storeID)
	if err != nil {
		return nil, store.Settings{}, fmt.Errorf("follow store %s from revision %d: %w", storeID, at.Revision, err)
	}
	return c, settings, nil
}

func (c *Cursor) open(ctx context.Context, storeID string) (store.Settings, error) {
	f := c.f
	patience := time.NewTimer(f.c.Catchup)
	defer patience.Stop()
	asked := false
	for {
		f.mu.Lock()
		changed, stopped, away, ready := f.changed, f.stopped, f.away, f.ready
		settings, floor, head := f.settings, f.floor, f.ring.head()
		kept, inside := f.ring.position(c.at.Revision)
		c.era = f.era
		f.mu.Unlock()

		late := ErrBehind
		switch {
		case stopped:
			return settings, ErrStopped
		case away != nil:
			return settings, away
		case !ready:
			late = store.ErrUnavailable
		case settings.StoreID != storeID:
			return settings, ErrOtherStore
		case c.at.Revision < floor:
			// Even if the ring still has the entries: whether a resume point is
			// valid must not depend on which collector is asked.
			return settings, store.ErrCompacted
		case inside && kept != c.at:
			return settings, ErrHistoryChanged
		case inside:
			return settings, nil
		case c.at.Revision < head.Revision:
			return settings, c.checkChain(ctx)
		case !asked:
			// Only the primary knows whether the point is in the future or this
			// process is behind.
			asked = true
			h, err := read(ctx, f, f.c.Source.Head)
			if err != nil {
				return settings, err
			}
			if h.StoreID == storeID && c.at.Revision > h.Revision {
				return settings, fmt.Errorf("%w: the head is at revision %d", ErrFutureRevision, h.Revision)
			}
			select {
			case f.nudge <- struct{}{}:
			default: // one is pending already
			}
			continue
		}
		select {
		case <-changed:
		case <-patience.C:
			if errors.Is(late, ErrBehind) { // unless the store was restored since the primary was asked
				if err := c.checkChain(ctx); err != nil {
					return settings, err
				}
			}
			return settings, late
		case <-ctx.Done():
			return settings, context.Cause(ctx)
		}
	}
}

// checkChain compares a point below the ring with the store.
func (c *Cursor) checkChain(ctx context.Context) error {
	chain, err := read(ctx, c.f, func(ctx context.Context) (bucket.Chain, error) {
		return c.f.c.Source.ChainAt(ctx, c.at.Revision)
	})
	switch {
	case errors.Is(err, store.ErrBeyondHead):
		// This process was past the point and the primary no longer is: the store
		// was restored, and the feed has not noticed yet.
		return fmt.Errorf("%w: %w", ErrFutureRevision, err)
	case errors.Is(err, store.ErrCorrupt):
		// The row of that entry is missing or damaged. A client at this point can
		// only continue from a snapshot.
		return fmt.Errorf("%w: %w", ErrHistoryChanged, err)
	case err != nil:
		return err
	case chain != c.at.Chain:
		return ErrHistoryChanged
	}
	return nil
}

// Next waits until there is something to send and returns it. Errors:
// [ErrHistoryChanged], [ErrSlowReader], store.ErrCompacted,
// store.ErrUnavailable, [ErrStopped], or ctx's. A cursor that has returned an error
// must not be used again.
func (c *Cursor) Next(ctx context.Context) (Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Batch{}, context.Cause(ctx)
		}
		batch, wait, err := c.fromRing()
		switch {
		case errors.Is(err, errBelow):
			batch, err = c.fromStore(ctx)
		case errors.Is(err, errBeyond):
			if err = c.awaitRing(ctx, wait); err == nil {
				continue
			}
		case wait != nil:
			select {
			case <-wait:
			case <-ctx.Done():
			}
			continue
		}
		if err != nil {
			return Batch{}, fmt.Errorf("follow from revision %d: %w", c.at.Revision, err)
		}
		if len(batch.Entries) > 0 || batch.Progress != nil {
			return batch, nil
		}
	}
}

var (
	// errBelow: the cursor's next entry is older than the ring.
	errBelow = errors.New("below the ring")
	// errBeyond: a page of the store went beyond what the feed has read.
	errBeyond = errors.New("beyond the ring")
)

// scan is the maximum number of entries filtered under the lock for one batch.
const scan = 1024

// fromRing returns new entries of the ring, or the channel to wait on if there are
// none.
func (c *Cursor) fromRing() (Batch, <-chan struct{}, error) {
	f := c.f
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.stopped:
		return Batch{}, nil, ErrStopped
	case f.era != c.era:
		return Batch{}, nil, ErrHistoryChanged
	case f.away != nil:
		return Batch{}, nil, f.away
	}
	kept, inside := f.ring.position(c.at.Revision)
	switch { // a live cursor has only ever been at or below the head
	case !inside && c.live && c.at.Revision < f.floor:
		// The stream was not slow: this process fell behind the retention and
		// started again at the head.
		return Batch{}, nil, store.ErrCompacted
	case !inside && c.live:
		return Batch{}, nil, fmt.Errorf("%w: %d entries behind", ErrSlowReader, f.ring.head().Revision-c.at.Revision)
	case !inside && c.at.Revision > f.ring.head().Revision:
		return Batch{}, f.changed, errBeyond
	case !inside:
		return Batch{}, nil, errBelow
	case kept != c.at:
		// The cursor read pages before the store was restored.
		return Batch{}, nil, ErrHistoryChanged
	}
	c.live = true
	items := f.ring.after(c.at.Revision)
	if len(items) == 0 && c.beat == f.beat {
		return Batch{}, f.changed, nil
	}
	items = items[:min(len(items), scan)]
	var b Batch
	for i := range items {
		if c.filter.match(&items[i]) {
			b.Entries = append(b.Entries, items[i].frame)
		}
		c.at = items[i].at
	}
	if c.at == f.ring.head() {
		b.Progress, c.beat = f.report, f.beat
	}
	return b, nil, nil
}

// fromStore reads the next page for a cursor that has not caught up yet.
func (c *Cursor) fromStore(ctx context.Context) (Batch, error) {
	page, err := read(ctx, c.f, func(ctx context.Context) ([]store.Entry, error) {
		return c.f.c.Source.ReadLog(ctx, c.at.Revision, c.f.c.Page)
	})
	if err != nil {
		return Batch{}, err
	}
	if len(page) == 0 {
		return Batch{}, ErrHistoryChanged // the ring begins later, so there was an entry here
	}
	var b Batch
	for i := range page {
		if !follows(c.at, &page[i]) {
			return Batch{}, ErrHistoryChanged
		}
		it := c.f.encode(&page[i])
		if c.filter.match(&it) {
			b.Entries = append(b.Entries, it.frame)
		}
		c.at = it.at
	}
	// With a filter that matches little there may be no entry for long; the client
	// must not consider the stream dead. No time, because not all data up to it has
	// been sent.
	if now := time.Now(); now.Sub(c.reported) >= c.f.c.Heartbeat {
		c.reported = now
		b.Progress = wire.ProgressFrame(c.storeID(), c.at, time.Time{}, time.Time{})
	}
	return b, nil
}

// awaitRing waits until the feed has read more, for a heartbeat at most, if the store still
// has the cursor's entry. The feed cannot tell a cursor that a restore took entries which
// the feed itself had not read.
func (c *Cursor) awaitRing(ctx context.Context, more <-chan struct{}) error {
	h, err := read(ctx, c.f, c.f.c.Source.Head)
	switch {
	case err != nil:
		return err
	case h.Revision < c.at.Revision:
		return ErrHistoryChanged
	}
	select {
	case c.f.nudge <- struct{}{}:
	default: // one is pending already
	}
	again := time.NewTimer(c.f.c.Heartbeat)
	defer again.Stop()
	select {
	case <-more:
	case <-again.C:
	case <-ctx.Done():
	}
	return nil
}

func (c *Cursor) storeID() string {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	return c.f.settings.StoreID
}
