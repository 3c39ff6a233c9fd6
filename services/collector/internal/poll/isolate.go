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
func (s *state) portions(r plan.Request) []plan.Request {
	failures := s.failures(r)
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

// failures is how often in a row every part of the request has failed.
func (s *state) failures(r plan.Request) int {
	least := -1
	for _, sel := range r.Selections {
		for _, sc := range r.Scopes {
			n, of := 0, ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
			if t := s.tries[of]; t != nil && !s.denied(of) { // which names who is to blame
				n = t.failures
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
func (s *state) understood(r plan.Request) (plan.Request, bool) {
	now := s.trusted.Second()
	r.Selections = slices.DeleteFunc(slices.Clone(r.Selections), func(sel plan.Selection) bool {
		return s.off[sel.Dataset.Dataset] > now
	})
	return r, len(r.Selections) > 0
}

// granted takes one question out of a request that was refused since it was
// planned: a pass that learns of a refusal may have several requests with it.
// It returns what is left to ask instead, or false where nothing was refused.
func (s *state) granted(r plan.Request) (rest []plan.Request, changed bool) {
	now := s.trusted.Second()
	for _, sc := range r.Scopes {
		for i, sel := range r.Selections {
			of := ledger.Series{Dataset: sel.Dataset.Dataset, Scope: sc}
			if s.roster[sc].Refused(now, of.Dataset, sel.Variant.Name) || s.denied(of) && now < s.tries[of].next {
				return without(r, sc, i), true
			}
		}
	}
	return nil, false
}

// isolate deals with an error that one zone or one selection caused, and
// returns what of the request is still to be asked. Where the error names its
// origin only that is taken out; where it does not, the request is halved.
func (s *state) isolate(r plan.Request, e *cloudflare.Error) []plan.Request {
	sc, named := scopeOf(r, e.Zone)
	i, aliased := selectionOf(r, e.Alias)
	if len(r.Scopes) == 1 {
		sc, named = r.Scopes[0], true
	}
	if len(r.Selections) == 1 {
		i, aliased = 0, true
	}
	if e.Class == cloudflare.Denied && named {
		if !aliased {
			s.deny(sc, r.Selections, e)
			return less(r, sc)
		}
		s.deny(sc, r.Selections[i:i+1], e)
		return without(r, sc, i)
	}
	if e.Class == cloudflare.TooBig || !named || !aliased {
		if len(r.Scopes) == 1 && len(r.Selections) == 1 {
			s.blame(r.Scopes[0], r.Selections[0], e)
			return nil
		}
		return halve(r)
	}
	s.blame(sc, r.Selections[i], e)
	return without(r, sc, i)
}

func scopeOf(r plan.Request, zone string) (bucket.Scope, bool) {
	for _, sc := range r.Scopes {
		if sc.ID == zone {
			return sc, true
		}
	}
	return bucket.Scope{}, false
}

func selectionOf(r plan.Request, name string) (int, bool) {
	for i := range r.Selections {
		if alias(i) == name {
			return i, true
		}
	}
	return 0, false
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

// less is the request less one scope.
func less(r plan.Request, sc bucket.Scope) []plan.Request {
	r.Scopes = slices.DeleteFunc(slices.Clone(r.Scopes), func(o bucket.Scope) bool { return o == sc })
	if len(r.Scopes) == 0 {
		return nil
	}
	return []plan.Request{r}
}

// without is the request less one selection of one scope.
func without(r plan.Request, sc bucket.Scope, selection int) []plan.Request {
	out := less(r, sc)
	rest := plan.Request{Lane: r.Lane, Scopes: []bucket.Scope{sc}}
	for i, sel := range r.Selections {
		if i != selection {
			rest.Selections = append(rest.Selections, sel)
		}
	}
	if len(rest.Selections) > 0 {
		out = append(out, rest)
	}
	return out
}
