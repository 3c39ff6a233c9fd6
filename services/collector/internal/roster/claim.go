package roster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Claim is the windows that one dataset wants of one scope.
type Claim struct {
	Dataset *catalogue.Dataset
	Scope   *Scope
	// Variant in use; nil if none is allowed, for the reason in Refused.
	Variant *catalogue.Variant
	Refused string
	// Unread: the scope's settings have not been read yet, so nothing is refused.
	Unread bool
	// Window is [horizon, due); empty if nothing is due. For a refused claim it is
	// the span that would be wanted.
	Window bucket.Window
	// Wanted is where Window would begin without Cloudflare's retention. Missing
	// windows between Wanted and Window.Start are lost. Never after Window.Start.
	Wanted bucket.Time
	// Keeps is how long Cloudflare keeps the dataset's data, according to the variant
	// in use or a preferred one that is refused for a time; 0: not known.
	Keeps time.Duration
	// Askable is the earliest window that the variant in use can query. It is after
	// Window.Start while a variant that reaches further back is refused for a time.
	Askable bucket.Time
	Limits  plan.Limits
}

// Terms are further bounds of claims, besides those of scopes.
type Terms struct {
	// Keep is where the store's retention begins. Older windows are not wanted.
	Keep bucket.Time
	// Begin returns the earliest start of a dataset of a scope, because another bucket
	// size covers the time before; 0: no such bound. May be nil.
	Begin func(dataset string, s bucket.Scope) bucket.Time
	// Began returns when a dataset, or another one with its families, was first collected; 0:
	// it is about to be. Nil: all were before the scopes were first seen, as is one that is said
	// to have begun at a time that has not come.
	Began func(dataset string) bucket.Time
	// First returns the start of the first stored window of a dataset of a scope, with which
	// a series of states begins; 0: there is none. May be nil.
	First func(dataset string, s bucket.Scope) bucket.Time
}

func (t Terms) began(now bucket.Time, d *catalogue.Dataset) bucket.Time {
	if t.Began == nil {
		return 0
	}
	at := cmp.Or(t.Began(d.Dataset), now)
	if at.Sub(now) > store.MaxAhead {
		return 0 // dated by a clock that was far ahead: when it began is not known
	}
	return min(at, now)
}

// first is the start of the first stored window, or the given one if nothing is stored.
func (t *Terms) first(dataset string, s bucket.Scope, otherwise bucket.Time) bucket.Time {
	if t.First != nil {
		if at := t.First(dataset, s); at != 0 {
			return min(at, otherwise)
		}
	}
	return otherwise
}

// Keep returns the time from which windows are wanted under a store's retention: a
// partition later than what may be dropped, so that dropped windows are never fetched
// again.
func Keep(now bucket.Time, retention time.Duration) bucket.Time {
	const partition = 31 * 24 * time.Hour
	return now.Add(-retention + min(partition, retention/10))
}

// Windows returns the windows of a size that are not wanted because the scope was away:
// from the window in which it left up to the window in which it returned, which is wanted.
func (a Away) Windows(size time.Duration) bucket.Window {
	return bucket.Window{Start: a.Start.Floor(size), End: a.End.Floor(size)}
}

// Absent returns the windows of all spans in which the scope was away.
func (s *Scope) Absent(size time.Duration) (absent bucket.Spans) {
	for _, a := range s.Away {
		absent = absent.Add(a.Windows(size))
	}
	return absent
}

// Claims returns a claim for every dataset and every scope, scopes ascending
// inside datasets.
func (r Roster) Claims(now bucket.Time, datasets []catalogue.Dataset, terms Terms) []Claim {
	scopes := slices.SortedFunc(maps.Values(r), func(a, b *Scope) int { return a.Compare(b.Scope) })
	var out []Claim
	for i := range datasets {
		for _, s := range scopes {
			if s.Kind == datasets[i].ScopeKind {
				out = append(out, s.claim(now, &datasets[i], terms))
			}
		}
	}
	return out
}

// Start returns the start of the first window of a dataset that is wanted of a scope. A dataset
// that is collected later than others gets as much history as the scope got.
func (t Terms) Start(now bucket.Time, d *catalogue.Dataset, s *Scope) bucket.Time {
	history := max(0, s.FirstSeen.Sub(s.Start))
	start := max(s.Start, t.began(now, d).Add(-history)).Floor(d.Size)
	start = max(start, t.Keep.Ceil(d.Size))
	if t.Begin != nil {
		start = max(start, t.Begin(d.Dataset, s.Scope))
	}
	return start
}

