package collectortest

import (
	"context"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Damage makes the store hand out an entry as a driver does whose row does not
// match its checksum any more (storetest, Damaged): with its place, key and chain,
// and without its payload.
func (s *Shared) Damage(rev bucket.Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.damaged == nil {
		s.damaged = map[bucket.Revision]bool{}
	}
	s.damaged[rev] = true
}

// spoil takes the payload out of an entry that is damaged.
func (s *Shared) spoil(e *store.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.damaged[e.Revision] {
		e.Payload, e.Damage = nil, "its payload does not match its checksum"
	}
}

// ReadLog implements [collector.Store].
func (s *Shared) ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]store.Entry, error) {
	page, err := s.Store.ReadLog(ctx, after, limit)
	for i := range page {
		s.spoil(&page[i])
	}
	return page, err
}

// Snapshot implements [collector.Store].
func (s *Shared) Snapshot(ctx context.Context, q store.SnapshotQuery, emit func(store.Entry) error) (store.Head, error) {
	return s.Store.Snapshot(ctx, q, func(e store.Entry) error {
		s.spoil(&e)
		return emit(e)
	})
}

// List implements [collector.Store].
func (s *Shared) List(ctx context.Context, q store.ListQuery, emit func(store.Entry) error) error {
	return s.Store.List(ctx, q, func(e store.Entry) error {
		s.spoil(&e)
		return emit(e)
	})
}

// Buckets implements [collector.Store].
func (s *Shared) Buckets(ctx context.Context, keys []bucket.Key, emit func(store.Entry) error) error {
	return s.Store.Buckets(ctx, keys, func(e store.Entry) error {
		s.spoil(&e)
		return emit(e)
	})
}

// open is a gate through which everything passes.
type open struct{}

func (open) Before(ctx context.Context, _ Op) (context.Context, error) { return ctx, nil }
func (open) After(context.Context, Op) error                           { return nil }

// Unguarded is the store as a process has it to which nothing happens.
func (s *Shared) Unguarded() collector.Store { return s.Guard(open{}) }
