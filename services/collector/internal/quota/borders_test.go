package quota

import (
	"context"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// A refusal at our share, which is below Cloudflare's limit, is somebody
// else's doing too.
func TestARefusalAtTheShareMeansItIsShared(t *testing.T) {
	clk := clock.NewManual(start)
	l := limiter(t, Config{Reserver: new(ledger), Clock: clk})
	if n, _ := drain(t, l, Urgent); n != 150 {
		t.Fatalf("took %d permits, want the share", n)
	}
	l.Refused(0)
	if s := l.State(); !s.Shared || s.Limit != 75 {
		t.Errorf("state after a refusal at 150 of 300 is %+v, want half the share", s)
	}
}

// slow takes its time to answer.
type slow struct {
	*ledger
	clk  *clock.Manual
	took time.Duration
}

func (s *slow) Reserve(ctx context.Context, p store.Permits) (store.Grant, error) {
	g, err := s.ledger.Reserve(ctx, p)
	s.clk.Set(s.clk.Now().Add(s.took))
	return g, err
}

// A block that arrives after its time is not used: its permits have been given
// for requests that were to be sent before.
func TestABlockThatComesTooLateIsNotUsed(t *testing.T) {
	clk := clock.NewManual(start)
	late := &slow{ledger: new(ledger), clk: clk, took: 61 * time.Second}
	l := limiter(t, Config{Reserver: late, Clock: clk})
	if ok, at := take(t, l, Urgent); ok || !at.After(clk.Now()) {
		t.Errorf("a permit that lapsed on its way was used (%t), retry at %s", ok, at)
	}
	late.took = time.Second
	if ok, _ := take(t, l, Urgent); !ok {
		t.Error("no permit although the store is fast again")
	}
	if s := l.State(); s.Lapsed != 10 || s.Sent != 1 {
		t.Errorf("state is %+v, want one block lapsed and one permit sent", s)
	}
}
