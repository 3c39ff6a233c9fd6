package poll

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/trusted"
	"github.com/weir-metrics/weir/services/collector/internal/writes"
)

// While the share is used up a pass goes on from permit to permit, since to plan
// costs more than to ask, but not for so long that what falls due meanwhile waits.
const (
	shortWait = 10 * time.Second // for one permit
	longWait  = 30 * time.Second // after the beginning of the queue
)

// asker sends questions to Cloudflare, and finds out who is to blame where one is
// refused.
type asker struct {
	*Poller
	*faults
	*books
	*writer
	take func(ctx context.Context, r plan.Request, answer *cloudflare.Answer, readAt bucket.Time) error
	// aside may use a permit for something else, and says so. It returns a time
	// before which nothing may be sent, or zero.
	aside    func(ctx context.Context) (used bool, blocked bucket.Time, err error)
	refusals refusals // of variants, by answers
	answered bool     // Cloudflare answered since the pass began
}

// ask sends requests in order and takes in the answers. A request that is
// refused is taken apart until the zone or selection that voids it stands alone.
// It returns the time before which nothing more may be sent, or zero.
func (a *asker) ask(ctx context.Context, queue []plan.Request) (blocked bucket.Time, err error) {
	queue = a.inTurn(queue)
	a.refusals.begin()
	unnamed := alike{}
	var later bucket.Time // when what may not be sent now may
	until := a.Clock.Now().Add(longWait)
	for transient := 0; len(queue) > 0; {
		r, left := a.understood(queue[0])
		if !left {
			queue = queue[1:]
			continue
		}
		if rest, changed := a.granted(r); changed {
			queue = append(rest, queue[1:]...)
			continue
		}
		if err := a.journal.TellStream(ctx); err != nil {
			return 0, err
		}
		ok, wait, err := a.permit(ctx, a.urgency(r))
		switch {
		case err != nil:
			return 0, fmt.Errorf("reserve permits: %w", err)
		case !ok && a.isApart(r):
			// Others may be more urgent.
			queue, later = queue[1:], a.trusted.Second().Add(wait+time.Second)
			continue
		case !ok && wait <= shortWait && a.Clock.Now().Add(wait).Before(until):
			// The share is used up, and permits come back one by one.
			if err := a.Clock.WaitUntil(ctx, a.Clock.Now().Add(wait)); err != nil {
				return 0, err
			}
			continue
		case !ok:
			return a.trusted.Second().Add(wait + time.Second), nil
		}
		switch used, blocked, err := a.aside(ctx); {
		case err != nil || blocked != 0:
			return blocked, err
		case used:
			continue
		}
		queue = queue[1:]
		answer, readAt, err := a.send(ctx, r)
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		if err == nil {
			transient = 0
			a.recovered()
			unnamed.answer()
			if err := a.take(ctx, r, answer, readAt); err != nil {
				return 0, err
			}
			continue
		}
		var e *cloudflare.Error
		if !errors.As(err, &e) {
			e = &cloudflare.Error{Class: cloudflare.Transient, Message: err.Error()}
		}
		a.Metrics.errors.WithLabelValues(e.Class.String()).Inc()
		if stop := a.refusedAsWhole(r, e); stop != 0 {
			return stop, nil
		}
		if (e.Class == cloudflare.Transient || e.Class == cloudflare.BadAnswer) && !a.names(r, e) && !a.isApart(r) {
			a.failAll(r, reasonOf(e.Class), e)
			if transient++; transient == 3 {
				// Not this document's fault. Leave the rest for later.
				return a.away(e, ledger.UpstreamError, cloudflareAway), nil
			}
			continue
		}
		how := unnamed.refuse(a, r, e)
		switch how {
		case whole:
			return a.refusedAlike(&unnamed), nil
		case enough:
			return a.away(e, ledger.Unknown, cloudflareAway), nil
		}
		rest := a.isolate(r, e, &unnamed)
		if stop := a.tooManyRefusals(e); stop != 0 {
			return stop, nil
		}
		if how == spread {
			rest = append(a.cells(r, queue), rest...)
		}
		queue = append(rest, queue...)
	}
	if unnamed.all() {
		return a.refusedAlike(&unnamed), nil
	}
	return later, nil
}

// permit takes leave to send one request, which is a write where a block of them
// has to be reserved.
func (a *asker) permit(ctx context.Context, lane quota.Lane) (ok bool, wait time.Duration, err error) {
	err = a.journal.Write(ctx, writes.Permits, func() error {
		ok, wait, err = a.Budget.TryTake(ctx, lane)
		return err
	})
	return ok, wait, err
}

// urgency keeps repairs, and what failed the last time, from using up what fresh
// windows need.
func (a *asker) urgency(r plan.Request) quota.Lane {
	if r.Lane == plan.Repair || a.isApart(r) {
		return quota.Background
	}
	return quota.Urgent
}

