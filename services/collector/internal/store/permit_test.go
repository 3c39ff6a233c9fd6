package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// TestGrantNeverExceedsLimit reserves at random and sends every request at a
// random moment that its permit allows, the worst ones included. Of some blocks not
// all permits are used, and some are settled, at times more than once; now and then
// a build writes that knows of no settling. No span holds more requests than the
// limit (G7), and a caller that waits until RetryAt gets something.
func TestGrantNeverExceedsLimit(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			const limit, span = 30, 5 * time.Minute
			now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
			var stored string
			var sent []time.Time
			uses := map[string][]time.Time{} // of blocks that may be settled
			settle := func(now time.Time) (spent []store.Spent) {
				for _, id := range slices.Sorted(maps.Keys(uses)) {
					over := !slices.ContainsFunc(uses[id], now.Before)
					if !over || r.IntN(2) == 0 {
						continue
					}
					s := store.Spent{Block: id}
					for _, at := range uses[id] {
						s.Uses = append(s.Uses, store.Use{N: 1, Ago: now.Sub(at)})
					}
					if spent = append(spent, s); r.IntN(3) > 0 {
						delete(uses, id) // else it is said again
					}
				}
				return spent
			}
			for i := range 400 {
				keep := time.Duration(r.IntN(90)) * time.Second
				p := store.Permits{User: "u", Want: 1 + r.IntN(8), Limit: limit, Now: now, UseBy: now.Add(keep), Span: span, Block: fmt.Sprint(i), Spent: settle(now)}
				if r.IntN(20) == 0 {
					stored = strings.ReplaceAll(stored, `"id"`, `"unknown"`)
				}
				blocks, err := store.DecodePermits(stored)
				if err != nil {
					t.Fatal(err)
				}
				g, blocks := p.Grant(blocks)
				if blocks != nil {
					stored = store.EncodePermits(blocks)
				}
				switch {
				case g.N > p.Want:
					t.Fatalf("%d granted of %d wanted", g.N, p.Want)
				case g.N > 0:
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
				uses[p.Block] = nil
				for range r.IntN(g.N + 1) {
					at := now.Add(time.Duration(r.Int64N(int64(keep) + 1)))
					sent, uses[p.Block] = append(sent, at), append(uses[p.Block], at)
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

// What is settled counts from when it was used, and what was not used no more.
func TestSettledPermitsCountFromTheirUse(t *testing.T) {
	const limit, span = 10, 5 * time.Minute
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	p := store.Permits{User: "u", Want: limit, Limit: limit, Now: now, UseBy: now.Add(time.Minute), Span: span, Block: "a"}
	_, first := p.Grant(nil)
	p.Now, p.UseBy, p.Block = now.Add(20*time.Second), now.Add(80*time.Second), "b"
	p.Spent = []store.Spent{{Block: "a", Uses: []store.Use{{N: 2, Ago: 15 * time.Second}, {N: 5, Ago: 4 * time.Second}}}}
	g, second := p.Grant(first)
	if g.N != 3 {
		t.Errorf("%d granted, want the 3 that were not used", g.N)
	}
	if g, blocks := p.Grant(second); g.N != 0 || blocks != nil || !g.RetryAt.Equal(now.Add(5*time.Second+span)) {
		t.Errorf("%+v after all are granted, want a retry a span after the first use; %v to store", g, blocks)
	}
	// More uses than permits: a mistake, of which nothing is believed.
	p.Spent[0].Uses[0].N = 6
	if g, blocks := p.Grant(first); g.N != 0 || blocks != nil || !g.RetryAt.Equal(now.Add(time.Minute+span)) {
		t.Errorf("%+v, %v", g, blocks)
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

// Neither permits that lapse in years nor less than none are believed: the ones
// would stop all requests, the others lift the limit.
func TestPermitsThatCannotBe(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	p := store.Permits{User: "u", Want: 50, Limit: 100, Now: now, UseBy: now.Add(time.Minute), Span: 5 * time.Minute}
	grant, blocks := p.GrantAt(now, p.Known(`[{"n": 100, "until": "2099-01-01T00:00:00Z"}]`, now))
	lapses := p.UseBy.Add(p.Span)
	if grant.N != 0 || !grant.RetryAt.Equal(lapses) || blocks == nil {
		t.Fatalf("%+v, %v; want none until the block lapses, and that stored", grant, blocks)
	}
	p.Now, p.UseBy = lapses, lapses.Add(time.Minute)
	if grant, _ = p.GrantAt(p.Now, blocks); grant.N != 50 {
		t.Errorf("%d permits are granted afterwards; want 50", grant.N)
	}
	if grant, _ = p.GrantAt(now, p.Known(`[{"n": -1000, "until": "2026-11-22T12:04:00Z"}]`, now)); grant.N != 1 {
		t.Errorf("%d permits are granted on top of less than none; want 1, as when they are not known", grant.N)
	}
}
