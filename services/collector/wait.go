package collector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
)

const (
	// leastWait and mostWait bound the pauses between attempts to reach a database
	// that does not answer.
	leastWait = 500 * time.Millisecond
	mostWait  = 10 * time.Second
	// migrateWait is how long a migration waits: it is a command that ends, and
	// whatever runs it (an init container, a unit, a person) can run it again.
	migrateWait = time.Minute
)

// waits reports whether err says that Postgres does not answer, or does not yet
// as it should. A credential, a database or a certificate that is not known, a
// schema, a setting or a right that does not fit is for a person, who shall hear
// of it at once and not find a process that waits.
func waits(ctx context.Context, err error) bool {
	away := errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
	return away && !postgres.Misconfigured(err)
}

// wait does again what failed with err, in growing pauses, until it succeeds, fails
// otherwise than because Postgres does not answer, or ctx ends; then it returns the
// last error. The log has that once, then seldom, and that it is over.
func wait(ctx context.Context, log *slog.Logger, err error, do func(context.Context) error) error {
	began, tell, pause := time.Now(), quiet.New(log, time.Minute), leastWait
	const message = "the database does not answer; waiting for it"
	defer tell.Over(message)
	for waits(ctx, err) {
		tell.Warn("", message, "err", err, "waited", time.Since(began).Round(time.Second))
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause/2 + rand.N(pause/2)): // not all collectors at once
		}
		pause = min(2*pause, mostWait)
		if err = do(ctx); err == nil {
			log.Info("the database answers", "waited", time.Since(began).Round(time.Second))
		}
	}
	return err
}

// migrate is "collector migrate": the schema, then the rights.
func migrate(ctx context.Context, c Config, g Grants, log *slog.Logger) error {
	return patiently(ctx, log, func(ctx context.Context) error {
		if err := Migrate(ctx, c); err != nil {
			return err
		}
		if err := checkEncodingOf(ctx, c); err != nil {
			return err
		}
		return Grant(ctx, c, g)
	})
}

// patiently waits for a database that do needs, but not for ever.
func patiently(ctx context.Context, log *slog.Logger, do func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, migrateWait)
	defer cancel()
	err := do(ctx)
	if err = wait(bounded, log, err, do); waits(ctx, err) && ctx.Err() == nil {
		return fmt.Errorf("gave up after %s: %w", migrateWait, err)
	}
	return err
}
