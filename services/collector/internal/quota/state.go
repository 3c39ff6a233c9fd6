package quota

import "time"

// Share is Weir's configured part of the requests in a span, and Cloudflare's limit for the
// user. Budget errors do not change it.
func (l *Limiter) Share() (share, limit int) { return l.limit, l.c.Limit }

// State is what metrics and the status page show.
type State struct {
	// Limit is the present share, in requests per span.
	Limit int
	// Left is how many requests this process could send now, as far as it
	// knows: what other processes have reserved only the store knows.
	Left int
	// Sent is how many permits this process handed out within the last span.
	Sent int
	// Lapsed counts permits that were reserved and never used.
	Lapsed uint64
	// Refused counts budget errors.
	Refused uint64
	// PausedUntil is in the past when nothing is paused.
	PausedUntil time.Time
	// Shared: a budget error came although we were within our share, less than
	// an hour ago.
	Shared bool
}

// State returns the limiter's present state.
func (l *Limiter) State() State {
	now := l.c.Clock.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(now)
	s := State{
		Limit: l.present(now), Sent: len(l.sent), Lapsed: l.lapsed, Refused: l.refused,
		PausedUntil: l.pausedUntil, Shared: now.Before(l.sharedUntil),
	}
	reserved, left := 0, 0
	for _, b := range l.blocks {
		reserved += b.counting(now, l.c.Span)
		left += b.left
	}
	if !now.Before(l.pausedUntil) {
		s.Left = max(0, s.Limit-reserved) + min(left, s.Limit)
	}
	return s
}
