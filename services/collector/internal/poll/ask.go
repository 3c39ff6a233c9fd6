package poll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// ask sends requests in order and takes in the answers. A request that fails
// as a whole is halved until the zone or selection that voids it stands alone.
// It returns the time before which nothing more may be sent, or zero.
func (s *state) ask(ctx context.Context, queue []plan.Request) (blocked bucket.Time, err error) {
	var portioned []plan.Request
	for _, r := range queue {
		portioned = append(portioned, s.portions(r)...)
	}
	queue = portioned
	for transient := 0; len(queue) > 0; {
		r, left := s.understood(queue[0])
		if !left {
			queue = queue[1:]
			continue
		}
		if rest, changed := s.granted(r); changed {
			queue = append(rest, queue[1:]...)
			continue
		}
		ok, wait, err := s.Budget.TryTake(ctx, urgency(r.Lane))
		switch {
		case err != nil:
			return 0, fmt.Errorf("reserve permits: %w", err)
		case !ok:
			return s.trusted.Second().Add(wait + time.Second), nil
		}
		queue = queue[1:]
		answer, readAt, err := s.send(ctx, r)
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if err == nil {
			transient = 0
			s.outage = backoff{}
			if err := s.take(ctx, r, answer, readAt); err != nil {
				return 0, err
			}
			continue
		}
		var e *cloudflare.Error
		if !errors.As(err, &e) {
			e = &cloudflare.Error{Class: cloudflare.Transient, Message: err.Error()}
		}
		s.Metrics.errors.WithLabelValues(e.Class.String()).Inc()
		if stop := s.refusedAsWhole(r, e); stop != 0 {
			return stop, nil
		}
		if e.Class == cloudflare.Transient || e.Class == cloudflare.BadAnswer {
			s.failAll(r, reasonOf(e.Class), e)
			if transient++; transient == 3 {
				// Not this document's fault. Leave the rest for later.
				s.outage.fail(s.trusted.Second(), cloudflareAway, s.rng.Float64())
				return s.outage.next, nil
			}
			continue
		}
		queue = append(s.isolate(r, e), queue...)
	}
	return 0, nil
}

// urgency keeps repairs from using up what fresh windows need.
func urgency(l plan.Lane) quota.Lane {
	if l == plan.Repair {
		return quota.Background
	}
	return quota.Urgent
}

// send asks Cloudflare once. The reading counts from before it was sent.
func (s *state) send(ctx context.Context, r plan.Request) (*cloudflare.Answer, bucket.Time, error) {
	q := cloudflare.Query{}
	for _, sc := range r.Scopes {
		if sc.Kind == bucket.Account {
			q.AccountID = sc.ID // the planner asks accounts one at a time
		} else {
			q.Zones = append(q.Zones, sc.ID)
		}
	}
	for i, sel := range r.Selections {
		q.Selections = append(q.Selections, selection(alias(i), sel))
	}
	readAt := s.trusted.Second()
	sent, began := s.Clock.Now(), time.Now()
	answer, err := s.Upstream.Query(ctx, q)
	s.Metrics.duration.Observe(time.Since(began).Seconds())
	s.Metrics.requests.WithLabelValues(r.Lane.String()).Inc()
	if err != nil {
		return nil, 0, err
	}
	if !answer.Date.IsZero() {
		s.answered = true
		s.noteSkew("cloudflare", sent, s.Clock.Now(), answer.Date, time.Second)
		// Should our clock have jumped ahead since it was last compared, the
		// windows are younger than they seemed.
		readAt = min(readAt, s.trusted.Second())
	}
	return answer, readAt, nil
}

func alias(i int) string { return fmt.Sprintf("s%d", i) }

func (s *state) noteSkew(source string, sent, received, at time.Time, resolution time.Duration) {
	skew := s.trusted.Observe(source, sent, received, at, resolution)
	s.Metrics.skew.WithLabelValues(source).Set(skew.Seconds())
	if skew < 0 {
		s.Logger.Warn("clock is ahead of another; using the earlier one", "source", source, "skew", skew)
	}
}

