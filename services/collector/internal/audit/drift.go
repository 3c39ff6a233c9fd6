package audit

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Drift is what is known of one dataset: how its windows settled, and how far
// they moved after they were final. It is bounded, and stored as a record.
type Drift struct {
	Dataset string `json:"dataset"`
	Delay   int64  `json:"delay"` // seconds; the figures are of this delay
	// Periods are the present one and the one before, newest first.
	Periods []Period `json:"periods"`
}

// Period holds figures from a time on.
type Period struct {
	Since   bucket.Time        `json:"since"`
	Settled Settled            `json:"settled"`
	Audits  map[string]*Audits `json:"audits,omitempty"` // by age
	Worst   []Movement         `json:"worst,omitempty"`  // largest ratio first
}

// Settled counts windows by the age at which they had their final value.
type Settled struct {
	// At has the windows by age in seconds: the delay itself for those whose
	// first reading was right, else the age of the first right reading, rounded up.
	At map[int64]uint64 `json:"at,omitempty"`
	// Never is the number whose readings still differed at the deadline.
	Never uint64 `json:"never,omitempty"`
	// Suspect windows show how late Cloudflare was, not how long settling
	// takes: they are in none of the figures above.
	Suspect uint64 `json:"suspect,omitempty"`
}

// Audits counts what audits at one age found.
type Audits struct {
	Results  map[Result]uint64   `json:"results"`
	Families map[string]*Figures `json:"families,omitempty"`
}

// Figures are how far one family moved in the audits that could compare it.
type Figures struct {
	Buckets uint64  `json:"buckets"` // that were compared
	Moved   uint64  `json:"moved"`
	Stored  float64 `json:"stored"` // sum over all that were compared
	Up      float64 `json:"up"`
	Down    float64 `json:"down"`
	Largest float64 `json:"largest"` // ratio
}

// Movement is one bucket that moved, by the family that moved most.
type Movement struct {
	Scope  bucket.Scope `json:"scope"`
	Zone   string       `json:"zone"` // its label at the time
	Start  bucket.Time  `json:"start"`
	Age    string       `json:"age"`
	Family string       `json:"family"`
	Stored float64      `json:"stored"`
	Later  float64      `json:"later"`
	Ratio  float64      `json:"ratio"`
	ReadAt bucket.Time  `json:"read_at"` // of the later reading
}

// NewDrift begins with nothing known.
func NewDrift(dataset string) *Drift { return &Drift{Dataset: dataset} }

// now returns the period that now belongs to. Figures of another delay say
// nothing about this one and are dropped.
func (d *Drift) now(at bucket.Time, delay time.Duration) *Period {
	seconds := int64(delay / time.Second)
	switch {
	case d.Delay != seconds || len(d.Periods) == 0:
		d.Delay, d.Periods = seconds, []Period{{Since: at}}
	case at.Sub(d.Periods[0].Since) >= period:
		d.Periods = []Period{{Since: at}, d.Periods[0]}
	}
	return &d.Periods[0]
}

// Window is how a window became final.
type Window struct {
	End     bucket.Time
	First   bucket.Time // first reading
	Since   bucket.Time // first reading that had the final value
	Equal   int         // readings in a row that had it
	Ground  bucket.Finality
	Sampled bool // Cloudflare sampled the data
}

// punctual is how long after falling due a first reading is still evidence about the delay.
const punctual = 30 * time.Second

// Settled records how a window became final at a time. Windows that were first read late, were
// final at once or are sampled are no evidence; for them it returns false and changes nothing.
func (d *Drift) Settled(at bucket.Time, delay time.Duration, w Window) bool {
	if w.Sampled || w.First.Sub(w.End) > delay+punctual || w.Ground == bucket.Confirmed && w.Equal < 2 {
		return false
	}
	s := &d.now(at, delay).Settled
	switch w.Ground {
	case bucket.SuspectConfirmed:
		s.Suspect++
		return true
	case bucket.Deadline:
		s.Never++
		return true
	}
	age := int64(delay / time.Second)
	if w.Since > w.First {
		age = roundUp(w.Since.Sub(w.End))
	}
	if s.At == nil {
		s.At = map[int64]uint64{}
	}
	s.At[age]++
	return true
}

