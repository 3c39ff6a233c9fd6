package poll_test

import (
	"cmp"
	"context"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/upstream"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
)

// counting is a budget that counts what is taken and may deny a lane.
type counting struct {
	upstream.Budget
	clock         interface{ Now() time.Time }
	deny          map[quota.Lane]bool
	wait          time.Duration // that is told to who is denied; 0: a minute
	taken, denied int
	refused       []time.Duration
}

func (c *counting) TryTake(ctx context.Context, lane quota.Lane) (bool, time.Duration, error) {
	if c.deny[lane] {
		c.denied++
		return false, cmp.Or(c.wait, time.Minute), nil
	}
	ok, wait, err := c.Budget.TryTake(ctx, lane)
	if ok {
		c.taken++
	}
	return ok, wait, err
}

func (c *counting) Refused(wait time.Duration) {
	c.refused = append(c.refused, wait)
	c.Budget.Refused(wait)
}

func (w *world) budget(deny ...quota.Lane) *counting {
	c := &counting{Budget: w.config.Credentials[0].Budget, clock: w.clock, deny: map[quota.Lane]bool{}}
	for _, lane := range deny {
		c.deny[lane] = true
	}
	w.config.Credentials[0].Budget = c
	return c
}

// Every query has its permit, and a budget error is passed on (G7).
func TestEveryQueryTakesAPermit(t *testing.T) {
	w := newWorld(t, nil)
	b, budget := &between{}, w.budget()
	w.stand(b)
	w.run(2 * time.Hour)
	if b.sent < 20 || budget.taken != b.sent {
		t.Errorf("%d queries with %d permits", b.sent, budget.taken)
	}
	b.query = func(cloudflare.Query) error {
		return &cloudflare.Error{Class: cloudflare.Budget, Message: "rate limiter budget depleted", RetryAfter: 7 * time.Minute}
	}
	w.run(6 * time.Minute)
	if len(budget.refused) != 1 || budget.refused[0] != 7*time.Minute {
		t.Errorf("the budget heard of refusals %v, want one of 7 minutes", budget.refused)
	}
}

// Repairs must not use up what keeps the newest windows complete.
func TestRepairsWaitForTheirLane(t *testing.T) {
	w, shop := newWorld(t, nil), cfsim.Tag("zone:shop.example")
	budget := w.budget(quota.Background)
	w.run(2 * time.Hour)
	// What fell due within the last three quarters of an hour is asked at once.
	border := bucket.TimeOf(began.Add(-time.Hour))
	fresh := 0
	for key, b := range w.stored() {
		if key.Dataset != "http_5m" || key.Scope.ID != shop {
			continue
		}
		if b.Window().End <= border {
			t.Errorf("%s is stored without a permit for repairs", key)
		}
		fresh++
	}
	if fresh < 24 || budget.denied == 0 {
		t.Errorf("%d fresh windows are stored, %d repairs were denied", fresh, budget.denied)
	}
	budget.deny = nil
	w.run(time.Hour)
	if n := w.missing(shop, began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows are missing although repairs may go on", n)
	}
}

// What is overdue is in the ledger, whatever the reason (G2).
func TestWhatIsOverdueIsInTheLedger(t *testing.T) {
	w, shop := newWorld(t, nil), cfsim.Tag("zone:shop.example")
	w.run(time.Hour)
	if got := w.gaps("http_5m", shop); len(got) != 0 {
		t.Errorf("a zone that is up to date has gaps %v", got)
	}
	w.budget(quota.Urgent, quota.Background)
	w.run(time.Hour)
	// An hour less the delay and the deadline.
	if got := w.gaps("http_5m", shop); got[ledger.Pending] < 7 || got[ledger.Pending] > 9 {
		t.Errorf("gaps after an hour without a permit are %v, want eight pending windows", got)
	}
}
