package view

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
)

// Default selects the configured length of replay.
const Default = -1

// cachedViews is the size of the cache of views, one per length of replay: each
// view holds bodies of megabytes. Further lengths still work but are built again
// for each scrape. The default view is never evicted.
const cachedViews = 4

var (
	// ErrNotReady means that no complete view has arrived yet.
	ErrNotReady = errors.New("the first complete snapshot from the collector has not arrived yet")
	// ErrDraining means that this process is shutting down.
	ErrDraining = errors.New("the exposer is shutting down")
)

// Board holds the current state and the views built from it. It is safe for
// concurrent use.
type Board struct {
	clock  clock.Clock
	limits recent.Limits
	built  Built

	state    atomic.Pointer[recent.State]
	progress atomic.Pointer[time.Time]
	draining atomic.Bool

	mu    sync.Mutex
	views []cached // most recently used first
}

type cached struct {
	hours int
	view  *View
}

// NewBoard returns an empty board. built may be nil.
func NewBoard(c clock.Clock, limits recent.Limits, built Built) *Board {
	return &Board{clock: c, limits: limits, built: built}
}

// Publish replaces the current state.
func (b *Board) Publish(s *recent.State) { b.state.Store(s) }

// Confirm sets the progress time, which is the leader's clock. It is separate
// from Publish because progress advances without new entries, and an unchanged
// body must not be built again.
func (b *Board) Confirm(progress time.Time) { b.progress.Store(&progress) }

// Progress is the time of the last Confirm, zero before the first.
func (b *Board) Progress() time.Time {
	if t := b.progress.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// State returns the current state, nil before the first.
func (b *Board) State() *recent.State { return b.state.Load() }

// Drain makes [Board.Ready] return [ErrDraining]. Views are still served, for
// scrapes that a load balancer still sends here.
func (b *Board) Drain() { b.draining.Store(true) }

// Ready returns nil from the first complete view until Drain. The age of the view
// does not matter: old data with a known age is better than none.
func (b *Board) Ready() error {
	if b.draining.Load() {
		return ErrDraining
	}
	if b.State() == nil {
		return ErrNotReady
	}
	return nil
}

// Now is the later of the clock and the newest progress time: an exposer whose
// clock is slow must not serve samples that its collector knows to be too old.
func (b *Board) Now() time.Time {
	now := b.clock.Now()
	if progress := b.Progress(); progress.After(now) {
		return progress
	}
	return now
}

// Hours is the configured length of the replay.
func (b *Board) Hours() int { return int(b.limits.MaxAge / time.Hour) }

// View returns the current view for a replay of this many hours, or [Default]; 0
// means the newest bucket only. Errors: [ErrNotReady], a *[recent.TooManyError],
// or hours out of range.
func (b *Board) View(hours int) (*View, error) {
	if hours == b.Hours() {
		hours = Default
	}
	if hours != Default && (hours < 0 || hours > b.Hours()) {
		return nil, fmt.Errorf("replay of %d hours: must be from 0 to %d", hours, b.Hours())
	}
	now := b.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	state := b.State()
	if state == nil {
		return nil, ErrNotReady
	}
	for i, c := range b.views {
		if c.hours == hours && c.view.State == state && c.view.Choice.Valid(now) {
			copy(b.views[1:i+1], b.views[:i])
			b.views[0] = c
			return c.view, nil
		}
	}
	limits := b.limits
	if hours > 0 {
		limits.MaxAge = time.Duration(hours) * time.Hour
	}
	v, err := Build(state, hours == 0, now, limits, b.built)
	if err != nil {
		return nil, err
	}
	// Views of an earlier state are evicted at once: they hold its bodies in memory.
	b.views = slices.DeleteFunc(b.views, func(c cached) bool { return c.hours == hours || c.view.State != state })
	b.views = slices.Insert(b.views, 0, cached{hours, v})
	if len(b.views) > cachedViews {
		last := len(b.views) - 1
		if b.views[last].hours == Default { // unusual lengths are built again instead
			last--
		}
		b.views = slices.Delete(b.views, last, last+1)
	}
	return v, nil
}
