package collector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/lease"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
)

// CountersCommand is "collector counters", and "weir counters".
func CountersCommand() cli.Command {
	var c Config
	var reason, requester string
	requested := func(p *string, most int) cli.Value {
		return cli.TextThat(p, fmt.Sprintf("one line of 1 to %d bytes", most), func(s string) error { return wire.CheckRequested(s, most) })
	}
	settings := append(
		existing(&c),
		cli.Setting{Flag: "reason", Key: "-", Required: true, Value: requested(&reason, wire.MaxReason), Help: "why, for the audit event"},
		cli.Setting{Flag: "requester", Key: "-", Required: true, Value: requested(&requester, wire.MaxActor), Help: "who asks, for the audit event"},
	)
	return cli.Command{
		Name: "counters", Summary: "manage the counters that exposers serve on /counters",
		Commands: []cli.Command{{
			Name: "restart", Summary: "begin all counters at zero, after the store was restored from a backup",
			Help: "A restored store has smaller totals than exposers have shown. rate() takes that for a reset to zero and adds the whole of a total at once. " +
				"This command begins a new epoch at zero instead, so that nothing is added. Run it after a restore, while no collector runs. It writes an audit event.",
			Settings: settings,
			Run: func(ctx context.Context, _ []string) error {
				return RestartCounters(ctx, c, Deps{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}, requester, reason, os.Stdout)
			},
		}},
	}
}

// RestartCounters begins a new epoch of counters in the configured database, and prints it. It
// needs the lease, and waits until that of a collector that did not end in good order has
// expired.
func RestartCounters(ctx context.Context, c Config, deps Deps, requester, reason string, w io.Writer) (err error) {
	s, err := openStore(ctx, c, deps, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	won, err := acquire(ctx, s, deps.Logger)
	if err != nil {
		return fmt.Errorf("restart counters: %w", err)
	}
	defer func() { err = errors.Join(err, s.Release(context.WithoutCancel(ctx), won.Term)) }()
	now := time.Now().Truncate(time.Millisecond)
	for _, last := range []time.Time{won.Head.CommittedAt, won.Head.ProgressAt} {
		if last.After(now) {
			now = last
		}
	}
	before := "no counters"
	switch stored, err := totals.Read(ctx, s); {
	case err == nil:
		before = fmt.Sprintf("epoch %s, since %s", stored.Epoch.ID, stored.Epoch.Began.UTC().Format(time.RFC3339))
	case errors.Is(err, totals.ErrUnusable):
		before = store.Text(err.Error())
	case !errors.Is(err, totals.ErrNone):
		return fmt.Errorf("restart counters: %w", err)
	}
	id := totals.NewID(now, rand.Uint32())
	payload, err := wire.EncodeAuditEvent(&bucketv1.AuditEvent{
		Action: bucketv1.AuditEvent_ACTION_COUNTERS_RESTARTED, Actor: requester, Reason: reason, Before: before, After: "epoch " + id,
	})
	if err != nil {
		return fmt.Errorf("restart counters: %w", err)
	}
	fresh, err := totals.Begin(ctx, s, id, totals.Requested, won.Head.Position, now)
	if err != nil {
		return fmt.Errorf("restart counters: %w", err)
	}
	head, err := s.Head(ctx) // large totals take their time
	if err != nil {
		return fmt.Errorf("restart counters: %w", err)
	}
	// Of a new epoch there is one batch: the header, and what is deleted.
	batch := store.Batch{CommittedAt: now, Deadline: head.Now.Add(store.AppendWithin), Entries: []store.NewEntry{{Kind: bucket.KindAudit, Payload: payload}}}
	for _, records := range fresh.Batches {
		batch.Records = append(batch.Records, records...)
	}
	at, err := s.Append(ctx, won.Term, won.Head.Position, batch)
	if err != nil {
		return fmt.Errorf("restart counters: %w", err)
	}
	if _, err := fmt.Fprintf(w, "Counters begin at zero: epoch %s, after revision %d; before: %s. The audit event is revision %d.\n", id, won.Head.Revision, before, at.Revision); err != nil {
		return fmt.Errorf("print the new epoch: %w", err)
	}
	return nil
}

// acquire takes the lease, as soon as it is free.
func acquire(ctx context.Context, s store.Store, log *slog.Logger) (store.Lease, error) {
	holder := store.Holder("collector counters restart", instance())
	for said := false; ; said = true {
		won, err := s.Acquire(ctx, holder, lease.DefaultTTL)
		held := new(store.HeldError)
		switch {
		case !errors.As(err, &held):
			return won, err
		case said:
			return won, fmt.Errorf("%w; stop all collectors of the store first", err)
		}
		head, err := s.Head(ctx)
		if err != nil {
			return won, err
		}
		left := min(max(held.Until.Sub(head.Now), 0)+time.Second, lease.DefaultTTL+time.Second)
		log.Info("the lease is held; waiting for it to expire", "holder", store.HolderName(held.Holder), "until", held.Until.UTC().Format(time.RFC3339))
		select {
		case <-time.After(left):
		case <-ctx.Done():
			return won, ctx.Err()
		}
	}
}
