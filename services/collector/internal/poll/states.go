package poll

import (
	"context"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
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
	for _, g := range groups {
		g["dimensions"].(map[string]any)[sel.Variant.TimeDimension] = sel.Window.Start.Std().Format(time.RFC3339)
	}
	of := map[string][]map[string]any{alias(0): groups}
	if sc.Kind == bucket.Account {
		return &cloudflare.Response{Account: of}, readAt, nil
	}
	return &cloudflare.Response{Zones: map[string]map[string][]map[string]any{sc.ID: of}}, readAt, nil
}

// sampled are the buckets of a state. A reading is of the newest window that had ended when it
// began; for any other window it is too late.
func (j *judge) sampled(l *result, readAt bucket.Time) (done []settled) {
	for sc, readings := range l.readings {
		for _, r := range readings {
			if r.Closed || r.Start.Add(l.sel.Dataset.Size) != plan.Due(readAt, l.sel.Dataset.Size, 0) {
				continue
			}
			f := l.windows[sc][r.Start]
			done = append(done, settled{b: j.bucket(l.sel, sc, f, bucket.Confirmed, readAt), folded: f})
		}
		j.metrics.lastSuccess.WithLabelValues(l.sel.Dataset.Dataset).Set(float64(readAt))
	}
	return done
}
