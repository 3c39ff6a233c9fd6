package lease_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/lease"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// A process does not campaign while its last term's work is still ending: it
// would lead beside itself (the office checks).
func TestANewTermWaitsForTheLastOnesWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, o := &row{}, &office{t: t}
		var terms atomic.Int32
		work := o.lead("a", nil)
		ctx, stop := context.WithCancel(t.Context())
		a := campaign(ctx, &conn{row: db}, "a", func(ctx context.Context, l store.Lease) error {
			terms.Add(1)
			lingering, cancel := context.WithCancel(context.WithoutCancel(ctx))
			context.AfterFunc(ctx, func() { time.Sleep(20 * time.Second); cancel() })
			return work(lingering, l)
		})
		o.want("a")
		db.mu.Lock()
		db.term++ // deposed by hand; the row is free at once
		db.expires = time.Now()
		db.mu.Unlock()
		time.Sleep(lease.DefaultTTL)
		synctest.Wait()
		if n := terms.Load(); n != 1 {
			t.Errorf("%d terms were begun, want none before the first one's work has ended", n)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if n := terms.Load(); n != 2 {
			t.Errorf("%d terms were begun, want another after the first one's work has ended", n)
		}
		stop()
		<-a
	})
}

// slow answers late.
type slow struct {
	*conn
	acquire, renew time.Duration
}

func (s *slow) Acquire(ctx context.Context, holder string, ttl time.Duration) (store.Lease, error) {
	won, err := s.conn.Acquire(ctx, holder, ttl)
	time.Sleep(s.acquire)
	return won, err
}

func (s *slow) Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error {
	err := s.conn.Renew(ctx, term, ttl, progress)
	if err == nil {
		time.Sleep(s.renew)
	}
	return err
}

// refusing answers every renewal with an error, after a while, once it is cut.
type refusing struct {
	*conn
	after time.Duration
}

func (r *refusing) Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error {
	r.mu.Lock()
	away := r.away
	r.mu.Unlock()
	if away {
		select {
		case <-time.After(r.after):
		case <-ctx.Done():
		}
		return errAway
	}
	return r.conn.Renew(ctx, term, ttl, progress)
}

// Trust ends when it ends, also in the middle of a pause between two attempts.
func TestTrustEndsBetweenTwoAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, o := &row{}, &office{t: t}
		// Attempts are 1.3 s apart, which ten seconds are no multiple of.
		c := &refusing{conn: &conn{row: db}, after: 300 * time.Millisecond}
		ctx, stop := context.WithCancel(t.Context())
		a := make(chan error, 1)
		go func() {
			a <- lease.Run(ctx, lease.Config{
				Store: c, Holder: "a", TTL: lease.DefaultTTL, Trust: lease.DefaultTrust, Logger: slog.New(slog.DiscardHandler),
			}, o.lead("a", nil))
		}()
		time.Sleep(lease.DefaultTTL/5 + time.Millisecond) // the last renewal
		c.cut(true)
		time.Sleep(lease.DefaultTrust - 100*time.Millisecond)
		o.want("a")
		time.Sleep(200 * time.Millisecond)
		o.want("")
		stop()
		<-a
	})
}

// The time that the answer took is time that the database counts already.
func TestTrustBeginsWhenTheLeaseWasAskedFor(t *testing.T) {
	for name, tc := range map[string]struct {
		slow slow
		cut  time.Duration // after the beginning
		ends time.Duration // of trust
	}{
		"a slow grant":   {slow{acquire: 6 * time.Second}, 7 * time.Second, lease.DefaultTrust},
		"a slow renewal": {slow{renew: 6 * time.Second}, 10 * time.Second, lease.DefaultTTL/5 + lease.DefaultTrust},
	} {
		t.Run(name, func(t *testing.T) { cutOff(t, tc.slow, tc.cut, tc.ends) })
	}
}

// cutOff runs a campaign on a slow way to the row, cuts it off and checks when
// the leader has stopped.
func cutOff(t *testing.T, late slow, cut, ends time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		db, o := &row{}, &office{t: t}
		late.conn = &conn{row: db}
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		a := make(chan error, 1)
		go func() {
			a <- lease.Run(ctx, lease.Config{
				Store: &late, Holder: "a", TTL: lease.DefaultTTL, Trust: lease.DefaultTrust, Logger: slog.New(slog.DiscardHandler),
			}, o.lead("a", nil))
		}()
		time.Sleep(cut)
		o.want("a")
		late.cut(true)
		time.Sleep(time.Until(began.Add(ends - 100*time.Millisecond)))
		o.want("a")
		time.Sleep(200 * time.Millisecond)
		o.want("")
		stop()
		<-a
	})
}
