package poll

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// lineQueue has the requests of one line in a pass.
type lineQueue struct {
	*line
	requests []plan.Request
	unnamed  alike
	waits    time.Time // for a permit
}

// ask sends requests and takes the responses: each line in order, and the lines in turns, so
// that a line that waits does not delay the others. A refused request is split until the zone
// or selection that voids it stands alone.
func (a *asker) ask(ctx context.Context, p plan.Plan) error {
	queues := a.queues(a.inTurn(p.Requests))
	until := a.clock.Now().Add(longWait)
	if next := p.Next.Std().Add(a.clock.Now().Sub(a.trusted.Now())); len(queues) > 1 && p.Next != 0 && next.Before(until) {
		until = next // windows of one line that fall due do not wait for another line
	}
	for {
		if err := a.serve(ctx); err != nil {
			return err
		}
		var soonest time.Time
		asked := false
		for _, q := range queues {
			switch {
			case len(q.requests) == 0:
			case !q.waits.After(a.clock.Now()):
				asked = true
				if err := a.askNext(ctx, q, until); err != nil {
					return err
				}
			case soonest.IsZero() || q.waits.Before(soonest):
				soonest = q.waits
			}
		}
		switch {
		case asked && len(queues) > 1 && a.clock.Now().After(until):
			return nil // to plan again
		case asked:
		case soonest.IsZero():
			return nil
		default:
			if err := a.clock.WaitUntil(ctx, soonest); err != nil {
				return err
			}
		}
	}
}

// askBriefly sends requests until a time, without waiting for permits.
func (a *asker) askBriefly(ctx context.Context, requests []plan.Request, until time.Time) error {
	for _, q := range a.queues(a.inTurn(requests)) {
		for len(q.requests) > 0 && a.clock.Now().Before(until) {
			if err := a.serve(ctx); err != nil {
				return err
			}
			if err := a.askNext(ctx, q, until); err != nil {
				return err
			}
		}
	}
	return nil
}

// queues assigns requests to their lines.
func (a *asker) queues(requests []plan.Request) []*lineQueue {
	all := make([]*lineQueue, len(a.lines))
	for i, l := range a.lines {
		l.refusals.begin()
		all[i] = &lineQueue{line: l}
	}
	for _, r := range requests {
		q := all[a.books.lineOf(r.Scopes[0]).group]
		q.requests = append(q.requests, r)
	}
	return all
}

// stop leaves the rest of the queue until the line is no longer blocked.
func (q *lineQueue) stop() { q.requests = nil }

// over ends a queue after its last request.
func (a *asker) over(q *lineQueue) {
	if q.unnamed.all(a, q.line) {
		a.refusedAlike(q)
	}
}

// askNext sends the first request of a queue, if it may be sent.
func (a *asker) askNext(ctx context.Context, q *lineQueue, until time.Time) error {
	err := a.askFirst(ctx, q, until)
	if err == nil && len(q.requests) == 0 && q.blocked == 0 {
		a.over(q)
	}
	return err
}

func (a *asker) askFirst(ctx context.Context, q *lineQueue, until time.Time) error {
	r, left := a.understood(q.requests[0])
	if !left {
		q.requests = q.requests[1:]
		return nil
	}
	if rest, changed := a.granted(r); changed {
		q.requests = append(rest, q.requests[1:]...)
		return nil
	}
	if err := a.journal.RefreshStream(ctx); err != nil {
		return err
	}
	ok, wait, err := a.sender.permit(ctx, q.line, a.urgency(r))
	switch {
	case err != nil:
		return fmt.Errorf("reserve permits: %w", err)
	case !ok && r.Lane == plan.Backfill:
		// The line is not blocked: regular work has permits of its own.
		q.noHistory = a.trusted.Second().Add(wait + time.Second)
		q.stop()
		return nil
	case !ok && a.isApart(r), !ok && a.canWait(r) && wait > shortWait:
		// The line is not blocked: what falls due has permits of its own.
		q.noRepair = a.trusted.Second().Add(wait + time.Second)
		q.requests = slices.DeleteFunc(q.requests, a.canWait)
		return nil
	case !ok && wait <= shortWait && a.clock.Now().Add(wait).Before(until):
		// The share is used up, and permits expire one by one.
		q.waits = a.clock.Now().Add(wait)
		return nil
	case !ok:
		q.blocked = a.trusted.Second().Add(wait + time.Second)
		q.stop()
		return nil
	}
	switch used, err := a.aside(ctx, q.line); {
	case err != nil:
		return err
	case q.blocked != 0:
		q.stop()
		return nil
	case used:
		return nil
	}
	q.requests = q.requests[1:]
	if a.sends != nil {
		a.sends(r)
	}
	response, readAt, err := a.sender.send(ctx, r)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		if a.tellsOfLine(r) {
			a.recovered(q.line)
			q.unnamed.succeed()
		}
		return a.take(ctx, r, response, readAt)
	}
	if off, is := errors.AsType[*brokenOff](err); is {
		if off.err != nil {
			return off.err
		}
		q.blocked = a.trusted.Second().Add(off.wait + time.Second)
		q.stop()
		return nil
	}
	a.refused(q, r, err)
	return nil
}

// refused handles a request that failed.
func (a *asker) refused(of *lineQueue, r plan.Request, err error) {
	var e *cloudflare.Error
	if !errors.As(err, &e) {
		e = &cloudflare.Error{Class: cloudflare.Transient, Message: err.Error()}
	}
	a.metrics.errors.WithLabelValues(e.Class.String()).Inc()
	if a.sender.refusedAsWhole(of.line, r, e) {
		of.stop()
		return
	}
	if r.State() {
		a.refusedState(r, e)
		return
	}
	if (e.Class == cloudflare.Transient || e.Class == cloudflare.BadResponse) && !a.names(r, e) && !a.isApart(r) {
		a.sender.failAll(r, upstream.ReasonOf(e), e)
		if of.transient++; of.transient >= 3 {
			// The document is not the cause. The rest waits. One failure more is enough when it is
			// tried again: each may take until the client gives up, and the other lines as long.
			a.faults.away(of.line, e, ledger.UpstreamError, cloudflareAway)
			of.stop()
		}
		return
	}
	how := of.unnamed.refuse(a, of.line, r, e)
	switch how {
	case whole:
		a.refusedAlike(of)
		return
	case enough:
		a.faults.away(of.line, e, ledger.Unknown, cloudflareAway)
		of.stop()
		return
	}
	rest := a.isolate(r, e, &of.unnamed)
	if a.tooManyRefusals(of.line, e) {
		of.stop()
		return
	}
	if how == spread {
		rest = append(a.cells(r, of.requests), rest...)
	}
	of.requests = append(rest, of.requests...)
}

// recovered ends an outage. Series that failed in it and were not tried since are recorded as
// failing from now.
func (a *asker) recovered(l *line) {
	if l.outage.Active() {
		now := a.trusted.Second()
		for of, t := range a.faults.tries {
			if !t.alone && a.books.lineOf(of.Scope) == l {
				t.Since = now
			}
		}
	}
	l.outage, l.refused, l.transient = upstream.Outage{}, nil, 0
}
