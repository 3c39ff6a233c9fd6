package recent

import (
	"cmp"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/sample"
)

const (
	// MaxDepth is the maximum number of samples of one series in one body:
	// from 33 on, Prometheus appends every repeated sample again.
	MaxDepth = carousel.Most
	// MaxNewest is the maximum number of newest windows of a dataset.
	MaxNewest = carousel.MostNewest
	// Floor is the number of newest windows per dataset that the soft limit never
	// removes: with only one, a single late scrape would lose a bucket for ever.
	Floor = 2
)

// Roles is the number of roles; [Index] orders them.
const Roles = 2

// Index is the array index of a role: totals 0, breakdowns 1. A role that this
// release does not know is treated as a breakdown, which is dropped first.
func Index(r bucket.Role) int {
	if r == bucket.Total {
		return 0
	}
	return 1
}

// Limits bound a choice.
type Limits struct {
	// MaxAge is the age at which a sample is no longer shown.
	MaxAge time.Duration
	// Soft and Hard are numbers of samples in a body.
	Soft, Hard int
	// Round is how often a round of pages is due; 0: as often as carousel.Schedule says.
	Round time.Duration
}

// Range is the part [From, To) of a dataset's windows.
type Range struct{ From, To int }

// Len is the number of windows in the range.
func (r Range) Len() int { return r.To - r.From }

func (r Range) has(i int) bool { return r.From <= i && i < r.To }

// Choice is the part of a state that a scrape shows.
type Choice struct {
	Datasets []Shown // those of the state, in its order
	// Samples is the number of samples chosen.
	Samples int
	// Expires is the first instant for which the choice is not valid; zero if
	// nothing is shown that could expire.
	Expires time.Time
	// Turn is the turn of the carousel that the choice was made in.
	Turn int64
	// Missing counts the datasets whose page in turn is not shown because its buckets
	// have not arrived yet.
	Missing int

	newest bool      // only the newest bucket of each scope
	chosen time.Time // at
}

// Shown is a dataset and the part of it that is shown.
type Shown struct {
	*Held
	// Serve is the part of the newest windows that is shown, per role.
	Serve [Roles]Range
	// Page is the part of older windows that is shown besides: of the page in turn.
	Page [Roles]Range
	// Trimmed counts the windows that the limits removed, per role. Some of them may
	// expire before the choice does.
	Trimmed [Roles]int

	old Range // windows that have the age and are not among the newest
}

// TooManyError means that even the smallest choice, [Floor] windows of each
// dataset, exceeds the hard limit.
type TooManyError struct{ Samples, Hard int }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("the smallest possible replay has %d samples and exceeds the hard limit of %d: disable datasets or lower their label limits "+
		"at the collector, or raise the limit here (WEIR_REPLAY_HARD_SAMPLES) and the memory of every Prometheus that scrapes", e.Samples, e.Hard)
}

// Valid reports whether the choice is still valid at now. It is not valid before it was
// made: a clock that was ahead has been set back.
func (c *Choice) Valid(now time.Time) bool {
	return !now.Before(c.chosen) && (c.Expires.IsZero() || now.Before(c.Expires))
}

// Choose decides what is shown at now. The only error is a *[TooManyError].
func (s *State) Choose(now time.Time, limits Limits) (*Choice, error) {
	c := s.choose(now, limits)
	for i := range c.Datasets {
		if d := &c.Datasets[i]; d.turn(c.Turn, Rounds{limits.MaxAge, limits.Round}) {
			c.Missing++
		}
	}
	if err := c.limit(s, limits); err != nil {
		return nil, err
	}
	return c, nil
}

// choose is the newest windows that have the age.
func (s *State) choose(now time.Time, limits Limits) *Choice {
	c := &Choice{Datasets: make([]Shown, len(s.Datasets)), Turn: carousel.TurnOf(now), chosen: now}
	for i := range s.Datasets {
		d := &s.Datasets[i]
		r := d.inAge(s.Store.Stamp, now, limits.MaxAge)
		aged, before := r.From, d.before(schedule(d.Definition, s.maxAge))
		for r.From < r.To && (d.slots[r.From].window.Start <= before || !young(d.slots[r.From].window, now)) {
			r.From++
		}
		old := Range{aged, r.From}
		c.Datasets[i] = Shown{Held: d, Serve: [Roles]Range{r, r}, old: old}
	}
	return c
}

// young reports whether a window may be shown for being new.
func young(w bucket.Window, now time.Time) bool {
	return w.Len() < carousel.Long || now.Sub(w.End.Std()) < carousel.Young
}

// turn adds what is shown of the page in turn, and reports whether that is missing.
func (d *Shown) turn(turn int64, of Rounds) (missing bool) {
	s := schedule(d.Definition, of.Age)
	page, shown := of.page(s, turn, d.Late)
	if !shown {
		return false
	}
	if !d.pages[page] {
		return true
	}
	r, windows := d.old, s.Windows(page)
	for r.From < r.To && d.slots[r.From].window.Start < windows.Start {
		r.From++
	}
	for r.From < r.To && d.slots[r.To-1].window.Start >= windows.End {
		r.To--
	}
	d.Page = [Roles]Range{r, r}
	return false
}

