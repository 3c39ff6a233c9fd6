package counter

import (
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
	families map[string][]*Family // by name; in the order of their labels
	names    []string             // of families, sorted
	out      map[string]bool      // families that are left out
	newest   sample.Millis        // commit of the newest entry
	changes  uint64
	sets     []sample.Set
	key      []byte
}

// place is what collecting begins for.
type place struct {
	scope  bucket.Scope
	family string
}

// New returns the fold of an epoch without entries.
func New() *Fold {
	return &Fold{begun: map[place]time.Time{}, families: map[string][]*Family{}, out: map[string]bool{}}
}

// Family is the counters of one metric family that have the same label names. A family
// whose labels were changed in the epoch has several.
type Family struct {
	Name, Help, Unit string
	Labels           []string // the family's own labels, after zone and account

	series map[string]*Series
	sorted []*Series
	fresh  []*Series // not in sorted yet
}

// Series is one counter.
type Series struct {
	Scope         bucket.Scope
	Zone, Account string
	Values        []string // of the family's own labels
	// Text is the caller's: what it shows of the series every time.
	Text []byte

	key   string
	began sample.Millis // commit of the first bucket of the sum
	until sample.Millis // all of it has been played out
	live  float64       // sum of what Settle found played out
	late  float64
	parts []Part // what follows, in order of revision
	// lateBegan is the commit of the first bucket that came late; 0: none has.
	lateBegan sample.Millis
}

// at is how much of the part counts at a time.
func (p *Part) at(t sample.Millis) float64 {
	switch {
	case t < p.From:
		return 0
	case t-p.From >= p.Size:
		return p.Amount
	}
	share := p.Amount * (float64(t-p.From) / float64(p.Size))
	if p.Amount == math.Trunc(p.Amount) {
		return math.Trunc(share)
	}
	return min(share, p.Amount)
}

// end is when all of the part counts.
func (p *Part) end() sample.Millis { return p.From + p.Size }

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
	due, p := b.Window().End.Std().Add(d.Delay), partOf(e)
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
		f.count(set, b.Scope, committed, p)
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
	fam := &Family{Name: name, Labels: labels, series: map[string]*Series{}}
	f.families[name] = slices.Insert(all, at, fam)
	return fam
}

// partOf is how a bucket counts. One that is committed more than a quarter of its length
// after its turn, which begins a delay after its window, is late and counts in one step. One
// that is a little behind is played out in what is left of its turn: the turns of two windows
// have nothing in common.
func partOf(e *bucket.Entry) Part {
	b := e.Bucket
	from, turn := e.CommittedAt.Add(Announced), b.Start.Std().Add(Delay(e.Definition))
	if from.After(turn.Add(b.Size / 4)) {
		return Part{From: sample.MillisOf(from), Late: true}
	}
	p := Part{From: sample.MillisOf(from)}
	p.From = max(p.From, sample.MillisOf(turn))
	p.Size = sample.MillisOf(turn.Add(b.Size)) - p.From
	return p
}

// count adds the rows of a family.
func (f *Fold) count(set *sample.Set, scope bucket.Scope, committed sample.Millis, p Part) {
	fam := f.family(set.Family.Name, set.Family.Labels)
	for n := range set.Len() {
		f.key = appendKey(f.key[:0], scope, set.Zone, set.Account, set.Own(n))
		s := fam.series[string(f.key)]
		if s == nil {
			s = &Series{Scope: scope, Zone: set.Zone, Account: set.Account, Values: slices.Clone(set.Own(n)), key: string(f.key), began: committed}
			f.include(fam, s)
		}
		if s.retired(committed) {
			s.began, s.until, s.live, s.late, s.lateBegan, s.parts = committed, 0, 0, 0, 0, s.parts[:0]
		}
		if p.Late && s.lateBegan == 0 {
			s.lateBegan = committed
		}
		p.Amount = set.Value(n)
		s.until = max(s.until, p.end())
		s.parts = append(s.parts, p)
	}
}

// include adds a series.
func (f *Fold) include(fam *Family, s *Series) {
	fam.series[s.key] = s
	fam.fresh = append(fam.fresh, s)
	f.changes++
}

// Changes grows with each series that is added or forgotten.
func (f *Fold) Changes() uint64 { return f.changes }

// retired reports whether the sum has ended before a time.
func (s *Series) retired(t sample.Millis) bool {
	return s.until > 0 && t >= s.until+sample.Millis(Retire.Milliseconds())
}

// appendKey appends what tells the series of a family apart, in the order in which they are
// shown.
func appendKey(dst []byte, scope bucket.Scope, zone, account string, own []string) []byte {
	dst = append(append(dst, zone...), 0)
	dst = append(append(dst, account...), 0)
	for _, s := range own {
		dst = append(append(dst, s...), 0)
	}
	return append(dst, scope.ID...)
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
				delete(fam.series, s.key)
				f.changes++
				return true
			}
			s.settle(now)
			return false
		})
	}
}

// settle folds the first parts, as long as they are played out: sums are made in the order
// of revisions.
func (s *Series) settle(now sample.Millis) {
	n := 0
	for n < len(s.parts) && s.parts[n].end() <= now {
		p := &s.parts[n]
		if p.Late {
			s.late += p.Amount
		} else {
			s.live += p.Amount
		}
		n++
	}
	s.parts = slices.Delete(s.parts, 0, n)
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
		if p.Late {
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
		slices.SortFunc(fam.fresh, byKey)
		fam.sorted, fam.fresh = merge(fam.sorted, fam.fresh), nil
	}
	return fam.sorted
}

func byKey(a, b *Series) int { return strings.Compare(a.key, b.key) }

// merge inserts series, which are few beside those that are there. Both are sorted.
func merge(there, fresh []*Series) []*Series {
	all := slices.Grow(there, len(fresh))[:len(there)+len(fresh)]
	for i := len(fresh) - 1; i >= 0; i-- {
		at, _ := slices.BinarySearchFunc(there, fresh[i], byKey)
		copy(all[at+i+1:], there[at:])
		all[at+i] = fresh[i]
		there = there[:at]
	}
	return all
}
