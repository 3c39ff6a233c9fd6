package traffic

import (
	"container/list"
	"sync"
)

// cache keeps the most recently used values up to a fixed number. Two callers
// that miss at the same time both compute; the values are equal, so the waste
// is harmless and no caller waits for another's work.
type cache[V any] struct {
	mu    sync.Mutex
	limit int
	order *list.List // front = most recently used; of *entry[V]
	byKey map[int64]*list.Element
}

type entry[V any] struct {
	key   int64
	value V
}

func newCache[V any](limit int) *cache[V] {
	return &cache[V]{limit: limit, order: list.New(), byKey: make(map[int64]*list.Element)}
}

func (c *cache[V]) get(key int64, compute func() V) V {
	c.mu.Lock()
	if e, ok := c.byKey[key]; ok {
		c.order.MoveToFront(e)
		v := e.Value.(*entry[V]).value
		c.mu.Unlock()
		return v
	}
	c.mu.Unlock()
	v := compute()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		return e.Value.(*entry[V]).value
	}
	c.byKey[key] = c.order.PushFront(&entry[V]{key, v})
	if c.order.Len() > c.limit {
		oldest := c.order.Back()
		delete(c.byKey, oldest.Value.(*entry[V]).key)
		c.order.Remove(oldest)
	}
	return v
}
