package collectortest

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// guard is one process's view of a shared store.
type guard struct {
	shared *Shared
	gate   Gate
	wake   chan struct{}
}

var _ store.Store = (*guard)(nil)

// pass makes one call between the gate's two questions.
func pass[T any](ctx context.Context, g *guard, op Op, call func(context.Context) (T, error)) (T, error) {
	var zero T
	inner, err := g.gate.Before(ctx, op)
	if err != nil {
		return zero, refused(ctx, op, err)
	}
	v, err := call(inner)
	if lost := g.gate.After(ctx, op); lost != nil {
		return zero, refused(ctx, op, lost)
	}
	return v, err
}

// refused is the error of a call that the gate did not let through, in the form
// that the store's contract asks for.
func refused(ctx context.Context, op Op, err error) error {
	if !op.Write && ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op.Name, context.Cause(ctx))
	}
	if store.NeedsRepair(err) {
		return fmt.Errorf("%s: %w", op.Name, err)
	}
	return fmt.Errorf("%s: %w: %w", op.Name, store.ErrUnavailable, err)
}

// act is pass for calls without a result.
func act(ctx context.Context, g *guard, op Op, call func(context.Context) error) error {
	_, err := pass(ctx, g, op, func(ctx context.Context) (struct{}, error) { return struct{}{}, call(ctx) })
	return err
}

func reading(name string) Op { return Op{Name: name} }
func writing(name string) Op { return Op{Name: name, Write: true} }

func (g *guard) Head(ctx context.Context) (store.Head, error) {
	return pass(ctx, g, reading("Head"), g.shared.Head)
}

func (g *guard) Acquire(ctx context.Context, holder string, ttl time.Duration) (store.Lease, error) {
	return pass(ctx, g, writing("Acquire"), func(ctx context.Context) (store.Lease, error) {
		return g.shared.Acquire(ctx, holder, ttl)
	})
}

func (g *guard) Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error {
	return act(ctx, g, writing("Renew"), func(ctx context.Context) error {
		return g.shared.Renew(ctx, term, ttl, progress)
	})
}

func (g *guard) Release(ctx context.Context, term store.Term) error {
	return act(ctx, g, writing("Release"), func(ctx context.Context) error { return g.shared.Release(ctx, term) })
}

func (g *guard) Append(ctx context.Context, term store.Term, at bucket.Position, batch store.Batch) (bucket.Position, error) {
	return pass(ctx, g, writing("Append"), func(ctx context.Context) (bucket.Position, error) {
		defer g.shared.wake()
		defer g.shared.changing()()
		head, err := g.shared.Append(ctx, term, at, batch)
		g.shared.fenced("append", term, err)
		return head, err
	})
}

func (g *guard) ReadLog(ctx context.Context, after bucket.Revision, limit int) ([]store.Entry, error) {
	return pass(ctx, g, reading("ReadLog"), func(ctx context.Context) ([]store.Entry, error) {
		return g.shared.ReadLog(ctx, after, limit)
	})
}

func (g *guard) ChainAt(ctx context.Context, rev bucket.Revision) (bucket.Chain, error) {
	return pass(ctx, g, reading("ChainAt"), func(ctx context.Context) (bucket.Chain, error) { return g.shared.ChainAt(ctx, rev) })
}

func (g *guard) Snapshot(ctx context.Context, q store.SnapshotQuery, emit func(store.Entry) error) (store.Head, error) {
	return pass(ctx, g, reading("Snapshot"), func(ctx context.Context) (store.Head, error) {
		return g.shared.Snapshot(ctx, q, emit)
	})
}

func (g *guard) List(ctx context.Context, q store.ListQuery, emit func(store.Entry) error) error {
	return act(ctx, g, reading("List"), func(ctx context.Context) error { return g.shared.List(ctx, q, emit) })
}

func (g *guard) Buckets(ctx context.Context, keys []bucket.Key, emit func(store.Entry) error) error {
	return act(ctx, g, reading("Buckets"), func(ctx context.Context) error { return g.shared.Buckets(ctx, keys, emit) })
}

func (g *guard) Coverage(ctx context.Context, f store.Filter, since bucket.Time) ([]store.Run, error) {
	return pass(ctx, g, reading("Coverage"), func(ctx context.Context) ([]store.Run, error) {
		return g.shared.Coverage(ctx, f, since)
	})
}

func (g *guard) Unserved(ctx context.Context, f store.Filter, since bucket.Time, age time.Duration) ([]store.Run, error) {
	return pass(ctx, g, reading("Unserved"), func(ctx context.Context) ([]store.Run, error) {
		return g.shared.Unserved(ctx, f, since, age)
	})
}

func (g *guard) Datasets(ctx context.Context) ([]store.Entry, error) {
	return pass(ctx, g, reading("Datasets"), g.shared.Datasets)
}

func (g *guard) AuditEvents(ctx context.Context, before bucket.Revision, limit int) ([]store.Entry, error) {
	return pass(ctx, g, reading("AuditEvents"), func(ctx context.Context) ([]store.Entry, error) {
		return g.shared.AuditEvents(ctx, before, limit)
	})
}

func (g *guard) Records(ctx context.Context, kind string) ([]store.Record, error) {
	return pass(ctx, g, reading("Records"), func(ctx context.Context) ([]store.Record, error) {
		return g.shared.Records(ctx, kind)
	})
}

func (g *guard) Reserve(ctx context.Context, p store.Permits) (store.Grant, error) {
	return pass(ctx, g, writing("Reserve"), func(ctx context.Context) (store.Grant, error) { return g.shared.Reserve(ctx, p) })
}

func (g *guard) Retire(ctx context.Context, term store.Term, before bucket.Time, forget time.Time) (bucket.Time, error) {
	return pass(ctx, g, writing("Retire"), func(ctx context.Context) (bucket.Time, error) {
		defer g.shared.changing()()
		border, err := g.shared.Retire(ctx, term, before, forget)
		g.shared.fenced("retention", term, err)
		return border, err
	})
}

func (g *guard) Size(ctx context.Context) (int64, error) {
	return pass(ctx, g, reading("Size"), g.shared.Size)
}

func (g *guard) Wake() <-chan struct{} { return g.wake }

func (g *guard) Close() error {
	g.shared.mu.Lock()
	defer g.shared.mu.Unlock()
	delete(g.shared.guards, g)
	return nil
}
