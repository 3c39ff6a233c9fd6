package poll

import (
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
)

// alike finds out whether one zone, one dataset or everything is refused: the token, the
// account, or something that Cloudflare changed. An unrecognised error, or a denial that
// names no scope, may mean any of these, and only other requests can tell. It counts
// while one queue is sent:
//
//   - At the first refusal, if nothing succeeded before, a few requests for one selection
//     of one scope are sent first, drawn from the whole queue (spread). If they all fail as
//     well, everything is refused: that is one failure of the line, with one back-off, and
//     no scope is to blame.
//   - A queue for one of several scopes shows nothing about the others: failures are blamed
//     on the scope until another one is refused too, in this queue or in a later one, and
//     nothing succeeded in between.
//   - If anything succeeded, not everything is refused, and the request is halved until the
//     part that fails stands alone.
//   - If refusals do not end, the rest of the queue waits for the next pass (enough), from
//     which the blamed parts are left out.
type alike struct {
	succeeded bool // any request of this queue
	asked     bool // the single requests are in the queue
	streak    int  // refusals since the last success
	blamed    []ledger.Series
	err       *cloudflare.Error
}

type advice int

const (
	isolate advice = iota
	spread
	whole
	enough
)

const (
	cellsAsked = 4  // single requests that are spread
	mostStreak = 16 // more than one zone and its ten datasets need
)

func (a *alike) succeed() { a.succeeded, a.streak, a.blamed = true, 0, nil }

// refuse records a refusal of r and returns how to proceed.
func (a *alike) refuse(from *asker, l *line, r plan.Request, e *cloudflare.Error) advice {
	scopes, _ := named(r, e)
	switch {
	case from.isApart(r): // already known to be refused separately
		return isolate
	case e.Class == cloudflare.Denied && len(scopes) == 0:
	case e.Class != cloudflare.Unknown:
		return isolate
	}
	a.streak++
	a.err = e
	for _, sc := range r.Scopes {
		if !from.faults.backfills && !slices.Contains(l.refused, sc) {
			l.refused = append(l.refused, sc)
		}
	}
	switch {
	case a.succeeded && a.streak >= mostStreak:
		return enough
	case a.succeeded:
		return isolate
	case !a.asked:
		a.asked = true
		return spread
	case a.streak > cellsAsked && a.all(from, l):
		return whole
	case a.streak >= mostStreak:
		return enough
	}
	return isolate
}

// blame remembers what was blamed before anything succeeded.
func (a *alike) blame(sc bucket.Scope, selections []plan.Selection) {
	if a.succeeded {
		return
	}
	for _, sel := range selections {
		a.blamed = append(a.blamed, ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc})
	}
}

// all reports whether everything was refused without naming a scope, and whether that is
// evidence about the line: several scopes were refused, the line collects no other, or
// everything was refused before. A denial concerns the token.
func (a *alike) all(from *asker, l *line) bool {
	if a.succeeded || a.streak == 0 {
		return false
	}
	return len(l.refused) > 1 || a.err.Class == cloudflare.Denied || l.outage.Active() || from.books.active(l, bucket.Zone)+from.books.active(l, bucket.Account) == 1
}

// cells are requests for one selection of one scope each, from everything that is still to be
// requested except r itself, drawn so that they differ in zone and dataset.
func (a *asker) cells(r plan.Request, queue []plan.Request) []plan.Request {
	from := slices.DeleteFunc(slices.Clone(queue), func(q plan.Request) bool { return a.isApart(q) || q.State() })
	if len(r.Scopes)*len(r.Selections) > 1 {
		from = append(from, r)
	}
	var out []plan.Request
	drawn := map[ledger.Series]bool{}
	for i := 0; i < cellsAsked && len(from) > 0; i++ {
		q := from[a.rng.IntN(len(from))]
		sc, sel := q.Scopes[a.rng.IntN(len(q.Scopes))], q.Selections[i%len(q.Selections)]
		if of := (ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}); !drawn[of] {
			drawn[of] = true
			out = append(out, plan.Request{Lane: q.Lane, Scopes: []bucket.Scope{sc}, Selections: []plan.Selection{sel}})
		}
	}
	return out
}

// refusedAlike handles a refusal of a whole queue: blame that was assigned meanwhile is
// removed.
func (a *asker) refusedAlike(of *lineQueue) {
	e := of.unnamed.err
	reason, wait := ledger.Unknown, unknownForAll
	if e.Class == cloudflare.Denied {
		reason, wait = ledger.Unauthorized, tokenRefused
	}
	a.faults.away(of.line, e, reason, wait)
	of.stop()
	for _, series := range of.unnamed.blamed {
		delete(a.faults.tries, series)
	}
	for series, t := range a.faults.tries { // blamed in passes before
		if t.reason == reason && slices.Contains(of.refused, series.Scope) {
			delete(a.faults.tries, series)
		}
	}
	a.quiet.Warn(e.Class.String()+" "+e.Message, "Cloudflare refuses all requests alike; no conclusion is drawn about zones or datasets", "credential", of.Name, "class", e.Class.String(), "err", e, bodyOf(e))
}

// refusals of variants replace the better data while they last. A few are accepted at once,
// many are not: if Cloudflare refuses many zones within one pass, the cause is probably not
// their plans. They are accepted if they are repeated.
type refusals struct {
	fresh  []refused   // in the current queue
	doubts bucket.Time // when many were revoked
}

type refused struct {
	scope bucket.Scope
	key   string // of roster.Scope.Refusals
}

const (
	mostRefusals = 3
	// doubtsLast is how long refusals are accepted after many were revoked.
	doubtsLast = 30 * time.Minute
)

func (f *refusals) begin() { f.fresh = f.fresh[:0] }

// refuse gives up a variant for a scope, for minutes at first.
func (a *asker) refuse(sc bucket.Scope, sel plan.Selection, e *cloudflare.Error) {
	who := a.books.roster[sc]
	dataset, variant := sel.Dataset.Dataset, sel.Variant.Name
	key := dataset + "/" + variant
	_, already := who.Refusals[key]
	if !already { // otherwise a probe failed again
		of := &a.books.lineOf(sc).refusals
		of.fresh = append(of.fresh, refused{scope: sc, key: key})
	}
	who.Refuse(a.trusted.Second(), dataset, variant, roster.Refusal{Reason: e.Message, Node: sel.Variant.Node, Field: e.Field})
	a.books.dirty(sc)
	a.quiet.Warn(dataset+" "+sc.ID, "the variant is refused for the "+sc.Kind.String()+"; trying the next one", "dataset", dataset, inLog(sc), "name", who.Name, "variant", variant, "probe", who.Refusals[key].Until, "err", e)
}

// tooManyRefusals revokes the refusals of a line's queue if they are many and none were revoked
// shortly before. Then the line pauses.
func (a *asker) tooManyRefusals(l *line, e *cloudflare.Error) bool {
	f, now := &l.refusals, a.trusted.Second()
	if len(f.fresh) <= mostRefusals || f.doubts != 0 && now.Sub(f.doubts) < doubtsLast {
		return false
	}
	for _, r := range f.fresh {
		delete(a.books.roster[r.scope].Refusals, r.key)
	}
	f.begin()
	f.doubts = now
	a.quiet.Warn("", "Cloudflare refuses many zones at once; the refusals count only if they are repeated", "credential", l.Name, "err", e)
	a.faults.away(l, e, ledger.Unknown, unknownForAll)
	return true
}
