// Package proc runs the long-lived parts of a process, which end together and in order,
// and limits how much work runs at a time.
package proc

import (
	"context"
	"sync"
)

// Group is a set of parts that end together: parts added with [Group.Add] at once, and
// parts added with [Group.AddUnder] after the parts that depend on them.
type Group struct {
	ctx   context.Context //nolint:containedctx // the context of Run
	leave func()
	parts []func(context.Context) error
}

// NewGroup returns a group that ends with ctx. Leave, if not nil, is called before the
// parts end, so that readiness can report it first.
func NewGroup(ctx context.Context, leave func()) *Group { return &Group{ctx: ctx, leave: leave} }

// Add adds a part, which runs until its context ends.
func (g *Group) Add(part func(context.Context) error) { g.parts = append(g.parts, part) }

// AddUnder adds a part that others depend on: its context ends when done is closed, not
// when the group ends. If it returns before that, the group ends.
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

// Run runs the parts until ctx ends or one of them returns, then ends the others and waits
// for them. It returns the error of the part that ended the group, or nil if ctx ended.
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
