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

// Default asks for the configured recent.
const Default = -1

// cachedViews bounds the variants that are kept at once: jobs that ask for
// other lengths of replay each hold bodies of megabytes. More variants than
// this still work; they are built again for each scrape. The usual one stays.
const cachedViews = 4

var (
	// ErrNotReady says that no complete view has arrived yet.
	ErrNotReady = errors.New("the first complete snapshot from the collector has not arrived yet")
	// ErrDraining says that this process is about to end.
	ErrDraining = errors.New("the exposer is shutting down")
)

// Board holds the present state and the views made of it. It is safe for
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

// Publish replaces the present state.
func (b *Board) Publish(s *recent.State) { b.state.Store(s) }

// Confirm says up to when the store was complete, by the leader's clock. It is
// apart from Publish because it moves when nothing else does, and bodies that
// stay the same must not be made again.
func (b *Board) Confirm(progress time.Time) { b.progress.Store(&progress) }

// Progress is the time of the last Confirm, zero before the first.
func (b *Board) Progress() time.Time {
	if t := b.progress.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

// State returns the present state, nil before the first.
func (b *Board) State() *recent.State { return b.state.Load() }

// Drain makes [Board.Ready] say no. Views are served on, for scrapes that a
// balancer still sends here.
func (b *Board) Drain() { b.draining.Store(true) }

// Ready returns nil once there is a complete view, and until Drain. The age of
// the view does not matter: old data with its age on it beats none.
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
// clock is slow must not serve what its collector knows to be too old.
func (b *Board) Now() time.Time {
	now := b.clock.Now()
	if progress := b.Progress(); progress.After(now) {
		return progress
	}
	return now
}

// Hours is the configured length of the recent.
func (b *Board) Hours() int { return int(b.limits.MaxAge / time.Hour) }

// View returns the present view for a replay of so many hours, or [Default]; 0
// is the newest bucket alone. Errors: [ErrNotReady], a *[recent.TooManyError],
// or hours beyond the configured length.
func (b *Board) View(hours int) (*View, error) {
	if hours == b.Hours() {
		hours = Default
	}
	if hours != Default && (hours < 0 || hours > b.Hours()) {
		return nil, fmt.Errorf("replay of %d hours asked for; it must be 0 to %d", hours, b.Hours())
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
	// Views of an earlier state go at once: they hold its bodies in memory.
	b.views = slices.DeleteFunc(b.views, func(c cached) bool { return c.hours == hours || c.view.State != state })
	b.views = slices.Insert(b.views, 0, cached{hours, v})
	if len(b.views) > cachedViews {
		last := len(b.views) - 1
		if b.views[last].hours == Default { // those who ask for what nobody else wants pay for it themselves
			last--
		}
		b.views = slices.Delete(b.views, last, last+1)
	}
	return v, nil
}
