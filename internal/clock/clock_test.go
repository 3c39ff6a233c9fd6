package clock_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
)

func TestSystemWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.System()
		at := c.Now().Add(time.Hour)
		if err := c.WaitUntil(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if now := c.Now(); !now.Equal(at) {
			t.Errorf("woke at %s, want %s", now, at)
		}
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("enough")
		for name, c := range map[string]clock.Clock{
			"system": clock.System(), "chasing": clock.Chasing(time.Now().Add(-time.Hour), 2), "manual": clock.NewManual(time.Now()),
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() { time.Sleep(time.Second); cancel(why) }()
			if err := c.WaitUntil(ctx, c.Now().Add(100*time.Hour)); !errors.Is(err, why) {
				t.Errorf("%s: wait ended with %v, want %v", name, err, why)
			}
		}
	})
}

// A chasing clock runs at its speed, arrives when it should, never passes the
// machine's clock and never goes back.
func TestChasing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		machine := time.Now()
		c := clock.Chasing(machine.Add(-24*time.Hour), 100)
		if err := c.WaitUntil(t.Context(), machine.Add(-12*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(machine); took < 7*time.Minute+12*time.Second || took > 7*time.Minute+13*time.Second {
			t.Errorf("12 hours at 100 times the speed took %s, want 7m12s", took)
		}
		last := c.Now()
		for range 200 {
			time.Sleep(7 * time.Second)
			now := c.Now()
			if now.Before(last) || now.After(time.Now()) {
				t.Fatalf("clock went from %s to %s; the machine's is %s", last, now, time.Now())
			}
			last = now
		}
		if !last.Equal(time.Now()) {
			t.Errorf("the clock is %s behind after it should have caught up", time.Since(last))
		}
		at := c.Now().Add(time.Hour)
		if err := c.WaitUntil(t.Context(), at); err != nil || !c.Now().Equal(at) {
			t.Errorf("in step: woke at %s (%v), want %s", c.Now(), err, at)
		}
	})
}

func TestManual(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.NewManual(time.Now())
		at := c.Now().Add(time.Minute)
		done := make(chan error)
		go func() { done <- c.WaitUntil(t.Context(), at) }()
		c.Advance(59 * time.Second)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("woke a second early: %v", err)
		default:
		}
		c.Set(at.Add(-time.Hour)) // ignored: a clock never goes back
		c.Advance(time.Second)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