// refusedAsWhole handles errors that no change of the question would mend, and
// returns the time before which nothing may be sent.
func (s *state) refusedAsWhole(r plan.Request, e *cloudflare.Error) bucket.Time {
	now := s.trusted.Second()
	switch e.Class {
	case cloudflare.Budget:
		s.Budget.Refused(e.RetryAfter)
		s.failAll(r, ledger.UpstreamError, e)
		wait := e.RetryAfter
		if wait <= 0 {
			wait = 5 * time.Minute // Cloudflare's own figure in the message
		}
		s.Logger.Warn("Cloudflare says the query budget is used up", "wait", wait, "ray", e.Ray)
		return now.Add(wait)
	case cloudflare.Auth:
		s.failAll(r, ledger.Unauthorized, e)
		s.outage.fail(now, tokenRefused, s.rng.Float64())
		s.Logger.Error("Cloudflare refuses the API token; nothing is collected until it is replaced", "err", e)
		return s.outage.next
	default:
		return 0
	}
}

func (s *state) failAll(r plan.Request, reason ledger.Reason, e *cloudflare.Error) {
	s.Logger.Warn("request to Cloudflare failed", "class", e.Class.String(), "zones", len(r.Scopes), "selections", len(r.Selections), "err", e)
	jitter := s.rng.Float64()
	for _, sel := range r.Selections {
		for _, sc := range r.Scopes {
			s.failWith(ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}, reason, e.Error(), jitter, seriesFailed)
		}
	}
}

func reasonOf(c cloudflare.Class) ledger.Reason {
	if c == cloudflare.BadAnswer {
		return ledger.BadAnswer
	}
	return ledger.UpstreamError
}

// blame notes what Cloudflare refused of one zone and one dataset.
func (s *state) blame(sc bucket.Scope, sel plan.Selection, e *cloudflare.Error) {
	of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
	now := s.trusted.Second()
	log := s.Logger.With("dataset", of.Dataset, "zone", sc.ID, "variant", sel.Variant.Name)
	switch e.Class {
	case cloudflare.Entitlement:
		log.Warn("zone may not be asked; trying the next variant", "err", e)
		s.roster[sc].Refuse(of.Dataset, sel.Variant.Name, store.Text(e.Message), now.Add(refusedFor))
		s.dirty(sc)
	case cloudflare.Ours:
		log.Error("Cloudflare does not understand the dataset; it is disabled for an hour", "err", e)
		s.off[of.Dataset] = now.Add(time.Hour)
	case cloudflare.Range:
		log.Warn("range is outside what the plan allows; corrected", "err", e)
		s.correct(sc, sel, e)
		s.fail(of, ledger.UpstreamError, e.Error())
	case cloudflare.TooBig:
		s.narrow(of, sel, e.Message)
	default:
		s.fail(of, ledger.UpstreamError, e.Error())
	}
}

// deny notes that the token may not ask a scope for these selections, which is no
// matter of its plan: they stay wanted, and are asked again until it may. Each try
// voids a request that others are part of, and they may be many.
func (s *state) deny(sc bucket.Scope, selections []plan.Selection, e *cloudflare.Error) {
	jitter := s.rng.Float64()
	for _, sel := range selections {
		of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
		if !s.denied(of) {
			s.Logger.Warn("the API token may not ask the zone for the dataset; it is asked again within an hour", "dataset", of.Dataset, "zone", sc.ID, "name", s.roster[sc].Name, "err", e)
		}
		s.failWith(of, ledger.Unauthorized, e.Error(), jitter, seriesDenied)
	}
}

// denied reports whether the token was last found not to be good for a series.
func (s *state) denied(of ledger.Series) bool {
	t := s.tries[of]
	return t != nil && t.reason == ledger.Unauthorized
}

// correct learns a limit from a refusal: the settings are hours old, or wrong.
func (s *state) correct(sc bucket.Scope, sel plan.Selection, e *cloudflare.Error) {
	if e.Limit <= 0 {
		return
	}
	s.roster[sc].Correct(sel.Variant.Node, func(node *roster.Node) {
		if e.Age {
			node.NotOlderThan = e.Limit
		} else {
			node.MaxDuration = e.Limit
		}
	})
	s.dirty(sc)
}

// narrow halves the range of a series whose answer was too big; at one window
// nothing is left to halve, and the gap says so.
func (s *state) narrow(of ledger.Series, sel plan.Selection, detail string) {
	if sel.Window.Len() > sel.Dataset.Size {
		t := s.tries[of]
		if t == nil {
			t = &try{}
			s.tries[of] = t
		}
		t.maxRange = max(sel.Dataset.Size, (sel.Window.Len() / 2).Truncate(sel.Dataset.Size))
		return
	}
	s.fail(of, ledger.TooBig, detail)
}
