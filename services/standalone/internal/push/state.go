package push

import (
	"errors"
	"fmt"
	"time"
)

// Lag is how far the destination is behind the log. While that is not known, it is the time
// since the start.
func (p *Pusher) Lag() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	since := p.until
	if since.IsZero() {
		since = p.began
	}
	return max(0, p.Clock.Now().Sub(since))
}

// Ready returns nil, or why the push does not do its work. Safe for concurrent use.
func (p *Pusher) Ready() error {
	lag := p.Lag()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.halted != "":
		return fmt.Errorf("halted: %s", p.halted)
	case p.blocked != "":
		return errors.New(p.blocked)
	case !p.reached:
		return errors.New("no stream from a collector yet")
	case p.history != nil:
		if since := p.Clock.Now().Sub(p.moved); since > p.MaxLag {
			return fmt.Errorf("history: nothing was acknowledged for %s; at most %s is right; sent are the windows from %s to %s, of those to %s",
				since.Truncate(time.Second), p.MaxLag, p.history.Since, max(p.history.Day, p.history.Since), p.history.Through)
		}
	case lag > p.MaxLag:
		return fmt.Errorf("the destination is %s behind the log; at most %s is right", lag.Truncate(time.Second), p.MaxLag)
	}
	return nil
}

func (p *Pusher) setHalted(reason string) {
	p.mu.Lock()
	p.halted = reason
	p.mu.Unlock()
	p.Meter.halt(reason)
}

func (p *Pusher) block(cause, what string) {
	p.Meter.retries.WithLabelValues(cause).Inc()
	p.Meter.blocked.Set(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked = what
}

func (p *Pusher) unblock() {
	p.Meter.blocked.Set(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked = ""
}

// noted makes a cursor visible.
func (p *Pusher) noted(c *Cursor) {
	remaining := time.Duration(0)
	if c.History == nil {
		p.Meter.revision.Set(float64(c.Revision))
	} else {
		remaining = c.History.Through.Sub(max(c.History.Day, c.History.Since))
	}
	p.Meter.remaining.Set(max(0, remaining).Seconds())
	p.seen(c.Until)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history, p.moved = c.History, p.Clock.Now()
}

// seen moves the time up to which the destination has everything. One of the future yields to
// any other.
func (p *Pusher) seen(until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until.After(p.until) || p.until.After(p.Clock.Now()) {
		p.until = until
		p.Meter.until.Set(float64(until.UnixMilli()) / 1e3)
	}
}

// lost: entries cannot be read.
func (p *Pusher) lost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reached = false
}

// begun: entries are read from their place.
func (p *Pusher) begun() {
	p.setHalted("")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reached = true
}
