package poll_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// streamWatch is a store that notes how old stream time became before the next was
// recorded, and holds every commit against it.
type streamWatch struct {
	store.Store
	w         *world
	told      time.Time     // stream time
	lag       time.Duration // its greatest age
	records   int
	appended  int
	committed time.Time // the newest
}

func (s *streamWatch) Renew(ctx context.Context, term store.Term, ttl time.Duration, stream time.Time) error {
	if !stream.IsZero() {
		now := s.w.clock.Now()
		if !s.told.IsZero() {
			s.lag = max(s.lag, now.Sub(s.told))
		}
		if stream.After(now) {
			s.w.t.Errorf("stream time %s at %s", stream, now)
		}
		if stream.After(s.told) {
			s.told = stream
		}
		s.records++
	}
	return s.Store.Renew(ctx, term, ttl, stream)
}

func (s *streamWatch) Append(ctx context.Context, term store.Term, at bucket.Position, b store.Batch) (bucket.Position, error) {
	if b.CommittedAt.Before(s.told) {
		s.w.t.Errorf("a commit is dated %s after the stream time %s was told (G4)", b.CommittedAt, s.told)
	}
	s.appended++
	s.committed = b.CommittedAt
	return s.Store.Append(ctx, term, at, b)
}

// Stream time advances as long as the leader lives, whatever keeps it from
// collecting, and no commit is dated before a stream time that was told.
func TestStreamTimeAdvancesWhileTheLeaderLives(t *testing.T) {
	outage := func(c *cfsim.Config) {
		c.Faults = []cfsim.Fault{{Kind: cfsim.FaultHTML, Status: 503, From: began.Add(20 * time.Minute)}}
	}
	for name, story := range map[string]struct {
		sim   func(*cfsim.Config)
		after func(*world) // twenty minutes
		back  time.Duration
	}{
		"nothing happens":        {},
		"no permit":              {after: func(w *world) { w.budget(quota.Urgent, quota.Background) }},
		"Cloudflare is away":     {sim: outage},
		"the token is refused":   {after: func(w *world) { w.token = "revoked" }},
		"the budget is depleted": {after: func(w *world) { w.stand(&between{query: depleted}) }},
		"every answer is slow":   {after: slow}, // a pass takes minutes
		"the clock goes back": {back: 2 * time.Minute, after: func(w *world) { // while requests are under way
			set := &jumping{leaping: w.clock}
			w.config.Clock = set
			seen := w.config.Store.(*streamWatch)
			w.stand(&between{query: func(cloudflare.Query) error {
				w.clock.Advance(5 * time.Second)
				if seen.told.After(seen.committed) && set.by > -2*time.Minute {
					set.by -= 20 * time.Second
				}
				return nil
			}})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, story.sim)
			seen := &streamWatch{Store: w.store, w: w}
			w.config.Store = seen
			w.run(20 * time.Minute)
			if seen.appended == 0 {
				t.Fatal("nothing was stored")
			}
			if story.after != nil {
				story.after(w)
			}
			w.run(time.Hour)
			now, limit := w.clock.Now(), time.Minute+story.back
			if now.Sub(seen.told) > limit || seen.lag > limit {
				t.Errorf("at %s stream time is %s; it was %s old before", now, seen.told, seen.lag)
			}
			if seen.records > 80*60/5+80 {
				t.Errorf("stream time was recorded %d times", seen.records)
			}
		})
	}
}

func slow(w *world) {
	w.stand(&between{query: func(cloudflare.Query) error {
		w.clock.Advance(25 * time.Second)
		return nil
	}})
}

func depleted(cloudflare.Query) error {
	return &cloudflare.Error{Class: cloudflare.Budget, Message: "rate limiter budget depleted", RetryAfter: 5 * time.Minute}
}

// A stream time that is far ahead, in a row that was damaged or written by a clock
// that was, is no leader's: it is set to the present while a leader leads and when
// one begins to, and no bucket is dated by it.
func TestAStreamTimeFarAheadIsSetBack(t *testing.T) {
	w := newWorld(t, zones("shop.example"))
	damage := func() {
		t.Helper()
		head, err := w.store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := w.store.Renew(t.Context(), head.Term, time.Minute, w.clock.Now().AddDate(1, 0, 0)); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		t.Helper()
		head, err := w.store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		now := w.clock.Now()
		if age := now.Sub(head.ProgressAt); age < 0 || age > time.Minute {
			t.Errorf("%s stream time is %s at %s", when, head.ProgressAt, now)
		}
		if age := now.Sub(head.CommittedAt); age < 0 || age > 10*time.Minute {
			t.Errorf("%s the newest commit is dated %s at %s", when, head.CommittedAt, now)
		}
	}
	if _, err := w.store.Acquire(t.Context(), "test", time.Minute); err != nil {
		t.Fatal(err)
	}
	damage()
	w.run(20 * time.Minute)
	check("after one that was found at the start")
	once := sync.OnceFunc(damage)
	w.front(func(time.Duration, string) (int, string) { once(); return 0, "" })
	w.run(20 * time.Minute)
	check("after one that appeared meanwhile")
	w.checkTruth()
}

// ahead is a store whose head's newest entry is dated a year ahead.
type ahead struct {
	store.Store
	w *world
}

func (a *ahead) Acquire(ctx context.Context, holder string, ttl time.Duration) (store.Lease, error) {
	won, err := a.Store.Acquire(ctx, holder, ttl)
	won.Head.CommittedAt = a.w.clock.Now().AddDate(1, 0, 0)
	return won, err
}

// A time of the newest entry that has not come dates no commit.
func TestACommitThatHasNotComeIsNotGoneBy(t *testing.T) {
	w := newWorld(t, zones("shop.example"))
	w.store = &ahead{Store: w.store, w: w}
	seen := &streamWatch{Store: w.store, w: w}
	w.config.Store = seen
	w.run(20 * time.Minute)
	if seen.appended == 0 || seen.committed.After(w.clock.Now()) {
		t.Errorf("%d commits, the newest of %s at %s", seen.appended, seen.committed, w.clock.Now())
	}
}

// A head that is not that of the log begins no term: what would be appended is behind
// entries that nobody has, or in their places.
func TestAHeadThatTheLogDoesNotHave(t *testing.T) {
	w := newWorld(t, zones("shop.example"))
	w.run(20 * time.Minute)
	won, err := w.store.Acquire(t.Context(), "test", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	right := won.Head.Revision
	for _, wrong := range []bucket.Revision{right + 1, math.MaxInt64, right - 1, 0} {
		won.Head.Revision = wrong
		err := poll.New(w.config).Lead(t.Context(), won)
		if !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), fmt.Sprint("head says revision ", wrong)) {
			t.Errorf("a term that begins at revision %d of %d ends with %v", wrong, right, err)
		}
	}
}
