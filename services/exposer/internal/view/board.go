package view

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/selection"
)

// Query is what a scrape asks for.
type Query struct {
	// Hours is the length of the replay; 0: the newest bucket only.
	Hours int
	// Round is how often a round of older windows is due; 0: as often as is usual for
	// the length of the replay.
	Round time.Duration
	// Only selects the zones and accounts that are shown.
	Only selection.Selection
}

// Default is the query for what is configured.
var Default = Query{Hours: -1}

const (
	// cachedViews is the size of the cache of views, one per query: each view holds
	// bodies. Further queries still work but are built again for each scrape. The
	// default view is never evicted.
	cachedViews = 4
	// cachedSelections is for how many selections the samples are held apart, and selectionsFor
	// how long after the last scrape with one. Together they have at most as many samples as are
	// held, so that they cost at most as much memory again; others are selected for each scrape.
	cachedSelections = 256
	selectionsFor    = 30 * time.Minute
	// cachedRounds is for how many other queries pages are held, and roundsFor for how
	// long after the last scrape with such a query.
	cachedRounds = 4
	roundsFor    = 30 * time.Minute
)

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

	mu       sync.Mutex
	whole    shelf
	parts    []*shelf // of selections, most recently used first
	rounds   []asked  // most recently used first
	unserved map[string]Unserved
}

// Unserved counts buckets of a dataset that became final when they were too old for the
// replay, since this process began.
type Unserved struct {
	Buckets int
	Windows bucket.Window // from the oldest to the newest
	Last    time.Time     // when the last of them was committed
}

// shelf has the views of one selection, most recently used first.
type shelf struct {
	only  selection.Selection
	part  *recent.Selected // nil: everything is selected
	at    time.Time        // of the last scrape
	views []cached
}

type cached struct {
	query Query
	view  *View
}

type asked struct {
	recent.Rounds
	at time.Time
}

// NewBoard returns an empty board. built may be nil.
func NewBoard(c clock.Clock, limits recent.Limits, built Built) *Board {
	return &Board{clock: c, limits: limits, built: built}
}

// Publish replaces the current state. Views of the state before are forgotten: they hold its
// bodies in memory, and the next scrape may be a minute away.
func (b *Board) Publish(s *recent.State) {
	b.state.Store(s)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.whole.views = nil
	for _, one := range b.parts {
		one.views = nil
	}
}

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

// Unserved returns what became final too late of a dataset.
func (b *Board) Unserved(dataset string) Unserved {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unserved[dataset]
}

func (b *Board) noteUnserved(dataset string, w bucket.Window, committed time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unserved == nil {
		b.unserved = map[string]Unserved{}
	}
	u := b.unserved[dataset]
	if u.Buckets++; u.Buckets > 1 {
		w.Start, w.End = min(w.Start, u.Windows.Start), max(w.End, u.Windows.End)
	}
	u.Windows, u.Last = w, committed
	b.unserved[dataset] = u
}

// Rounds returns those that scrapes have asked for lately, besides the usual ones.
func (b *Board) Rounds(now time.Time) (rounds []recent.Rounds) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rounds = slices.DeleteFunc(b.rounds, func(a asked) bool { return now.Sub(a.at) > roundsFor })
	for _, a := range b.rounds {
		rounds = append(rounds, a.Rounds)
	}
	return rounds
}

// ask notes that a scrape asks for rounds of its own. The caller holds the lock.
func (b *Board) ask(r recent.Rounds, now time.Time) {
	b.rounds = slices.DeleteFunc(b.rounds, func(a asked) bool { return a.Rounds == r })
	b.rounds = slices.Insert(b.rounds, 0, asked{r, now})
	b.rounds = b.rounds[:min(len(b.rounds), cachedRounds)]
}

// View returns the current view for a query. Pages that only a round of the query shows
// are there from one of the next points of the log on. Errors: [ErrNotReady], a
// *[recent.TooManyError], or hours out of range.
func (b *Board) View(q Query) (*View, error) {
	if q.Hours == b.Hours() {
		q.Hours = Default.Hours
	}
	if q.Hours != Default.Hours && (q.Hours < 0 || q.Hours > b.Hours()) {
		return nil, fmt.Errorf("replay of %d hours: must be from 0 to %d", q.Hours, b.Hours())
	}
	limits := b.limits
	limits.Round = q.Round
	if q.Hours > 0 {
		limits.MaxAge = time.Duration(q.Hours) * time.Hour
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.Now() // in the order of the lock: a view is not valid before it was built
	if q.Hours != 0 && (q.Hours != Default.Hours || q.Round != 0) {
		b.ask(recent.Rounds{Age: limits.MaxAge, Every: limits.Round}, now)
	}
	state := b.State()
	if state == nil {
		return nil, ErrNotReady
	}
	for n := len(b.parts); n > 0 && now.Sub(b.parts[n-1].at) > selectionsFor; n-- {
		b.parts = slices.Delete(b.parts, n-1, n)
	}
	if q.Only == selection.Everything {
		return b.whole.view(state, q, now, limits, b.built)
	}
	one := b.part(q.Only, state, now)
	return one.view(one.part.State, q, now, limits, b.built)
}

// part returns the shelf of a selection of the state. The caller holds the lock.
func (b *Board) part(only selection.Selection, state *recent.State, now time.Time) *shelf {
	i := slices.IndexFunc(b.parts, func(s *shelf) bool { return s.only == only })
	one := &shelf{only: only}
	if i >= 0 {
		one = b.parts[i]
		b.parts = slices.Delete(b.parts, i, i+1)
	}
	one.part, one.at = state.Select(only.Match(), one.part), now
	b.parts = slices.Insert(b.parts, 0, one)
	samples := 0
	for i, s := range b.parts {
		if samples += s.part.Samples; i > 0 && (i == cachedSelections || samples > state.Samples) {
			b.parts = slices.Delete(b.parts, i, len(b.parts))
			break
		}
	}
	return one
}

// view returns the view for a query of a state, which is kept.
func (s *shelf) view(state *recent.State, q Query, now time.Time, limits recent.Limits, built Built) (*View, error) {
	for i, c := range s.views {
		if c.query == q && c.view.State == state && c.view.Choice.Valid(now) {
			copy(s.views[1:i+1], s.views[:i])
			s.views[0] = c
			return c.view, nil
		}
	}
	v, err := Build(state, q.Hours == 0, now, limits, built)
	if err != nil {
		return nil, err
	}
	if s.part != nil {
		v.Owners = s.part.Owners
	}
	// Views of an earlier state are evicted at once: they hold its bodies in memory.
	s.views = slices.DeleteFunc(s.views, func(c cached) bool { return c.query == q || c.view.State != state })
	s.views = slices.Insert(s.views, 0, cached{q, v})
	if len(s.views) > cachedViews {
		last := len(s.views) - 1
		if s.views[last].query == Default { // unusual queries are built again instead
			last--
		}
		s.views = slices.Delete(s.views, last, last+1)
	}
	return v, nil
}
