package roster

import (
	"math"
	"slices"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Two zones of one name in accounts of one name would share their series. The
// name belongs to one of them at a time, the owner: a window that begins while
// another has it carries the name with the first digits of the tag. So it is with two
// accounts of one name in the samples that are about accounts. An owner has
// the name until its end, and a pause is none; who is active then has it for the
// windows that begin from there on. So whatever is stored late, and in whichever
// order, no label is that of two scopes in windows that begin at one time.
//
// What follows rests on two rules: a scope takes a name only for windows that
// begin when all others had it for the last time, and it never gives a window,
// in which somebody else may have had it, back its name.

// Label is what a scope's buckets carry, or carried, in windows of some time.
type Label struct {
	Zone    string `json:"zone"`
	Account string `json:"account"`
	// Windows that begin in [From, Until); 0: from the first on.
	From  bucket.Time `json:"from,omitempty"`
	Until bucket.Time `json:"until"`
}

// Labels are those of a bucket whose window begins at start. They are frozen
// when it is written.
func (s *Scope) Labels(start bucket.Time) (zone, account string) {
	for _, l := range s.Earlier {
		if start < l.Until {
			return l.Zone, l.Account
		}
	}
	return s.ZoneLabel, s.AccountLabel
}

// HasLabel reports whether buckets of the scope may carry a zone label, or did before
// a rename that is remembered.
func (s *Scope) HasLabel(zone string) bool {
	is := func(l Label) bool { return l.Zone == zone }
	return s.ZoneLabel == zone || slices.ContainsFunc(s.Earlier, is) || slices.ContainsFunc(s.Former, is)
}

// Label is what tells the scope's samples from those of others of its kind: the zone's
// label, or the account's.
func (s *Scope) Label() string {
	if s.Kind == bucket.Account {
		return s.AccountLabel
	}
	return s.ZoneLabel
}

// as is the name that the scope has with a label of its own, in the account that it is in.
func (s *Scope) as(own string) name {
	if s.Kind == bucket.Account {
		return name{account: own}
	}
	_, account := s.labels()
	return name{own, account}
}

// setLabels gives the scope a name for new buckets.
func (s *Scope) setLabels(n name) { s.ZoneLabel, s.AccountLabel = n.zone, n.account }

// never is the end of what has none.
const never = bucket.Time(math.MaxInt64)

// current is the label of new buckets, with how long the scope may still want
// windows that carry it.
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

// holds are the labels that a scope may have given to windows, by name.
type holds map[name][]hold

type hold struct {
	of          bucket.Scope
	from, until bucket.Time
}

// set says what a scope may have given, with last as its newest label.
func (h holds) set(s *Scope, last Label) {
	labels := append(slices.Concat(s.Former, s.Earlier), last)
	named := s.as(s.named()) // which it may have had a moment ago
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

// others returns from when to when anybody else has a name in windows that begin
// at or after a time; zero when nobody has.
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

// label gives the scopes their labels. First those that are renamed let go of
// theirs; then owners have their say, then those that stepped aside, and whoever
// is new comes last.
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
		if old != nil && !old.owns() && old.End != 0 { // what it had until it went; it may be back
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

// owns reports whether the scope keeps a name that it has.
func (s *Scope) owns() bool { return s.State == Active || s.State == Paused }

// renamed reports whether a scope needs new labels. As long as its names are the
// same it needs none.
func (s *Scope) renamed(old *Scope) bool {
	if old == nil || !usable(s.Label()) {
		return true
	}
	_, account := s.labels()
	return s.named() != old.named() || s.Kind == bucket.Zone && account != s.AccountLabel
}

// release makes present labels former ones.
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

// take gives a scope the label that its name makes, for the windows in which
// nobody else has it, and reports whether it may hold another than before.
func (s *Scope) take(held holds) bool {
	own := s.named()
	aside := s.aside(own)
	n, from := s.as(own), s.current().From
	switch {
	case s.Label() == "":
		s.setLabels(s.as(""))
	case !s.owns():
		return false // it would only keep others from the name
	case s.Label() != aside:
		// Whoever has come while it was away keeps the name.
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

// before adds the label of windows that begin after those of the ones before it.
func (s *Scope) before(l Label) {
	if l.From >= l.Until {
		return
	}
	s.Earlier = append(s.Earlier, l)
	if drop := len(s.Earlier) - maxFormer; drop > 0 {
		// Nobody else ever has the label with the tag.
		s.Earlier = s.Earlier[drop:]
		n := s.as(s.aside(s.Name))
		s.Earlier[0] = Label{Zone: n.zone, Account: n.account, Until: s.Earlier[0].Until}
	}
}

// aside is the label of a scope whose name belongs to another.
func (s *Scope) aside(named string) string {
	// One that is cut for it still differs: its hash is of the whole.
	label, _ := bucket.FitName(named + "#" + s.ID[:8])
	return label
}
