package poll

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
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
	// Credentials are used for requests to Cloudflare: one or more. A zone that
	// several see belongs to the first that selects it.
	Credentials []upstream.Credential
	Clock       clock.Clock
	Catalogue   *catalogue.Catalogue
	Metrics     *Metrics
	Trouble     *trouble.Board // optional
	Writes      *writes.Watch  // optional
	Passed      func()         // optional; called after each pass that succeeded
	Accepted    func()         // optional; called when Cloudflare has accepted a token of this store for the first time
	// Unreadable records entries and records that cannot be read. Optional.
	Unreadable *unreadable.Register
	Logger     *slog.Logger

	Lookback  time.Duration // history that a new scope gets
	Retention time.Duration // of the store
	Interval  time.Duration // longest pause between passes
	LeaseTTL  time.Duration // renewed with stream time
	Seed      uint64        // of the jitter
}

// Poller runs the loop while its process leads.
type Poller struct {
	config    Config
	env       *env
	reception reception
	restating chan struct{} // holds one while a restatement is under way
}

// New returns a Poller.
func New(c Config) *Poller {
	c.Metrics.atZero(c.Catalogue.Datasets)
	e := &env{
		clock: c.Clock, catalogue: c.Catalogue, metrics: c.Metrics, trouble: c.Trouble, log: c.Logger,
		quiet: quiet.New(c.Logger, time.Minute), rng: rand.New(rand.NewPCG(c.Seed, 0)),
	}
	e.trusted = trusted.New(c.Clock, c.Store, func(source string, skew time.Duration) {
		e.metrics.skew.WithLabelValues(source).Set(skew.Seconds())
		if skew < 0 {
			e.quiet.Warn(source, "clock is ahead of another; using the earlier one", "source", source, "skew", skew)
		}
	})
	return &Poller{config: c, env: e, restating: make(chan struct{}, 1)}
}

// Lead collects under a lease until ctx ends or the store fails. The error
// says why it stopped; the caller releases the lease and campaigns again.
func (p *Poller) Lead(ctx context.Context, won store.Lease) error {
	p.env.metrics.leader.Set(1)
	defer p.env.metrics.stepDown()
	defer p.env.trouble.StepDown()
	desk, end := p.reception.open()
	defer end()
	s, err := p.load(ctx, won)
	if err != nil {
		return fmt.Errorf("load state: %w", err)
	}
	s.desk = desk
	for {
		began := time.Now()
		next, err := s.pass(ctx)
		s.metrics.passes.Observe(time.Since(began).Seconds())
		if err != nil {
			return fmt.Errorf("collect: %w", err)
		}
		if p.config.Passed != nil {
			p.config.Passed()
		}
		s.changed = false
		switch err := s.journal.Wait(ctx, next, s.wait); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("collect: %w", err)
		}
	}
}

// wait waits for a time and serves requests meanwhile. It returns early after one that
// changed something, since the next pass is then useful.
func (s *state) wait(ctx context.Context, until time.Time) (early bool, err error) {
	for {
		if err := s.serveWaiting(ctx); err != nil || s.changed {
			return s.changed, err
		}
		waiting, stop := context.WithCancel(ctx)
		over := make(chan error, 1)
		go func() { over <- s.clock.WaitUntil(waiting, until) }()
		select {
		case err := <-over:
			stop()
			return false, err
		case e := <-s.desk.errands:
			stop()
			<-over //nolint:errcheck // it was stopped
			if err := s.serve(ctx, e); err != nil {
				return false, err
			}
		}
	}
}
