package roster

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Seen is one zone of Cloudflare's list.
type Seen struct {
	ID, Name               string
	AccountID, AccountName string
	Plan                   string
	Active                 bool // status active and not paused
	Created                bucket.Time
}

// Discover brings the roster up to date with a complete list of the zones that
// the token sees, and returns the scopes that changed, ascending. lookback is
// how much history a scope gets that is seen for the first time.
func (r Roster) Discover(now bucket.Time, seen []Seen, sel Selection, lookback time.Duration) []*Scope {
	changed := map[bucket.Scope]*Scope{}
	present := map[bucket.Scope]bool{}
	wanted := sel.wanted()
	for _, z := range slices.SortedFunc(slices.Values(seen), func(a, b Seen) int { return cmpID(a.ID, b.ID) }) {
		id := bucket.Scope{Kind: bucket.Zone, ID: z.ID}
		present[id] = true
		old := r[id]
		s := r.next(now, old, z, wanted(z), lookback)
		if s == nil {
			continue
		}
		if old == nil || !old.sameFacts(s) {
			r[id], changed[id] = s, s
		}
	}
	for id, s := range r {
		if id.Kind == bucket.Zone && !present[id] && s.State != Gone {
			gone := s.clone()
			gone.end(now, Gone)
			r[id], changed[id] = gone, gone
		}
	}
	return slices.SortedFunc(maps.Values(changed), func(a, b *Scope) int { return a.Compare(b.Scope) })
}

// next is what the roster should hold for a zone after seeing it; nil for a
// zone that was never wanted.
func (r Roster) next(now bucket.Time, old *Scope, z Seen, wanted bool, lookback time.Duration) *Scope {
	z = z.fit()
	if old == nil {
		if !wanted {
			return nil
		}
		old = &Scope{
			Scope:     bucket.Scope{Kind: bucket.Zone, ID: z.ID},
			FirstSeen: now,
			// A zone that is yet to be created has no past to wait for.
			Start:     min(max(now.Add(-lookback), z.Created), now),
			State:     Active,
			AccountID: z.AccountID,
		}
	}
	s := old.clone()
	moved := s.AccountID != z.AccountID
	s.Name, s.AccountID, s.AccountName, s.Plan = z.Name, z.AccountID, z.AccountName, z.Plan
	if moved || z.Plan != old.Plan {
		s.Checked = 0 // another plan or account: entitlements must be read again
	}
	switch {
	case !wanted:
		s.end(now, Excluded)
	case !z.Active:
		s.end(now, Paused)
	case s.State != Active:
		// Back again: what passed in between was not wanted then and is not now.
		// What was open before still is, for as long as Cloudflare has it (G2).
		s.Away = append(s.Away, Away{bucket.Window{Start: s.End, End: now}, s.State})
		s.Away = s.Away[max(0, len(s.Away)-maxAway):]
		s.State, s.End = Active, 0
		s.Checked = 0
	}
	// As long as the name is the same so is the label: whoever else has come or
	// gone meanwhile, the series goes on.
	zone, account := s.labels()
	if was, _ := old.labels(); !usable(s.ZoneLabel) || zone != was || account != old.AccountLabel {
		s.relabel(now, r.zoneLabel(now, s, zone, account), account)
	}
	return s
}

// relabel gives new labels and remembers the old ones.
func (s *Scope) relabel(now bucket.Time, zone, account string) {
	if usable(s.ZoneLabel) {
		s.Former = append(s.Former, Label{Zone: s.ZoneLabel, Account: s.AccountLabel, Until: now})
		s.Former = s.Former[max(0, len(s.Former)-maxFormer):]
	}
	s.ZoneLabel, s.AccountLabel = zone, account
}

// zoneLabel is the label that the scope's name makes, unless another scope has
// it in the same account for an overlapping time, or had it before it was
// renamed: then two zones would share one series.
func (r Roster) zoneLabel(now bucket.Time, s *Scope, zone, account string) string {
	// The oldest window that may still be stored under the new label.
	from := s.Start
	if keeps := s.keeps(); keeps > 0 {
		from = max(from, now.Add(-keeps))
	}
	for id, o := range r {
		if id != s.Scope && o.labelled(zone, account) > from {
			// One that is cut for it still differs: its hash is of the whole.
			name, _ := bucket.FitName(zone + "#" + s.ID[:8])
			return name
		}
	}
	return zone
}

// keeps is for how long Cloudflare keeps anything of the scope; 0: not known.
func (s *Scope) keeps() (most time.Duration) {
	for _, n := range s.Nodes {
		if n.Enabled && n.NotOlderThan == 0 {
			return 0
		}
		most = max(most, n.NotOlderThan)
	}
	return most
}

// labelled is until when the scope's windows may carry the labels: 0 when they
// never did.
func (s *Scope) labelled(zone, account string) (until bucket.Time) {
	if s.ZoneLabel == zone && s.AccountLabel == account {
		if s.End == 0 {
			return math.MaxInt64
		}
		until = s.End
	}
	for _, l := range s.Former {
		if l.Zone == zone && l.Account == account {
			until = max(until, l.Until)
		}
	}
	return until
}

func (s *Scope) end(now bucket.Time, state State) {
	if s.State == Active {
		s.End = now
	}
	s.State = state
}

func (s *Scope) clone() *Scope {
	c := *s
	c.Nodes, c.Refusals, c.Former, c.grants = maps.Clone(s.Nodes), maps.Clone(s.Refusals), slices.Clone(s.Former), nil
	c.Away = slices.Clone(s.Away)
	return &c
}

func (s *Scope) sameFacts(o *Scope) bool {
	return s.Name == o.Name && s.AccountID == o.AccountID && s.AccountName == o.AccountName && s.Plan == o.Plan &&
		s.ZoneLabel == o.ZoneLabel && s.AccountLabel == o.AccountLabel && s.State == o.State &&
		s.Start == o.Start && s.End == o.End && s.Checked == o.Checked
}

func cmpID(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
