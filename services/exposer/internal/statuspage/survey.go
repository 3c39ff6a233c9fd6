package statuspage

import (
	"cmp"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Survey is what is wrong in a range with all zones and accounts, also those that a page does
// not show.
type Survey struct {
	// At is when the collector answered; zero: it never has.
	At time.Time
	// Err is why there is no newer answer; nil: this is the newest.
	Err error
	// Found is the answer in short; nil before the first.
	Found *Found
}

// Found has the states of the windows of each series, without their ranges: some dozen bytes
// for a series.
type Found struct {
	r           Range
	now         time.Time
	definitions map[string]*bucketv1.DatasetVersion
	scopes      map[string]*bucketv1.ScopeInfo
	names       map[string]string  // of datasets: each is held once
	of          map[string][]found // by id of the scope
}

// found is what was found of a series.
type found struct {
	dataset string
	states  states
	absent  int32 // windows that are missing or lost
}

// states is a set of states.
type states uint16

func setOf(list ...State) (s states) {
	for _, one := range list {
		s |= 1 << slices.Index(worst, one)
	}
	return s
}

func (s states) has(other states) bool { return s&other != 0 }

var (
	attention = setOf(Unknown, Missing, Lost, Unreadable, Unserved)
	problem   = attention | setOf(Refused, Late)
	// shown are the states by which scopes are counted and chosen, in the order of the page.
	shown = []State{Missing, Lost, Unreadable, Unserved, Unknown, Refused, Late, Waiting, Accepted}
	// urgency is the order of scopes that are chosen by state, the worst first.
	urgency = []states{setOf(Missing, Lost), setOf(Unreadable, Unserved, Unknown), setOf(Refused), setOf(Late), setOf(Waiting), setOf(Accepted)}
)

// What counts and choices have besides states: scopes with any problem, and those without a
// window in one of the states that are counted.
const (
	showProblems = "problems"
	everything   = "all"
	noneOfThem   = "none"
)

// stateShows are the values of the parameter show that choose by state.
func stateShows() []string {
	out := []string{showProblems}
	for _, s := range shown {
		out = append(out, string(s))
	}
	return out
}

// ByState reports whether the query chooses scopes by the states of their windows.
func (q *Query) ByState() bool { return slices.Contains(stateShows(), q.Show) }

func (q *Query) states() states {
	if q.Show == showProblems {
		return problem
	}
	return setOf(State(q.Show))
}

// NewFound returns what is found of the scopes of an answer in a range, which is nothing yet.
func NewFound(a Answer, r Range, now time.Time) *Found {
	f := &Found{
		r: r, now: now, definitions: map[string]*bucketv1.DatasetVersion{}, scopes: map[string]*bucketv1.ScopeInfo{},
		names: map[string]string{}, of: map[string][]found{},
	}
	for _, d := range a.Datasets {
		f.definitions[d.GetDataset()] = d
	}
	for _, sc := range a.Scopes {
		f.scopes[sc.GetScope().GetId()] = sc
	}
	return f
}

// Add adds an answer about some of the scopes. It keeps nothing of the message.
func (f *Found) Add(m *bucketv1.GetCoverageResponse) {
	if at := instant(m.GetAsOf()); at != nil {
		f.now = *at
	}
	for _, c := range m.GetCoverages() {
		if sc := f.scopes[c.GetScope().GetId()]; sc != nil {
			f.add(sc, c.GetDataset(), c)
		}
	}
}

// End adds the series of which no answer said anything, and drops what is not needed any more.
func (f *Found) End() {
	for id, sc := range f.scopes {
		for _, e := range sc.GetEntitlements() {
			if !slices.ContainsFunc(f.of[id], func(one found) bool { return one.dataset == e.GetDataset() }) {
				f.add(sc, e.GetDataset(), nil)
			}
		}
	}
	f.definitions, f.scopes, f.names = nil, nil, nil
}

func (f *Found) add(sc *bucketv1.ScopeInfo, dataset string, c *bucketv1.Coverage) {
	name, known := f.names[dataset]
	if !known {
		name = dataset
		f.names[name] = name
	}
	a := ask(c, f.definitions[dataset], sc, f.r, f.now)
	one := found{dataset: name}
	for _, p := range a.pieces() {
		one.states |= setOf(p.State)
		if p.State == Missing || p.State == Lost {
			w := bucket.Window{Start: p.window.Start.Floor(a.size), End: p.window.End.Ceil(a.size)}
			one.absent += int32(min(1<<20, w.Len()/a.size))
		}
	}
	id := sc.GetScope().GetId()
	f.of[id] = append(f.of[id], one)
}

// in returns the states of the windows of a scope, and how many are missing or lost. A scope
// that was not known at the time of the survey is unknown.
func (f *Found) in(sc *bucketv1.ScopeInfo, dataset string) (s states, absent int) {
	list, known := f.of[sc.GetScope().GetId()]
	if !known && len(sc.GetEntitlements()) > 0 {
		return setOf(Unknown), 0
	}
	for _, one := range list {
		if dataset == "" || one.dataset == dataset {
			s |= one.states
			absent += int(one.absent)
		}
	}
	return s, absent
}

// ask is the question about one series: in a range, at a time.
func ask(c *bucketv1.Coverage, def *bucketv1.DatasetVersion, sc *bucketv1.ScopeInfo, r Range, asOf time.Time) asked {
	a := asked{
		cov: c, size: size(def), delay: delay(def), ended: bucket.Time(max(0, sc.GetEndUnixSeconds())),
		asOf: bucket.TimeOf(asOf), in: r.window(), mark: Unserved,
	}
	if r.Name == "replay" {
		a.mark = Late
	}
	if a.size == 0 { // what the collector says cannot be divided into windows
		a.cov, a.size = nil, time.Minute
	}
	return a
}

// judged is a scope with what the survey found.
type judged struct {
	*bucketv1.ScopeInfo

	states states
	absent int
}

func (j *judged) urgency() int {
	if i := slices.IndexFunc(urgency, j.states.has); i >= 0 {
		return i
	}
	return len(urgency)
}

// worstFirst orders by what is most urgent, and then by how much of it there is.
func worstFirst(x, y judged) int { return cmp.Or(x.urgency()-y.urgency(), y.absent-x.absent) }

// countScopes is the number of scopes by the states that they have: one with two states counts twice.
func countScopes(all []judged) map[string]int {
	out := map[string]int{everything: len(all), showProblems: 0, noneOfThem: 0}
	counted := setOf(shown...)
	for i := range all {
		has := all[i].states
		if has.has(problem) {
			out[showProblems]++
		}
		if !has.has(counted) {
			out[noneOfThem]++
		}
		for _, s := range shown {
			if has.has(setOf(s)) {
				out[string(s)]++
			}
		}
	}
	return out
}
