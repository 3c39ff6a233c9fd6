package quota

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Reserver grants permits across processes; [store.Store] is one.
type Reserver interface {
	Reserve(ctx context.Context, p store.Permits) (store.Grant, error)
}

// Lane is the priority of a request.
type Lane uint8

// The lanes. Urgent keeps the newest windows complete: fresh windows, confirming readings,
// the scope list. Background can wait: repair of old windows, command-line tools. History is
// for backfills: it leaves a part of what background work may have to repairs. Spare is optional: audits. It takes one permit at a time, and only while half of the share
// is free.
const (
	Urgent Lane = iota + 1
	Background
	History
	Spare
)

// Config describes the limiter of one Cloudflare user.
type Config struct {
	User     string // names the user in the store: a label of ours, never a token
	Reserver Reserver
	Clock    clock.Clock
	// Limit is Cloudflare's own limit per Span; 0: 300.
	Limit int
	// Share of the limit that Weir may use, above 0 and up to 1; 0: 0.5.
	Share float64
	// Span is the time that the limit is about; 0: five minutes.
	Span time.Duration
	// Headroom is the part of the share that is reserved for urgent work until
	// [Limiter.Expect] is called, 0 to below 1; 0: 0.25. Negative: none.
	Headroom float64
	// Block is how many permits are reserved at once; 0: 10, or a fifteenth of
	// a small share. Smaller blocks waste less, larger ones use the store less
	// often.
	Block int
	// UseBy is how long a block may be used; 0: 60 s.
	UseBy  time.Duration
	Holder string // who reserves, for people
	// OwnTime: see [store.Permits].
	OwnTime bool
	Logger  *slog.Logger
}

// safety before a block's use-by time: the request goes out a moment after the
// permit was handed out.
const safety = 5 * time.Second

// spareHeadroom is the part of the share that the spare lane leaves alone.
const spareHeadroom = .5

// mostHistory is the part of what background work may have that backfills may have.
const mostHistory = .75

// mostReserved is the largest part of the share that is reserved for urgent work.
const mostReserved = .75

// margin is by how much the reservation for urgent work exceeds its estimated need: requests
// fail, and are repeated in parts.
const margin = 1.1

// steps is the number of parts of a span that are distinguished when permits are settled.
// Uses in one part count from the last of them.
const steps = 100

// sharedFor is how long a budget error below our share halves it.
const sharedFor = time.Hour

// Limiter hands out permits. Safe for concurrent use.
type Limiter struct {
	c     Config
	often *quiet.Log
	limit int    // the share as a number of requests
	id    string // of this limiter, unique for ever: its blocks are named by it
	// turn is held during calls to the store; the mutex never is.
	turn chan struct{}

	mu          sync.Mutex
	blocks      []*block
	out         []*block  // whose permits were handed out, in that order; their requests are not over
	granted     uint64    // blocks so far
	sent        []sending // permits handed out, ascending, within the last span
	need        float64   // of urgent work in a span; -1: not known
	pausedUntil time.Time
	sharedUntil time.Time
	lapsed      uint64
	refused     uint64
}

// sending is one permit that was handed out.
type sending struct {
	at     time.Time
	urgent bool
}

// block is what one reservation granted. It is in one of three states: open
// while permits of it may be used or are in use, spent until the store knows what
// was used of it, and settled.
type block struct {
	id            string
	left, granted int
	out           int       // handed out, the requests not over
	useBy, counts time.Time // usable before, counted until
	limit         int       // that it was granted under
	uses          []use     // by the end of their requests
	settled       bool
}

// use is a number of permits that count together.
type use struct {
	n           int
	first, last time.Time // when the first and the last request was over
}

// New checks the configuration; it reserves nothing.
func New(c Config) (*Limiter, error) {
	c.Limit = cmp.Or(c.Limit, 300)
	c.Share = cmp.Or(c.Share, 0.5)
	c.Span = cmp.Or(c.Span, 5*time.Minute)
	c.Headroom = max(cmp.Or(c.Headroom, 0.25), 0)
	c.UseBy = cmp.Or(c.UseBy, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("quota: "+format, args...)) }
	if c.User == "" {
		bad("user is empty; permits are counted by it")
	}
	if c.Reserver == nil || c.Clock == nil {
		bad("reserver and clock are required")
	}
	if c.Limit < 1 {
		bad("limit is %d; it must be at least 1", c.Limit)
	}
	if !(c.Share > 0 && c.Share <= 1) {
		bad("share is %v; it must be greater than 0 and at most 1", c.Share)
	}
	if !(c.Headroom < 1) {
		bad("headroom is %v; it must be less than 1", c.Headroom)
	}
	if c.Block < 0 {
		bad("block is %d; it must be at least 1, or 0 for the default", c.Block)
	}
	if c.Span < time.Second || c.UseBy <= safety {
		bad("span is %s and use-by %s; span must be at least 1s and use-by more than %s", c.Span, c.UseBy, safety)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	l := &Limiter{c: c, often: quiet.New(c.Logger, time.Minute), turn: make(chan struct{}, 1), need: -1, id: rand.Text()[:12]}
	l.limit = max(1, int(math.Floor(c.Share*float64(c.Limit))))
	l.c.Block = cmp.Or(c.Block, min(10, max(1, l.limit/15)))
	return l, nil
}

