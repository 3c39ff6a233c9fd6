package poll

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
	"github.com/weir-metrics/weir/services/collector/internal/trusted"
	"github.com/weir-metrics/weir/services/collector/internal/unreadable"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// Upstream is Cloudflare as the loop needs it; *cloudflare.Client is one.
type Upstream interface {
	Query(ctx context.Context, q cloudflare.Query) (*cloudflare.Answer, error)
	Zones(ctx context.Context) ([]cloudflare.Zone, error)
	Accounts(ctx context.Context) ([]cloudflare.Account, error)
	Date(ctx context.Context) (time.Time, error)
	Settings(ctx context.Context, accountID string, zones, nodes []string) (map[string]map[string]cloudflare.Settings, error)
}

// Budget gives leave to send one request (G7); *quota.Limiter is one.
type Budget interface {
	// TryTake takes one permit for a lane. ok is false when none is free before
	// wait has passed.
	TryTake(ctx context.Context, lane quota.Lane) (ok bool, wait time.Duration, err error)
	// Over tells that a request that had a permit is over, whatever came of it.
	Over()
	// Share is how many requests Weir may send in five minutes, of how many that
	// Cloudflare allows the user.
	Share() (share, limit int)
	// Expect tells how many requests in that time keep the newest windows complete.
	Expect(need float64)
	// Refused tells that Cloudflare refused a request for lack of budget, and
	// for how long it said to wait; 0 when it did not say.
	Refused(wait time.Duration)
}

// Config of the loop. All fields are required unless they say otherwise.
type Config struct {
	Store     store.Store
	Upstream  Upstream
	Budget    Budget
	Clock     clock.Clock
	Catalogue *catalogue.Catalogue
	Metrics   *Metrics
	Trouble   *trouble.Board // nil: nobody is told
	Writes    *writes.Watch  // nil: nobody is told
	Passed    func()         // called when a pass has ended well; nil: nobody is told
	// Unreadable is told of entries and records that cannot be read; nil: nobody is.
	Unreadable *unreadable.Register
	Logger     *slog.Logger

	Select    roster.Selection
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
	blocked, err := s.housekeeping(ctx, began)
	if err != nil {
		return time.Time{}, err
	}
	if blocked == 0 {
		claims := s.claims(began)
		s.weigh(began, claims)
		queue := plan.Make(began, s.wants(claims), s, plan.DefaultCeilings).Requests
		if blocked, err = s.ask(ctx, queue); err != nil {
			return time.Time{}, err
		}
		if blocked == 0 { // no data is waiting for a turn
			s.turns = settingsAtOnce
		}
	}
	if blocked == 0 && !s.more(&s.urgent) { // nothing is left that would have to be asked
		if err := s.entitleFailed(ctx, began); err != nil {
			return time.Time{}, err
		}
		if blocked, err = s.audit(ctx); err != nil {
			return time.Time{}, err
		}
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
	return s.nextPass(now, blocked, claims), nil
}

// nextPass is when something will be worth doing again. blocked is a time
// before which nothing may be sent, or zero.
func (s *state) nextPass(now, blocked bucket.Time, claims []roster.Claim) time.Time {
	next := now.Add(s.Interval)
	p := plan.Make(now, s.wants(claims), s, plan.DefaultCeilings)
	switch {
	case len(p.Requests) > 0:
		// Not at once: whatever leaves work undone must not make the loop spin.
		next = now.Add(time.Second)
	case p.Next != 0:
		next = min(next, p.Next)
	}
	next = min(next, s.discoverAt)
	switch {
	case s.urgent.halted():
		next = min(next, now.Add(10*time.Second))
	case s.more(&s.urgent):
		next = min(next, now.Add(time.Second))
	}
	if blocked != 0 {
		next = blocked
	}
	// Whatever is wrong, a loop that does not wait would be worse.
	next = max(next, now.Add(time.Second))
	// The trusted clock may be behind the clock that is waited on.
	return next.Std().Add(s.Clock.Now().Sub(s.trusted.Now()))
}
