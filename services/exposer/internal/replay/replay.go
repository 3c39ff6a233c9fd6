package replay

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
)

const (
	// MaxDepth is the most samples of one series in one body: Prometheus
	// re-appends every repeat from 33 on.
	MaxDepth = 30
	// Floor is the number of newest windows that the soft limit leaves of each
	// dataset: with one alone, a single late scrape would lose a bucket for ever.
	Floor = 2
	// NewestAge bounds "the newest bucket only". Without an out-of-order window
	// Prometheus takes samples up to 1 h behind its newest; 5 minutes are for
	// clocks and for scrapes on their way.
	NewestAge = 55 * time.Minute
)

// Roles is the number of roles; [Index] orders them.
const Roles = 2

// Index is a role's place in arrays: totals 0, breakdowns 1. A role that this
// release does not know is treated as a breakdown: it is dropped first.
func Index(r bucket.Role) int {
	if r == bucket.Total {
		return 0
	}
	return 1
}

// Window is what the choice needs to know of one window of a dataset.
type Window struct {
	bucket.Window
	Samples [Roles]int // over all scopes
}

// Dataset is one dataset with the windows that are held of it.
type Dataset struct {
	ID      string
	Depth   int             // of the newest definition
	Feeds   [Roles][]string // names of the families of each role that it may have samples of
	Windows []Window        // ascending, without overlap
}

// Limits bound a choice.
type Limits struct {
	// MaxAge is the age at which a sample is no longer served.
	MaxAge time.Duration
	// Soft and Hard are numbers of samples in a body.
	Soft, Hard int
}

// Range is the part [From, To) of a dataset's windows.
type Range struct{ From, To int }

// Len is the number of windows in the range.
func (r Range) Len() int { return r.To - r.From }

// Choice says what is served of each dataset, in the order of the input.
type Choice struct {
	// Serve is the part of Windows that is served, per role.
	Serve [][Roles]Range
	// Trimmed counts the windows that only the soft limit left out. Some of them
	// may expire before the choice does.
	Trimmed [][Roles]int
	// Samples is the number of samples chosen.
	Samples int
	// Expires is the first instant for which the choice is not valid; zero if
	// nothing is served that could expire.
	Expires time.Time
}

// TooManyError says that even the least choice, [Floor] windows of each
// dataset, exceeds the hard limit.
type TooManyError struct{ Samples, Hard int }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("the replay holds %d samples even at its least; the limit is %d: disable datasets or lower their label limits "+
		"at the collector, or raise the limit here and the memory of every Prometheus that scrapes", e.Samples, e.Hard)
}

// Choose decides what is served at now. The only error is a *[TooManyError].
func Choose(datasets []Dataset, stamp expo.Stamp, now time.Time, limits Limits) (Choice, error) {
	c := Choice{Serve: make([][Roles]Range, len(datasets)), Trimmed: make([][Roles]int, len(datasets))}
	for i := range datasets {
		r := inAge(datasets[i].Windows, stamp, now, limits.MaxAge)
		r.From = max(r.From, r.To-depth(datasets[i].Depth))
		c.Serve[i] = [Roles]Range{r, r}
	}
	capSeries(datasets, c.Serve)
	for i := range datasets {
		for role, r := range c.Serve[i] {
			for _, w := range datasets[i].Windows[r.From:r.To] {
				c.Samples += w.Samples[role]
			}
		}
	}
	for role := Roles - 1; role >= 0 && c.Samples > limits.Soft; role-- {
		c.trim(datasets, role, limits.Soft)
	}
	if c.Samples > limits.Hard {
		return Choice{}, &TooManyError{Samples: c.Samples, Hard: limits.Hard}
	}
	c.Expires = expiry(datasets, c.Serve, stamp, now, limits.MaxAge)
	return c, nil
}

// inAge is the part of the windows whose samples are younger than maxAge and
// not in the future: one sample ahead of Prometheus's clock moves the border of
// "too old" for all its other targets.
func inAge(windows []Window, stamp expo.Stamp, now time.Time, maxAge time.Duration) Range {
	oldest, newest := expo.MillisOf(now.Add(-maxAge)), expo.MillisOf(now)
	r := Range{To: len(windows)}
	for r.To > 0 && stamp.Of(windows[r.To-1].Window) > newest {
		r.To--
	}
	for r.From < r.To && stamp.Of(windows[r.From].Window) <= oldest {
		r.From++
	}
	return r
}

// capSeries holds families that several datasets feed to MaxDepth samples per
// series. That happens after a change of bucket size: old and new dataset
// carry the same series in different windows. Every family is judged by the
// ranges as they came, so that the order of families cannot matter.
func capSeries(datasets []Dataset, serve [][Roles]Range) {
	before := slices.Clone(serve)
	for role := range Roles {
		feeders := map[string][]int{}
		for i := range datasets {
			for _, family := range datasets[i].Feeds[role] {
				feeders[family] = append(feeders[family], i)
			}
		}
		for _, from := range feeders {
			if len(from) < 2 {
				continue
			}
			var starts []bucket.Time
			for _, i := range from {
				for _, w := range datasets[i].Windows[before[i][role].From:before[i][role].To] {
					starts = append(starts, w.Start)
				}
			}
			if len(starts) <= MaxDepth {
				continue
			}
			slices.Sort(starts)
			oldest := starts[len(starts)-MaxDepth]
			for _, i := range from {
				r := &serve[i][role]
				for r.From < r.To && datasets[i].Windows[r.From].Start < oldest {
					r.From++
				}
			}
		}
	}
}

// trim drops the oldest windows of one role, whichever dataset they are of,
// until the soft limit holds or every dataset is at the floor.
func (c *Choice) trim(datasets []Dataset, role, soft int) {
	type unit struct {
		end     bucket.Time
		dataset int
		samples int
	}
	var units []unit
	for i := range datasets {
		r := c.Serve[i][role]
		for j := r.From; j < r.To-Floor; j++ {
			w := datasets[i].Windows[j]
			units = append(units, unit{w.End, i, w.Samples[role]})
		}
	}
	slices.SortStableFunc(units, func(a, b unit) int {
		return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.dataset, b.dataset))
	})
	for _, u := range units {
		if c.Samples <= soft {
			return
		}
		c.Serve[u.dataset][role].From++
		c.Samples -= u.samples
		if u.samples > 0 {
			c.Trimmed[u.dataset][role]++
		}
	}
}

// expiry is when the choice changes by itself: the oldest window served
// passes the age bound, or one from the future becomes present.
func expiry(datasets []Dataset, serve [][Roles]Range, stamp expo.Stamp, now time.Time, maxAge time.Duration) time.Time {
	var first time.Time
	sooner := func(t time.Time) {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	for i := range datasets {
		for _, r := range serve[i] {
			if r.Len() > 0 {
				sooner(stamp.Of(datasets[i].Windows[r.From].Window).Std().Add(maxAge))
			}
			if r.To < len(datasets[i].Windows) {
				sooner(stamp.Of(datasets[i].Windows[r.To].Window).Std())
			}
		}
	}
	return first
}
