package roster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
)

// fit limits the length of the texts that are stored and makes names valid labels. All
// text of zones and accounts passes through it.
func (z Seen) fit() Seen {
	z.Name, _ = bucket.FitName(z.Name)
	z.AccountName, _ = bucket.FitName(z.AccountName)
	z.Plan, _ = bucket.FitName(z.Plan)
	z.AccountID, _ = bucket.FitName(z.AccountID)
	return z
}

// Odd describes the values of a zone or account that cannot be used as they are, and what
// is used instead; empty if there are none.
func (z Seen) Odd() string {
	odd := slices.Clone(z.Malformed)
	type value struct{ what, name, label string }
	names := []value{{z.Kind.String() + "'s name", z.Name, labelOf(z.fit().Name, z.ID)}}
	if z.Kind == bucket.Zone {
		names = append(names, value{"zone's account's name", z.AccountName, labelOf(z.fit().AccountName, z.fit().AccountID)})
	}
	for _, n := range names {
		switch {
		case n.label == "":
			odd = append(odd, fmt.Sprintf("the %s is %.80q, which is empty or not printable, and there is no tag to use instead; the label is empty", n.what, n.name))
		case !bucket.Printable(n.name):
			odd = append(odd, fmt.Sprintf("the %s is %.80q, which is empty or not printable; the label is %q instead", n.what, n.name, n.label))
		case n.name != n.label:
			odd = append(odd, fmt.Sprintf("the %s has %d bytes (a label has at most %d) and begins with %.40q; it was truncated", n.what, len(n.name), bucket.MaxName, n.name))
		}
	}
	return strings.Join(odd, "; ")
}

// labelOf returns the label for a name: the name, or the tag if the name is not
// printable. Readers reject a bucket of a zone without a name, but accept one without a
// label for the account, as when not even its tag is printable.
func labelOf(name, tag string) string {
	for _, s := range []string{name, tag} {
		if bucket.Printable(s) {
			return s
		}
	}
	return ""
}

// usable reports whether a label is valid. Records of early releases, which accepted any
// name, have invalid ones.
func usable(label string) bool { return bucket.Printable(label) && len(label) <= bucket.MaxName }

// labels returns the labels for the scope's names, regardless of whether another scope
// owns them.
func (s *Scope) labels() (zone, account string) {
	if s.Kind == bucket.Account {
		return "", s.named()
	}
	return s.named(), labelOf(s.AccountName, s.AccountID)
}

// named returns the label for the scope's own name.
func (s *Scope) named() string { return labelOf(s.Name, s.ID) }
