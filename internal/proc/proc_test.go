package proc_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/internal/proc"
)

// journal is what happened, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

// server is a part that takes a second to end; below is one that it rests on.
func (j *journal) start(ctx context.Context) *proc.Group {
	g := proc.NewGroup(ctx, func() { j.add("leaves") })
	served := make(chan struct{})
	g.AddUnder(served, func(ctx context.Context) error { <-ctx.Done(); j.add("below ends"); return ctx.Err() })
	g.Add(func(ctx context.Context) error {
		defer close(served)
		<-ctx.Done()
		time.Sleep(time.Second)
		j.add("server ends")
		return errors.New("too late to matter")
	})
	return g
}

func TestAGroupEndsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		if err := j.start(ctx).Run(); err != nil {
			t.Errorf("a group that was told to end returns %v", err)
		}
		if want := []string{"leaves", "server ends", "below ends"}; !slices.Equal(j.lines, want) {
			t.Errorf("what happened: %q, want %q", j.lines, want)
		}
	})
}

func TestAPartThatFailsEndsTheGroup(t *testing.T) {
	broken := errors.New("broken")
	for name, add := range map[string]func(*proc.Group, func(context.Context) error){
		"part":  (*proc.Group).Add,
		"under": func(g *proc.Group, part func(context.Context) error) { g.AddUnder(make(chan struct{}), part) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				g := j.start(t.Context())
				add(g, func(context.Context) error { time.Sleep(time.Minute); return broken })
				if err := g.Run(); !errors.Is(err, broken) {
					t.Errorf("the group returns %v, want what failed", err)
				}
				if want := []string{"server ends", "below ends"}; !slices.Equal(j.lines, want) {
					t.Errorf("what happened: %q, want %q", j.lines, want)
				}
			})
		})
	}
}

func TestSemaphore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slots := make(proc.Semaphore, 1)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := slots.Acquire(ended); err != nil {
			t.Errorf("a free slot is refused: %v", err)
		}
		if slots.TryAcquire() {
			t.Error("two are in one slot")
		}
		full := errors.New("full")
		waits, cancel := context.WithTimeoutCause(t.Context(), time.Second, full)
		defer cancel()
		if err := slots.Acquire(waits); !errors.Is(err, full) {
			t.Errorf("waiting in vain returns %v, want the cause of the end", err)
		}
		time.AfterFunc(time.Second, slots.Release)
		if err := slots.Acquire(t.Context()); err != nil {
			t.Errorf("a slot that became free is refused: %v", err)
		}
	})
}
