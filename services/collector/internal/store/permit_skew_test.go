package store_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Two processes, one of which has a clock that is two seconds behind: what has
// lapsed for the first still counts for the second.
func TestLapsedPermitsCountForASlowerClock(t *testing.T) {
	const limit, span = 100, 5 * time.Minute
	until := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	ask := func(now time.Time, want int, blocks []store.PermitBlock) (store.Grant, []store.PermitBlock) {
		p := store.Permits{User: "u", Want: want, Limit: limit, Now: now, UseBy: now.Add(time.Minute), Span: span}
		return p.Grant(blocks)
	}
	g, blocks := ask(until.Add(time.Second), 1, []store.PermitBlock{{N: limit, Until: until}})
	if g.N != 1 {
		t.Fatalf("%d granted after all had lapsed, want 1", g.N)
	}
	if g, _ := ask(until.Add(-time.Second), limit, blocks); g.N != 0 {
		t.Errorf("%d granted to a process for which all %d still count", g.N, limit)
	}
}

// What nobody counts any more is dropped: the row stays small for ever.
func TestLapsedPermitsAreDropped(t *testing.T) {
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	var blocks []store.PermitBlock
	for range 1000 {
		p := store.Permits{User: "u", Want: 1, Limit: 100, Now: now, UseBy: now.Add(time.Minute), Span: 5 * time.Minute}
		if _, blocks = p.Grant(blocks); len(blocks) > 12 { // of the last eleven minutes
			t.Fatalf("%d blocks are kept at %s", len(blocks), now)
		}
		now = now.Add(time.Minute)
	}
}
