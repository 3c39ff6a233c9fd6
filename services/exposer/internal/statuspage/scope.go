package statuspage

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// mostPieces is the number of ranges listed of one dataset of a scope.
const mostPieces = 50

func (b *builder) scope(sc *bucketv1.ScopeInfo, problems []Problem) Scope {
	state, means := scopeState(sc.GetState())
	out := Scope{
		Kind: kindOf(sc.GetScope().GetKind()), ID: sc.GetScope().GetId(), Name: cmp.Or(sc.GetName(), sc.GetScope().GetId()),
		AccountID: accountID(sc), Account: sc.GetAccountName(), AccountLabel: sc.GetAccountLabel(), Plan: sc.GetPlan(),
		State: state, Collected: collected(sc), FirstSeen: instant(sc.GetFirstSeen()), Start: unix(sc.GetStartUnixSeconds()), End: unix(sc.GetEndUnixSeconds()),
		Label: sc.GetZoneLabel(), Series: []Series{},
	}
	if out.Kind == "account" {
		out.Label = out.AccountLabel
	}
	for _, p := range problems {
		if names(p.About, out) {
			out.Problems = append(out.Problems, p)
		}
	}
	entitled := map[string]*bucketv1.Entitlement{}
	for _, e := range sc.GetEntitlements() {
		entitled[e.GetDataset()] = e
	}
	datasets := map[string]bool{}
	for id := range entitled {
		datasets[id] = true
	}
	for k := range b.covered {
		if k.scope == out.ID {
			datasets[k.dataset] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(datasets)) {
		if b.in.Query.Dataset == "" || b.in.Query.Dataset == id {
			out.Series = append(out.Series, b.series(id, sc, entitled[id]))
		}
	}
	out.judge(means, entitled)
	return out
}

// names reports whether a problem is about a scope: it is named by one of the words.
func names(about string, s Scope) bool {
	for _, word := range strings.FieldsFunc(about, func(r rune) bool { return strings.ContainsRune(" ,;:()\"", r) }) {
		if word == s.ID || word == s.Name || s.Label != "" && word == s.Label {
			return true
		}
	}
	return false
}

func (b *builder) series(id string, sc *bucketv1.ScopeInfo, e *bucketv1.Entitlement) Series {
	def := b.definitions[id]
	out := Series{Dataset: id, Variant: e.GetVariant(), Refused: e.GetReason(), Checked: instant(e.GetCheckedAt()), State: NotWanted}
	asOf := b.in.Now
	if told := instant(b.in.Coverage.Response.GetAsOf()); told != nil {
		asOf = *told
	}
	a := ask(b.covered[series{id, sc.GetScope().GetId()}], def, sc, b.s.Range, asOf)
	pieces := a.pieces()
	out.Cells, out.Windows = cells(b.s.Range, pieces), count(pieces, a.size)
	for _, s := range worst {
		if out.Windows[s] == 0 {
			delete(out.Windows, s)
		} else if worse(s, out.State) {
			out.State = s
		}
	}
	out.Words = words(out, pieces)
	if b.in.Query.ID != "" || b.in.Query.Zone != "" {
		out.list(pieces)
	}
	return out
}

// list keeps the ranges that are not final, nor about to be, the newest first.
func (s *Series) list(pieces []Piece) {
	for _, p := range slices.Backward(pieces) {
		switch p.State {
		case Final, Late, NotDue, NotWanted, Due:
			continue
		}
		if len(s.Pieces) == mostPieces {
			s.LeftOut++
			continue
		}
		s.Pieces = append(s.Pieces, p)
	}
}

// words says in a few words what is wrong with a series.
func words(s Series, pieces []Piece) string {
	if s.Windows[Unknown] > 0 && s.Windows[Unknown] == total(s.Windows)-s.Windows[NotDue]-s.Windows[NotWanted] {
		return "not known"
	}
	var out []string
	for _, state := range worst {
		n := s.Windows[state]
		switch state {
		case Final, NotDue, NotWanted, Due:
			continue
		}
		if n == 0 {
			continue
		}
		text := fmt.Sprintf("%d %s", n, state.Word())
		if why := reasonsIn(state, pieces); why != "" {
			text += ": " + why
		}
		out = append(out, text)
	}
	switch {
	case len(out) == 1 && s.State == Late:
		return "complete, " + out[0]
	case len(out) > 0:
		return strings.Join(out, "; ")
	case s.Windows[Final] > 0:
		return "complete"
	case s.Windows[Due] > 0:
		return "being read"
	}
	return "nothing is due yet"
}

func total(windows map[State]int64) (n int64) {
	for _, w := range windows {
		n += w
	}
	return n
}

// reasonsIn has the reasons of a state, and of refused windows the details.
func reasonsIn(s State, pieces []Piece) string {
	const most = 3
	var out []string
	for i := range pieces {
		p := &pieces[i]
		if p.State != s {
			continue
		}
		why := p.Reason
		if s == Refused {
			why = p.Detail
		}
		if why != "" && !slices.Contains(out, why) {
			out = append(out, why)
		}
	}
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("%d more", len(out)-most))
	}
	return strings.Join(out, ", ")
}