// limit applies the limits on samples to what is chosen.
func (c *Choice) limit(s *State, limits Limits) error {
	c.capSeries(s.families)
	for i := range c.Datasets {
		d := &c.Datasets[i]
		for role := range Roles {
			for j := range d.shown(role) {
				c.Samples += d.slots[j].samples[role]
			}
		}
	}
	page := func(d *Shown, role int) *Range { return &d.Page[role] }
	serve := func(d *Shown, role int) *Range { return &d.Serve[role] }
	c.trim(1, page, 0, limits.Soft)
	c.trim(0, page, 0, limits.Soft)
	c.trim(1, serve, Floor, limits.Soft)
	c.trim(0, serve, Floor, limits.Soft)
	if c.Samples > limits.Hard {
		return &TooManyError{Samples: c.Samples, Hard: limits.Hard}
	}
	c.expire(s, limits.MaxAge)
	return nil
}

// shown yields the windows that are shown of a role, ascending.
func (d *Shown) shown(role int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for _, r := range [...]Range{d.Page[role], d.Serve[role]} {
			for j := r.From; j < r.To; j++ {
				if !yield(j) {
					return
				}
			}
		}
	}
}

// Windows is the number of windows that are shown of a role.
func (d *Shown) Windows(role int) int { return d.Page[role].Len() + d.Serve[role].Len() }

// Oldest is the oldest window that is shown, if any is.
func (d *Shown) Oldest() (oldest bucket.Window, found bool) {
	for role := range Roles {
		for j := range d.shown(role) {
			if w := d.slots[j].window; !found || w.Start < oldest.Start {
				oldest, found = w, true
			}
			break
		}
	}
	return oldest, found
}

// Newest decides what is shown at now to a scrape that takes only the newest
// bucket of each series: those younger than [carousel.Young], or than the limits' age
// if that is lower. The only error is a *[TooManyError].
func (s *State) Newest(now time.Time, limits Limits) (*Choice, error) {
	limits.MaxAge, limits.Soft = min(limits.MaxAge, carousel.Young), math.MaxInt
	c := s.choose(now, limits)
	c.newest = true
	c.expire(s, limits.MaxAge)
	for i := range s.families {
		for column := range c.Columns(&s.families[i]) {
			c.Samples += column.Samples
		}
	}
	if c.Samples > limits.Hard {
		return nil, &TooManyError{Samples: c.Samples, Hard: limits.Hard}
	}
	return c, nil
}

// inAge returns the windows whose samples are younger than maxAge and not in the
// future: one sample ahead of Prometheus's clock makes samples of all its other
// targets "too old" earlier.
func (d *Held) inAge(stamp sample.Stamp, now time.Time, maxAge time.Duration) Range {
	oldest, newest := sample.MillisOf(now.Add(-maxAge)), sample.MillisOf(now)
	r := Range{To: len(d.slots)}
	for r.To > 0 && stamp.Of(d.slots[r.To-1].window) > newest {
		r.To--
	}
	for r.From < r.To && stamp.Of(d.slots[r.From].window) <= oldest {
		r.From++
	}
	return r
}

// trim drops the oldest windows of one role across all datasets, until the soft
// limit holds or the range of every dataset is at the floor.
func (c *Choice) trim(role int, of func(*Shown, int) *Range, floor, soft int) {
	if c.Samples <= soft {
		return
	}
	type candidate struct {
		end     bucket.Time
		dataset int
		samples int
	}
	var candidates []candidate
	for i := range c.Datasets {
		r := of(&c.Datasets[i], role)
		for j := r.From; j < r.To-floor; j++ {
			w := c.Datasets[i].slots[j]
			candidates = append(candidates, candidate{w.window.End, i, w.samples[role]})
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.dataset, b.dataset))
	})
	for _, w := range candidates {
		if c.Samples <= soft {
			return
		}
		d := &c.Datasets[w.dataset]
		of(d, role).From++
		c.Samples -= w.samples
		if w.samples > 0 {
			d.Trimmed[role]++
		}
	}
}

// expire sets the instant at which the choice changes without new entries: the
// oldest window shown passes the maximum age, a long one is no longer young, a window
// from the future becomes due, or it is another page's turn.
func (c *Choice) expire(s *State, maxAge time.Duration) {
	stamp := s.Store.Stamp
	sooner := func(t time.Time) {
		if c.Expires.IsZero() || t.Before(c.Expires) {
			c.Expires = t
		}
	}
	for i := range c.Datasets {
		d := &c.Datasets[i]
		if !c.newest && schedule(d.Definition, maxAge).Pages > 0 {
			sooner(carousel.Begins(c.Turn + 1))
		}
		if oldest, found := d.Oldest(); found {
			sooner(stamp.Of(oldest).Std().Add(maxAge))
		}
		for _, r := range d.Serve {
			if !c.newest && r.Len() > 0 && d.slots[r.From].window.Len() >= carousel.Long {
				sooner(d.slots[r.From].window.End.Std().Add(carousel.Young))
			}
			if r.To < len(d.slots) {
				sooner(stamp.Of(d.slots[r.To].window).Std())
			}
		}
	}
}
