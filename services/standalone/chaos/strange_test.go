package chaos

import (
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// What Cloudflare may say and Weir does not know: refusals in words that are in no
// documentation, names and numbers that nobody would send.

// words that no release recognises.
var words = []string{
	"the request was not accepted", "computer says no", "access policy 42 forbids it", "plan upgrade pending",
	"not entitled", "forbidden", "field is under maintenance", "", "zone [%s] is in quarantine",
}

// refuse draws a refusal in unknown words, about one zone or, with "", all.
func (d dice) refuse(zone string) cfsim.Fault {
	f := cfsim.Fault{Kind: cfsim.FaultRefusal, Path: "/graphql", Status: []int{400, 402, 403, 404, 410, 422, 451}[d.IntN(7)]}
	f.Refusal = cfsim.Refusal{
		Envelope: []cfsim.Envelope{cfsim.EnvelopeGraphQL, cfsim.EnvelopeGraphQL, cfsim.EnvelopeREST, cfsim.EnvelopeEmpty, cfsim.EnvelopeHTML}[d.IntN(5)],
		Message:  d.one(words...), Code: d.one("", "authz", "brandnew", "4242"),
	}
	if f.Refusal.Envelope == cfsim.EnvelopeGraphQL && d.chance(.3) {
		f.Status = 200
	}
	if zone != "" {
		f.Zone = cfsim.Tag("zone:" + zone)
	}
	return f
}

// refusal draws one that may last from a minute to an hour, of any kind.
func (d dice) refusal(_ *schedule, e *event) {
	e.Kind, e.For = api, d.skewed(time.Minute, time.Hour)
	zone := ""
	if d.chance(.6) {
		zone = d.one(zoneNames...)
	}
	f := &e.Fault
	*f = d.refuse(zone)
	switch f.Kind = []cfsim.FaultKind{
		cfsim.FaultRefusal, cfsim.FaultRefusal, cfsim.FaultRefusal, cfsim.FaultLocation,
		cfsim.FaultZonesDenied, cfsim.FaultTooManyFields, cfsim.FaultTooManyRequests,
	}[d.IntN(7)]; f.Kind {
	case cfsim.FaultRefusal:
		f.Path = d.one("/graphql", "/graphql", "/zones", "")
	case cfsim.FaultTooManyRequests:
		e.For = min(e.For, 20*time.Minute) // each costs five minutes
		fallthrough
	default:
		f.Status, f.Refusal = 0, cfsim.Refusal{}
	}
	if d.chance(.4) && f.Kind != cfsim.FaultLocation {
		f.Dataset = d.one("httpRequests1mGroups", "httpRequests1hGroups", "httpRequests1dGroups", "httpRequestsAdaptiveGroups")
	}
	if d.chance(.4) {
		f.Probability = .1 + .9*d.Float64()
	}
}

// odd draws names of odd values, those of megabytes seldom.
func (d dice) odd(names []string, megabytes float64) []string {
	out := slices.DeleteFunc(slices.Clone(names), func(s string) bool { return strings.HasSuffix(s, "MB") || d.chance(.4) })
	if len(out) == 0 {
		out = names[:1]
	}
	if d.chance(megabytes) {
		out = append(out, d.one("1MB", "9MB"))
	}
	return out
}

// oddValues draws values that are mutated for a while.
func (d dice) oddValues(s *schedule, e *event) {
	e.Kind, e.For = api, d.skewed(time.Minute, 90*time.Minute)
	f := &e.Fault
	f.Kind = []cfsim.FaultKind{cfsim.FaultZoneName, cfsim.FaultAccountName, cfsim.FaultDimension, cfsim.FaultTime, cfsim.FaultNumber}[d.IntN(5)]
	f.Odd = d.odd(cfsim.OddStrings(), .03)
	if f.Kind == cfsim.FaultNumber {
		f.Odd = d.odd(cfsim.OddNumbers(), 0)
	}
	switch {
	case f.Kind == cfsim.FaultAccountName:
		f.Zone = cfsim.Tag("account:" + d.one("retail", "labs"))
	case d.chance(.8) || mutatesData(f.Kind):
		f.Zone = d.scope(s) // what is not true of all zones proves nothing
	}
	if d.chance(.6) {
		f.Probability = .01 + .99*d.Float64()
	}
}

// mutatesData reports whether what a fault changes is what is counted, and not who
// it is counted for.
func mutatesData(k cfsim.FaultKind) bool {
	return k == cfsim.FaultDimension || k == cfsim.FaultTime || k == cfsim.FaultNumber
}

// mutated reports whether a bucket may be made of values that Cloudflare did not
// mean: it was read while such a fault was on.
func (w *world) mutated(s *shown) bool {
	const readBefore = 20 * time.Minute // two readings, and a suspicion between them
	for _, e := range w.Events {
		if e.Kind != api || !mutatesData(e.Fault.Kind) || e.Fault.Zone != s.Scope.ID {
			continue
		}
		if from := w.Began.Add(e.At); s.found.After(from) && s.found.Before(from.Add(e.For+readBefore)) {
			return true
		}
	}
	return false
}

// has reports whether the schedule has a fault of Cloudflare of a kind.
func (s *schedule) has(kinds ...cfsim.FaultKind) bool {
	return slices.ContainsFunc(s.Events, func(e event) bool { return e.Kind == api && slices.Contains(kinds, e.Fault.Kind) })
}

// labelled says whether a label is one that a name can have become: the name itself,
// odd but readable, cut, or a tag instead.
func (s *schedule) labelled(label string, by cfsim.FaultKind, tags []string, names ...string) bool {
	if slices.Contains(names, label) {
		return true
	}
	holds := func(name string) bool { return strings.Contains(label, name) }
	return s.has(by) && (slices.Contains(tags, label) || len(label) <= 512 && slices.ContainsFunc(names, holds))
}

// allowed is the variant of http_5m that a zone's plan gives it, of zones whose plan
// does not change.
var allowed = map[string]string{"shop.example": "rollup_1m", "api.example": "rollup_1m", "docs.example": "rollup_1m", "blog.example": "adaptive"}

// checkVariant: nothing that lasts came of a refusal in unknown words. What
// Cloudflare says in known words about fields is believed, for a while.
func (w *world) checkVariant(zone string, s *shown) {
	want := allowed[zone]
	if s.Dataset != "http_5m" || want == "" || s.Variant == want || w.has(cfsim.FaultTooManyFields) {
		return
	}
	w.report("bucket %s is of variant %s; the zone's plan has %s, and nothing in known words refused it", s.Key, s.Variant, want)
}
