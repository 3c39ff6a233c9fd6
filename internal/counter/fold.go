package counter

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

const (
	// Announced is how long after its commit a bucket begins to count, at least. It is more
	// than the time that an entry takes to every reader, and more than a scrape interval.
	Announced = 90 * time.Second
	// Retire is how long a series is shown after its last bucket has been played out.
	Retire = 24 * time.Hour
	// readings is the time that two readings of a window take, in which it becomes final.
	readings = 150 * time.Second
	// settles is how long after its end the data of a window changes at Cloudflare, about. A
	// window that is read earlier is final no sooner.
	settles = 5 * time.Minute
)

// Rules is the version of the rules by which entries are counted. Totals of other rules
// cannot be continued.
const Rules = 2

// Delay is how much later than the traffic a live total of a dataset is: a window is due,
// read twice, committed and sent to all readers by then.
func Delay(d *bucket.Definition) time.Duration {
	return d.Size + max(d.Delay, settles) + readings + Announced
}

// Fold is the totals of one epoch. It belongs to one goroutine.
type Fold struct {
	begun    map[place]time.Time  // when counting began
	owners   map[owner]*Owner     // of the series, each once
	families map[string][]*Family // by name; in the order of their labels
	names    []string             // of families, sorted
	out      map[string]bool      // families that are left out
	newest   sample.Millis        // commit of the newest entry
	changes  uint64
	sets     []sample.Set
}

// owner tells owners apart.
type owner struct {
	scope         bucket.Scope
	zone, account string
}

// place is what collecting begins for.
type place struct {
	scope  bucket.Scope
	family string
}

// New returns the fold of an epoch without entries.
func New() *Fold {
	return &Fold{begun: map[place]time.Time{}, owners: map[owner]*Owner{}, families: map[string][]*Family{}, out: map[string]bool{}}
}

// Family is the counters of one metric family that have the same label names. A family
// whose labels were changed in the epoch has several.
type Family struct {
	Name, Help, Unit string
	Labels           []string // the family's own labels, after zone and account

	of     map[*Owner][]*Series // in the order of their values
	own    map[string]*Own
	key    []byte // of own
	sorted []*Series
	fresh  []*Series // not in sorted yet
}

// Owner is a zone or an account with its names, which all of its series share. There are as many
// as there have been names.
type Owner struct {
	Scope         bucket.Scope
	Zone, Account string
	// Text is the caller's: what it shows of the owner every time.
	Text []byte
}

// Own is values of the family's own labels, which the series of all owners with these values
// share.
type Own struct {
	Values []string
	// Text is the caller's: what it shows of the values every time.
	Text []byte

	series int // that have them
}

// Series is one counter. There are many, so that it has nothing that it can share.
type Series struct {
	*Owner
	*Own

	began sample.Millis // commit of the first bucket of the sum
	until sample.Millis // all of it has been played out
	live  float64       // sum of what Settle found played out
	late  float64
	parts []part // what follows, in order of revision
	// lateBegan is the commit of the first bucket that came late; 0: none has.
	lateBegan sample.Millis
}

// part is the amount of one bucket, and the turn that all series of the bucket share.
type part struct {
	*turn
	amount float64
}

// turn is how a bucket counts; [Part] has the meaning.
type turn struct {
	from, size sample.Millis
	late       bool
}

// at is how much of the part counts at a time.
func (p *part) at(t sample.Millis) float64 {
	switch {
	case t < p.from:
		return 0
	case t-p.from >= p.size:
		return p.amount
	}
	share := p.amount * (float64(t-p.from) / float64(p.size))
	if p.amount == math.Trunc(p.amount) {
		return math.Trunc(share)
	}
	return min(share, p.amount)
}

// end is when all of the turn counts.
func (t *turn) end() sample.Millis { return t.from + t.size }

// Add adds an entry; the caller passes all entries of the epoch in order of revision.
// Entries other than buckets and definitions are passed over. An error means that something
// does not count: nothing of a bucket that does not fit its definition, or the families of it
// that have a value by which no counter can grow. The other families count.
func (f *Fold) Add(e *bucket.Entry) error {
	switch {
	case e.Kind == bucket.KindDatasetVersion && e.Definition != nil:
		f.define(e.Definition)
		return nil
	case e.Kind != bucket.KindBucket || e.Bucket == nil:
		return nil
	}
	b, d := e.Bucket, e.Definition
	committed := sample.MillisOf(e.CommittedAt)
	f.newest = max(f.newest, committed)
	f.begin(b.Scope, d, e.CommittedAt)
	if b.Origin != bucket.Live && b.Origin != bucket.Repair {
		return nil
	}
	f.define(d)
	var err error
	if f.sets, err = sample.Append(f.sets[:0], b, d, sample.End); err != nil {
		return fmt.Errorf("count: %w", err)
	}
	due, t := b.Window().End.Std().Add(d.Delay), turnOf(e)
	var faults []error
	for i := range f.sets {
		set := &f.sets[i]
		name := set.Family.Name
		if !set.Family.Additive || f.out[name] || due.Before(f.begun[place{b.Scope, name}]) {
			continue
		}
		if n := slices.IndexFunc(set.Rows.Values, func(v float64) bool { return v < 0 }); n >= 0 {
			faults = append(faults, fmt.Errorf("count bucket %s: family %s has the value %v; a counter cannot grow by it", b.Key, name, set.Value(n)))
			continue
		}
		f.count(set, b.Scope, committed, t)
	}
	return errors.Join(faults...)
}

