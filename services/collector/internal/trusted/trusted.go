// Package trusted provides the time for decisions: the earliest of the local clock, the
// database's and Cloudflare's. A clock that is ahead would make windows final too early;
// a clock that is behind only adds latency. So the earliest is the safe one.
package trusted

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Sources of time besides the local clock.
const (
	Database   = "database"
	Cloudflare = "cloudflare"
)

// tolerance is the skew that is attributed to measurement: HTTP dates have whole seconds.
const tolerance = 2 * time.Second

// Head is where the database's clock is read.
type Head interface {
	Head(ctx context.Context) (store.Head, error)
}

// Clock is the trusted time. Safe for concurrent use.
type Clock struct {
	local    clock.Clock
	database Head
	seen     func(source string, skew time.Duration)

	mu   sync.Mutex
	skew map[string]time.Duration // by source: its clock minus ours
}

// New returns a Clock that knows only the local clock so far. seen is called with
// each observed skew, and need not be safe for concurrent use if Read and
// Observe are not called concurrently.
func New(local clock.Clock, database Head, seen func(source string, skew time.Duration)) *Clock {
	return &Clock{local: local, database: database, seen: seen, skew: map[string]time.Duration{}}
}

// Now is the trusted time, by what is known of the sources.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	var behind time.Duration
	for _, skew := range c.skew {
		behind = min(behind, skew)
	}
	return c.local.Now().Add(behind)
}

// Second is the trusted time in whole seconds, rounded down.
func (c *Clock) Second() bucket.Time { return bucket.TimeOf(c.Now()) }

// Read compares the local clock with the database's and returns the trusted time. It must
// be called before every decision and every write that depends on the time: a clock that
// was right a minute ago may have been set ahead since, and would make windows due, final
// or lost too early. A database that is ahead of us, as in a demo that runs in the past,
// has no effect.
func (c *Clock) Read(ctx context.Context) (time.Time, error) {
	now, _, err := c.ReadBoth(ctx)
	return now, err
}

// ReadBoth is [Clock.Read], and what the database's clock said.
func (c *Clock) ReadBoth(ctx context.Context) (now, database time.Time, err error) {
	sent := c.local.Now()
	head, err := c.database.Head(ctx)
	if err != nil {
		return now, database, fmt.Errorf("read the database's clock: %w", err)
	}
	c.Observe(Database, sent, c.local.Now(), head.Now, 0)
	// If the response took long, or this process was suspended meanwhile, a clock that
	// was set ahead looks like latency.
	now, said := c.Now(), head.Now.Add(tolerance)
	if said.Before(now) {
		return said, head.Now, nil
	}
	return now, head.Now, nil
}

// Skew is a source's clock minus ours when it was last observed; 0 if it was not.
func (c *Clock) Skew(source string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew[source]
}

// Observe compares a source's clock with ours: at was read somewhere between
// sent and received, and is exact to resolution. The skew is zero if it cannot be
// distinguished from the latency of the request.
func (c *Clock) Observe(source string, sent, received, at time.Time, resolution time.Duration) {
	var skew time.Duration
	switch {
	case at.Add(resolution).Before(sent):
		skew = at.Add(resolution).Sub(sent)
	case at.After(received):
		skew = at.Sub(received)
	}
	if skew.Abs() <= tolerance {
		skew = 0
	}
	c.mu.Lock()
	c.skew[source] = skew
	c.mu.Unlock()
	c.seen(source, skew)
}
