// Package proc runs the long-lived parts of a process: what ends together, in
// which order, and how many do the same work at a time.
package proc

import (
	"context"
	"sync"
)

// Group is a set of parts that end together. The order in which they end is
// what they are told: [Group.Add] for parts that stop at once, [Group.AddUnder]
// for those that others rest on.
type Group struct {
	ctx   context.Context //nolint:containedctx // Run's, told where the parts are listed
	leave func()
	parts []func(context.Context) error
}

// NewGroup returns a group that ends with ctx. Leave is called before any part
// is told to end, so that readiness can say no first; nil does nothing.
func NewGroup(ctx context.Context, leave func()) *Group { return &Group{ctx: ctx, leave: leave} }

// Add adds a part, which runs until its context ends.
func (g *Group) Add(part func(context.Context) error) { g.parts = append(g.parts, part) }

// AddUnder adds a part that others rest on: its context ends when they are done,
// not when the group ends. A part that returns before that ends the group.
func (g *Group) AddUnder(done <-chan struct{}, part func(context.Context) error) {
	g.Add(func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		go func() {
			select {
			case <-done:
				cancel()
			case <-ctx.Done():
			}
		}()
		return part(ctx)
	})
}

// Run runs the parts until ctx ends or one of them returns, then ends the others
// and waits for them. It returns the error of the part that ended the group, and
// nil when ctx did.
func (g *Group) Run() (err error) {
	ctx, end := context.WithCancel(context.WithoutCancel(g.ctx))
	var running sync.WaitGroup
	ended := make(chan error, len(g.parts)) // of which the first is read
	for _, part := range g.parts {
		running.Go(func() { ended <- part(ctx) })
	}
	select {
	case <-g.ctx.Done():
		if g.leave != nil {
			g.leave()
		}
	case err = <-ended:
	}
	end()
	running.Wait()
	return err
}
