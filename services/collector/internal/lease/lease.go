// Package lease makes one collector of many the leader.
//
// The lease is a row of the store, and the database's clock decides when it
// has expired. The holder trusts it for less time than the database does, and
// counts that time from the moment it asked, not from the answer: so when a
// leader is cut off from the store, it has stopped sending requests to
// Cloudflare before a standby starts. Should it be paused and wake up late, its
// next append fails in the database (G9); trust is about budget and order of
// work, never about truth.
//
// Lease times are machine time: they are about processes being alive, not
// about the calendar.
package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Defaults of [Config], from the design's settings.
const (
	DefaultTTL   = 15 * time.Second
	DefaultTrust = 10 * time.Second
)

// Store is the part of store.Store that a campaign needs.
type Store interface {
	Acquire(ctx context.Context, holder string, ttl time.Duration) (store.Lease, error)
	Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error
	Release(ctx context.Context, term store.Term) error
}

// Config of a campaign.
type Config struct {
	Store  Store
	Holder string        // unique name of this process
	TTL    time.Duration // how long the database honours the lease
	Trust  time.Duration // how long the holder does; below TTL
	Logger *slog.Logger
}

var errUntrusted = errors.New("lease could not be renewed in time")

// Run campaigns until ctx ends. Whenever the lease is won it calls lead with a
// context that ends when the lease is lost or no longer trusted, and waits for
// lead to return before it campaigns again. An error of lead that is not about
// the lease is logged and the lease given up, so that another process may try.
func Run(ctx context.Context, c Config, lead func(context.Context, store.Lease) error) error {
	if c.Trust <= 0 || c.TTL <= c.Trust {
		return fmt.Errorf("lease: trust is %s and time to live %s; trust must be above zero and below", c.Trust, c.TTL)
	}
	retry := c.TTL / 5
	for {
		asked := time.Now()
		won, err := c.Store.Acquire(ctx, c.Holder, c.TTL)
		switch {
		case err == nil:
			c.Logger.Info("leading", "term", won.Term, "revision", won.Head.Revision)
			err = c.hold(ctx, asked, won, lead)
			c.Logger.Info("no longer leading", "term", won.Term, "err", err)
		case errors.Is(err, store.ErrHeld):
		case ctx.Err() == nil:
			c.Logger.Warn("cannot ask for the lease", "err", err)
		}
		if !sleep(ctx, retry) {
			return nil
		}
	}
}

// hold runs lead under a lease that was asked for at the given time.
func (c *Config) hold(ctx context.Context, asked time.Time, won store.Lease, lead func(context.Context, store.Lease) error) error {
	trusted, distrust := context.WithCancelCause(ctx)
	defer distrust(nil)

	done := make(chan error, 1)
	go func() { done <- lead(trusted, won) }()

	renewed := make(chan error, 1)
	go func() { renewed <- c.renew(trusted, asked, won.Term) }()

	var err error
	select {
	case err = <-done:
		distrust(err)
		<-renewed //nolint:errcheck // it only says that lead has ended
	case err = <-renewed:
		distrust(err)
		if led := <-done; err == nil {
			err = led
		}
	}
	if !errors.Is(err, store.ErrDeposed) {
		// Give the lease back even when ctx has ended: a standby then need not
		// wait for it to expire.
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if rerr := c.Store.Release(release, won.Term); rerr != nil && !errors.Is(rerr, store.ErrDeposed) {
			c.Logger.Warn("cannot release the lease; it will expire", "err", rerr)
		}
	}
	return err
}

// renew keeps the lease until it fails to for longer than it may be trusted.
func (c *Config) renew(ctx context.Context, asked time.Time, term store.Term) error {
	every := c.TTL / 5
	for {
		// Never past the end of trust, which would come late by a pause.
		if !sleep(ctx, min(every, time.Until(asked.Add(c.Trust)))) {
			return nil
		}
		ask := time.Now()
		attempt, cancel := context.WithDeadline(ctx, asked.Add(c.Trust))
		err := c.Store.Renew(attempt, term, c.TTL, time.Time{})
		cancel()
		switch {
		case err == nil:
			asked = ask
		case errors.Is(err, store.ErrDeposed):
			return err
		case ctx.Err() != nil:
			return nil //nolint:nilerr // that is why the renewal failed, and it was asked for
		case time.Since(asked) >= c.Trust:
			return fmt.Errorf("%w: %w", errUntrusted, err)
		default:
			c.Logger.Warn("cannot renew the lease, trying again", "err", err)
			every = c.TTL / 15
			continue
		}
		every = c.TTL / 5
	}
}

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