// TryTake takes a permit if one is available, and otherwise returns how long to wait before
// the next attempt: a duration, since the limiter's clock may differ from the caller's.
func (l *Limiter) TryTake(ctx context.Context, lane Lane) (ok bool, wait time.Duration, err error) {
	ok, retryAt, err := l.try(ctx, lane)
	if err != nil {
		return false, 0, fmt.Errorf("take permit of user %s: %w", l.c.User, err)
	}
	if !ok {
		wait = max(0, retryAt.Sub(l.c.Clock.Now()))
	}
	return ok, wait, nil
}

func (l *Limiter) try(ctx context.Context, lane Lane) (bool, time.Time, error) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return false, time.Time{}, context.Cause(ctx)
	}
	now := l.c.Clock.Now()
	if until, ok := l.use(now, lane); ok || !until.IsZero() {
		return ok, until, nil
	}
	p, spent := l.ask(now, lane)
	if p.Limit == 0 { // a share of one request has none to spare
		return false, now.Add(l.c.Span), nil
	}
	g, err := l.c.Reserver.Reserve(ctx, p)
	if err != nil {
		return false, time.Time{}, fmt.Errorf("reserve %d permits: %w", p.Want, err)
	}
	if g.N < 0 || g.N > p.Want {
		return false, time.Time{}, fmt.Errorf("store granted %d permits; it must grant from 0 to %d", g.N, p.Want)
	}
	l.mu.Lock()
	for _, b := range spent {
		b.settled = true
	}
	if g.N > 0 {
		l.blocks = append(l.blocks, &block{id: p.Block, left: g.N, granted: g.N, useBy: p.UseBy, counts: p.UseBy.Add(p.Span), limit: p.Limit})
	}
	l.mu.Unlock()
	if g.N == 0 {
		// A retry time in the past would make callers spin.
		return false, later(g.RetryAt, now.Add(time.Second)), nil
	}
	// Asking the store took time: the clock is read again, so that a block that
	// arrived too late is not used.
	now = l.c.Clock.Now()
	until, ok := l.use(now, lane)
	if !ok && until.IsZero() {
		until = now.Add(time.Second)
	}
	return ok, until, nil
}

// ask is the next call to the store, with the blocks that it settles. They are settled when the
// store has replied: until then each call repeats them.
func (l *Limiter) ask(now time.Time, lane Lane) (p store.Permits, spent []*block) {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit, want := l.laneLimit(now, lane), l.c.Block
	if lane == Spare {
		want = 1 // what lapses unused is lost to the other lanes
	}
	l.granted++
	p = store.Permits{
		User: l.c.User, Want: min(want, limit), Limit: limit, Block: fmt.Sprintf("%s-%d", l.id, l.granted),
		Now: now, UseBy: now.Add(l.c.UseBy), Span: l.c.Span, Holder: l.c.Holder, OwnTime: l.c.OwnTime,
	}
	for _, b := range l.blocks {
		if b.settled || b.out > 0 || b.left > 0 && l.usable(b, now) {
			continue
		}
		l.lapse(b)
		said := store.Spent{Block: b.id}
		for _, u := range b.uses {
			said.Uses = append(said.Uses, store.Use{N: u.n, Ago: max(0, now.Sub(u.last))})
		}
		p.Spent, spent = append(p.Spent, said), append(spent, b)
	}
	return p, spent
}

// usable reports whether a permit of the block may still be handed out: its
// request goes out a moment later.
func (l *Limiter) usable(b *block, now time.Time) bool { return now.Before(b.useBy.Add(-safety)) }

// lapse gives up what is left of a block.
func (l *Limiter) lapse(b *block) {
	l.lapsed += uint64(b.left)
	b.left = 0
}

// Over must be called when a request with a permit has ended, whether it succeeded,
// failed or was never sent: Cloudflare has counted it by now, if at all. Of several
// concurrent requests it does not matter which. Without a call the permit counts until its
// use-by time plus the span.
func (l *Limiter) Over() {
	now := l.c.Clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.out) == 0 {
		return
	}
	b := l.out[0]
	l.out = l.out[1:]
	b.out--
	if n := len(b.uses); n > 0 && now.Sub(b.uses[n-1].first) < l.c.Span/steps {
		b.uses[n-1].n++
		b.uses[n-1].last = later(b.uses[n-1].last, now)
		return
	}
	b.uses = append(b.uses, use{n: 1, first: now, last: now})
}

