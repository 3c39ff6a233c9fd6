package collector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// What does not answer is asked again in pauses that end at ten seconds, for as
// long as it takes, and the log stays short.
func TestWaitingForADatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, said := testkit.RecordingLogger(t)
		began, times := time.Now(), 0
		err := wait(t.Context(), log, store.ErrUnavailable, func(context.Context) error {
			if times++; time.Since(began) > 3*time.Hour {
				return nil
			}
			return fmt.Errorf("attempt %d: %w", times, store.ErrUnavailable)
		})
		if err != nil {
			t.Error(err)
		}
		if times < 3*360 || times > 3*800 {
			t.Errorf("it was asked %d times in three hours", times)
		}
		if warnings := said.Count("level=WARN"); warnings == 0 || warnings > 12 {
			t.Errorf("%d warnings in three hours", warnings)
		}
		if said.Count("the database responds") != 1 {
			t.Error("the log does not say that it is over")
		}
	})
}

// It ends with its context, and with an error that waiting does not mend.
func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := testkit.Logger(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := wait(ctx, log, store.ErrUnavailable, func(context.Context) error { return store.ErrUnavailable }); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("given up with %v", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("given up after %s", took)
		}
		if err := wait(t.Context(), log, store.ErrUnavailable, func(context.Context) error { return store.ErrSchema }); !errors.Is(err, store.ErrSchema) {
			t.Errorf("with a schema that does not fit it ends with %v", err)
		}
	})
}

// A migration does not wait for ever.
func TestAMigrationGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, most := range []time.Duration{time.Minute, 30 * time.Minute} {
			log, said := testkit.RecordingLogger(t)
			began := time.Now()
			err := patiently(t.Context(), log, most, func(context.Context) error { return store.ErrUnavailable })
			if took := time.Since(began); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "gave up after "+most.String()) || took != most {
				t.Errorf("after %s: %v", took, err)
			}
			if said.Count("the database does not respond; waiting for it") == 0 {
				t.Error("the log does not say that it waits")
			}
		}
	})
}