// send asks Cloudflare once. The reading counts from before it was sent.
func (a *asker) send(ctx context.Context, r plan.Request) (*cloudflare.Answer, bucket.Time, error) {
	q := about(r.Scopes)
	for i, sel := range r.Selections {
		q.Selections = append(q.Selections, selection(alias(i), sel))
	}
	readAt := a.trusted.Second()
	sent, began := a.Clock.Now(), time.Now()
	answer, err := a.Upstream.Query(ctx, q)
	a.Budget.Over()
	a.Metrics.duration.Observe(time.Since(began).Seconds())
	a.Metrics.requests.WithLabelValues(r.Lane.String()).Inc()
	if err != nil {
		return nil, 0, err
	}
	if !answer.Date.IsZero() {
		a.answered = true
		a.trusted.Observe(trusted.Cloudflare, sent, a.Clock.Now(), answer.Date, time.Second)
		// Should our clock have jumped ahead since it was last compared, the
		// windows are younger than they seemed.
		readAt = min(readAt, a.trusted.Second())
	}
	return answer, readAt, nil
}

// about begins a question about scopes, of which the planner puts zones together and
// accounts not.
func about(scopes []bucket.Scope) (q cloudflare.Query) {
	for _, sc := range scopes {
		if sc.Kind == bucket.Account {
			q.AccountID = sc.ID
		} else {
			q.Zones = append(q.Zones, sc.ID)
		}
	}
	return q
}

// inLog is a scope in the log.
func inLog(sc bucket.Scope) slog.Attr { return slog.String(sc.Kind.String(), sc.ID) }

func alias(i int) string { return fmt.Sprintf("s%d", i) }

// refusedAsWhole handles errors that no change of the question would mend, and
// returns the time before which nothing may be sent.
func (a *asker) refusedAsWhole(r plan.Request, e *cloudflare.Error) bucket.Time {
	switch e.Class {
	case cloudflare.Budget:
		if scopes, _ := a.named(r, e); len(scopes) > 0 {
			return 0 // of one zone, which waits by itself
		}
		a.Budget.Refused(e.RetryAfter)
		a.failAll(r, ledger.UpstreamError, e)
		wait := e.RetryAfter
		if wait <= 0 {
			wait = 5 * time.Minute // Cloudflare's own figure in the message
		}
		a.Logger.Debug("waiting for the query budget", "wait", wait, "ray", e.Ray) // the limiter warns of it
		return a.trusted.Second().Add(wait)
	case cloudflare.Auth:
		a.failAll(r, ledger.Unauthorized, e)
		return a.away(e, ledger.Unauthorized, tokenRefused)
	default:
		return 0
	}
}

func (a *asker) failAll(r plan.Request, reason ledger.Reason, e *cloudflare.Error) {
	jitter := a.rng.Float64()
	for _, sel := range r.Selections {
		for _, sc := range r.Scopes {
			of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
			a.failWith(of, reason, e.Error(), jitter, seriesFailed)
		}
	}
	a.often.Warn(e.Class.String()+" "+e.Message, "requests to Cloudflare fail", "class", e.Class.String(), "zones", len(r.Scopes), "selections", len(r.Selections), "err", e, bodyOf(e))
}

// bodyOf is the beginning of the reply, where there is something to see in it.
func bodyOf(e *cloudflare.Error) slog.Attr {
	if e.Body == "" {
		return slog.Attr{}
	}
	return slog.String("body", e.Body)
}

func reasonOf(c cloudflare.Class) ledger.Reason {
	switch c {
	case cloudflare.BadAnswer:
		return ledger.BadAnswer
	case cloudflare.Auth, cloudflare.Denied:
		return ledger.Unauthorized
	case cloudflare.Unknown:
		return ledger.Unknown
	}
	return ledger.UpstreamError
}

// blame notes what Cloudflare refused of one zone and one dataset.
func (a *asker) blame(sc bucket.Scope, sel plan.Selection, e *cloudflare.Error) {
	of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
	about := of.Dataset + " " + sc.ID
	args := []any{"dataset", of.Dataset, inLog(sc), "variant", sel.Variant.Name, "err", e, bodyOf(e)}
	switch e.Class {
	case cloudflare.Entitlement:
		a.refuse(sc, sel, e)
	case cloudflare.Ours:
		a.failAlone(of, ledger.UpstreamError, e, notUnderstood)
		a.often.Error(about, "Cloudflare does not understand the question", args...)
	case cloudflare.Range:
		a.often.Info(about, "range is outside what the plan allows; corrected", args...)
		a.correct(sc, sel, e)
		a.failAlone(of, ledger.UpstreamError, e, seriesFailed)
	case cloudflare.TooBig:
		a.narrow(of, sel, e.Message)
	case cloudflare.Unknown:
		a.failAlone(of, ledger.Unknown, e, unknownRefusal)
		a.often.Warn(about, "Cloudflare refuses the dataset of the scope in words that are not recognised; nothing is concluded from them", args...)
	case cloudflare.Budget:
		a.failAlone(of, ledger.UpstreamError, e, seriesFailed)
		t := a.tries[of]
		t.Next = max(t.Next, a.trusted.Second().Add(e.RetryAfter))
	default:
		a.failAlone(of, reasonOf(e.Class), e, seriesFailed)
		a.often.Warn(about, "request to Cloudflare failed", append(args, "class", e.Class.String())...)
	}
}

// asks reports whether a selection asks for a field, which Cloudflare writes in
// lower case and without its container.
func asks(sel plan.Selection, field string) bool {
	return slices.ContainsFunc(sel.Variant.Fields(), func(f string) bool {
		_, name, nested := strings.Cut(f, "_")
		return strings.EqualFold(f, field) || nested && strings.EqualFold(name, field)
	})
}