// Expect sets how many requests urgent work needs in a span, which are reserved for it.
func (l *Limiter) Expect(need float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.need = max(0, need)
}

// use takes a permit from a block in hand. It returns the end of a pause, or
// zero when a block has to be reserved.
func (l *Limiter) use(now time.Time, lane Lane) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(now)
	if now.Before(l.pausedUntil) {
		return l.pausedUntil, false
	}
	if until, wait := l.reserved(now, lane); wait {
		return until, false
	}
	limit := l.laneLimit(now, lane)
	for _, b := range l.blocks {
		// A block that was granted under a larger limit is not for a lane that
		// would not have been given it.
		if b.left == 0 || !l.usable(b, now) || b.limit > limit {
			continue
		}
		b.left--
		b.out++
		l.out = append(l.out, b)
		l.sent = append(l.sent, sending{now, lane == Urgent})
		return time.Time{}, true
	}
	return time.Time{}, false
}

// forget drops what no longer counts.
func (l *Limiter) forget(now time.Time) {
	for _, b := range l.blocks {
		if b.left > 0 && !now.Before(b.useBy) {
			l.lapse(b)
		}
	}
	gone := func(b *block) bool {
		return !now.Before(b.counts) && (b.settled || b.out == 0 || !now.Before(b.counts.Add(l.c.Span)))
	}
	l.blocks = slices.DeleteFunc(l.blocks, gone)
	l.out = slices.DeleteFunc(l.out, gone) // Over was not called
	old := 0
	for old < len(l.sent) && !l.sent[old].at.After(now.Add(-l.c.Span)) {
		old++
	}
	l.sent = slices.Delete(l.sent, 0, old)
}

// counting is how many permits of the block count against the share, as far as
// this process knows.
func (b *block) counting(now time.Time, span time.Duration) (n int) {
	if !b.settled {
		return b.granted
	}
	for _, u := range b.uses {
		if now.Sub(u.last) < span {
			n += u.n
		}
	}
	return n
}

// present is the share of the moment.
func (l *Limiter) present(now time.Time) int {
	if now.Before(l.sharedUntil) {
		return max(1, l.limit/2)
	}
	return l.limit
}

// laneLimit is up to how many permits of all lanes together the lane may take.
func (l *Limiter) laneLimit(now time.Time, lane Lane) int {
	limit := l.present(now)
	if lane == Spare {
		limit -= int(math.Ceil(max(l.c.Headroom, spareHeadroom) * float64(limit)))
	}
	return limit
}

// reserved reports whether what is not urgent has had all that urgent work
// leaves, and when it gets more. It is counted apart: were urgent work counted as
// well, what it has had already would be kept free for it a second time.
func (l *Limiter) reserved(now time.Time, lane Lane) (until time.Time, wait bool) {
	if lane == Urgent {
		return time.Time{}, false
	}
	most, had := l.leaves(now, lane), 0
	for i := len(l.sent) - 1; i >= 0; i-- {
		if l.sent[i].urgent {
			continue
		}
		if had++; had == most {
			return l.sent[i].at.Add(l.c.Span), true
		}
	}
	return time.Time{}, false
}

// leaves is how many requests in a span urgent work leaves to a lane.
func (l *Limiter) leaves(now time.Time, lane Lane) int {
	limit := l.present(now)
	keep := int(math.Ceil(l.c.Headroom * float64(limit)))
	if l.need >= 0 {
		keep = min(int(math.Round(margin*l.need)), int(mostReserved*float64(limit)))
	}
	most := max(1, limit-keep)
	if lane == History {
		most = max(1, int(mostHistory*float64(most)))
	}
	return most
}

// Leaves is how many requests in a [Config.Span] urgent work leaves to a lane.
func (l *Limiter) Leaves(lane Lane) int {
	now := l.c.Clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leaves(now, lane)
}

// Refused must be called for every budget error, with the pause that Cloudflare requests; 0
// means the documented five minutes. No request is sent until then. If this process has
// sent fewer requests than Cloudflare's limit, another program uses the user's budget, and
// the share is halved for an hour.
func (l *Limiter) Refused(retryAfter time.Duration) {
	if retryAfter <= 0 {
		retryAfter = l.c.Span
	}
	now := l.c.Clock.Now()
	l.mu.Lock()
	l.forget(now)
	sent := len(l.sent)
	l.refused++
	l.pausedUntil = later(l.pausedUntil, now.Add(retryAfter))
	shared := sent < l.c.Limit
	if shared {
		l.sharedUntil = now.Add(sharedFor)
	}
	until := l.pausedUntil
	l.mu.Unlock()
	l.often.Warn("", "Cloudflare reports that the query budget is exhausted", "user", l.c.User, "sent_in_span", sent,
		"limit", l.c.Limit, "shared", shared, "paused_until", until)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