// judge answers why a scope is not collected, or what is wrong with what is.
func (s *Scope) judge(means string, entitled map[string]*bucketv1.Entitlement) {
	var attention []string
	refused, allowed := map[string][]string{}, 0 // datasets by reason, also those that are not shown
	for _, id := range slices.Sorted(maps.Keys(entitled)) {
		switch e := entitled[id]; {
		case e.GetVariant() != "":
			allowed++
		case e.GetReason() != "":
			refused[e.GetReason()] = append(refused[e.GetReason()], id)
		}
	}
	for i := range s.Series {
		one := &s.Series[i]
		if one.State.Attention() {
			attention = append(attention, one.Dataset+" ("+one.Words+")")
		}
	}
	s.Attention = len(attention) > 0 || s.State == string(Unknown)
	switch {
	case means != "":
		s.Verdict = fmt.Sprintf("Not collected: %s.", means)
	case allowed == 0 && len(refused) > 0:
		var why []string
		for _, reason := range slices.Sorted(maps.Keys(refused)) {
			why = append(why, fmt.Sprintf("%s (%s)", reason, strings.Join(refused[reason], ", ")))
		}
		s.Verdict = fmt.Sprintf("Not collected: no dataset may be queried: %s.", strings.Join(why, "; "))
	case allowed == 0:
		s.Verdict = "Not collected: what its plan allows is not known yet, or no dataset is about it."
	case len(attention) > 0:
		s.Verdict = fmt.Sprintf("Collected, and something needs attention: %s.", strings.Join(attention, "; "))
	default:
		s.Verdict = fmt.Sprintf("Collected: %d of %d datasets, and nothing is missing in this range.", allowed, len(entitled))
	}
	for _, p := range s.Problems {
		s.Verdict += fmt.Sprintf(" %s: %s.", p.Code, p.Message)
	}
}