// begin notes when counting of the families of a definition began in a scope. A family that
// joins others of its dataset began with them: their windows before it are not its history.
func (f *Fold) begin(scope bucket.Scope, d *bucket.Definition, committed time.Time) {
	first, missing := committed, false
	for i := range d.Families {
		if !d.Families[i].Additive {
			continue
		}
		if began, known := f.begun[place{scope, d.Families[i].Name}]; !known {
			missing = true
		} else if began.Before(first) {
			first = began
		}
	}
	for i := 0; missing && i < len(d.Families); i++ {
		of := place{scope, d.Families[i].Name}
		if _, known := f.begun[of]; !known && d.Families[i].Additive {
			f.begun[of] = first
		}
	}
}

// define takes the additive families of a definition. A family without series is known, too.
func (f *Fold) define(d *bucket.Definition) {
	for i := range d.Families {
		of := &d.Families[i]
		if !of.Additive || f.out[of.Name] {
			continue
		}
		f.family(of.Name, of.Labels)
		for _, fam := range f.families[of.Name] {
			fam.Help, fam.Unit = of.Help, of.Unit
		}
	}
}

// family returns the family of a name and labels. Other labels are other series.
func (f *Fold) family(name string, labels []string) *Family {
	all := f.families[name]
	at, known := slices.BinarySearchFunc(all, labels, func(fam *Family, labels []string) int { return slices.Compare(fam.Labels, labels) })
	if known {
		return all[at]
	}
	if len(all) == 0 {
		n, _ := slices.BinarySearch(f.names, name)
		f.names = slices.Insert(f.names, n, name)
	}
	fam := &Family{Name: name, Labels: labels, of: map[*Owner][]*Series{}, own: map[string]*Own{}}
	f.families[name] = slices.Insert(all, at, fam)
	return fam
}

// turnOf is how a bucket counts. One that is committed more than a quarter of its length
// after its turn, which begins a delay after its window, is late and counts in one step. One
// that is a little behind is played out in what is left of its turn: the turns of two windows
// have nothing in common.
func turnOf(e *bucket.Entry) *turn {
	b := e.Bucket
	from, begin := e.CommittedAt.Add(Announced), b.Start.Std().Add(Delay(e.Definition))
	if from.After(begin.Add(b.Size / 4)) {
		return &turn{from: sample.MillisOf(from), late: true}
	}
	t := &turn{from: max(sample.MillisOf(from), sample.MillisOf(begin))}
	t.size = sample.MillisOf(begin.Add(b.Size)) - t.from
	return t
}

// count adds the rows of a family. They are in the order of their values, as the series of their
// owner are, so both are gone through side by side.
func (f *Fold) count(set *sample.Set, scope bucket.Scope, committed sample.Millis, t *turn) {
	fam := f.family(set.Family.Name, set.Family.Labels)
	of := f.owner(scope, set.Zone, set.Account)
	all := fam.of[of]
	for n, at := 0, 0; n < set.Len(); n++ {
		values := set.Own(n)
		for at < len(all) && slices.Compare(all[at].Values, values) < 0 {
			at++
		}
		if at == len(all) || !slices.Equal(all[at].Values, values) {
			all = slices.Insert(all, at, &Series{Owner: of, Own: fam.ownOf(values), began: committed})
			f.include(fam, all[at])
		}
		s := all[at]
		if s.retired(committed) {
			s.began, s.until, s.live, s.late, s.lateBegan, s.parts = committed, 0, 0, 0, 0, s.parts[:0]
		}
		if t.late && s.lateBegan == 0 {
			s.lateBegan = committed
		}
		s.until = max(s.until, t.end())
		s.parts = append(s.parts, part{t, set.Value(n)})
	}
	fam.of[of] = all
}

// owner returns the owner with these names.
func (f *Fold) owner(scope bucket.Scope, zone, account string) *Owner {
	of := owner{scope, zone, account}
	if f.owners[of] == nil {
		f.owners[of] = &Owner{Scope: scope, Zone: zone, Account: account}
	}
	return f.owners[of]
}

// ownOf returns the values of a new series.
func (fam *Family) ownOf(values []string) *Own {
	fam.key = appendKey(fam.key[:0], values)
	own := fam.own[string(fam.key)]
	if own == nil {
		own = &Own{Values: slices.Clone(values)}
		fam.own[string(fam.key)] = own
	}
	own.series++
	return own
}

// appendKey appends what tells values apart.
func appendKey(dst []byte, values []string) []byte {
	for _, v := range values {
		dst = append(binary.AppendUvarint(dst, uint64(len(v))), v...)
	}
	return dst
}

