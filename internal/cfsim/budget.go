package cfsim

import (
	"sync"
	"time"
)

// budget counts requests in sliding windows, one for each key (a user, or an
// account or zone in account-based mode).
type budget struct {
	mu     sync.Mutex
	window time.Duration
	spent  map[string][]charge
}

type charge struct {
	at   time.Time
	cost int
}

func newBudget(window time.Duration) *budget {
	return &budget{window: window, spent: map[string][]charge{}}
}

// take spends cost if no more than limit is spent within the window then, and
// says what is left and when the oldest charge frees. A refused request costs
// nothing: it stays refused until charges leave the window.
func (b *budget) take(key string, cost, limit int, now time.Time) (left int, free time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	used := b.used(key, now)
	if used+cost > limit {
		free = b.window
		if list := b.spent[key]; len(list) > 0 {
			free = b.window - now.Sub(list[0].at)
		}
		return max(limit-used, 0), free, false
	}
	b.spent[key] = append(b.spent[key], charge{now, cost})
	return limit - used - cost, 0, true
}

// used drops what left the window and sums the rest. Callers hold mu.
func (b *budget) used(key string, now time.Time) int {
	list := b.spent[key]
	for len(list) > 0 && now.Sub(list[0].at) >= b.window {
		list = list[1:]
	}
	b.spent[key] = list
	n := 0
	for _, c := range list {
		n += c.cost
	}
	return n
}

// all is what each key has spent within the window.
func (b *budget) all(now time.Time) map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string]int{}
	for key := range b.spent {
		out[key] = b.used(key, now)
	}
	return out
}
