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

// Refusals in unknown words, and denials that name nobody, may be about one zone, one dataset, or everything:
// the token, the account, something that Cloudflare changed. Which it is can be
// found out only by asking something else. [alike] keeps count while one queue
// is asked:
//
//   - At the first one, before anything was answered, a few single questions are
//     put first, drawn from all that is to be asked (spread). If they all fail as well, and
//     nothing was answered, everything fails alike: that is one failure of the
//     whole, with one back-off, and nobody is to blame.
//   - A queue that asks of one scope among several shows nothing about the others:
//     what fails is blamed on the scope until another was asked.
//   - Once anything was answered it is not everything, and the request is halved
//     until what fails stands alone.
//   - Should refusals then not end, the rest of the queue waits for the next pass
//     (enough): who is to blame by then is left out of it.
type alike struct {
	answered bool           // anything, in this queue
	asked    bool           // the single questions are in the queue
	streak   int            // refusals since the last answer
	refused  []bucket.Scope // in this queue, each once
	blamed   []ledger.Series
	err      *cloudflare.Error
}

type advice int

const (
	isolate advice = iota
	spread
	whole
	enough
)

const (
	cellsAsked = 4  // single questions that are spread
	mostStreak = 16 // more than one zone and its ten datasets need
)

func (a *alike) answer() { a.answered, a.streak, a.blamed = true, 0, nil }

// refuse notes a refusal of r and says how to go on.
func (a *alike) refuse(from *asker, l *line, r plan.Request, e *cloudflare.Error) advice {
	scopes, _ := from.named(r, e)
	switch {
	case from.isApart(r): // known to be refused by itself
		return isolate
	case e.Class == cloudflare.Denied && len(scopes) == 0:
	case e.Class != cloudflare.Unknown:
		return isolate
	}
	a.streak++
	a.err = e
	for _, sc := range r.Scopes {
		if !slices.Contains(a.refused, sc) {
			a.refused = append(a.refused, sc)
		}
	}
	switch {
	case a.answered && a.streak >= mostStreak:
		return enough
	case a.answered:
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

// blame remembers what was blamed while nothing was answered yet.
func (a *alike) blame(sc bucket.Scope, selections []plan.Selection) {
	if a.answered {
		return
	}
	for _, sel := range selections {
		a.blamed = append(a.blamed, ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc})
	}
}

// all reports whether whatever was asked was refused without a name, and that is
// evidence about everything: several scopes were asked, the line has no other, or
// it was found before that everything fails. A denial speaks of the token.
func (a *alike) all(from *asker, l *line) bool {
	if a.answered || a.streak == 0 {
		return false
	}
	return len(a.refused) > 1 || a.err.Class == cloudflare.Denied || l.outage.Active() || from.known(l, bucket.Zone)+from.known(l, bucket.Account) == 1
}

// cells are single questions out of all that is to be asked besides r itself,
// drawn so that they differ in zone and dataset.
func (a *asker) cells(r plan.Request, queue []plan.Request) []plan.Request {
	from := slices.DeleteFunc(slices.Clone(queue), a.isApart)
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

// refusedAlike deals with a refusal of everything that an errand asks: whoever was
// blamed on the way is not to blame.
func (a *asker) refusedAlike(of *errand) {
	e := of.unnamed.err
	reason, wait := ledger.Unknown, unknownForAll
	if e.Class == cloudflare.Denied {
		reason, wait = ledger.Unauthorized, tokenRefused
	}
	a.away(of.line, e, reason, wait)
	of.stop()
	for _, series := range of.unnamed.blamed {
		delete(a.tries, series)
	}
	a.often.Warn(e.Class.String()+" "+e.Message, "Cloudflare refuses everything alike; nothing is concluded about zones or datasets", "credential", of.Name, "class", e.Class.String(), "err", e, bodyOf(e))
}

// refusals of variants by answers cost the better data for as long as they
// stand, so a few are believed at once and many are not: whatever makes
// Cloudflare refuse many zones within one pass is likelier to be something else
// than their plans. It is believed when it is said again.
type refusals struct {
	fresh  []refused   // of the queue that is being asked
	doubts bucket.Time // when many were taken back
}

type refused struct {
	scope bucket.Scope
	key   string // of roster.Scope.Refusals
}

const (
	mostRefusals = 3
	// doubtsLast is for how long what was taken back once is believed when it is
	// said again.
	doubtsLast = 30 * time.Minute
)

func (f *refusals) begin() { f.fresh = f.fresh[:0] }

// refuse gives a variant up for a scope, for minutes at first.
func (a *asker) refuse(sc bucket.Scope, sel plan.Selection, e *cloudflare.Error) {
	who := a.roster[sc]
	dataset, variant := sel.Dataset.Dataset, sel.Variant.Name
	key := dataset + "/" + variant
	_, already := who.Refusals[key]
	if !already { // a probe that fails is no news
		of := &a.lineOf(sc).refusals
		of.fresh = append(of.fresh, refused{scope: sc, key: key})
	}
	who.Refuse(a.trusted.Second(), dataset, variant, roster.Refusal{Reason: e.Message, Node: sel.Variant.Node, Field: e.Field})
	a.dirty(sc)
	a.often.Warn(dataset+" "+sc.ID, sc.Kind.String()+" may not be asked; trying the next variant", "dataset", dataset, inLog(sc), "name", who.Name, "variant", variant, "probe", who.Refusals[key].Until, "err", e)
}

// tooManyRefusals takes the refusals of a line's queue back when they are many and
// were not taken back shortly before; nothing more is then sent for a while.
func (a *asker) tooManyRefusals(l *line, e *cloudflare.Error) bool {
	f, now := &l.refusals, a.trusted.Second()
	if len(f.fresh) <= mostRefusals || f.doubts != 0 && now.Sub(f.doubts) < doubtsLast {
		return false
	}
	for _, r := range f.fresh {
		delete(a.roster[r.scope].Refusals, r.key)
	}
	f.begin()
	f.doubts = now
	a.often.Warn("", "Cloudflare refuses many zones at once; believed only if it is said again", "credential", l.Name, "err", e)
	a.away(l, e, ledger.Unknown, unknownForAll)
	return true
}