func (s *Scope) claim(now bucket.Time, d *catalogue.Dataset, terms Terms) Claim {
	c := Claim{Dataset: d, Scope: s}
	due := plan.Due(now, d.Size, d.Delay)
	if s.End != 0 {
		due = min(due, s.End.Floor(d.Size))
	}
	start := terms.Start(now, d, s)
	c.Wanted = start
	c.Window = bucket.Window{Start: start, End: max(start, due)}
	if !s.Listed() {
		// Windows that were open when the scope left can no longer be queried.
		c.Refused = s.Kind.String() + " is " + string(s.State)
		return c
	}
	c.Variant, c.Refused = s.variant(now, d)
	if d.State {
		c.claimState(now, terms)
		return c
	}
	if c.Unread = s.Checked == 0; c.Variant == nil {
		return c
	}
	node := s.Entitled.Node(c.Variant.Node)
	c.Limits = plan.Limits{MaxDuration: node.MaxDuration, MaxPageSize: node.MaxPageSize, NotOlderThan: node.NotOlderThan}
	// A margin of one bucket: the request must arrive before Cloudflare drops its
	// oldest window.
	oldest := func(at bucket.Time, keeps time.Duration) bucket.Time { return at.Add(-keeps).Ceil(d.Size).Add(d.Size) }
	if c.Keeps = s.reach(d, c.Variant.Name); c.Keeps > 0 {
		// Windows that Cloudflare had dropped before the zone was first seen, or the
		// dataset first collected, are not losses.
		c.Wanted = max(c.Wanted, oldest(max(s.FirstSeen, terms.began(now, d)), c.Keeps))
		c.Window.Start = max(c.Window.Start, oldest(now, c.Keeps))
		c.Window.End = max(c.Window.Start, c.Window.End)
	}
	if c.Askable = c.Window.Start; node.NotOlderThan > 0 {
		c.Askable = min(max(c.Askable, oldest(now, node.NotOlderThan)), c.Window.End)
	}
	return c
}

// claimState bounds the claim of a state: only the newest window that has ended can be read, and
// only for a while. The series begins with its first sample, since no state of an earlier time
// was ever to be had.
func (c *Claim) claimState(now bucket.Time, terms Terms) {
	d := c.Dataset
	newest := max(c.Window.Start, c.Window.End.Add(-d.Size))
	if now.Sub(c.Window.End) >= d.Within() {
		newest = c.Window.End
	}
	c.Wanted = max(c.Window.Start, terms.first(d.Dataset, c.Scope.Scope, newest))
	c.Window.Start, c.Askable = newest, newest
	c.Keeps = d.Size + d.Within()
}

// reach returns how long Cloudflare keeps a dataset's data, according to the variant in
// use and the preferred ones that are only refused for a time: they are retried when the
// refusal ends, so data that they can still query is not lost. 0: not known.
func (s *Scope) reach(d *catalogue.Dataset, inUse string) (longest time.Duration) {
	for i := range d.Variants {
		v := &d.Variants[i]
		if s.Entitled.granted(d, v).variant == nil {
			continue
		}
		keeps := s.Entitled.Node(v.Node).NotOlderThan
		if keeps == 0 {
			return 0
		}
		if longest = max(longest, keeps); v.Name == inUse {
			break
		}
	}
	return longest
}

// Variant returns the variant in use for a dataset at now; nil if none is allowed.
func (s *Scope) Variant(now bucket.Time, d *catalogue.Dataset) *catalogue.Variant {
	v, _ := s.variant(now, d)
	return v
}

// variant returns the first variant that the plan allows, or the reason why there is none.
func (s *Scope) variant(now bucket.Time, d *catalogue.Dataset) (*catalogue.Variant, string) {
	if s.Checked == 0 && !d.State {
		return nil, "the " + s.Kind.String() + "'s settings have not been read yet"
	}
	reason := ""
	for i := range d.Variants {
		v, no := s.usable(now, d, &d.Variants[i])
		if v != nil {
			return v, ""
		}
		reason = no
	}
	if len(d.Variants) == 0 {
		reason = "no variant has a bucket size of " + d.Size.String()
	}
	return nil, reason
}

// grant is whether a plan allows a variant: the variant, perhaps without optional
// measures, or the reason why it is refused.
type grant struct {
	variant *catalogue.Variant
	reason  string
}

// usable returns the variant as the plan allows it, or nil and the reason.
func (s *Scope) usable(now bucket.Time, d *catalogue.Dataset, v *catalogue.Variant) (*catalogue.Variant, string) {
	if len(s.Refusals) > 0 {
		if no, ok := s.Refusals[d.Dataset+"/"+v.Name]; ok && now < no.Until {
			return nil, no.Reason
		}
	}
	if d.State { // no settings are about it; a refusal is all that is ever known
		return v, ""
	}
	g := s.Entitled.granted(d, v)
	return g.variant, g.reason
}

