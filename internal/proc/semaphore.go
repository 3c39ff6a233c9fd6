package proc

import "context"

// Semaphore limits how much work of one kind runs at a time: its capacity is the limit.
// Waiters are served in the order in which they came.
type Semaphore chan struct{}

// Acquire takes a slot. It waits for one until ctx ends, and then returns the cause.
func (s Semaphore) Acquire(ctx context.Context) error {
	if s.TryAcquire() { // a free slot is given even if ctx has ended
		return nil
	}
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// TryAcquire takes a slot if one is free.
func (s Semaphore) TryAcquire() bool {
	select {
	case s <- struct{}{}:
		return true
	default:
		return false
	}
}

// Release returns a slot.
func (s Semaphore) Release() { <-s }
