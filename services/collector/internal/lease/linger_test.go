package lease_test

import (
	"context"
	"log/slog"
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
		terms := 0
		work := o.lead("a", nil)
		ctx, stop := context.WithCancel(t.Context())
		a := campaign(ctx, &conn{row: db}, "a", func(ctx context.Context, l store.Lease) error {
			terms++
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
		if terms != 1 {
			t.Errorf("%d terms were begun, want none before the first one's work has ended", terms)
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if terms != 2 {
			t.Errorf("%d terms were begun, want another after the first one's work has ended", terms)
		}
		stop()
		<-a
	})
}

// slow answers late.
type slow struct {
	*conn
	acquire time.Duration
}

func (s *slow) Acquire(ctx context.Context, holder string, ttl time.Duration) (store.Lease, error) {
	won, err := s.conn.Acquire(ctx, holder, ttl)
	time.Sleep(s.acquire)
	return won, err
}

// The time that the answer took is time that the database counts already.
func TestTrustBeginsWhenTheLeaseWasAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db, o := &row{}, &office{t: t}
		late := &slow{conn: &conn{row: db}, acquire: 6 * time.Second}
		ctx, stop := context.WithCancel(t.Context())
		asked := time.Now()
		a := make(chan error, 1)
		go func() {
			a <- lease.Run(ctx, lease.Config{
				Store: late, Holder: "a", TTL: lease.DefaultTTL, Trust: lease.DefaultTrust, Logger: slog.New(slog.DiscardHandler),
			}, o.lead("a", nil))
		}()
		time.Sleep(7 * time.Second)
		o.want("a")
		late.cut(true)
		time.Sleep(time.Until(asked.Add(lease.DefaultTrust + 100*time.Millisecond)))
		o.want("")
		stop()
		<-a
	})
}
