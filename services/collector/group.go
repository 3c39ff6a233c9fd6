package collector

import (
	"context"

	"github.com/oklog/run"
)

// group are actors that end together.
type group struct {
	run.Group
	ctx context.Context //nolint:containedctx // the values of the actors' own
}

// newGroup returns a group that ends with ctx, after a call of first.
func newGroup(ctx context.Context, first func()) *group {
	g := &group{ctx: ctx}
	ended := make(chan struct{})
	g.Add(func() error {
		select {
		case <-ctx.Done():
			first()
		case <-ended:
		}
		return nil
	}, func(error) { close(ended) })
	return g
}

// add adds an actor, which ends when its context does.
func (g *group) add(work func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(g.ctx))
	g.Add(func() error { return work(ctx) }, func(error) { cancel() })
}