// roundUp bounds how many different ages there are.
func roundUp(age time.Duration) int64 {
	step := 15 * time.Second
	switch {
	case age > 2*time.Hour:
		step = time.Hour
	case age > 15*time.Minute:
		step = time.Minute
	}
	return int64((age + step - 1).Truncate(step) / time.Second)
}

// Audited is one bucket that was read again.
type Audited struct {
	Check
	Scope   bucket.Scope
	Zone    string // label
	ReadAt  bucket.Time
	Result  Result
	Changes []Change
}

// Ratio is that of the family that moved most.
func (a *Audited) Ratio() float64 { return a.worst().Ratio() }

func (a *Audited) worst() Change {
	if len(a.Changes) == 0 {
		return Change{}
	}
	return slices.MaxFunc(a.Changes, func(x, y Change) int {
		switch rx, ry := x.Ratio(), y.Ratio(); {
		case rx < ry:
			return -1
		case rx > ry:
			return 1
		}
		return 0
	})
}

// Audited records the result of an audit.
func (d *Drift) Audited(at bucket.Time, delay time.Duration, a Audited) {
	p := d.now(at, delay)
	of := p.audits(a.Age.Name)
	of.Results[a.Result]++
	for _, c := range a.Changes {
		f := of.Families[c.Family]
		if f == nil {
			f = &Figures{}
			of.Families[c.Family] = f
		}
		f.add(c)
	}
	if a.Result != Moved {
		return
	}
	c := a.worst()
	p.Worst = worst(append(p.Worst, Movement{
		Scope: a.Scope, Zone: a.Zone, Start: a.Start, Age: a.Age.Name, Family: c.Family,
		Stored: c.Stored, Later: c.Later, Ratio: c.Ratio(), ReadAt: a.ReadAt,
	}))
}

func (f *Figures) add(c Change) {
	f.Buckets++
	if c.Up != 0 || c.Down != 0 {
		f.Moved++
	}
	f.Stored, f.Up, f.Down, f.Largest = f.Stored+c.Stored, f.Up+c.Up, f.Down+c.Down, math.Max(f.Largest, c.Ratio())
}

// audits are those at an age, made if there are none yet.
func (p *Period) audits(age string) *Audits {
	if p.Audits == nil {
		p.Audits = map[string]*Audits{}
	}
	a := p.Audits[age]
	if a == nil {
		a = &Audits{}
		p.Audits[age] = a
	}
	if a.Results == nil {
		a.Results = map[Result]uint64{}
	}
	if a.Families == nil { // as a record without families comes back
		a.Families = map[string]*Figures{}
	}
	return a
}

// worst keeps the largest movements, of equal ones the oldest.
func worst(all []Movement) []Movement {
	slices.SortStableFunc(all, func(a, b Movement) int {
		switch {
		case a.Ratio > b.Ratio:
			return -1
		case a.Ratio < b.Ratio:
			return 1
		}
		return 0
	})
	return all[:min(len(all), keepWorst)]
}

// Record encodes the figures for the store.
func (d *Drift) Record() store.Record { return record(KindDrift, d.Dataset, d) }

// ReadDrifts decodes the records of kind [KindDrift], by dataset. Of those that
// cannot be read the figures begin anew.
func ReadDrifts(records []store.Record) (out map[string]*Drift, unreadable []store.Unreadable) {
	out = make(map[string]*Drift, len(records))
	for _, r := range records {
		d := new(Drift)
		err := json.Unmarshal(r.Value, d)
		if err == nil && d.Dataset != r.Key {
			err = fmt.Errorf("it is of dataset %q", d.Dataset)
		}
		if err != nil {
			unreadable = append(unreadable, store.Unreadable{Record: r, Err: err})
			continue
		}
		out[r.Key] = d
	}
	return out, unreadable
}
