// Package lease makes one collector of many the leader.
//
// The lease is a row of the store, and the database's clock decides when it expires. The
// holder trusts it for less time than the database does, counted from the moment of the
// request rather than of the response. So a leader that is partitioned from the store
// stops sending requests to Cloudflare before a standby starts. If it is suspended and
// wakes up late, its next append fails in the database (G9). Trust saves budget and work;
// correctness does not depend on it.
//
// A leader that cannot append because the database must be repaired keeps the lease and
// retries every minute (package poll), because the next leader would fail in the same
// way. It loses the lease only if renewals fail too; then there is no leader, and all
// processes try to acquire the lease after pauses that grow to a minute. If only one
// process is affected, for instance because its role lost a right, its readiness reports
// it: stopping it hands the lease over.
//
// Lease times are machine time, not calendar time.
package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Defaults of [Config].
const (
	DefaultTTL   = 15 * time.Second
	DefaultTrust = 10 * time.Second
)

// Store is the part of store.Store that a campaign uses.
type Store interface {
	Acquire(ctx context.Context, holder string, ttl time.Duration) (store.Lease, error)
	Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error
	Release(ctx context.Context, term store.Term) error
}

// Config of a campaign.
type Config struct {
	Store  Store
	Holder string        // unique identity of this process; see store.Holder
	TTL    time.Duration // how long the database honours the lease
	Trust  time.Duration // how long the holder does; below TTL
	Logger *slog.Logger

	// Asked is called with the result of each attempt to acquire the lease, store.ErrHeld
	// included. Nil: failures are logged.
	Asked func(err error)
	// Contested, if not nil, is called when a running process with our name holds the
	// lease, and with an empty holder when that is over.
	Contested func(holder string)
}

// longest is the longest pause between attempts to acquire the lease. After a transient
// error, and while another process holds it, there is an attempt every few seconds, so
// that a standby takes over soon. After other errors the pauses grow.
const longest = time.Minute

// A lasting condition is logged again after repeatAfter. A term that lasted for steady
// ends the condition.
const (
	repeatAfter = time.Hour
	steady      = 5 * time.Minute
)

// Messages that are repeated only after repeatAfter.
const (
	ended      = "no longer leading"
	unacquired = "cannot acquire the lease"
)

var errUntrusted = errors.New("lease could not be renewed in time")

// Run campaigns until ctx ends. When it acquires the lease it calls lead with a context
// that ends when the lease is lost or no longer trusted, and waits for lead to return
// before it campaigns again. If lead returns an error that is not about the lease, Run
// logs it and releases the lease, so that another process can lead.
func Run(ctx context.Context, c Config, lead func(context.Context, store.Lease) error) error {
	if c.Trust <= 0 || c.TTL <= c.Trust {
		return fmt.Errorf("lease: trust is %s and time to live %s; trust must be positive and less than the time to live", c.Trust, c.TTL)
	}
	r := campaign{Config: c, trouble: quiet.New(c.Logger, repeatAfter), changes: quiet.New(c.Logger, time.Minute)}
	if c.Asked == nil {
		r.Asked = r.logAsked
	}
	if c.Contested == nil {
		r.Contested = func(string) {}
	}
	for {
		if !sleep(ctx, r.round(ctx, lead)) {
			return nil
		}
	}
}

// campaign is the state of a campaign.
type campaign struct {
	Config
	failed    int        // terms and attempts in a row that ended with a lasting error
	trouble   *quiet.Log // terms that ended with an error, and failed attempts
	changes   *quiet.Log // terms that began, and terms that ended without an error
	namesake  string     // holder with our name
	seen      time.Time  // when it was first seen
	contested bool       // whether it was reported
}

