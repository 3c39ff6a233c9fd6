package poll

import (
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
)

// tolerance is the skew that is put down to measuring: HTTP dates have whole
// seconds.
const tolerance = 2 * time.Second

// Trusted is the earliest of the local clock, the database's and Cloudflare's.
// A clock that is ahead would make windows final too early, and
// one that is behind costs latency only, so the earliest is the safe one. Safe
// for concurrent use.
type Trusted struct {
	clock clock.Clock

	mu   sync.Mutex
	skew map[string]time.Duration // by source: its clock minus ours
}

// NewTrusted returns a Trusted that has only the local clock so far.
func NewTrusted(c clock.Clock) *Trusted {
	return &Trusted{clock: c, skew: map[string]time.Duration{}}
}

// Now is the trusted time.
func (t *Trusted) Now() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	var behind time.Duration
	for _, skew := range t.skew {
		behind = min(behind, skew)
	}
	return t.clock.Now().Add(behind)
}

// Skew is a source's clock minus ours when it was last observed; 0 if it was not.
func (t *Trusted) Skew(source string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.skew[source]
}

// Second is the trusted time in whole seconds, rounded down.
func (t *Trusted) Second() bucket.Time { return bucket.TimeOf(t.Now()) }

// Observe compares a source's clock with ours: at was read somewhere between
// sent and received, and is exact to resolution. It returns the skew, zero
// when it cannot be told from the time that the question took.
func (t *Trusted) Observe(source string, sent, received, at time.Time, resolution time.Duration) time.Duration {
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
	t.mu.Lock()
	defer t.mu.Unlock()
	t.skew[source] = skew
	return skew
}
