package roster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-metrics/weir/internal/bucket"
)

// fit is the zone or account as Weir keeps it: whatever Cloudflare sends, what is
// stored of it is short and what becomes a label is one that readers accept. It is the
// one door for such text.
func (z Seen) fit() Seen {
	z.Name, _ = bucket.FitName(z.Name)
	z.AccountName, _ = bucket.FitName(z.AccountName)
	z.Plan, _ = bucket.FitName(z.Plan)
	z.AccountID, _ = bucket.FitName(z.AccountID)
	return z
}

// Odd says what of a zone's or account's values cannot be used as it is, and what is
// used instead; empty when all is well.
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
			odd = append(odd, fmt.Sprintf("the %s is %.80q, which is empty or cannot be printed, and there is no tag to stand in for it; the label is empty", n.what, n.name))
		case !bucket.Printable(n.name):
			odd = append(odd, fmt.Sprintf("the %s is %.80q, which is empty or cannot be printed; the label is %q instead", n.what, n.name, n.label))
		case n.name != n.label:
			odd = append(odd, fmt.Sprintf("the %s has %d bytes (at most %d make a label) and begins with %.40q; it was cut", n.what, len(n.name), bucket.MaxName, n.name))
		}
	}
	return strings.Join(odd, "; ")
}

// labelOf is the label that a name makes: the name, or the tag where the name
// shows nothing. No reader accepts a bucket of a zone without a name; without a
// label for its account it can do, where not even the tag is one.
func labelOf(name, tag string) string {
	for _, s := range []string{name, tag} {
		if bucket.Printable(s) {
			return s
		}
	}
	return ""
}

// usable reports whether a label can be that of a scope's buckets. Records of
// releases that took any name hold others.
func usable(label string) bool { return bucket.Printable(label) && len(label) <= bucket.MaxName }

// labels are those that the scope's names make, before another scope's claim to
// the same ones.
func (s *Scope) labels() (zone, account string) {
	if s.Kind == bucket.Account {
		return "", s.named()
	}
	return s.named(), labelOf(s.AccountName, s.AccountID)
}

// named is the scope's own of them.
func (s *Scope) named() string { return labelOf(s.Name, s.ID) }