// round tries to acquire the lease once, leads if it succeeds, and returns the pause
// before the next attempt.
func (r *campaign) round(ctx context.Context, lead func(context.Context, store.Lease) error) time.Duration {
	asked := time.Now()
	won, err := r.Store.Acquire(ctx, r.Holder, r.TTL)
	if ctx.Err() != nil && err != nil {
		return r.TTL // which ctx cuts short
	}
	r.contest(err)
	r.Asked(err)
	switch {
	case errors.Is(err, store.ErrHeld):
		r.failed = 0
		return r.TTL / 5
	case err != nil:
		return r.pause(err)
	}
	r.changes.Info("", "leading", "term", won.Term, "revision", won.Head.Revision)
	err = r.hold(ctx, asked, won, lead)
	if time.Since(asked) >= steady {
		r.failed = 0
		r.trouble.Over(ended)
	}
	to := r.changes
	level := severity(ctx, err)
	if level > slog.LevelInfo {
		to = r.trouble
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // it was shut down
	}
	args := []any{"term", won.Term}
	if err != nil {
		args = append(args, "err", err)
	}
	to.Log(ctx, level, store.Reason(err), ended, args...)
	return r.pause(err)
}

func (r *campaign) logAsked(err error) {
	if err == nil || errors.Is(err, store.ErrHeld) {
		r.trouble.Over(unacquired)
		return
	}
	r.trouble.Warn(store.Reason(err), unacquired, "err", err)
}

// severity is the log level of the end of a term.
func severity(ctx context.Context, err error) slog.Level {
	switch {
	case err == nil, ctx.Err() != nil: // shut down
		return slog.LevelInfo
	case errors.Is(err, store.ErrDeposed): // handed over
		return slog.LevelInfo
	case transient(err) && !store.NeedsRepair(err):
		return slog.LevelWarn
	}
	return slog.LevelError
}

// transient reports whether an error occurs now and then in a healthy system.
func transient(err error) bool {
	for _, kind := range []error{store.ErrUnavailable, store.ErrConflict, store.ErrLate, store.ErrDuplicate, store.ErrDeposed, errUntrusted} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// pause is how long to wait after a round that ended like this.
func (r *campaign) pause(err error) time.Duration {
	if err == nil || transient(err) && !store.NeedsRepair(err) {
		r.failed = 0
		return r.TTL / 5
	}
	r.failed++
	return min(r.TTL/5<<min(r.failed-1, 16), longest)
}

// contest detects a running process with our name: one that holds the lease for longer
// than its time to live has renewed it. Until then it may be the lease of this process
// before a restart.
func (r *campaign) contest(err error) {
	held := (*store.HeldError)(nil)
	ours := errors.As(err, &held) && held.Holder != r.Holder && store.HolderName(held.Holder) == store.HolderName(r.Holder)
	switch {
	case err != nil && held == nil: // not known
	case !ours:
		if r.namesake = ""; r.contested {
			r.contested = false
			r.Contested("")
		}
	case r.namesake != held.Holder:
		r.namesake, r.seen = held.Holder, time.Now()
	case time.Since(r.seen) > r.TTL:
		r.contested = true
		r.Contested(held.Holder)
	}
}

// hold runs lead with a lease that was requested at the given time.
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
		<-renewed //nolint:errcheck // it only reports that lead has ended
	case err = <-renewed:
		distrust(err)
		if led := <-done; err == nil {
			err = led
		}
	}
	if !errors.Is(err, store.ErrDeposed) {
		// Release the lease even if ctx has ended, so that a standby need not wait
		// for it to expire.
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if rerr := c.Store.Release(release, won.Term); rerr != nil && !errors.Is(rerr, store.ErrDeposed) {
			c.Logger.Warn("cannot release the lease, it will expire", "err", rerr)
		}
	}
	return err
}

// renew renews the lease until that fails for longer than the lease is trusted.
func (c *Config) renew(ctx context.Context, asked time.Time, term store.Term) error {
	every, level := c.TTL/5, slog.LevelWarn
	for {
		// Not past the end of trust, so that it is noticed in time.
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
			return nil //nolint:nilerr // the renewal failed because of the shutdown
		case time.Since(asked) >= c.Trust:
			return fmt.Errorf("%w: %w", errUntrusted, err)
		default:
			c.Logger.Log(ctx, level, "cannot renew the lease, retrying", "err", err)
			every, level = c.TTL/15, slog.LevelDebug // logged once until a renewal succeeds
			continue
		}
		every, level = c.TTL/5, slog.LevelWarn
	}
}

// sleep reports false if ctx ended first.
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
