// Package backoff counts failures in a row and says when to try again.
package backoff

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Backoff counts the failures of one thing. The zero value has none. Not safe for
// concurrent use.
type Backoff struct {
	Failures int         // in a row
	Since    bucket.Time // the first of them
	Next     bucket.Time // not to be tried before
}

// Pauses double from the first up to the longest.
type Pauses struct{ First, Most time.Duration }

// Fail records a failure at now. jitter, in [0, 1), applies to the upper half of the pause,
// so that collectors of one user do not retry together.
func (b *Backoff) Fail(now bucket.Time, p Pauses, jitter float64) {
	pause := min(p.First<<min(b.Failures, 16), p.Most)
	if b.Failures++; b.Failures == 1 {
		b.Since = now
	}
	b.Next = now.Add(pause/2 + time.Duration(jitter*float64(pause/2)) + time.Second)
}