func (node Node) grant(d *catalogue.Dataset, v *catalogue.Variant) grant {
	if no := node.refuses(d, v); no != "" {
		return grant{reason: no}
	}
	missing := v.Missing(node.Fields)
	if rest := v.Without(missing); rest != nil {
		return grant{variant: rest}
	}
	return grant{reason: fmt.Sprintf("plan does not allow %s of %s", strings.Join(missing, ", "), v.Node)}
}

// refuses returns why a node as a whole cannot serve a variant; empty if it can.
func (node Node) refuses(d *catalogue.Dataset, v *catalogue.Variant) string {
	switch {
	case !node.Enabled:
		return fmt.Sprintf("plan does not allow %s", v.Node)
	case node.NotOlderThan > 0 && node.NotOlderThan < d.Delay+2*d.Size:
		return fmt.Sprintf("%s keeps %s, less than two buckets", v.Node, node.NotOlderThan)
	case node.MaxDuration > 0 && node.MaxDuration < d.Size:
		return fmt.Sprintf("%s answers ranges up to %s, less than a bucket", v.Node, node.MaxDuration)
	}
	if fields := len(v.Fields()); node.MaxFields > 0 && fields > node.MaxFields {
		return fmt.Sprintf("%s allows %d fields a query, the dataset needs %d", v.Node, node.MaxFields, fields)
	}
	return ""
}

// The pauses before a refused variant is retried double from firstProbe to lastProbe. A
// wrong refusal costs minutes, and a right one four requests a day.
const (
	firstProbe = 10 * time.Minute
	lastProbe  = 6 * time.Hour
)

// Refuse records that a response refused a variant, with the reason, node and field in
// no. The time of the next attempt depends on the number of refusals in a row.
func (s *Scope) Refuse(now bucket.Time, dataset, variant string, no Refusal) {
	if s.Refusals == nil {
		s.Refusals = map[string]Refusal{}
	}
	no.Tries = s.Refusals[dataset+"/"+variant].Tries + 1
	no.Until = now.Add(min(firstProbe<<min(no.Tries-1, 16), lastProbe))
	s.Refusals[dataset+"/"+variant] = no
}

// ClearRefusal removes the refusal of a variant for which Cloudflare now responded, and
// those of the same node and field in all scopes of the same credential, which are
// probably wrong too. It returns the scopes that changed.
func (r Roster) ClearRefusal(of bucket.Scope, dataset, variant string) []*Scope {
	no, refused := r[of].Refusals[dataset+"/"+variant]
	if !refused {
		return nil
	}
	var changed []*Scope
	for _, s := range r {
		if s.Credential != r[of].Credential {
			continue // another token may have other rights
		}
		before := len(s.Refusals)
		maps.DeleteFunc(s.Refusals, func(key string, o Refusal) bool {
			return s.Scope == of && key == dataset+"/"+variant || no.Node != "" && o.Node == no.Node && o.Field == no.Field
		})
		if len(s.Refusals) != before {
			changed = append(changed, s)
		}
	}
	return changed
}

// HasRefusal reports whether the last query of a variant was refused.
func (s *Scope) HasRefusal(dataset, variant string) bool {
	_, refused := s.Refusals[dataset+"/"+variant]
	return refused
}

// Refused reports whether a variant is refused at now: its next attempt is later.
func (s *Scope) Refused(now bucket.Time, dataset, variant string) bool {
	no, ok := s.Refusals[dataset+"/"+variant]
	return ok && now < no.Until
}

// AnyRefusal reports whether the last query of any variant of a dataset was refused.
func (s *Scope) AnyRefusal(dataset string) bool {
	for key := range s.Refusals {
		if of, _, _ := strings.Cut(key, "/"); of == dataset {
			return true
		}
	}
	return false
}

// Entitle records the entitlements from the settings node. Refusals are kept, since the
// settings can list fields that queries are then refused; those that have not been
// retried for long are removed.
func (s *Scope) Entitle(now bucket.Time, to *Entitlements) {
	s.Entitled, s.Checked, s.Obstacle = to, now, Obstacle{}
	maps.DeleteFunc(s.Refusals, func(_ string, r Refusal) bool { return now >= r.Until.Add(2*lastProbe) })
}

// Correct changes the entitlements of one node after a response that contradicts the
// settings.
func (s *Scope) Correct(c *Contents, node string, change func(*Node)) {
	nodes := map[string]Node{}
	if s.Entitled != nil {
		maps.Copy(nodes, s.Entitled.nodes)
	}
	n := nodes[node]
	change(&n)
	nodes[node] = n
	s.Entitled = c.Of(nodes)
}

// Stale reports whether entitlements should be read again. Those of a paused scope are
// needed for its windows that are still open.
func (s *Scope) Stale(now bucket.Time, every time.Duration) bool {
	if s.Checked == 0 {
		return s.Listed()
	}
	return s.State == Active && now.Sub(s.Checked) >= every
}
