package roster

import (
	"github.com/weir-metrics/weir/internal/bucket"
)

// List has the scopes of one kind that one credential sees, as of its last response.
type List struct {
	Credential string
	Select     Filter
	At         bucket.Time // time of the response; 0: none yet
	Seen       []Seen
	// Incomplete: scopes that are missing from it may exist, so it ends no scope.
	Incomplete bool
}

// lists are the lists of all credentials.
type lists struct {
	all       []List
	wanted    []func(Seen) bool
	sightings map[bucket.Scope][]sighting // ascending by list
}

// sighting is a scope in one list.
type sighting struct {
	list int
	zone Seen
}

func newLists(all []List) *lists {
	l := &lists{all: all, wanted: make([]func(Seen) bool, len(all)), sightings: map[bucket.Scope][]sighting{}}
	for i := range all {
		l.wanted[i] = all[i].Select.wanted()
		for _, z := range all[i].Seen {
			l.sightings[z.Scope()] = append(l.sightings[z.Scope()], sighting{i, z})
		}
	}
	return l
}

// of returns the list of a credential; nil if it is not configured.
func (l *lists) of(credential string) *List {
	for i := range l.all {
		if l.all[i].Credential == credential {
			return &l.all[i]
		}
	}
	return nil
}

// unheard reports whether a credential is configured and has not been listed yet.
func (l *lists) unheard(credential string) bool {
	list := l.of(credential)
	return list != nil && list.At == 0
}

// owner returns the credential that a listed scope belongs to: the first that selects it;
// if none does, its present one, or the first that sees it. The facts of the scope are
// taken from the newest list.
func (l *lists) owner(old *Scope, in []sighting) (z Seen, credential string, wanted bool) {
	newest := in[0]
	for _, s := range in[1:] {
		if l.all[s.list].At > l.all[newest.list].At {
			newest = s
		}
	}
	for _, s := range in {
		if l.wanted[s.list](newest.zone) {
			return newest.zone, l.all[s.list].Credential, true
		}
	}
	if old != nil && l.of(old.Credential) != nil {
		return newest.zone, old.Credential, false
	}
	return newest.zone, l.all[in[0].list].Credential, false
}

// leave reports whether a scope that is in no list stays as it is. It is gone only if its
// credential was listed completely without it, and all credentials that might select it
// have been listed. If its credential is no longer configured, at least one other
// credential must have been listed completely.
func (l *lists) leave(s *Scope) bool {
	of, says := l.of(s.Credential), false
	if of != nil && (of.At == 0 || of.Incomplete) {
		return true
	}
	for i := range l.all {
		switch {
		case l.all[i].At == 0 && l.wanted[i](Seen{Kind: s.Kind, ID: s.ID, Name: s.Name, AccountID: s.AccountID, AccountName: s.AccountName}):
			return true
		case l.all[i].At != 0 && !l.all[i].Incomplete:
			says = true
		}
	}
	return !says
}
