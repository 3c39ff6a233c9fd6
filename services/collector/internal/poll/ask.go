package poll

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/journal"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// While the share is used up, a pass continues from permit to permit, since planning costs more
// than a request, but not so long that windows that fall due meanwhile have to wait.
const (
	shortWait = 10 * time.Second // for one permit
	longWait  = 30 * time.Second // after the beginning of the queue
)

// asker requests data, and finds out which part of a request is refused.
type asker struct {
	*env
	faults  *faults
	books   *books
	lines   lines
	sender  *sender
	journal *journal.Journal

	take func(ctx context.Context, r plan.Request, response *cloudflare.Response, readAt bucket.Time) error // of judge
	// sends is told of each request before it is sent. May be nil.
	sends func(plan.Request)
	// aside may use a permit of a line for settings, and reports whether it did.
	aside func(ctx context.Context, l *line) (used bool, err error)
	serve func(ctx context.Context) error // carries out the requests of operators that wait
}

// canWait reports whether a request is sent only with permits that more urgent work leaves.
func (a *asker) canWait(r plan.Request) bool { return a.urgency(r) == quota.Background }

// urgency prevents repairs, and requests that failed before, from using up what fresh windows
// need.
func (a *asker) urgency(r plan.Request) quota.Lane {
	if r.Lane == plan.Backfill {
		return quota.History
	}
	if r.Lane == plan.Repair || a.isApart(r) {
		return quota.Background
	}
	return quota.Urgent
}

// blame records a refusal of one dataset of one scope.
func (a *asker) blame(sc bucket.Scope, sel plan.Selection, e *cloudflare.Error) {
	of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
	about := of.Dataset + " " + sc.ID
	args := []any{"dataset", of.Dataset, inLog(sc), "variant", sel.Variant.Name, "err", e, bodyOf(e)}
	switch e.Class {
	case cloudflare.Entitlement:
		if a.faults.backfills { // regular work decides about variants
			a.faults.failAlone(of, upstream.ReasonOf(e), e, seriesFailed)
			return
		}
		a.refuse(sc, sel, e)
	case cloudflare.Ours:
		a.faults.failAlone(of, ledger.UpstreamError, e, notUnderstood)
		a.quiet.Error(about, "Cloudflare does not understand the request", args...)
	case cloudflare.Range:
		a.quiet.Info(about, "range is outside what the plan allows; corrected", args...)
		a.correct(sc, sel, e)
		a.faults.failAlone(of, ledger.UpstreamError, e, seriesFailed)
	case cloudflare.TooBig:
		a.faults.narrow(of, sel, e.Message)
	case cloudflare.Unknown:
		a.faults.failAlone(of, ledger.Unknown, e, unknownRefusal)
		a.quiet.Warn(about, "Cloudflare refuses the dataset of the "+sc.Kind.String()+" with an unrecognised error; no conclusion is drawn from it", args...)
	case cloudflare.Budget:
		a.faults.failAlone(of, ledger.UpstreamError, e, seriesFailed)
		t := a.faults.tries[of]
		t.Next = max(t.Next, a.trusted.Second().Add(e.RetryAfter))
	default:
		a.faults.failAlone(of, upstream.ReasonOf(e), e, seriesFailed)
		a.quiet.Warn(about, "request to Cloudflare failed", append(args, "class", e.Class.String())...)
	}
}

// asks reports whether a selection requests a field. Cloudflare writes the field in lower case
// and without its container.
func asks(sel plan.Selection, field string) bool {
	return sel.Variant.OnlyBounds(field) || slices.ContainsFunc(sel.Variant.Fields(), func(f string) bool {
		_, name, nested := strings.Cut(f, "_")
		return strings.EqualFold(f, field) || nested && strings.EqualFold(name, field)
	})
}

// aboutBounds reports whether an error is about the confidence intervals of a selection.
func aboutBounds(sel plan.Selection, e *cloudflare.Error) bool {
	return sel.Variant.OnlyBounds(e.Field) || sel.Variant.Level != "" && strings.Contains(strings.ToLower(e.Message), `"confidence"`)
}

// deny records that the token has no access to these selections of a scope. The plan may still
// allow them: they stay wanted, and are requested again until the token has access. Each
// attempt voids the request that it is part of, and there may be many.
func (a *asker) deny(sc bucket.Scope, selections []plan.Selection, e *cloudflare.Error) {
	jitter := a.rng.Float64()
	for _, sel := range selections {
		of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
		if !a.faults.denied(of) {
			a.quiet.Warn(sc.ID, "the API token has no access to the dataset of the "+sc.Kind.String()+"; it is requested again within an hour", "dataset", of.Dataset, inLog(sc), "name", a.books.roster[sc].Name, "err", e)
		}
		a.faults.failWith(of, ledger.Unauthorized, e.Error(), jitter, seriesDenied)
		a.faults.tries[of].alone = true
	}
}

// correct takes a limit from a refusal: the limit that settings gave is hours old, or wrong.
func (a *asker) correct(sc bucket.Scope, sel plan.Selection, e *cloudflare.Error) {
	if e.Limit <= 0 {
		return
	}
	a.books.roster[sc].Correct(a.books.contents, sel.Variant.Node, func(node *roster.Node) {
		if e.Age {
			node.NotOlderThan = e.Limit
		} else {
			node.MaxDuration = e.Limit
		}
	})
	a.books.dirty(sc)
}
