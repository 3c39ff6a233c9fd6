package poll

import (
	"context"
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
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
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
	take func(ctx context.Context, r plan.Request, answer *cloudflare.Response, readAt bucket.Time) error
	// aside may use a permit of a line for something else, and says so.
	aside    func(ctx context.Context, l *line) (used bool, err error)
	answered bool // Cloudflare answered since the pass began
}

// permit takes leave to send one request, which is a write where a block of them
// has to be reserved.
func (a *asker) permit(ctx context.Context, l *line, lane quota.Lane) (ok bool, wait time.Duration, err error) {
	err = a.journal.Write(ctx, writes.Permits, func() error {
		ok, wait, err = l.Budget.TryTake(ctx, lane)
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
func (a *asker) send(ctx context.Context, r plan.Request) (*cloudflare.Response, bucket.Time, error) {
	q := about(r.Scopes)
	for i, sel := range r.Selections {
		q.Selections = append(q.Selections, selection(alias(i), sel))
	}
	l, readAt := a.lineOf(r.Scopes[0]), a.trusted.Second()
	sent, began := a.Clock.Now(), time.Now()
	answer, err := l.Client.Query(ctx, q)
	l.Budget.Over()
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

// refusedAsWhole handles errors that no change of the question would mend, which
// keep everything else from being sent by the line.
func (a *asker) refusedAsWhole(l *line, r plan.Request, e *cloudflare.Error) bool {
	switch e.Class {
	case cloudflare.Budget:
		if scopes, _ := a.named(r, e); len(scopes) > 0 {
			return false // of one zone, which waits by itself
		}
		l.Budget.Refused(e.RetryAfter)
		a.failAll(r, ledger.UpstreamError, e)
		wait := e.RetryAfter
		if wait <= 0 {
			wait = 5 * time.Minute // Cloudflare's own figure in the message
		}
		a.Logger.Debug("waiting for the query budget", "credential", l.Name, "wait", wait, "ray", e.Ray) // the limiter warns of it
		l.blocked = a.trusted.Second().Add(wait)
		return true
	case cloudflare.Auth:
		a.failAll(r, ledger.Unauthorized, e)
		a.away(l, e, ledger.Unauthorized, tokenRefused)
		return true
	default:
		return false
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
		a.failAlone(of, upstream.ReasonOf(e), e, seriesFailed)
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
