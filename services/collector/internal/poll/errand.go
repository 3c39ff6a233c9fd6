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
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// errand is what is asked of one line in a pass.
type errand struct {
	*line
	queue     []plan.Request
	unnamed   alike
	transient int         // failures in a row that name nobody
	waits     time.Time   // for a permit
	later     bucket.Time // when what may not be sent now may
}

// ask sends requests and takes in the answers: of each line in order, and of the
// lines by turns, so that a line that waits keeps none of the others waiting. A
// request that is refused is taken apart until the zone or selection that voids it
// stands alone.
func (a *asker) ask(ctx context.Context, p plan.Plan) error {
	errands := a.errands(a.inTurn(p.Requests))
	until := a.Clock.Now().Add(longWait)
	if next := p.Next.Std().Add(a.Clock.Now().Sub(a.trusted.Now())); len(errands) > 1 && p.Next != 0 && next.Before(until) {
		until = next // what falls due of one line does not wait for another
	}
	for {
		var soonest time.Time
		asked := false
		for _, e := range errands {
			switch {
			case len(e.queue) == 0:
			case !e.waits.After(a.Clock.Now()):
				asked = true
				if err := a.askNext(ctx, e, until); err != nil {
					return err
				}
			case soonest.IsZero() || e.waits.Before(soonest):
				soonest = e.waits
			}
		}
		switch {
		case asked && len(errands) > 1 && a.Clock.Now().After(until):
			return nil // to plan again
		case asked:
		case soonest.IsZero():
			return nil
		default:
			if err := a.Clock.WaitUntil(ctx, soonest); err != nil {
				return err
			}
		}
	}
}

// errands deals requests out to their lines.
func (a *asker) errands(queue []plan.Request) []*errand {
	all := make([]*errand, len(a.lines))
	for i, l := range a.lines {
		l.refusals.begin()
		all[i] = &errand{line: l}
	}
	for _, r := range queue {
		e := all[a.lineOf(r.Scopes[0]).group]
		e.queue = append(e.queue, r)
	}
	return all
}

// stop leaves the rest of an errand for when nothing is in the way of its line any
// more.
func (e *errand) stop() { e.queue = nil }

// over ends an errand of which everything was asked.
func (a *asker) over(e *errand) {
	if e.unnamed.all(a, e.line) {
		a.refusedAlike(e)
		return
	}
	e.blocked = e.later
}

// askNext asks the first request of an errand, if it may be.
func (a *asker) askNext(ctx context.Context, e *errand, until time.Time) error {
	err := a.askFirst(ctx, e, until)
	if err == nil && len(e.queue) == 0 && e.blocked == 0 {
		a.over(e)
	}
	return err
}

func (a *asker) askFirst(ctx context.Context, e *errand, until time.Time) error {
	r, left := a.understood(e.queue[0])
	if !left {
		e.queue = e.queue[1:]
		return nil
	}
	if rest, changed := a.granted(r); changed {
		e.queue = append(rest, e.queue[1:]...)
		return nil
	}
	if err := a.journal.TellStream(ctx); err != nil {
		return err
	}
	ok, wait, err := a.permit(ctx, e.line, a.urgency(r))
	switch {
	case err != nil:
		return fmt.Errorf("reserve permits: %w", err)
	case !ok && a.isApart(r):
		// Others may be more urgent.
		e.queue, e.later = e.queue[1:], a.trusted.Second().Add(wait+time.Second)
		return nil
	case !ok && wait <= shortWait && a.Clock.Now().Add(wait).Before(until):
		// The share is used up, and permits come back one by one.
		e.waits = a.Clock.Now().Add(wait)
		return nil
	case !ok:
		e.blocked = a.trusted.Second().Add(wait + time.Second)
		e.stop()
		return nil
	}
	switch used, err := a.aside(ctx, e.line); {
	case err != nil:
		return err
	case e.blocked != 0:
		e.stop()
		return nil
	case used:
		return nil
	}
	e.queue = e.queue[1:]
	answer, readAt, err := a.send(ctx, r)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		e.transient = 0
		a.recovered(e.line)
		e.unnamed.answer()
		return a.take(ctx, r, answer, readAt)
	}
	a.refused(e, r, err)
	return nil
}

// refused deals with a request that failed.
func (a *asker) refused(of *errand, r plan.Request, err error) {
	var e *cloudflare.Error
	if !errors.As(err, &e) {
		e = &cloudflare.Error{Class: cloudflare.Transient, Message: err.Error()}
	}
	a.Metrics.errors.WithLabelValues(e.Class.String()).Inc()
	if a.refusedAsWhole(of.line, r, e) {
		of.stop()
		return
	}
	if (e.Class == cloudflare.Transient || e.Class == cloudflare.BadResponse) && !a.names(r, e) && !a.isApart(r) {
		a.failAll(r, upstream.ReasonOf(e), e)
		if of.transient++; of.transient == 3 {
			// Not this document's fault. Leave the rest for later.
			a.away(of.line, e, ledger.UpstreamError, cloudflareAway)
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
		a.away(of.line, e, ledger.Unknown, cloudflareAway)
		of.stop()
		return
	}
	rest := a.isolate(r, e, &of.unnamed)
	if a.tooManyRefusals(of.line, e) {
		of.stop()
		return
	}
	if how == spread {
		rest = append(a.cells(r, of.queue), rest...)
	}
	of.queue = append(rest, of.queue...)
}
