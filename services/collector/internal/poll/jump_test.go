package poll_test

import (
	"context"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/quota"
)

// jumping is the story's clock on a machine whose own is set ahead at some time,
// by so much. Cloudflare and the database have the story's.
type jumping struct {
	*leaping
	at time.Time
	by time.Duration
}

func (j *jumping) off() time.Duration {
	if j.leaping.Now().Before(j.at) {
		return 0
	}
	return j.by
}

func (j *jumping) Now() time.Time { return j.leaping.Now().Add(j.off()) }

func (j *jumping) WaitUntil(ctx context.Context, t time.Time) error {
	return j.leaping.WaitUntil(ctx, t.Add(-j.off()))
}

// The machine's clock is set ahead by forty minutes in the middle of the story.
// No completeness is promised for what has not come, nothing is committed in the
// future, and no window is taken for old that is fresh (G1, G4).
func TestAClockThatJumpsAheadIsNoticedBeforeItDecidesAnything(t *testing.T) {
	w := newWorld(t, nil)
	ahead := &jumping{leaping: w.clock, at: began.Add(47*time.Minute + 13*time.Second), by: 40 * time.Minute}
	w.config.Clock = ahead
	limiter, err := quota.New(quota.Config{User: "u", Reserver: w.store, Clock: ahead, Holder: "test", Logger: w.config.Logger})
	if err != nil {
		t.Fatal(err)
	}
	w.config.Budget = limiter
	w.run(46 * time.Minute)
	for range 8 {
		w.run(time.Minute)
		head, err := w.store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		now := w.clock.Now().Add(3 * time.Second) // what is put down to measuring
		if head.ProgressAt.After(now) || head.CommittedAt.After(now) {
			t.Fatalf("at %s the log is said to be complete up to %s, its newest commit is of %s", now, head.ProgressAt, head.CommittedAt)
		}
	}
	w.run(time.Hour)
	if n := w.checkTruth(); n < 100 {
		t.Fatalf("only %d buckets were stored and compared", n)
	}
}
