package proc

import "context"

// Places bounds how much work of one kind is done at a time: its capacity is
// the limit. Who waits is served in the order of coming.
type Places chan struct{}

// Enter takes a place, and waits for one until ctx ends; then it returns the
// cause of that.
func (p Places) Enter(ctx context.Context) error {
	if p.TryEnter() { // a place that is free is given whatever became of ctx
		return nil
	}
	select {
	case p <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// TryEnter takes a place if one is free.
func (p Places) TryEnter() bool {
	select {
	case p <- struct{}{}:
		return true
	default:
		return false
	}
}

// Leave gives a place back.
func (p Places) Leave() { <-p }
