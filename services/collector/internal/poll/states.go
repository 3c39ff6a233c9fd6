package poll

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// States are read by the same loop as windows of analytics: planned, paid for with permits,
// refused and recorded alike. What differs is here: a reading is one or several calls of the
// REST API, and is final at once.

// brokenOff is that a reading of a state was not continued, for want of a permit or because
// of the store. It says nothing about Cloudflare.
type brokenOff struct {
	wait time.Duration // for a permit
	err  error         // of the store; nil: there was no permit
}

func (b *brokenOff) Error() string {
	if b.err != nil {
		return b.err.Error()
	}
	return fmt.Sprintf("no permit for the next request of a state within %s", b.wait)
}

// sendState reads a state. The caller has taken the permit of its first request.
func (s *sender) sendState(ctx context.Context, r plan.Request) (*cloudflare.Response, bucket.Time, error) {
	sel, sc := r.Selections[0], r.Scopes[0]
	l, readAt := s.books.lineOf(sc), s.trusted.Second()
	began, used := time.Now(), true
	more := func(ctx context.Context) error {
		l.Budget.Over()
		used = false
		if err := s.journal.RefreshStream(ctx); err != nil {
			return &brokenOff{err: err}
		}
		ok, wait, err := s.permit(ctx, l, quota.Urgent)
		switch {
		case err != nil:
			return &brokenOff{err: fmt.Errorf("reserve permits: %w", err)}
		case !ok:
			return &brokenOff{wait: wait}
		}
		used = true
		s.metrics.requests.WithLabelValues(r.Lane.String()).Inc()
		return nil
	}
	s.metrics.requests.WithLabelValues(r.Lane.String()).Inc()
	groups, err := l.Client.State(ctx, sel.Variant.Node, sc, more)
	if used {
		l.Budget.Over()
	}
	s.metrics.duration.Observe(time.Since(began).Seconds())
	if err != nil {
		return nil, 0, err
	}
	of := map[string][]map[string]any{alias(0): sel.Variant.Placed(groups, sel.Window.Start)}
	if sc.Kind == bucket.Account {
		return &cloudflare.Response{Account: of}, readAt, nil
	}
	return &cloudflare.Response{Zones: map[string]map[string][]map[string]any{sc.ID: of}}, readAt, nil
}

// tellsOfLine reports whether the success of a request shows that the line works. States are
// of another API than analytics: while one of them is down, the other may work.
func (a *asker) tellsOfLine(r plan.Request) bool {
	return !r.State() || !a.asksAnalytics(bucket.Zone) && !a.asksAnalytics(bucket.Account)
}

// refusedState handles the failure of a state that concerns neither the token nor the budget as a
// whole. It costs this state of this scope, whatever it was: the next one is of another path.
func (a *asker) refusedState(r plan.Request, e *cloudflare.Error) {
	sc, sel := r.Scopes[0], r.Selections[0]
	switch e.Class {
	case cloudflare.Denied:
		a.deny(sc, r.Selections, e)
	case cloudflare.Entitlement:
		// Without a node: that another scope may read the state says nothing about this one.
		who := a.books.roster[sc]
		who.Refuse(a.trusted.Second(), sel.Dataset.Dataset, sel.Variant.Name, roster.Refusal{Reason: e.Message})
		a.books.dirty(sc)
		a.quiet.Info(sel.Dataset.Dataset+" "+sc.ID, "Cloudflare refuses the state to the "+sc.Kind.String(), "dataset", sel.Dataset.Dataset, inLog(sc), "name", who.Name, "err", e)
	default:
		a.blame(sc, sel, e)
	}
}

// sampled are the buckets of a state. A reading is of the newest window that had ended when it
// began, unless that was too long ago.
func (j *judge) sampled(l *result, readAt bucket.Time) (done []settled) {
	d := l.sel.Dataset
	for sc, readings := range l.readings {
		for _, r := range readings {
			if r.Closed || readAt.Sub(r.Start.Add(d.Size)) >= d.Within() {
				continue
			}
			f := l.windows[sc][r.Start]
			done = append(done, settled{b: j.bucket(l.sel, sc, f, bucket.Confirmed, readAt), folded: f})
		}
		j.metrics.lastSuccess.WithLabelValues(d.Dataset).Set(float64(readAt))
	}
	return done
}
