package client

import (
	"math/rand/v2"
	"time"
)

// pauses returns exponentially growing pauses with jitter. Not safe for concurrent
// use.
type pauses struct {
	Backoff
	rng    *rand.Rand
	streak int // consecutive exponential pauses
}

func (p *pauses) next() time.Duration {
	d := p.Max
	// 2^30 × a nanosecond exceeds a second already; beyond it, shifting would overflow.
	if p.streak < 30 && p.Min<<p.streak>>p.streak == p.Min {
		d = min(p.Min<<p.streak, p.Max)
	}
	p.streak++
	return p.jitter(d)
}

// hinted is the pause that a server asked for, capped at Max and lengthened by a
// jitter of up to half, because the server asks every client for the same.
func (p *pauses) hinted(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	d = min(d, p.Max)
	return min(d+time.Duration(p.rng.Int64N(int64(d/2)+1)), p.Max)
}

func (p *pauses) long() time.Duration { return p.jitter(p.Long) }

func (p *pauses) reset() { p.streak = 0 }

// jitter shortens d by up to half.
func (p *pauses) jitter(d time.Duration) time.Duration {
	return d - time.Duration(p.rng.Int64N(int64(d/2)+1))
}
