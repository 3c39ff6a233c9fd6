package plan

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

// Need is the number of requests per span that keep the wants complete once nothing is
// missing, including second readings and hourly requests. It is not a separate formula,
// which could diverge from the planner: it simulates an ordinary hour with the planner and
// the rules of package settle, and counts requests. Only the dataset, the scope and the
// limits of a want matter.
//
// Datasets with buckets above an hour need few requests and are left out, as are audits,
// which use spare budget. Of more than a few hundred scopes a sample is simulated, and the
// result is scaled.
func Need(wants []Want, pause, span time.Duration, c Ceilings) float64 {
	return Estimate(wants, pause, span, c, mostPlanned)
}

// Estimate is [Need] with a sample of at most so many zones and accounts: for comparisons of many
// selections, of which each would take a second.
func Estimate(wants []Want, pause, span time.Duration, c Ceilings, most int) (requests float64) {
	for _, kind := range []bucket.ScopeKind{bucket.Zone, bucket.Account} { // which share no requests
		some, part := sample(wants, kind, most)
		n := 0
		hour(some, pause, c, func(_ bucket.Time, _ *steady, p Plan) {
			for i := range p.Requests {
				n += p.Requests[i].Cost()
			}
		})
		requests += float64(n) / part
	}
	return requests * float64(span) / float64(time.Hour)
}

// hour simulates an ordinary hour, and calls pass for each plan.
func hour(wants []Want, pause time.Duration, c Ceilings, pass func(now bucket.Time, s *steady, p Plan)) {
	s := steady{of: map[series]*settling{}, pause: pause, c: c, wants: wants}
	// Any noon will do: at midnight the day's datasets fall due.
	now := bucket.TimeOf(time.Date(2026, 1, 7, 12, 0, 0, 0, time.UTC))
	for i := range s.wants {
		s.begin(&s.wants[i], now)
	}
	const settled = 15 * time.Minute // after which every hour is like the one before
	s.run(now, now.Add(settled), func(bucket.Time, *steady, Plan) {})
	s.run(now.Add(settled), now.Add(settled+time.Hour), pass)
}

// mostPlanned is the maximum number of simulated scopes: ten times as many would take
// seconds, and the loop waits for the result.
const mostPlanned = 300

// sample is what is wanted of at most so many scopes of a kind, picked evenly, and their share of all.
func sample(wants []Want, kind bucket.ScopeKind, most int) (some []Want, part float64) {
	all := map[bucket.Scope]bool{}
	for i := range wants {
		if wants[i].Scope.Kind == kind {
			all[wants[i].Scope] = true
		}
	}
	n := min(len(all), most)
	if n == 0 {
		return nil, 1
	}
	for i, sc := range slices.SortedFunc(maps.Keys(all), bucket.Scope.Compare) {
		all[sc] = i*n/len(all) != (i+1)*n/len(all)
	}
	for _, w := range wants {
		if w.Dataset.Size <= time.Hour && all[w.Scope] {
			some = append(some, w)
		}
	}
	return some, float64(n) / float64(len(all))
}

type series struct {
	dataset string
	scope   bucket.Scope
}

// settling is a want with the readings of its windows. Each has its own settle.Dataset: a
// shared one would also look for delays of the whole dataset, of which there are none here.
type settling struct {
	*Want
	rules *settle.Dataset
}

// steady simulates a collector without gaps, store and Cloudflare.
type steady struct {
	wants []Want
	of    map[series]*settling
	pause time.Duration
	c     Ceilings
}

// Again implements [State].
func (s *steady) Again(dataset string, sc bucket.Scope, start bucket.Time) bucket.Time {
	return s.of[series{dataset, sc}].rules.Again(sc, start)
}

// Read implements [State].
func (s *steady) Read(dataset string, sc bucket.Scope, start bucket.Time) bool {
	return s.of[series{dataset, sc}].rules.Read(sc, start)
}

// The simulated responses: a level that varies enough that a few windows need another
// reading, and a delay of the data.
const (
	usual  = 1000.
	swing  = .18
	behind = 140 * time.Second
)

