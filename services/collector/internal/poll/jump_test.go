package poll_test

import (
	"context"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/store"
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
	w.config.Credentials[0].Budget = limiter
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

// stopping is a store in which the process is stopped for minutes while it reads
// the head, and finds its clock set ahead when it goes on.
type stopping struct {
	store.Store
	clock *jumping
	at    time.Time // of the story
	after int       // readings from then on
}

func (s *stopping) Head(ctx context.Context) (store.Head, error) {
	head, err := s.Store.Head(ctx)
	if now := s.clock.leaping.Now(); !now.Before(s.at) && now.Before(s.clock.at) {
		if s.after--; s.after < 0 {
			s.clock.leaping.Set(s.clock.at.Add(time.Minute))
		}
	}
	return head, err
}

// The clock is set ahead while the process is stopped between the question for the
// database's time and its answer, so that the comparison of clocks cannot tell.
func TestAClockThatJumpsWhileTheDatabaseAnswersIsNotBelieved(t *testing.T) {
	for after := range 5 { // at the beginning of a pass, before a commit, at its end
		w, at := newWorld(t, nil), began.Add(30*time.Minute)
		ahead := &jumping{leaping: w.clock, at: at.Add(3 * time.Minute), by: 94 * time.Second}
		w.config.Clock, w.config.Store = ahead, &stopping{Store: w.store, clock: ahead, at: at, after: after}
		w.run(29 * time.Minute)
		for range 8 {
			w.run(time.Minute)
			head, err := w.store.Head(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if now := w.clock.Now().Add(3 * time.Second); head.ProgressAt.After(now) || head.CommittedAt.After(now) {
				t.Fatalf("at %s the log is said to be complete up to %s, its newest commit is of %s", now, head.ProgressAt, head.CommittedAt)
			}
		}
		w.checkTruth()
	}
}
