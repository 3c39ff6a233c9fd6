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
	// that does not respond.
	leastWait = 500 * time.Millisecond
	mostWait  = 10 * time.Second
	// mostMigrateWait bounds how long a migration may wait: it is a command that ends, and
	// its caller (an init container, a unit, a person) can run it again.
	mostMigrateWait = 24 * time.Hour
)

// waits reports whether err is a condition of Postgres that may pass by itself: it does
// not respond or is not ready. A wrong credential, database, certificate, schema or
// setting and a missing right must be fixed by an operator, so they end the process with
// an error instead of making it wait.
func waits(ctx context.Context, err error) bool {
	away := errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
	return away && !postgres.Misconfigured(err)
}

// wait retries do, which failed with err, at growing intervals until it succeeds, fails
// with an error for which waits is false, or ctx ends; then it returns the
// last error. It logs the beginning, repeats at growing intervals, and the end.
func wait(ctx context.Context, log *slog.Logger, err error, do func(context.Context) error) error {
	began, tell, pause := time.Now(), quiet.New(log, time.Minute), leastWait
	const message = "the database does not respond; waiting for it"
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
			log.Info("the database responds", "waited", time.Since(began).Round(time.Second))
		}
	}
	return err
}

// migrate runs "collector migrate": the schema, then the rights. It waits for the database
// for up to a time.
func migrate(ctx context.Context, c Config, g Grants, most time.Duration, log *slog.Logger) error {
	return patiently(ctx, log, most, func(ctx context.Context) error {
		if err := Migrate(ctx, c); err != nil {
			return err
		}
		if err := checkEncodingOf(ctx, c); err != nil {
			return err
		}
		return Grant(ctx, c, g)
	})
}

// patiently runs do and waits for the database for up to a time.
func patiently(ctx context.Context, log *slog.Logger, most time.Duration, do func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	err := do(ctx)
	if err = wait(bounded, log, err, do); waits(ctx, err) && ctx.Err() == nil {
		return fmt.Errorf("gave up after %s (WEIR_MIGRATE_WAIT): %w", most, err)
	}
	return err
}
