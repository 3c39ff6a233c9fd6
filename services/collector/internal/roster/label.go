package roster

import (
	"math"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Two zones with the same name in accounts with the same name would share their series.
// So only one of them owns the name at a time; windows of the other that begin during
// that time have the name with the first digits of the tag. The same holds for accounts
// with the same name in samples about accounts. An owner keeps the name until its end; a
// pause does not end it. The scope that is active then owns the name in the windows that
// begin from that end on. So two scopes never have the same label in windows that begin
// at the same time, regardless of when and in which order the windows are stored.
//
// The code below follows two rules. A scope takes a name only for windows that begin
// after all others had it. And it never restores the name in a window in which another
// scope may have had it.

// Label is the labels of a scope's buckets in a range of windows.
type Label struct {
	Zone    string `json:"zone"`
	Account string `json:"account"`
	// For windows that begin in [From, Until). From is 0 if there is no lower bound.
	From  bucket.Time `json:"from,omitempty"`
	Until bucket.Time `json:"until"`
}

// Labels returns the labels of a bucket whose window begins at start. They do not change
// after the bucket is written.
func (s *Scope) Labels(start bucket.Time) (zone, account string) {
	for _, l := range s.Earlier {
		if start < l.Until {
			return l.Zone, l.Account
		}
	}
	return s.ZoneLabel, s.AccountLabel
}

// HasLabel reports whether buckets of the scope may have a zone label, now or before a
// rename that is remembered.
func (s *Scope) HasLabel(zone string) bool {
	is := func(l Label) bool { return l.Zone == zone }
	return s.ZoneLabel == zone || slices.ContainsFunc(s.Earlier, is) || slices.ContainsFunc(s.Former, is)
}

// Label is the label that distinguishes the scope's samples from those of other scopes of
// its kind: the zone's label or the account's.
func (s *Scope) Label() string {
	if s.Kind == bucket.Account {
		return s.AccountLabel
	}
	return s.ZoneLabel
}

// as returns the pair of labels with the given label for the scope itself.
func (s *Scope) as(own string) name {
	if s.Kind == bucket.Account {
		return name{account: own}
	}
	_, account := s.labels()
	return name{own, account}
}

// setLabels sets the labels of new buckets.
func (s *Scope) setLabels(n name) { s.ZoneLabel, s.AccountLabel = n.zone, n.account }

// never is the Until of a label that is still in use.
const never = bucket.Time(math.MaxInt64)

// current is the label of new buckets, with the end of the windows that may have it.
func (s *Scope) current() Label {
	l := Label{Zone: s.ZoneLabel, Account: s.AccountLabel, Until: never}
	if n := len(s.Earlier); n > 0 {
		l.From = s.Earlier[n-1].Until
	}
	if !s.owns() && s.End != 0 {
		l.Until = s.End
	}
	return l
}

// name is a pair of labels.
type name struct{ zone, account string }

// holds has the scopes whose windows may have each name.
type holds map[name][]hold

type hold struct {
	of          bucket.Scope
	from, until bucket.Time
}

// set replaces the labels of a scope, with last as its newest label.
func (h holds) set(s *Scope, last Label) {
	labels := append(slices.Concat(s.Former, s.Earlier), last)
	named := s.as(s.named()) // which it may have had before this call
	for _, l := range append(labels, Label{Zone: named.zone, Account: named.account}) {
		n := name{l.Zone, l.Account}
		h[n] = slices.DeleteFunc(h[n], func(o hold) bool { return o.of == s.Scope })
	}
	for _, l := range labels {
		if n := (name{l.Zone, l.Account}); l.From < l.Until && (l.Zone != "" || s.Kind == bucket.Account && l.Account != "") {
			h[n] = append(h[n], hold{s.Scope, l.From, l.Until})
		}
	}
}

// others returns the range in which other scopes have a name, in windows that begin at or
// after a time; zero if none has.
func (h holds) others(n name, s *Scope, after bucket.Time) (from, until bucket.Time) {
	for _, o := range h[n] {
		if o.of == s.Scope || o.until <= after {
			continue
		}
		if until == 0 || o.from < from {
			from = o.from
		}
		until = max(until, o.until)
	}
	return from, until
}

// label sets the labels of the scopes. Renamed scopes first release theirs. Then owners
// of names are labelled, then scopes that have a name with digits, then new scopes.
func (d *discovery) label(scopes []*Scope, step func() error) error {
	held := make(holds, len(scopes))
	var owners, asides, unnamed []*Scope
	for _, s := range scopes {
		if err := step(); err != nil {
			return err
		}
		old := d.r[s.Scope]
		if s.renamed(old) {
			s.release(d.now)
		}
		switch {
		case s.Label() == "":
			unnamed = append(unnamed, s)
		case s.Label() == s.aside(s.named()):
			asides = append(asides, s)
		default:
			owners = append(owners, s)
		}
		last := s.current()
		if old != nil && !old.owns() && old.End != 0 { // its label until it ended; it may have returned
			last.Until = min(last.Until, old.End)
		}
		held.set(s, last)
	}
	for _, s := range slices.Concat(owners, asides, unnamed) {
		if err := step(); err != nil {
			return err
		}
		if s.take(held) {
			held.set(s, s.current())
		}
	}
	return nil
}

// owns reports whether the scope keeps its name.
func (s *Scope) owns() bool { return s.State == Active || s.State == Paused }

// renamed reports whether a scope needs new labels, because its names changed or its
// label is invalid.
func (s *Scope) renamed(old *Scope) bool {
	if old == nil || !usable(s.Label()) {
		return true
	}
	_, account := s.labels()
	return s.named() != old.named() || s.Kind == bucket.Zone && account != s.AccountLabel
}

// release moves the present labels to the former ones.
func (s *Scope) release(now bucket.Time) {
	if usable(s.Label()) {
		last := s.current()
		last.Until = min(last.Until, now)
		s.Former = append(append(s.Former, s.Earlier...), last)
		s.Former = s.Former[max(0, len(s.Former)-maxFormer):]
	}
	s.setLabels(name{})
	s.Earlier = nil
}

// take sets a scope's label to its name in the windows in which no other scope has it,
// and reports whether the label may have changed.
func (s *Scope) take(held holds) bool {
	own := s.named()
	aside := s.aside(own)
	n, from := s.as(own), s.current().From
	switch {
	case s.Label() == "":
		s.setLabels(s.as(""))
	case !s.owns():
		return false // the name stays free for others
	case s.Label() != aside:
		// A scope that took the name in the meantime keeps it.
		taken, until := held.others(n, s, from)
		if until == 0 {
			return true
		}
		taken = max(taken, from)
		s.before(Label{Zone: n.zone, Account: n.account, From: from, Until: taken})
		from = taken
	case s.State != Active:
		return false
	}
	_, until := held.others(n, s, 0)
	if until == never {
		s.setLabels(s.as(aside))
		return true
	}
	besides := s.as(aside)
	s.before(Label{Zone: besides.zone, Account: besides.account, From: from, Until: until})
	s.setLabels(n)
	return true
}

// before appends an earlier label.
func (s *Scope) before(l Label) {
	if l.From >= l.Until {
		return
	}
	s.Earlier = append(s.Earlier, l)
	if drop := len(s.Earlier) - maxFormer; drop > 0 {
		// No other scope can have the label with the tag.
		s.Earlier = s.Earlier[drop:]
		n := s.as(s.aside(s.Name))
		s.Earlier[0] = Label{Zone: n.zone, Account: n.account, Until: s.Earlier[0].Until}
	}
}

// aside is the label of a scope whose name is owned by another.
func (s *Scope) aside(named string) string {
	// A truncated label is still unique: its hash is of the whole text.
	label, _ := bucket.FitName(named + "#" + s.ID[:8])
	return label
}
