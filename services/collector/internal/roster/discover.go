package roster

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Seen is one zone or account of Cloudflare's lists.
type Seen struct {
	Kind                   bucket.ScopeKind
	ID, Name               string
	AccountID, AccountName string
	Plan                   string
	State                  State // Active, Paused, Pending or Inactive
	Created                bucket.Time
	// Malformed says which of the zone's values could not be read, and what
	// stands in for them.
	Malformed []string
}

// Scope is the scope's identity.
func (z *Seen) Scope() bucket.Scope { return bucket.Scope{Kind: z.Kind, ID: z.ID} }

// between two looks at whether somebody still waits for the result, so many
// scopes are gone through: a fraction of a millisecond.
const between = 256

// Discover brings the roster's scopes of one kind up to date with what all credentials
// list of them, in the order of the configuration, and returns the scopes that changed, ascending.
// lookback is how much history a scope gets that is seen for the first time; newest
// returns the end of the newest window that is stored of a scope, 0 where none is.
//
// The time that it takes grows with the number of scopes. When ctx ends before it
// is done, it returns its error and has changed nothing.
func (r Roster) Discover(ctx context.Context, now bucket.Time, kind bucket.ScopeKind, lists []List, lookback time.Duration, newest func(bucket.Scope) bucket.Time) ([]*Scope, error) {
	d := discovery{r: r, now: now, next: make(map[bucket.Scope]*Scope, len(r)), lists: newLists(lists)}
	created := map[owned]bucket.Time{} // when those were that nobody has seen before
	steps := 0
	step := func() error {
		if steps++; steps%between != 0 {
			return nil
		}
		return context.Cause(ctx)
	}
	for id, in := range d.lists.sightings {
		if err := step(); err != nil {
			return nil, err
		}
		old := r[id]
		if old != nil && d.lists.unheard(old.Credential) {
			continue // below, as it was
		}
		z, owner, wanted := d.lists.owner(old, in)
		z = z.fit()
		if old == nil {
			of := owned{z.AccountID, z.Name}
			created[of] = max(created[of], z.Created)
		}
		if s := d.see(z, owner, wanted, lookback); s != nil {
			d.next[s.Scope] = s
		}
	}
	for id, s := range r {
		if err := step(); err != nil {
			return nil, err
		}
		if id.Kind != kind || d.next[id] != nil {
			continue
		}
		if d.lists.leave(s) {
			d.next[id] = s
			continue
		}
		s = s.clone()
		s.end(now, Gone)
		if at, again := created[owned{s.AccountID, s.Name}]; again && at >= s.FirstSeen && at <= now {
			// Deleted and added again between two lists.
			s.End = min(s.End, max(at, newest(id)))
		}
		d.next[id] = s
	}
	scopes := slices.SortedFunc(maps.Values(d.next), func(a, b *Scope) int { return a.Compare(b.Scope) })
	if err := d.label(scopes, step); err != nil {
		return nil, err
	}
	var changed []*Scope
	for _, s := range scopes {
		if old := r[s.Scope]; old == nil || !old.sameFacts(s) {
			r[s.Scope] = s
			changed = append(changed, s)
		}
	}
	return changed, nil
}

// owned is what only one zone has at a time: Cloudflare lets an account add a
// name again only when it has deleted the zone that had it. An account is its own.
type owned struct{ accountID, name string }

// discovery is a set of lists that becomes the roster's.
type discovery struct {
	r     Roster
	now   bucket.Time
	next  map[bucket.Scope]*Scope // what the roster will hold
	lists *lists
}

// see is what the roster should hold for a scope that is listed, but for its
// labels; nil for a scope that was never wanted.
func (d *discovery) see(z Seen, credential string, wanted bool, lookback time.Duration) *Scope {
	id := z.Scope()
	old := d.r[id]
	if old == nil {
		if !wanted {
			return nil
		}
		old = &Scope{
			Scope:     id,
			FirstSeen: d.now,
			// What is yet to be created has no past to wait for.
			Start:     min(max(d.now.Add(-lookback), z.Created), d.now),
			State:     Active,
			AccountID: z.AccountID, Credential: credential,
		}
		if z.State == Pending {
			old.Start = d.now // nor has one that is yet to be activated
		}
	}
	s := old.clone()
	moved := s.AccountID != z.AccountID || s.Credential != credential
	s.Credential = credential
	s.Name, s.AccountID, s.AccountName, s.Plan = z.Name, z.AccountID, z.AccountName, z.Plan
	if moved || z.Plan != old.Plan {
		s.Checked = 0 // another plan, account or credential: entitlements must be read again
	}
	switch {
	case !wanted:
		s.end(d.now, Excluded)
	case z.State != Active:
		s.end(d.now, z.State)
	case s.State != Active:
		// Back again: what passed in between was not wanted then and is not now.
		// What was open before still is, for as long as Cloudflare has it (G2).
		s.Away = append(s.Away, Away{bucket.Window{Start: s.End, End: d.now}, s.State})
		s.Away = s.Away[max(0, len(s.Away)-maxAway):]
		s.State, s.End = Active, 0
		s.Checked = 0
	}
	return s
}

func (s *Scope) end(now bucket.Time, state State) {
	if s.State == Active {
		s.End = now
	}
	s.State = state
}

func (s *Scope) clone() *Scope {
	c := *s
	c.Refusals = maps.Clone(s.Refusals)
	c.Former, c.Earlier, c.Away = slices.Clone(s.Former), slices.Clone(s.Earlier), slices.Clone(s.Away)
	return &c
}

func (s *Scope) sameFacts(o *Scope) bool {
	return s.Credential == o.Credential && s.Name == o.Name && s.AccountID == o.AccountID && s.AccountName == o.AccountName && s.Plan == o.Plan &&
		s.ZoneLabel == o.ZoneLabel && s.AccountLabel == o.AccountLabel && slices.Equal(s.Earlier, o.Earlier) && s.State == o.State &&
		s.Start == o.Start && s.End == o.End && s.Checked == o.Checked
}
