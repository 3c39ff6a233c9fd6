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
	// Malformed describes the values of the zone that could not be read, and what is
	// used instead.
	Malformed []string
}

// Scope is the scope's identity.
func (z *Seen) Scope() bucket.Scope { return bucket.Scope{Kind: z.Kind, ID: z.ID} }

// between is the number of scopes that are processed between two checks of the context:
// a fraction of a millisecond.
const between = 256

// Discover updates the roster's scopes of one kind from the lists of all credentials,
// which are in the order of the configuration. It returns the scopes that changed,
// ascending. Lookback is how much history a scope gets that is seen for the first time;
// newest returns the end of the newest stored window of a scope, or 0.
//
// Its time is proportional to the number of scopes. If ctx ends first, it returns the
// cause and changes nothing.
func (r Roster) Discover(ctx context.Context, now bucket.Time, kind bucket.ScopeKind, lists []List, lookback time.Duration, newest func(bucket.Scope) bucket.Time) ([]*Scope, error) {
	d := discovery{r: r, now: now, next: make(map[bucket.Scope]*Scope, len(r)), lists: newLists(lists)}
	created := map[owned]bucket.Time{} // creation times of scopes that are not in the roster
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
			continue // kept as it is, below
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

// owned identifies a zone within its account: Cloudflare lets an account add a name again
// only after it has deleted the zone with that name.
type owned struct{ accountID, name string }

// discovery is one update of the roster.
type discovery struct {
	r     Roster
	now   bucket.Time
	next  map[bucket.Scope]*Scope // the new content of the roster
	lists *lists
}

// see returns the new state of a listed scope, without its labels; nil for a scope that
// was never selected.
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
			// There is no history before the scope was created,
			Start:     min(max(d.now.Add(-lookback), z.Created), d.now),
			State:     Active,
			AccountID: z.AccountID, Credential: credential,
		}
		if z.State == Pending {
			old.Start = d.now // or before it was activated
		}
	}
	s := old.clone()
	moved := s.AccountID != z.AccountID || s.Credential != credential
	s.Credential = credential
	if z.Created != 0 {
		s.Created = z.Created
	}
	s.Name, s.AccountID, s.AccountName, s.Plan = z.Name, z.AccountID, z.AccountName, z.Plan
	if moved || z.Plan != old.Plan {
		s.Checked = 0 // another plan, account or credential: entitlements must be read again
	}
	if moved {
		s.Obstacle = Obstacle{}
	}
	switch {
	case !wanted:
		s.end(d.now, Excluded)
	case z.State != Active:
		s.end(d.now, z.State)
	case s.State != Active:
		// It has returned. Windows of the time between are not wanted. Windows that
		// were open before are still fetched while Cloudflare has them (G2).
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
		s.Start == o.Start && s.Created == o.Created && s.End == o.End && s.Checked == o.Checked
}