// find returns the place of a series among those of its owner, and whether it is there.
func (fam *Family) find(of *Owner, values []string) (at int, found bool) {
	return slices.BinarySearchFunc(fam.of[of], values, func(s *Series, values []string) int { return slices.Compare(s.Values, values) })
}

// include adds a series that its owner has already.
func (f *Fold) include(fam *Family, s *Series) {
	fam.fresh = append(fam.fresh, s)
	f.changes++
}

// forget drops a series.
func (fam *Family) forget(s *Series) {
	if at, found := fam.find(s.Owner, s.Values); found {
		fam.of[s.Owner] = slices.Delete(fam.of[s.Owner], at, at+1)
	}
	if len(fam.of[s.Owner]) == 0 {
		delete(fam.of, s.Owner)
	}
	if s.Own.series--; s.Own.series == 0 {
		fam.key = appendKey(fam.key[:0], s.Values)
		delete(fam.own, string(fam.key))
	}
}

// Changes grows with each series that is added or forgotten.
func (f *Fold) Changes() uint64 { return f.changes }

// retired reports whether the sum has ended before a time.
func (s *Series) retired(t sample.Millis) bool {
	return s.until > 0 && t >= s.until+sample.Millis(Retire.Milliseconds())
}

// Settle folds what has been played out by a time, before which nothing is then asked about
// again, into the sums. It forgets series that were retired at the newest commit: one that
// is retired now may go on with the next entry. The values at any later time are the same
// without it.
func (f *Fold) Settle(t time.Time) {
	now := sample.MillisOf(t)
	for fam := range f.Families {
		fam.sorted = slices.DeleteFunc(fam.Series(), func(s *Series) bool {
			if s.retired(f.newest) {
				fam.forget(s)
				f.changes++
				return true
			}
			s.settle(now)
			return false
		})
	}
}

// usual is how many parts a series has room for: a bucket is played out when two or three more
// have followed.
const usual = 4

// settle folds the first parts, as long as they are played out: sums are made in the order
// of revisions.
func (s *Series) settle(now sample.Millis) {
	n := 0
	for n < len(s.parts) && s.parts[n].end() <= now {
		p := &s.parts[n]
		if p.late {
			s.late += p.amount
		} else {
			s.live += p.amount
		}
		n++
	}
	s.parts = slices.Delete(s.parts, 0, n)
	if n := cap(s.parts); n > usual && len(s.parts) <= n/2 {
		s.parts = slices.Clone(s.parts) // of a catch-up
	}
}

// Value is what a counter shows.
type Value struct {
	Live, Late float64
	HasLate    bool // something came late; Late is shown only then
	// Began is when the sum began: its start time.
	Began sample.Millis
}

// Began is when the present sum began: the commit of its first bucket.
func (s *Series) Began() sample.Millis { return s.began }

// At returns the series' value at a time, and whether it is shown then.
func (s *Series) At(t sample.Millis) (v Value, shown bool) {
	if t < s.began || s.retired(t) {
		return Value{}, false
	}
	v = Value{Live: s.live, Late: s.late, HasLate: s.lateBegan > 0 && t >= s.lateBegan, Began: s.began}
	for i := range s.parts {
		p := &s.parts[i]
		if p.late {
			v.Late += p.at(t)
		} else {
			v.Live += p.at(t)
		}
	}
	return v, true
}

// Families calls yield for each family, in order of name and labels.
func (f *Fold) Families(yield func(*Family) bool) {
	for all := range f.Named {
		for _, fam := range all {
			if !yield(fam) {
				return
			}
		}
	}
}

// Named calls yield for each name, in order, with the families that have it, in the order of
// their labels.
func (f *Fold) Named(yield func([]*Family) bool) {
	for _, name := range f.names {
		if !yield(f.families[name]) {
			return
		}
	}
}

// Of returns the families of a name, in the order of their labels. The caller must not modify it.
func (f *Fold) Of(name string) []*Family { return f.families[name] }

// Series returns the family's series, in the order of zone, account, own labels and scope:
// two scopes have a series with the same labels when one took over the other's name. The
// caller may read them until the next call of Add, Load or Settle. A second call before
// that changes nothing, so that any number of goroutines may make it.
func (fam *Family) Series() []*Series {
	if len(fam.fresh) > 0 {
		slices.SortFunc(fam.fresh, byLabels)
		fam.sorted, fam.fresh = merge(fam.sorted, fam.fresh), nil
	}
	return fam.sorted
}

func byLabels(a, b *Series) int {
	return cmp.Or(strings.Compare(a.Zone, b.Zone), strings.Compare(a.Account, b.Account), slices.Compare(a.Values, b.Values), a.Scope.Compare(b.Scope))
}

// merge inserts series, which are few beside those that are there. Both are sorted.
func merge(there, fresh []*Series) []*Series {
	all := slices.Grow(there, len(fresh))[:len(there)+len(fresh)]
	for i := len(fresh) - 1; i >= 0; i-- {
		at, _ := slices.BinarySearchFunc(there, fresh[i], byLabels)
		copy(all[at+i+1:], there[at:])
		all[at+i] = fresh[i]
		there = there[:at]
	}
	return all
}