// level is the final level of a window: the same in every run.
func level(d string, sc bucket.Scope, start bucket.Time) float64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s %d", d, sc.ID, start)
	r := rand.New(rand.NewPCG(h.Sum64(), 0)) // FNV alone is alike for what is alike
	return usual * (1 + swing*(2*r.Float64()-1))
}

func (s *steady) begin(w *Want, now bucket.Time) {
	d := w.Dataset
	rules := settle.New(settle.Policy{Size: d.Size, Confirm: d.Confirm, Deadline: d.Deadline, Distinct: d.Distinct()})
	due := Due(now, d.Size, d.Delay)
	w.Window, w.Have = bucket.Window{Start: due, End: due}, nil
	past := settle.Past{Keeps: w.Limits.NotOlderThan}
	for n := range 12 {
		start := due.Add(time.Duration(n-12) * d.Size)
		past.Recent = append(past.Recent, settle.Final{Start: start, Level: level(d.Dataset, w.Scope, start)})
	}
	rules.Restore(w.Scope, past)
	s.of[series{d.Dataset, w.Scope}] = &settling{w, rules}
}

// run simulates the loop until end.
func (s *steady) run(now, end bucket.Time, pass func(bucket.Time, *steady, Plan)) {
	for now < end {
		for i := range s.wants {
			w := &s.wants[i]
			w.Window.End = Due(now, w.Dataset.Size, w.Dataset.Delay)
			if w.Dataset.State {
				w.Window.Start = w.Window.End.Add(-w.Dataset.Size)
			}
		}
		p := Make(now, s.wants, s, s.c)
		pass(now, s, p)
		for _, r := range p.Requests {
			s.respond(now, r)
		}
		next := now.Add(s.pause)
		if len(p.Requests) > 0 {
			p = Make(now, s.wants, s, s.c)
		}
		if p.Next != 0 {
			next = min(next, p.Next)
		}
		now = max(next, now.Add(time.Second))
	}
}

// respond applies the simulated response to a request.
func (s *steady) respond(now bucket.Time, r Request) {
	of := map[string]map[bucket.Time]bool{} // windows, by dataset
	for _, sel := range r.Selections {
		d := sel.Dataset
		if of[d.Dataset] == nil {
			of[d.Dataset] = map[bucket.Time]bool{}
		}
		for start := sel.Window.Start; start < sel.Window.End; start = start.Add(d.Size) {
			of[d.Dataset][start] = true
		}
	}
	for id, windows := range of {
		starts := slices.Sorted(maps.Keys(windows))
		for _, sc := range r.Scopes {
			s.of[series{id, sc}].take(now, starts)
		}
	}
}

func (w *settling) take(now bucket.Time, starts []bucket.Time) {
	if w.Dataset.State {
		w.Have = w.Have.Add(w.Window)
		return
	}
	readings := make([]settle.Reading, len(starts))
	for i, start := range starts {
		readings[i] = w.reading(now, start)
	}
	w.rules.Note(now, map[bucket.Scope][]settle.Reading{w.Scope: readings})
	for _, v := range w.rules.Judge(now, w.Scope, readings, 0) {
		if v.Final != 0 {
			w.Have = w.Have.Add(bucket.Window{Start: v.Start, End: v.Start.Add(w.Dataset.Size)})
			w.rules.Stored(w.Scope, settle.Final{Start: v.Start, Level: level(w.Dataset.Dataset, w.Scope, v.Start)})
		}
	}
}

func (w *Want) reading(now, start bucket.Time) settle.Reading {
	window := bucket.Window{Start: start, End: start.Add(w.Dataset.Size)}
	filled := min(1, (now.Sub(start)-behind).Seconds()/w.Dataset.Size.Seconds())
	return settle.Reading{
		Start: start, Level: level(w.Dataset.Dataset, w.Scope, start) * max(0, filled), Empty: filled <= 0,
		Closed: start < w.Window.Start || window.End > w.Window.End || w.Have.Contains(window),
	}
}
