package store_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// TestGrantNeverExceedsLimit reserves at random and sends every request at a
// random moment that its permit allows, the worst ones included. No span holds
// more requests than the limit (G7), and a caller that waits until RetryAt gets
// something.
func TestGrantNeverExceedsLimit(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			const limit, span = 30, 5 * time.Minute
			now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
			var stored string
			var sent []time.Time
			for range 400 {
				keep := time.Duration(r.IntN(90)) * time.Second
				p := store.Permits{User: "u", Want: 1 + r.IntN(8), Limit: limit, Now: now, UseBy: now.Add(keep), Span: span}
				blocks, err := store.DecodePermits(stored)
				if err != nil {
					t.Fatal(err)
				}
				g, blocks := p.Grant(blocks)
				switch {
				case g.N > p.Want:
					t.Fatalf("%d granted of %d wanted", g.N, p.Want)
				case g.N > 0:
					stored = store.EncodePermits(blocks)
				case !g.RetryAt.After(now):
					t.Fatalf("nothing granted at %s, retry at %s", now, g.RetryAt)
				default:
					now, p.Now, p.UseBy = g.RetryAt, g.RetryAt, g.RetryAt.Add(keep)
					if blocks, err = store.DecodePermits(stored); err != nil {
						t.Fatal(err)
					}
					if g, blocks = p.Grant(blocks); g.N == 0 {
						t.Fatalf("nothing granted at %s, which was given as the time to retry", now)
					}
					stored = store.EncodePermits(blocks)
				}
				for range g.N {
					sent = append(sent, now.Add(time.Duration(r.Int64N(int64(keep)+1))))
				}
				now = now.Add(time.Duration(r.IntN(20)) * time.Second)
			}
			for _, from := range sent {
				n := 0
				for _, at := range sent {
					if !at.Before(from) && at.Before(from.Add(span)) {
						n++
					}
				}
				if n > limit {
					t.Fatalf("%d requests in the span from %s, the limit is %d", n, from, limit)
				}
			}
			if len(sent) < limit*5 {
				t.Errorf("only %d requests in all: the limit is hardly reached", len(sent))
			}
		})
	}
}

// A row of permits that was damaged is mended by the next grant, at no more than
// the limit; it must not stop all requests for ever.
func TestDamagedPermitsAreMended(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	p := store.Permits{User: "u", Want: 50, Limit: 100, Now: now, UseBy: now.Add(time.Minute), Span: 5 * time.Minute}
	grant, blocks := p.GrantAt(now, p.Known(`{"damaged": true}`, now))
	if grant.N != 1 {
		t.Fatalf("%d permits were granted on top of what is not known; want 1", grant.N)
	}
	stored := store.EncodePermits(blocks)
	if grant, _ = p.GrantAt(now, p.Known(stored, now)); grant.N != 0 || !grant.RetryAt.Equal(now.Add(p.Span)) {
		t.Errorf("at once again: %+v; want none until a span has passed", grant)
	}
	p.Now, p.UseBy = p.Now.Add(p.Span), p.UseBy.Add(p.Span)
	if grant, _ = p.GrantAt(p.Now, p.Known(stored, p.Now)); grant.N != 50 {
		t.Errorf("after a span %d permits are granted; want 50", grant.N)
	}
}
