package lease_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/lease"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// row is the lease row of a database that can be cut off from one holder.
type row struct {
	mu      sync.Mutex
	term    store.Term
	holder  string
	expires time.Time
}

// conn is one process's way to the row.
type conn struct {
	*row
	away bool // guarded by row.mu
}

var errAway = store.ErrUnavailable

func (c *conn) Acquire(_ context.Context, holder string, ttl time.Duration) (store.Lease, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.away:
		return store.Lease{}, errAway
	case time.Now().Before(c.expires) && c.holder != holder:
		return store.Lease{}, &store.HeldError{Holder: c.holder, Until: c.expires}
	}
	c.term++
	c.holder, c.expires = holder, time.Now().Add(ttl)
	return store.Lease{Term: c.term}, nil
}

func (c *conn) Renew(ctx context.Context, term store.Term, ttl time.Duration, _ time.Time) error {
	c.mu.Lock()
	away := c.away
	c.mu.Unlock()
	if away { // a cut connection says nothing until the time is up
		<-ctx.Done()
		return errAway
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if term != c.term {
		return store.ErrDeposed
	}
	c.expires = time.Now().Add(ttl)
	return nil
}

func (c *conn) Release(_ context.Context, term store.Term) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away {
		return errAway
	}
	if term != c.term {
		return store.ErrDeposed
	}
	c.expires = time.Now()
	return nil
}

func (c *conn) cut(away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
}

// office records who leads, and fails the test if two ever do.
type office struct {
	t  *testing.T
	mu sync.Mutex
	in string
}

func (o *office) lead(name string, err error) func(context.Context, store.Lease) error {
	return func(ctx context.Context, _ store.Lease) error {
		o.mu.Lock()
		if o.in != "" {
			o.t.Errorf("%s began to lead while %s still did", name, o.in)
		}
		o.in = name
		o.mu.Unlock()
		if err == nil {
			<-ctx.Done()
		}
		o.mu.Lock()
		o.in = ""
		o.mu.Unlock()
		return err
	}
}

func (o *office) leader() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.in
}

func (o *office) want(name string) {
	o.t.Helper()
	synctest.Wait()
	if got := o.leader(); got != name {
		o.t.Fatalf("%q leads, want %q", got, name)
	}
}

func campaign(ctx context.Context, c *conn, name string, lead func(context.Context, store.Lease) error) chan error {
	done := make(chan error, 1)
	go func() {
		done <- lease.Run(ctx, lease.Config{
			Store: c, Holder: name, TTL: lease.DefaultTTL, Trust: lease.DefaultTrust, Logger: slog.New(slog.DiscardHandler),
		}, lead)
	}()
	return done
}

func TestAStandbyTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, o := &row{}, &office{t: t}
		first, second := &conn{row: db}, &conn{row: db}
		ctx, stop := context.WithCancel(t.Context())
		a := campaign(ctx, first, "a", o.lead("a", nil))
		o.want("a")
		rest, end := context.WithCancel(t.Context())
		b := campaign(rest, second, "b", o.lead("b", nil))
		time.Sleep(time.Hour)
		o.want("a") // as long as it renews

		stop() // in order: the lease is given back
		if err := <-a; err != nil {
			t.Fatal(err)
		}
		time.Sleep(lease.DefaultTTL/5 + time.Millisecond)
		o.want("b")
		end()
		if err := <-b; err != nil {
			t.Fatal(err)
		}
	})
}

// The holder of a lease that it cannot renew stops before the database lets
// another one in: never two at a time (the office checks).
func TestACutOffLeaderStopsBeforeAnotherStarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, o := &row{}, &office{t: t}
		first, second := &conn{row: db}, &conn{row: db}
		ctx, stop := context.WithCancel(t.Context())
		a := campaign(ctx, first, "a", o.lead("a", nil))
		o.want("a")
		b := campaign(ctx, second, "b", o.lead("b", nil))
		time.Sleep(31 * time.Second)
		first.cut(true)
		time.Sleep(lease.DefaultTrust + 100*time.Millisecond)
		o.want("") // trusted for 10 s, honoured for 15
		time.Sleep(lease.DefaultTTL)
		o.want("b")
		first.cut(false) // back: it stands by
		time.Sleep(time.Minute)
		o.want("b")
		stop()
		<-a
		<-b
	})
}

func TestADeposedLeaderStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, o := &row{}, &office{t: t}
		ctx, stop := context.WithCancel(t.Context())
		a := campaign(ctx, &conn{row: db}, "a", o.lead("a", nil))
		o.want("a")
		db.mu.Lock()
		db.term, db.holder, db.expires = 7, "somebody", time.Now().Add(time.Hour)
		db.mu.Unlock()
		time.Sleep(lease.DefaultTTL / 5)
		o.want("")
		stop()
		<-a
	})
}

// A leader whose work fails gives the lease up and tries again, after pauses that grow.
func TestFailedWorkIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, o, n := &row{}, &office{t: t}, 0
		fail := o.lead("a", errors.New("no luck"))
		ctx, stop := context.WithCancel(t.Context())
		a := campaign(ctx, &conn{row: db}, "a", func(ctx context.Context, l store.Lease) error { n++; return fail(ctx, l) })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n != 3 || time.Now().Before(db.expires) {
			t.Errorf("led %d times in 10 s, want 3; the lease expires %s", n, db.expires)
		}
		stop()
		<-a
	})
}

func TestTrustMustBeShorter(t *testing.T) {
	err := lease.Run(t.Context(), lease.Config{TTL: time.Second, Trust: time.Second}, nil)
	if err == nil {
		t.Error("a lease that is trusted for as long as the database honours it passes")
	}
}
