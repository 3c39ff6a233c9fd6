// Package clock is the one source of calendar time in Weir.
//
// Every component that reads the time or waits for a time takes a [Clock]; nothing below
// main calls time.Now for a time that reaches the store, a request to Cloudflare or an
// exposition. So a demo can start in the past, and a test can run days of collection in
// minutes.
//
// A process uses exactly one Clock. Durations of I/O (time-outs, latencies)
// are measured with the time package: they are about this machine, not about
// the calendar.
package clock

import (
	"context"
	"sync"
	"time"
)

// Clock tells calendar time and waits for it. Implementations are safe for
// concurrent use and never go back.
type Clock interface {
	// Now is the present calendar time, in UTC.
	Now() time.Time
	// WaitUntil returns nil once Now() is at or after t, or ctx's cause when
	// ctx ends first. It returns at once when t is not in the future.
	WaitUntil(ctx context.Context, t time.Time) error
}

// System is the machine's clock. Inside a testing/synctest bubble it is the
// bubble's fake clock.
func System() Clock { return system{} }

type system struct{}

func (system) Now() time.Time { return time.Now().UTC() }

func (c system) WaitUntil(ctx context.Context, t time.Time) error {
	return wait(ctx, time.Until(t))
}

// Chasing is a clock that starts at from and runs speed times as fast as the machine's
// clock until it has caught up with it, and equals it from then on. It panics if speed
// is 1 or less, since such a clock would never catch up.
func Chasing(from time.Time, speed float64) Clock {
	if speed <= 1 {
		panic("clock: Chasing needs a speed above 1")
	}
	return &chasing{origin: time.Now(), from: from, speed: speed}
}

type chasing struct {
	origin time.Time // machine time at which the clock stood at from
	from   time.Time
	speed  float64
}

func (c *chasing) Now() time.Time {
	now := time.Now()
	if virtual := c.virtual(now); virtual.Before(now) {
		return virtual
	}
	return now.UTC()
}

func (c *chasing) chases() bool {
	now := time.Now()
	return c.virtual(now).Before(now)
}

// Span is how far a clock goes in a duration of the machine's time: farther while it chases.
func Span(c Clock, d time.Duration) time.Duration {
	if fast, ok := c.(*chasing); ok && fast.chases() {
		return time.Duration(float64(d) * fast.speed)
	}
	return d
}

func (c *chasing) virtual(now time.Time) time.Time {
	return c.from.Add(time.Duration(float64(now.Sub(c.origin)) * c.speed)).UTC()
}

func (c *chasing) WaitUntil(ctx context.Context, t time.Time) error {
	for {
		left := t.Sub(c.Now())
		if left <= 0 {
			return nil
		}
		// While chasing, t is left/speed away; in step it is left away. The
		// catch-up may come in between, so look again after each wait.
		if c.chases() {
			left = max(time.Duration(float64(left)/c.speed), time.Millisecond)
		}
		if err := wait(ctx, left); err != nil {
			return err
		}
	}
}

// Manual is a clock that stands still until it is told to move. For tests and
// for the simulator's own use.
type Manual struct {
	mu      sync.Mutex
	now     time.Time
	changed chan struct{}
}

// NewManual returns a clock that stands at t.
func NewManual(t time.Time) *Manual {
	return &Manual{now: t.UTC(), changed: make(chan struct{})}
}

// Now implements [Clock].
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// Set moves the clock to t. Moving back is ignored: a Clock never goes back.
func (m *Manual) Set(t time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !t.After(m.now) {
		return
	}
	m.now = t.UTC()
	close(m.changed)
	m.changed = make(chan struct{})
}

// Advance moves the clock forward by d.
func (m *Manual) Advance(d time.Duration) { m.Set(m.Now().Add(d)) }

// WaitUntil implements [Clock].
func (m *Manual) WaitUntil(ctx context.Context, t time.Time) error {
	for {
		m.mu.Lock()
		now, changed := m.now, m.changed
		m.mu.Unlock()
		if !t.After(now) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
