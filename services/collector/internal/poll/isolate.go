package poll

import (
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// patience is how often a request may fail as it is before it is asked in
// parts.
const patience = 2

// portions cuts a request that keeps failing, for reasons that name nobody,
// into ever smaller ones: halves after the third failure in a row, then
// quarters, down to one scope and one selection. A zone that voids every answer
// it is part of so ends up alone, and its neighbours are served. In an outage
// of Cloudflare this costs nothing, since three failures in a row end the pass.
func (b *books) portions(r plan.Request) []plan.Request {
	failures := b.failures(r)
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

// isAlone reports whether a question is to be asked by itself, since it was what
// failed the last time, or its variant was refused.
func (b *books) isAlone(sc bucket.Scope, sel plan.Selection) bool {
	t := b.tries[ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}]
	return t != nil && t.alone || b.roster[sc].HasRefusal(sel.Dataset.Dataset, sel.Variant.Name)
}

// isApart reports whether all of a request is to be asked by itself.
func (b *books) isApart(r plan.Request) bool {
	for _, sc := range r.Scopes {
		for _, sel := range r.Selections {
			if !b.isAlone(sc, sel) {
				return false
			}
		}
	}
	return true
}

// apart takes out of a request what is to be asked by itself, so that it voids
// nobody's answer but its own: one request for each scope that has any, behind
// those of the others.
func (b *books) apart(r plan.Request) []plan.Request {
	var well, rest, alone []plan.Request
	together := plan.Request{Lane: r.Lane, Selections: r.Selections}
	for _, sc := range r.Scopes {
		by, with := plan.Request{Lane: r.Lane, Scopes: []bucket.Scope{sc}}, plan.Request{Lane: r.Lane, Scopes: []bucket.Scope{sc}}
		for _, sel := range r.Selections {
			if b.isAlone(sc, sel) {
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
		well = append(well, together)
	}
	return slices.Concat(well, rest, alone)
}

// inTurn puts what is asked by itself behind what is not, and in between one of
// them after every two others, so that those that fail, however many they are,
// starve nobody and are not starved by a catch-up.
func (b *books) inTurn(queue []plan.Request) []plan.Request {
	var well, sick []plan.Request
	for _, r := range queue {
		for _, part := range b.apart(r) {
			if b.isApart(part) {
				sick = append(sick, part)
			} else {
				well = append(well, b.portions(part)...)
			}
		}
	}
	var out []plan.Request
	for i, r := range well {
		out = append(out, r)
		if i%2 == 1 && len(sick) > 0 {
			out, sick = append(out, sick[0]), sick[1:]
		}
	}
	return append(out, sick...)
}

// failures is how often in a row every part of the request has failed.
func (b *books) failures(r plan.Request) int {
	least := -1
	for _, sel := range r.Selections {
		for _, sc := range r.Scopes {
			n, of := 0, ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
			if t := b.tries[of]; t != nil && !t.alone {
				n = t.Failures
			}
			if least < 0 || n < least {
				least = n
			}
		}
	}
	return least
}

// understood is the request less the datasets that Cloudflare was found not to
// understand since it was planned; false when nothing is left.
func (b *books) understood(r plan.Request) (plan.Request, bool) {
	r.Selections = slices.DeleteFunc(slices.Clone(r.Selections), func(sel plan.Selection) bool {
		return b.isOff(sel.Dataset.Dataset)
	})
	return r, len(r.Selections) > 0
}

// granted takes one question out of a request that was refused since it was
// planned: a pass that learns of a refusal may have several requests with it.
// It returns what is left to ask instead, or false where nothing was refused.
func (b *books) granted(r plan.Request) (rest []plan.Request, changed bool) {
	now := b.trusted.Second()
	for _, sc := range r.Scopes {
		for i, sel := range r.Selections {
			of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
			t := b.tries[of]
			if b.roster[sc].Refused(now, of.Dataset, sel.Variant.Name) || t != nil && t.alone && now < t.Next {
				return without(r, []bucket.Scope{sc}, i), true
			}
		}
	}
	return nil, false
}

// named is what an error names of a request: scopes, and one selection; none and
// -1 where it does not say. A field that only one selection asks for names it.
func (a *asker) named(r plan.Request, e *cloudflare.Error) (scopes []bucket.Scope, selection int) {
	for _, sc := range r.Scopes {
		if names(e, sc) {
			scopes = append(scopes, sc)
		}
	}
	selection = -1
	for i, sel := range r.Selections {
		switch {
		case alias(i) == e.Alias:
			return scopes, i
		case e.Field == "" || !asks(sel, e.Field):
		case selection >= 0:
			return scopes, -1
		default:
			selection = i
		}
	}
	return scopes, selection
}

// names reports whether an error names a scope.
func names(e *cloudflare.Error, sc bucket.Scope) bool {
	if sc.Kind == bucket.Account {
		return sc.ID == e.Account
	}
	return sc.ID == e.Zone || slices.Contains(e.Zones, sc.ID)
}

// names reports whether an error names a part of a request, so that the rest is
// worth asking at once.
func (a *asker) names(r plan.Request, e *cloudflare.Error) bool {
	scopes, selection := a.named(r, e)
	return len(scopes) > 0 && len(scopes) < len(r.Scopes) || selection >= 0 && len(r.Selections) > 1
}

// isolate deals with an error that a part of a request caused, and returns what
// of the request is still to be asked. Where the error names its origin only
// that is taken out; where it does not, the request is halved.
func (a *asker) isolate(r plan.Request, e *cloudflare.Error, all *alike) []plan.Request {
	scopes, i := a.named(r, e)
	if len(r.Scopes) == 1 {
		scopes = r.Scopes
	}
	if len(r.Selections) == 1 {
		i = 0
	}
	if e.Class == cloudflare.Ours && i >= 0 && e.Field != "" && asks(r.Selections[i], e.Field) {
		// A field that does not exist does not exist for any zone.
		a.disable(r.Selections[i].Dataset.Dataset, e)
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

// aboutScopes reports whether an error that names a scope and no selection is
// about everything that is asked of the scope.
func aboutScopes(c cloudflare.Class) bool {
	switch c {
	case cloudflare.Denied, cloudflare.Transient, cloudflare.BadResponse, cloudflare.Budget, cloudflare.Unknown:
		return true
	}
	return false
}

// split asks one selection apart from the others.
func split(r plan.Request, selection int) []plan.Request {
	one, others := r, r
	one.Selections = r.Selections[selection : selection+1]
	others.Selections = slices.Delete(slices.Clone(r.Selections), selection, selection+1)
	return []plan.Request{others, one}
}

// halve splits by scopes, then by selections.
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

// without is the request less one selection of some scopes, or, with -1, less
// these scopes.
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
