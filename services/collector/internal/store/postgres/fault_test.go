package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
)

// TestServerKilled kills the server at random moments under a writer that does
// what the collector does: when the outcome is unknown it reads the head. Every
// append that was acknowledged is there, none is there twice, and the chain is
// whole.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	dsn := server.DSN()
	migrate(t, dsn)
	s := open(t, dsn)
	lease := acquire(t, s)

	ctx, stop := context.WithCancel(t.Context())
	appended := make(chan int)
	go func() {
		n, _ := writeUntil(ctx, t, s, lease)
		appended <- n
	}()
	for i := range 3 {
		before := awaitHead(t, s, 0) // the store is well
		awaitHead(t, s, before+10)
		time.Sleep(time.Duration(i*7) * time.Millisecond) // another moment of an append each time
		server.Kill()
		server.Start()
	}
	awaitHead(t, s, awaitHead(t, s, 0)+1)
	stop()
	n := <-appended

	if entries := wholeLog(t, s); len(entries) < n {
		t.Errorf("%d entries are left of %d that were acknowledged", len(entries), n)
	}
}

// writeUntil appends batch 0, 1, 2 … and returns how many the store vouched for.
func writeUntil(ctx context.Context, t *testing.T, s *postgres.Store, lease store.Lease) (n int, at bucket.Position) {
	at = lease.Head.Position
	for ctx.Err() == nil {
		b := batch(n)
		head, err := s.Append(ctx, lease.Term, at, b)
		for errors.Is(err, store.ErrUnavailable) && ctx.Err() == nil {
			h, headErr := s.Head(ctx)
			if headErr != nil {
				time.Sleep(5 * time.Millisecond) // the server is being restarted
				continue
			}
			head, err = h.Position, nil
		}
		switch {
		case ctx.Err() != nil:
			return n, at
		case err != nil:
			t.Errorf("append %d: %v", n, err)
			return n, at
		case head == at: // it had not been committed
		case head == b.Positions(at)[0]:
			at = head
			n++
		default:
			t.Errorf("append %d: the head is %v, neither before nor after it", n, head)
			return n, at
		}
	}
	return n, at
}

// awaitHead waits until the store answers and the head is at least rev.
func awaitHead(t *testing.T, s *postgres.Store, rev bucket.Revision) (found bucket.Revision) {
	t.Helper()
	eventually(t, "head moves on", func() bool {
		h, err := s.Head(t.Context())
		found = h.Revision
		return err == nil && h.Revision >= rev
	})
	return found
}

// TestServerAway: calls end, with the right error, and the pools find the server
// again.
func TestServerAway(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	dsn := server.DSN()
	migrate(t, dsn)
	s := open(t, dsn)
	lease := acquire(t, s)
	at := mustAppend(t, s, lease.Term, lease.Head.Position, batch(0))
	server.Stop()
	emit := func(store.Entry) error { return nil }
	for what, call := range map[string]func() error{
		"head":     func() error { _, err := s.Head(t.Context()); return err },
		"append":   func() error { _, err := s.Append(t.Context(), lease.Term, at, batch(1)); return err },
		"acquire":  func() error { _, err := s.Acquire(t.Context(), "b", time.Hour); return err },
		"renew":    func() error { return s.Renew(t.Context(), lease.Term, time.Hour, time.Time{}) },
		"read log": func() error { _, err := s.ReadLog(t.Context(), 0, 1); return err },
		"snapshot": func() error { _, err := s.Snapshot(t.Context(), store.SnapshotQuery{}, emit); return err },
		"list":     func() error { return s.List(t.Context(), store.ListQuery{}, emit) },
		"coverage": func() error { _, err := s.Coverage(t.Context(), store.Filter{}, 0); return err },
		"records":  func() error { _, err := s.Records(t.Context(), "gap"); return err },
		"retire":   func() error { _, err := s.Retire(t.Context(), lease.Term, 0, time.Time{}); return err },
	} {
		began := time.Now()
		if err := call(); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s without a server: %v", what, err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("%s without a server took %s", what, took)
		}
	}
	server.Start()
	eventually(t, "append after the server is back", func() bool {
		head, err := s.Append(t.Context(), lease.Term, at, batch(1))
		if err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil && head.Revision == 2
	})
}
