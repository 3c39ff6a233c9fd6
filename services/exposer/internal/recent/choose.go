package recent

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
)

const (
	// MaxDepth is the maximum number of samples of one series in one body:
	// from 33 on, Prometheus appends every repeated sample again.
	MaxDepth = 30
	// Floor is the number of newest windows per dataset that the soft limit never
	// removes: with only one, a single late scrape would lose a bucket for ever.
	Floor = 2
	// NewestAge is the maximum age of a sample in "the newest bucket only".
	// Without an out-of-order window Prometheus accepts samples up to 1 h behind
	// its newest; 5 minutes allow for clock skew and scrape duration.
	NewestAge = 55 * time.Minute
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
}

// Range is the part [From, To) of a dataset's windows.
type Range struct{ From, To int }

// Len is the number of windows in the range.
func (r Range) Len() int { return r.To - r.From }

// Choice is the part of a state that a scrape shows.
type Choice struct {
	Datasets []Shown // those of the state, in its order
	// Samples is the number of samples chosen.
	Samples int
	// Expires is the first instant for which the choice is not valid; zero if
	// nothing is shown that could expire.
	Expires time.Time

	newest bool // only the newest bucket of each scope
}

// Shown is a dataset and the part of it that is shown.
type Shown struct {
	*Held
	// Serve is the part of the windows that is shown, per role.
	Serve [Roles]Range
	// Trimmed counts the windows that the soft limit removed, per role. Some of
	// them may expire before the choice does.
	Trimmed [Roles]int
}

// TooManyError means that even the smallest choice, [Floor] windows of each
// dataset, exceeds the hard limit.
type TooManyError struct{ Samples, Hard int }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("the smallest possible replay has %d samples and exceeds the hard limit of %d: disable datasets or lower their label limits "+
		"at the collector, or raise the limit here (WEIR_REPLAY_HARD_SAMPLES) and the memory of every Prometheus that scrapes", e.Samples, e.Hard)
}

// Valid reports whether the choice is still valid at now.
func (c *Choice) Valid(now time.Time) bool { return c.Expires.IsZero() || now.Before(c.Expires) }

// Choose decides what is shown at now. The only error is a *[TooManyError].
func (s *State) Choose(now time.Time, limits Limits) (*Choice, error) {
	c := &Choice{Datasets: make([]Shown, len(s.Datasets))}
	for i := range s.Datasets {
		d := &s.Datasets[i]
		r := d.inAge(s.Store.Stamp, now, limits.MaxAge)
		r.From = max(r.From, r.To-depth(d.Definition))
		c.Datasets[i] = Shown{Held: d, Serve: [Roles]Range{r, r}}
	}
	c.capSeries(s.families)
	for i := range c.Datasets {
		d := &c.Datasets[i]
		for role, r := range d.Serve {
			for _, w := range d.slots[r.From:r.To] {
				c.Samples += w.samples[role]
			}
		}
	}
	for role := Roles - 1; role >= 0 && c.Samples > limits.Soft; role-- {
		c.trim(role, limits.Soft)
	}
	if c.Samples > limits.Hard {
		return nil, &TooManyError{Samples: c.Samples, Hard: limits.Hard}
	}
	c.expire(s.Store.Stamp, limits.MaxAge)
	return c, nil
}

// Newest decides what is shown at now to a scrape that takes only the newest
// bucket of each series: those younger than [NewestAge], or than the limits' age
// if that is lower. The only error is a *[TooManyError].
func (s *State) Newest(now time.Time, limits Limits) (*Choice, error) {
	c, err := s.Choose(now, Limits{MaxAge: min(limits.MaxAge, NewestAge), Soft: math.MaxInt, Hard: math.MaxInt})
	if err != nil {
		return nil, err
	}
	c.newest, c.Samples = true, 0
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
// limit holds or every dataset is at the floor.
func (c *Choice) trim(role, soft int) {
	type candidate struct {
		end     bucket.Time
		dataset int
		samples int
	}
	var candidates []candidate
	for i := range c.Datasets {
		r := c.Datasets[i].Serve[role]
		for j := r.From; j < r.To-Floor; j++ {
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
		d.Serve[role].From++
		c.Samples -= w.samples
		if w.samples > 0 {
			d.Trimmed[role]++
		}
	}
}

// expire sets the instant at which the choice changes without new entries: the
// oldest window shown passes the maximum age, or a window from the future becomes
// due.
func (c *Choice) expire(stamp sample.Stamp, maxAge time.Duration) {
	sooner := func(t time.Time) {
		if c.Expires.IsZero() || t.Before(c.Expires) {
			c.Expires = t
		}
	}
	for i := range c.Datasets {
		d := &c.Datasets[i]
		for _, r := range d.Serve {
			if r.Len() > 0 {
				sooner(stamp.Of(d.slots[r.From].window).Std().Add(maxAge))
			}
			if r.To < len(d.slots) {
				sooner(stamp.Of(d.slots[r.To].window).Std())
			}
		}
	}
}
