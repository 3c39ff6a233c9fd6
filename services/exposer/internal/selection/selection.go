// Package selection says which zones and accounts a request shows: those that it names, and
// of them those that its token may read. It is pure.
//
// A selection goes by what samples have: their labels zone and account, which are frozen in the
// bucket, and the id of the zone. So what it selects of a history is a function of the history,
// and two exposers at one revision select the same (G5).
package selection

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Owner is whose samples some are.
type Owner struct {
	Scope         bucket.Scope
	Zone, Account string // labels; Zone is empty for an account
}

// OwnerOf is the owner of new samples of a zone or account.
func OwnerOf(s *bucketv1.ScopeInfo) Owner {
	return Owner{Scope: bucket.Scope{Kind: bucket.ScopeKind(s.GetScope().GetKind()), ID: s.GetScope().GetId()}, Zone: s.GetZoneLabel(), Account: s.GetAccountLabel()} //nolint:gosec // the kinds have the numbers of the contract
}

// Set is the samples of some accounts and those of some zones.
type Set struct {
	// Accounts are values of the label account: samples about the account, and those about its
	// zones.
	Accounts []string `json:"accounts,omitempty"`
	// Zones are values of the label zone, or ids of zones.
	Zones []string `json:"zones,omitempty"`
}

// has reports whether the set has the samples of an owner.
func (s *Set) has(o Owner) bool {
	if _, found := slices.BinarySearch(s.Accounts, o.Account); found && o.Account != "" {
		return true
	}
	if o.Scope.Kind != bucket.Zone {
		return false
	}
	_, named := slices.BinarySearch(s.Zones, o.Zone)
	_, identified := slices.BinarySearch(s.Zones, o.Scope.ID)
	return named && o.Zone != "" || identified
}

// Selection is what all of some sets have in common, in a form that can be compared; "" is
// everything.
type Selection string

// Everything selects all samples.
const Everything Selection = ""

// Of returns what the sets have in common. The order of names does not matter.
func Of(sets ...Set) Selection {
	if len(sets) == 0 {
		return Everything
	}
	own := make([]string, 0, len(sets))
	for _, s := range sets {
		text, err := json.Marshal(Set{Accounts: sorted(s.Accounts), Zones: sorted(s.Zones)})
		if err != nil {
			panic(err) // strings always encode
		}
		own = append(own, string(text))
	}
	return Selection(strings.Join(sorted(own), "\n"))
}

func sorted(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// And returns what two selections have in common.
func (s Selection) And(o Selection) Selection {
	switch {
	case s == Everything:
		return o
	case o == Everything:
		return s
	}
	return Selection(strings.Join(sorted(append(strings.Split(string(s), "\n"), strings.Split(string(o), "\n")...)), "\n"))
}

// Match is a selection in the form in which owners are compared with it.
type Match struct{ sets []Set }

// Match returns the selection for comparing.
func (s Selection) Match() Match {
	if s == Everything {
		return Match{}
	}
	var m Match
	for _, text := range strings.Split(string(s), "\n") {
		var set Set
		if err := json.Unmarshal([]byte(text), &set); err != nil {
			panic(fmt.Sprintf("selection %q: %v", text, err)) // only Of makes them
		}
		m.sets = append(m.sets, set)
	}
	return m
}

// Has reports whether the samples of an owner are selected.
func (m Match) Has(o Owner) bool {
	for i := range m.sets {
		if !m.sets[i].has(o) {
			return false
		}
	}
	return true
}

// Name is an account or a zone that a set names.
type Name struct {
	Kind bucket.ScopeKind
	Name string
}

// Selection returns what the set selects by parameters of a request: of accounts and zones that
// are both named what they have in common; of neither everything.
func (s Set) Selection() Selection {
	out := Everything
	if len(s.Accounts) > 0 {
		out = out.And(Of(Set{Accounts: s.Accounts}))
	}
	if len(s.Zones) > 0 {
		out = out.And(Of(Set{Zones: s.Zones}))
	}
	return out
}

// Of returns the set of one name.
func (Set) Of(n Name) Set {
	if n.Kind == bucket.Account {
		return Set{Accounts: []string{n.Name}}
	}
	return Set{Zones: []string{n.Name}}
}

// Unmatched returns the names of a set that none of some owners has, in order.
func (s Set) Unmatched(owners []Owner) (out []Name) {
	for _, one := range []struct {
		kind  bucket.ScopeKind
		names []string
	}{{bucket.Account, s.Accounts}, {bucket.Zone, s.Zones}} {
		for _, name := range sorted(one.names) {
			only := s.Of(Name{one.kind, name})
			if !slices.ContainsFunc(owners, only.has) {
				out = append(out, Name{one.kind, name})
			}
		}
	}
	return out
}
