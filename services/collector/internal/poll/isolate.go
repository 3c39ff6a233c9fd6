package poll

import (
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// patience is how often a request may fail unchanged before it is split.
const patience = 2

// portions splits a request that keeps failing with errors that name no part of it: into halves
// after the third failure in a row, then quarters, down to one scope and one selection. So a
// zone that voids every response ends up alone, and the others get theirs. In an outage of
// Cloudflare this costs nothing, since three failures in a row end the pass.
func (a *asker) portions(r plan.Request) []plan.Request {
	failures := a.failures(r)
	if failures <= patience {
		return []plan.Request{r}
	}
	parts := 1 << min(failures-patience, 10)
	perScope := max(1, len(r.Scopes)/parts)
	perSelection := max(1, len(r.Selections)/max(1, parts/len(r.Scopes)))
	var out []plan.Request
	for scopes := range slices.Chunk(r.Scopes, perScope) {
		for selections := range slices.Chunk(r.Selections, perSelection) {
			out = append(out, plan.Request{Lane: r.Lane, Scopes: scopes, Selections: selections})
		}
	}
	return out
}

// isAlone reports whether a selection of a scope must be requested separately, since it was
// found to fail or its variant was refused.
func (a *asker) isAlone(sc bucket.Scope, sel plan.Selection) bool {
	t := a.faults.tries[ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}]
	return t != nil && t.alone || a.books.roster[sc].HasRefusal(sel.Dataset.Dataset, sel.Variant.Name)
}

// isApart reports whether all parts of a request must be requested separately.
func (a *asker) isApart(r plan.Request) bool {
	for _, sc := range r.Scopes {
		for _, sel := range r.Selections {
			if !a.isAlone(sc, sel) {
				return false
			}
		}
	}
	return true
}

// apart takes out of a request what must be requested separately, so that it can void only its
// own response: one request for each scope that has such selections, behind the requests of the
// others.
func (a *asker) apart(r plan.Request) []plan.Request {
	var healthy, rest, alone []plan.Request
	together := plan.Request{Lane: r.Lane, Selections: r.Selections}
	for _, sc := range r.Scopes {
		by, with := plan.Request{Lane: r.Lane, Scopes: []bucket.Scope{sc}}, plan.Request{Lane: r.Lane, Scopes: []bucket.Scope{sc}}
		for _, sel := range r.Selections {
			if a.isAlone(sc, sel) {
				by.Selections = append(by.Selections, sel)
			} else {
				with.Selections = append(with.Selections, sel)
			}
		}
		switch {
		case len(by.Selections) == 0:
			together.Scopes = append(together.Scopes, sc)
			continue
		case len(with.Selections) > 0:
			rest = append(rest, with)
		}
		alone = append(alone, by)
	}
	if len(together.Scopes) > 0 {
		healthy = append(healthy, together)
	}
	return slices.Concat(healthy, rest, alone)
}

// inTurn puts the separate requests behind the others, and one of them after every two others,
// so that failing requests, however many, delay nothing and are not delayed by a catch-up.
func (a *asker) inTurn(queue []plan.Request) []plan.Request {
	var healthy, failing []plan.Request
	for _, r := range queue {
		for _, part := range a.apart(r) {
			if a.isApart(part) {
				failing = append(failing, part)
			} else {
				healthy = append(healthy, a.portions(part)...)
			}
		}
	}
	var out []plan.Request
	for i, r := range healthy {
		out = append(out, r)
		if i%2 == 1 && len(failing) > 0 {
			out, failing = append(out, failing[0]), failing[1:]
		}
	}
	return append(out, failing...)
}

// failures is how often in a row every part of the request has failed.
func (a *asker) failures(r plan.Request) int {
	least := -1
	for _, sel := range r.Selections {
		for _, sc := range r.Scopes {
			n, of := 0, ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
			if t := a.faults.tries[of]; t != nil && !t.alone {
				n = t.Failures
			}
			if least < 0 || n < least {
				least = n
			}
		}
	}
	return least
}

// understood is the request without the datasets that were disabled since it was planned; false
// if nothing is left.
func (a *asker) understood(r plan.Request) (plan.Request, bool) {
	r.Selections = slices.DeleteFunc(slices.Clone(r.Selections), func(sel plan.Selection) bool {
		return a.faults.isOff(sel.Dataset.Dataset)
	})
	return r, len(r.Selections) > 0
}

