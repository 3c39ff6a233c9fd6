package journal_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
	"github.com/weir-metrics/weir/services/collector/internal/trusted"
)

// suspending is a store whose leader is suspended right before some appends arrive.
type suspending struct {
	store.Store
	clock *clock.Manual
	times int
}

func (s *suspending) Append(ctx context.Context, term store.Term, at bucket.Position, b store.Batch) (bucket.Position, error) {
	if s.times--; s.times >= 0 {
		s.clock.Advance(90 * time.Second)
	}
	return s.Store.Append(ctx, term, at, b)
}

// A leader that is suspended between the reading of the time and its append commits nothing
// that is older than what a collector may have said to be complete meanwhile, a minute behind
// its clock: it dates the batch anew. If that happens again and again, its term ends (G10).
func TestASuspendedLeaderDatesItsBatchAnew(t *testing.T) {
	clk := clock.NewManual(began)
	db, err := sqlite.Open(t.Context(), sqlite.Options{Ephemeral: true, Clock: clk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	won, err := db.Acquire(t.Context(), "leader", 15*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s := &suspending{Store: db, clock: clk}
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "gauge"})
	j := journal.Open(journal.Config{
		Store: s, Clock: clk, Trusted: trusted.New(clk, db, func(string, time.Duration) {}), LeaseTTL: 15 * time.Second,
		Jitter: func() float64 { return 0 }, Revision: gauge, Stream: gauge,
	}, won)
	event := store.NewEntry{Kind: bucket.KindAudit, Payload: []byte("x")}
	for times, want := range []error{nil, nil, nil, 5: store.ErrLate} {
		s.times = times
		_, err := j.Commit(t.Context(), store.Batch{Entries: []store.NewEntry{event}})
		if !errors.Is(err, want) {
			t.Errorf("suspended %d times: %v, want %v", times, err, want)
		}
		head, err := db.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if complete := clk.Now().Add(-time.Minute); want == nil && head.CommittedAt.Before(complete) {
			t.Errorf("suspended %d times, the leader committed at %s, after a collector may have said that all is complete until %s", times, head.CommittedAt, complete)
		}
		if times == 5 && head.Revision != 5 {
			t.Errorf("the log has %d entries; of six batches five were committed", head.Revision)
		}
	}
}
