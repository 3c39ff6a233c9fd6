// Package collectortest puts faults between a collector and its database.
//
// Several collectors of one test share one [Shared] store, each through a
// guard of its own, which asks a [Gate] before and after every call: so one
// process can lose its database, or its life, while the others keep theirs, and
// a commit can take effect while its answer is lost.
package collectortest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Op is one call of a store.
type Op struct {
	Name  string // the method: Append, Renew, ReadLog
	Write bool   // it changes the database
}

// Gate decides what becomes of a process's calls. Methods are called from the
// goroutine that makes the call, and may block it.
type Gate interface {
	// Before is asked before a call reaches the database. With an error it does
	// not reach it, and the caller gets [store.ErrUnavailable] with that error.
	// The call goes on with the context returned: one without a deadline is a
	// statement that was on its way when its process gave up waiting.
	Before(ctx context.Context, op Op) (context.Context, error)
	// After is asked when the database has answered. With an error the answer is
	// lost: what the call did is done.
	After(ctx context.Context, op Op) error
}

// What a database that an operator must mend answers, for gates to return.
var (
	ErrNoSpace  = store.ErrNoSpace
	ErrReadOnly = store.ErrReadOnly
	ErrDenied   = store.ErrDenied
	ErrSchema   = store.ErrSchema
	ErrCorrupt  = store.ErrCorrupt
)

// Entry is one line of the log as stored.
type Entry = store.Entry

// Shared is a store that several collectors have open. Its methods are the
// store's own, without any fault.
type Shared struct {
	collector.Store
	clock clock.Clock

	mu     sync.Mutex
	guards map[*guard]struct{}
	// writes is raised before and after every write, and writing is how many are
	// on their way. A head that was read while there was none, between two
	// writes, is the head while writes is readAt; one that was read beside a write
	// may be older than what others have seen, and is kept by nobody. Every feed and every candidate for the lease asks for it each
	// second or so, and the leader extends its lease every third: over hours of
	// virtual time that would be most of what a test does. So extensions are kept
	// here too; everything else is SQLite's.
	writes, readAt uint64
	writing        int
	head           store.Head
	extended       struct {
		term  store.Term
		until time.Time
	}
	newest   store.Term // that was ever granted
	breaches []string
	damaged  map[bucket.Revision]bool
}

// Share takes over a store whose clock is c. The caller closes it when all
// guards are closed.
func Share(s collector.Store, c clock.Clock) *Shared {
	return &Shared{Store: s, clock: c, guards: map[*guard]struct{}{}, writes: 1}
}

// Guard is the store as one process has it. Closing it closes nothing but the
// process's own view.
func (s *Shared) Guard(g Gate) collector.Store {
	out := &guard{shared: s, gate: g, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guards[out] = struct{}{}
	return out
}

// Log reads all entries.
func (s *Shared) Log(ctx context.Context) ([]Entry, error) {
	var out []Entry
	for {
		var after bucket.Revision
		if n := len(out); n > 0 {
			after = out[n-1].Revision
		}
		page, err := s.ReadLog(ctx, after, 1000)
		if err != nil {
			return nil, fmt.Errorf("read the whole log: %w", err)
		}
		if len(page) == 0 {
			return out, nil
		}
		out = append(out, page...)
	}
}

// Head implements [collector.Store].
func (s *Shared) Head(ctx context.Context) (store.Head, error) {
	head, at, known := s.known()
	if known && ctx.Err() == nil {
		return head, nil
	}
	head, err := s.Store.Head(ctx)
	if err != nil {
		return head, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if x := s.extended; x.term == head.Term && x.until.After(head.ExpiresAt) {
		head.ExpiresAt = x.until
	}
	if s.writing == 0 && s.writes == at {
		s.head, s.readAt = head, at
	}
	return head, nil
}

// known is the head where it needs no reading, and the number of writes so far.
func (s *Shared) known() (head store.Head, writes uint64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	head = s.head
	head.Now = store.Millis(s.clock.Now())
	return head, s.writes, s.writing == 0 && s.readAt == s.writes
}

// Acquire implements [collector.Store].
func (s *Shared) Acquire(ctx context.Context, holder string, ttl time.Duration) (store.Lease, error) {
	head, err := s.Head(ctx)
	if err == nil && head.Holder != holder && head.ExpiresAt.After(head.Now) {
		return store.Lease{}, &store.HeldError{Holder: head.Holder, Until: head.ExpiresAt}
	}
	defer s.changing()()
	lease, err := s.Store.Acquire(ctx, holder, ttl)
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.newest = max(s.newest, lease.Term)
	}
	return lease, err
}

// Release implements [collector.Store].
func (s *Shared) Release(ctx context.Context, term store.Term) error {
	defer s.changing()()
	err := s.Store.Release(ctx, term)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && s.newest == term {
		s.newest++ // the next term is nobody's
	}
	return err
}

// Breaches are the writes that the store let through under a term that was over.
func (s *Shared) Breaches() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.breaches)
}

// fenced notes whether a write that succeeded was the leader's.
func (s *Shared) fenced(what string, term store.Term, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil && term < s.newest {
		s.breaches = append(s.breaches, fmt.Sprintf("%s under term %d succeeded; term %d had been granted", what, term, s.newest))
	}
}

// Renew implements [collector.Store].
func (s *Shared) Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error {
	head, err := s.Head(ctx)
	if err == nil && head.Term == term && progress.IsZero() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.head.Term == term {
			s.head.ExpiresAt = store.Millis(head.Now.Add(ttl))
			s.extended.term, s.extended.until = term, s.head.ExpiresAt
			return nil
		}
	}
	defer s.changing()()
	return s.Store.Renew(ctx, term, ttl, progress)
}

// changing is called before a write, and what it returns after it.
func (s *Shared) changing() (done func()) {
	count := func(by int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.writes++
		s.writing += by
	}
	count(1)
	return func() { count(-1) }
}

// wake wakes everybody, as NOTIFY does.
func (s *Shared) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for g := range s.guards {
		select {
		case g.wake <- struct{}{}:
		default: // one is pending already
		}
	}
}