// granted takes one selection of one scope out of a request that was refused since the request
// was planned: a pass may have several requests with it. It returns what is left to request
// instead, or false if nothing was refused.
func (a *asker) granted(r plan.Request) (rest []plan.Request, changed bool) {
	now := a.trusted.Second()
	for _, sc := range r.Scopes {
		for i, sel := range r.Selections {
			of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
			t := a.faults.tries[of]
			if a.books.roster[sc].Refused(now, of.Dataset, sel.Variant.Name) || t != nil && t.alone && now < t.Next {
				return without(r, []bucket.Scope{sc}, i), true
			}
		}
	}
	return nil, false
}

// names reports whether an error names a part of a request, so that the rest can be requested
// at once.
func (a *asker) names(r plan.Request, e *cloudflare.Error) bool {
	scopes, selection := named(r, e)
	return len(scopes) > 0 && len(scopes) < len(r.Scopes) || selection >= 0 && len(r.Selections) > 1
}

// isolate handles an error that a part of a request caused, and returns what of the request is
// still to be sent. If the error names the part, only that is taken out; otherwise the request
// is halved.
func (a *asker) isolate(r plan.Request, e *cloudflare.Error, all *alike) []plan.Request {
	scopes, i := named(r, e)
	if len(r.Scopes) == 1 {
		scopes = r.Scopes
	}
	if len(r.Selections) == 1 {
		i = 0
	}
	if e.Class == cloudflare.Ours && i >= 0 && aboutBounds(r.Selections[i], e) {
		// What the API does not know is the confidence intervals, without which the next
		// variant asks the same.
		refused := *e
		refused.Class = cloudflare.Entitlement
		e, scopes = &refused, r.Scopes
	}
	if e.Class == cloudflare.Ours && i >= 0 && e.Field != "" && asks(r.Selections[i], e.Field) {
		// An unknown field is unknown for every zone.
		a.faults.disable(r.Selections[i].Dataset.Dataset, e)
		return without(r, r.Scopes, i)
	}
	switch {
	case e.Class == cloudflare.TooBig && len(r.Scopes)*len(r.Selections) > 1:
		return halve(r)
	case len(scopes) > 0 && i >= 0:
	case len(scopes) > 0 && aboutScopes(e.Class) && (e.Class != cloudflare.Unknown || len(r.Scopes) > 1):
	case i >= 0 && len(r.Selections) > 1:
		return split(r, i) // of some of the scopes, or of all
	default:
		return halve(r)
	}
	selections := r.Selections
	if i >= 0 {
		selections = r.Selections[i : i+1]
	}
	for _, sc := range scopes {
		if e.Class == cloudflare.Denied {
			a.deny(sc, selections, e)
		} else {
			for _, sel := range selections {
				a.blame(sc, sel, e)
			}
		}
		all.blame(sc, selections)
	}
	return without(r, scopes, i)
}

// aboutScopes reports whether an error that names a scope and no selection concerns everything
// that is requested for the scope.
func aboutScopes(c cloudflare.Class) bool {
	switch c {
	case cloudflare.Denied, cloudflare.Transient, cloudflare.BadResponse, cloudflare.Budget, cloudflare.Unknown:
		return true
	}
	return false
}

// split separates one selection from the others.
func split(r plan.Request, selection int) []plan.Request {
	one, others := r, r
	one.Selections = r.Selections[selection : selection+1]
	others.Selections = slices.Delete(slices.Clone(r.Selections), selection, selection+1)
	return []plan.Request{others, one}
}

// halve splits by scopes, or by selections if there is only one scope.
func halve(r plan.Request) []plan.Request {
	a, b := r, r
	if n := len(r.Scopes); n > 1 {
		a.Scopes, b.Scopes = r.Scopes[:n/2], r.Scopes[n/2:]
	} else {
		n := len(r.Selections)
		a.Selections, b.Selections = r.Selections[:n/2], r.Selections[n/2:]
	}
	return []plan.Request{a, b}
}

// without is the request without one selection of some scopes or, with -1, without these
// scopes.
func without(r plan.Request, scopes []bucket.Scope, selection int) []plan.Request {
	var out []plan.Request
	others := r
	others.Scopes = slices.DeleteFunc(slices.Clone(r.Scopes), func(o bucket.Scope) bool { return slices.Contains(scopes, o) })
	if len(others.Scopes) > 0 {
		out = append(out, others)
	}
	if selection >= 0 && len(r.Selections) > 1 {
		out = append(out, plan.Request{
			Lane: r.Lane, Scopes: scopes, Selections: slices.Delete(slices.Clone(r.Selections), selection, selection+1),
		})
	}
	return out
}
