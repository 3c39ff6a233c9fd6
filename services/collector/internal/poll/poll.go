package poll

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/trusted"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// Config of the loop. All fields are required unless they say otherwise.
type Config struct {
	Store store.Store
	// Credentials are those by which Cloudflare is asked: one or more. A zone that
	// several see belongs to the first that selects it.
	Credentials []upstream.Credential
	Clock       clock.Clock
	Catalogue   *catalogue.Catalogue
	Metrics     *Metrics
	Trouble     *trouble.Board // nil: nobody is told
	Writes      *writes.Watch  // nil: nobody is told
	Passed      func()         // called when a pass has ended well; nil: nobody is told
	// Unreadable is told of entries and records that cannot be read; nil: nobody is.
	Unreadable *unreadable.Register
	Logger     *slog.Logger

	Lookback  time.Duration // history that a new scope gets
	Retention time.Duration // of the store
	Interval  time.Duration // longest pause between passes
	LeaseTTL  time.Duration // renewed with stream time
	Seed      uint64        // of the jitter
}

// Intervals of work that is not about windows.
const (
	entitleEvery = 6 * time.Hour // settings change with plans: cache for hours (Cloudflare's limits page)
	retireEvery  = time.Hour
	dropEvery    = time.Hour // of entitlements to which no scope refers
	// resumable is for how long who follows the log can go on where it was, whatever
	// retention drops: an internal tool may rest over a weekend.
	resumable      = 7 * 24 * time.Hour
	retireLate     = 24 * time.Hour // what is in the way of retention should have passed
	settingsAtOnce = 10             // requests for settings that are sent before others have their turn
	mostVoided     = 10             // of them that may fail before the rest waits for the next pass
	heardFor       = time.Hour      // what is known of a part of a zone's settings
)

// Poller runs the loop while its process leads.
type Poller struct {
	Config
	trusted *trusted.Clock
	often   *quiet.Log // what may happen at each try, or to each of many zones
	rng     *rand.Rand
}

// New returns a Poller.
func New(c Config) *Poller {
	c.Metrics.atZero(c.Catalogue.Datasets)
	p := &Poller{Config: c, often: quiet.New(c.Logger, time.Minute), rng: rand.New(rand.NewPCG(c.Seed, 0))}
	p.trusted = trusted.New(c.Clock, c.Store, func(source string, skew time.Duration) {
		p.Metrics.skew.WithLabelValues(source).Set(skew.Seconds())
		if skew < 0 {
			p.often.Warn(source, "clock is ahead of another; using the earlier one", "source", source, "skew", skew)
		}
	})
	return p
}

// Lead collects under a lease until ctx ends or the store fails it. The error
// says why it stopped; the caller gives the lease up and campaigns again.
func (p *Poller) Lead(ctx context.Context, won store.Lease) error {
	p.Metrics.leader.Set(1)
	defer p.Metrics.stepDown()
	defer p.Trouble.StepDown()
	s, err := p.load(ctx, won)
	if err != nil {
		return fmt.Errorf("load state: %w", err)
	}
	for {
		began := time.Now()
		next, err := s.pass(ctx)
		p.Metrics.passes.Observe(time.Since(began).Seconds())
		if err != nil {
			return fmt.Errorf("collect: %w", err)
		}
		if p.Passed != nil {
			p.Passed()
		}
		switch err := s.journal.Wait(ctx, next); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("collect: %w", err)
		}
	}
}

// pass does one round of the loop and returns when the next one should begin.
func (s *state) pass(ctx context.Context) (time.Time, error) {
	s.compareClocks(ctx)
	at, err := s.trusted.Look(ctx)
	if err != nil {
		return time.Time{}, err
	}
	began := bucket.TimeOf(at)
	if err := s.housekeeping(ctx, began); err != nil {
		return time.Time{}, err
	}
	if s.lines.open() {
		claims := s.claims(began)
		s.weigh(began, claims)
		if err := s.ask(ctx, plan.Make(began, s.wants(claims), s, plan.DefaultCeilings)); err != nil {
			return time.Time{}, err
		}
	}
	until := s.Clock.Now().Add(longWait)
	idle := map[*line]bool{} // nothing is left that would have to be asked
	for _, l := range s.lines {
		if l.blocked != 0 {
			continue
		}
		l.turns = settingsAtOnce // no data is waiting for a turn
		if idle[l] = !s.more(&l.urgent); !idle[l] {
			continue
		}
		if err := s.entitleFailed(ctx, began, l, until); err != nil {
			return time.Time{}, err
		}
	}
	if err := s.audit(ctx, idle); err != nil {
		return time.Time{}, err
	}
	s.damaged.inspect(ctx)
	if at, err = s.trusted.Look(ctx); err != nil {
		return time.Time{}, err
	}
	now := bucket.TimeOf(at)
	claims := s.claims(now)
	s.tell(claims)
	if err := s.settleLedger(ctx, now, claims); err != nil {
		return time.Time{}, err
	}
	s.report(now, claims)
	if err := s.journal.RecordStream(ctx, now.Std()); err != nil {
		return time.Time{}, err
	}
	return s.nextPass(now, claims), nil
}

// open reports whether anything may be sent by any line.
func (all lines) open() bool {
	return slices.ContainsFunc(all, func(l *line) bool { return l.blocked == 0 })
}

// nextPass is when something will be worth doing again.
func (s *state) nextPass(now bucket.Time, claims []roster.Claim) time.Time {
	next := now.Add(s.Interval)
	p := plan.Make(now, s.wants(claims), s, plan.DefaultCeilings)
	switch {
	case len(p.Requests) > 0:
		// Not at once: whatever leaves work undone must not make the loop spin.
		next = now.Add(time.Second)
	case p.Next != 0:
		next = min(next, p.Next)
	}
	var unblocked bucket.Time // when the first line is
	for _, l := range s.lines {
		switch {
		case l.blocked != 0 && (unblocked == 0 || l.blocked < unblocked):
			unblocked = l.blocked
		case l.blocked != 0:
		case l.urgent.halted():
			next = min(next, l.discoverAt, now.Add(10*time.Second))
		case s.more(&l.urgent):
			next = min(next, l.discoverAt, now.Add(time.Second))
		default:
			next = min(next, l.discoverAt)
		}
	}
	switch {
	case !s.lines.open():
		next = unblocked
	case unblocked != 0:
		next = min(next, unblocked)
	}
	// Whatever is wrong, a loop that does not wait would be worse.
	next = max(next, now.Add(time.Second))
	// The trusted clock may be behind the clock that is waited on.
	return next.Std().Add(s.Clock.Now().Sub(s.trusted.Now()))
}