// attention lists what somebody should look at.
func (p *Page) attention(s Selection) []Attention {
	out := []Attention{}
	add := func(code, anchor, format string, args ...any) {
		out = append(out, Attention{Code: code, Text: fmt.Sprintf(format, args...), Anchor: anchor})
	}
	c, e := &p.Collector, &p.Exposer
	switch {
	case !c.Known:
		add("COLLECTOR_AWAY", "weirstreamstale", "The collector has not answered yet (%s). What it would say is unknown: nothing on this page says that all is well.", cmp.Or(c.Error, "it was not asked"))
	case c.Error != "":
		add("COLLECTOR_AWAY", "weirstreamstale", "The collector does not answer (%s). What it says below is %s old.", c.Error, Ago(c.AgeSeconds))
	case c.Leader == "":
		add("NO_LEADER", "weirnoleader", "No collector leads: nothing is collected.")
	}
	p.scopesAttention(s, add)
	if e.NotReady != "" {
		add("NOT_READY", "health-and-readiness", "This exposer is not ready: %s.", e.NotReady)
	}
	if e.LagSeconds != nil && *e.LagSeconds > int64(StreamStale/time.Second) {
		add("STREAM_STALE", "weirstreamstale", "The stream time is %s old: this exposer receives nothing new.", Ago(*e.LagSeconds))
	}
	if e.Refused != "" {
		add("METRICS_REFUSED", "weirreplayrefused", "/metrics answers 503: %s", e.Refused)
	}
	if e.Counters != "" {
		add("COUNTERS_REFUSED", "weircountersunavailable", "/counters answers 503: %s", e.Counters)
	}
	if n := len(p.Problems); n > 0 {
		add("PROBLEMS", "problems", "The collector reports %s.", plural(n, "problem", "problems"))
	}
	for i := range p.Datasets {
		d := &p.Datasets[i]
		switch {
		case d.State == "late":
			add("DATASET_LATE", "weirdatalate", "%s is complete until %s ago, which should be at most %s: %d windows are missing.", d.ID, Ago(*d.AgeSeconds), Ago(d.ExpectedSeconds), d.Missing)
		case d.State == string(Unknown) && c.Known:
			add("DATASET_UNKNOWN", "stream-time-and-complete-until", "It is not known whether %s is complete.", d.ID)
		}
		if r := d.Replay; r != nil && r.UnservedAt != nil && p.At.Sub(*r.UnservedAt) < unservedFor {
			add("UNSERVED", "weirunserved", "%s of %s became final when they were too old for /metrics, since this exposer was started, the last %s ago. A backfill brings them into Prometheus; this line goes a day after the last.",
				plural(r.Unserved, "bucket", "buckets"), d.ID, Ago(int64(p.At.Sub(*r.UnservedAt)/time.Second)))
		}
	}
	return out
}

// scopesAttention says how many zones and accounts need attention: those of the page by their
// coverage, all others by the survey.
func (p *Page) scopesAttention(s Selection, add func(code, anchor, format string, args ...any)) {
	if c := &p.Collector; c.Known && c.Error == "" {
		switch {
		case len(s.Scopes) > 0 && p.Coverage.Error != "":
			add("COVERAGE_UNKNOWN", "inspecting-coverage", "The collector did not say what is covered (%s).", p.Coverage.Error)
		case s.Others > 0 && s.ByState == nil:
			add("COVERAGE_UNKNOWN", "status-page", "What is missing of zones and accounts that this page does not show is not known (%s).", cmp.Or(p.Survey.Error, "the collector was not asked"))
		}
	}
	trouble := s.Troubled
	for i := range p.Scopes {
		if p.Scopes[i].Attention && p.Coverage.Error == "" {
			trouble++
		}
	}
	switch here := len(s.Scopes); {
	case trouble == 0:
	case s.Others == 0 || s.ByState == nil:
		add("SCOPES", "inspecting-coverage", "%s of this page: the rows below say what.", plural(trouble, "zone or account", "zones or accounts"))
	default:
		add("SCOPES", "inspecting-coverage", "%s of %d: “Show: with problems” lists them, the worst first.", plural(trouble, "zone or account", "zones or accounts"), here+s.Others)
	}
}

// StreamStale is the age from which the stream time needs attention: without trouble it is
// less than a minute old.
const StreamStale = 2 * time.Minute

// unservedFor is for how long buckets that were never shown are attention: by then somebody
// has seen it, or the alert. The retention shows them for good.
const unservedFor = 24 * time.Hour

func plural(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}

// Ago is a number of seconds for people: "45 s", "12 min", "3 h 20 min", "4 d 2 h".
func Ago(seconds int64) string {
	d := max(0, seconds)
	switch {
	case d < 120:
		return fmt.Sprintf("%d s", d)
	case d < 2*3600:
		return fmt.Sprintf("%d min", d/60)
	case d < 48*3600:
		return strings.TrimSuffix(fmt.Sprintf("%d h %d min", d/3600, d%3600/60), " 0 min")
	}
	return strings.TrimSuffix(fmt.Sprintf("%d d %d h", d/86400, d%86400/3600), " 0 h")
}
