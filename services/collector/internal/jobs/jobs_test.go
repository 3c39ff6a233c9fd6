package jobs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// noon of 2026-11-21, when the jobs of these tests are created.
const noon = bucket.Time(1_795_262_400)

func dataset(id string, size time.Duration) *catalogue.Dataset {
	d := &catalogue.Dataset{Definition: bucket.Definition{Dataset: id, Size: size, Delay: 5 * time.Minute, Depth: 30, ScopeKind: bucket.Zone}, Name: "http"}
	d.Variants = []catalogue.Variant{{Name: "rollup", Node: "httpNode", Step: size, Rows: 1}}
	return d
}

func zone(i int) bucket.Scope { return bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i)} }

var hourly = dataset("http_1h", time.Hour)

// hours is a range in hours before noon.
func hours(from, until int) bucket.Window {
	return bucket.Window{Start: noon.Add(-time.Duration(from) * time.Hour), End: noon.Add(-time.Duration(until) * time.Hour)}
}

func series(change func(*Series)) Series {
	s := Series{Dataset: hourly, Scope: zone(1), Name: "shop.example", Variant: &hourly.Variants[0]}
	if change != nil {
		change(&s)
	}
	return s
}

func job(w bucket.Window) *Job {
	j := &Job{ID: "j", Selection: Selection{Window: w}, Datasets: []string{"http_1h"}, State: Running, Created: noon}
	j.Floor, j.Moved = w.Start, noon
	return j
}

// Each reason takes its windows, and the first that applies names them.
func TestSplit(t *testing.T) {
	const keeps = 12 * time.Hour
	for name, c := range map[string]struct {
		series Series
		now    bucket.Time
		want   Parts
	}{
		"all is wanted":        {series(nil), noon, Parts{Wanted: bucket.Spans{hours(24, 0)}}},
		"final is never asked": {series(func(s *Series) { s.Final = bucket.Spans{hours(30, 20), hours(4, 2)} }), noon, Parts{Final: bucket.Spans{hours(24, 20), hours(4, 2)}, Wanted: bucket.Spans{hours(20, 4), hours(2, 0)}}},
		"regular work keeps its windows": {series(func(s *Series) { s.Regular = bucket.Spans{hours(6, -5)} }), noon, Parts{
			Regular: bucket.Spans{hours(6, 0)}, Wanted: bucket.Spans{hours(24, 6)},
		}},
		"gone": {series(func(s *Series) { s.Gone = "the zone is gone"; s.Final = bucket.Spans{hours(2, 1)} }), noon, Parts{
			Final: bucket.Spans{hours(2, 1)}, Refused: refusals(NotCollected, "the zone is gone", false, hours(24, 2), hours(1, 0)),
		}},
		"ended": {series(func(s *Series) { s.End, s.Ended = noon.Add(-90*time.Minute), "the zone has been paused" }), noon, Parts{
			Wanted: bucket.Spans{hours(24, 2)}, Refused: refusals(NotCollected, "the zone has been paused", false, hours(2, 0)),
		}},
		"another size covers it": {series(func(s *Series) {
			s.Other = bucket.Spans{{Start: hours(10, 0).Start.Add(5 * time.Minute), End: hours(8, 0).Start.Add(5 * time.Minute)}}
		}), noon, Parts{
			Wanted: bucket.Spans{hours(24, 10), hours(7, 0)}, Refused: refusals(OtherSize, "the store has it at another bucket size of http", false, hours(10, 7)),
		}},
		"before the zone was created": {series(func(s *Series) { s.Created = noon.Add(-150 * time.Minute) }), noon, Parts{
			Wanted: bucket.Spans{hours(3, 0)}, Refused: refusals(BeforeCreation, "the zone was created at 2026-11-21T09:30:00Z", false, hours(24, 3)),
		}},
		"beyond the store's retention": {series(func(s *Series) { s.Keep = noon.Add(-150 * time.Minute) }), noon, Parts{
			Wanted: bucket.Spans{hours(2, 0)}, Refused: refusals(StoreRetention, beyondRetention, false, hours(24, 2)),
		}},
		"not entitled": {series(func(s *Series) { s.Variant, s.Refused = nil, "plan does not allow httpNode" }), noon, Parts{
			Refused: refusals(NotEntitled, "plan does not allow httpNode", false, hours(24, 0)),
		}},
		"settings unread: it waits":         {series(func(s *Series) { s.Variant, s.Waits = nil, true }), noon, Parts{Wanted: bucket.Spans{hours(24, 0)}}},
		"Cloudflare had dropped it already": {series(func(s *Series) { s.Limits.NotOlderThan = keeps }), noon, Parts{Wanted: bucket.Spans{hours(11, 0)}, Refused: refusals(CloudflareRetention, "Cloudflare keeps httpNode of the zone for 12 hours", false, hours(24, 11))}},
		"Cloudflare drops it meanwhile": {series(func(s *Series) { s.Limits.NotOlderThan = keeps; s.Final = bucket.Spans{hours(10, 9)} }), noon.Add(3 * time.Hour), Parts{
			Final: bucket.Spans{hours(10, 9)}, Wanted: bucket.Spans{hours(8, 0)},
			Refused: append(refusals(CloudflareRetention, "Cloudflare keeps httpNode of the zone for 12 hours", false, hours(24, 11)),
				refusals(CloudflareRetention, "Cloudflare keeps httpNode of the zone for 12 hours, and dropped it before it could be read", true, hours(11, 10), hours(9, 8))...),
		}},
		"given up": {series(func(s *Series) { s.Failed = []GivenUp{{Window: hours(5, 4), Detail: "too big"}} }), noon, Parts{
			Wanted: bucket.Spans{hours(24, 5), hours(4, 0)}, Refused: refusals(Failed, "too big", false, hours(5, 4)),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := c.series.Split(hours(24, 0), noon, c.now)
			if diff := cmp.Diff(c.want, got, emptyIsNil); diff != "" {
				t.Errorf("parts differ (-want +got):\n%s", diff)
			}
		})
	}
}

var emptyIsNil = cmp.Transformer("emptyIsNil", func(s bucket.Spans) []bucket.Window { return append([]bucket.Window(nil), s...) })

func refusals(reason Reason, detail string, lost bool, in ...bucket.Window) (out []Refusal) {
	for _, w := range in {
		out = append(out, Refusal{Dataset: "http_1h", Scope: zone(1), Name: "shop.example", Window: w, Reason: reason, Detail: detail, Lost: lost})
	}
	return out
}

// Whatever is known of a series, each window is in one part, and nothing final is wanted.
func TestEveryWindowIsInOnePart(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		some := func() bucket.Spans {
			var out bucket.Spans
			for range rng.IntN(4) {
				from := rng.IntN(30)
				out = out.Add(hours(from, from-1-rng.IntN(6)))
			}
			return out
		}
		s := series(func(s *Series) {
			s.Final, s.Regular, s.Other = some(), some(), some()
			if rng.IntN(2) == 0 {
				s.Keep = noon.Add(-time.Duration(rng.IntN(30)) * time.Hour)
			}
			if rng.IntN(2) == 0 {
				s.Limits.NotOlderThan = time.Duration(1+rng.IntN(30)) * time.Hour
			}
			if rng.IntN(2) == 0 {
				s.End = noon.Add(-time.Duration(rng.IntN(20)) * 37 * time.Minute)
			}
			if rng.IntN(2) == 0 {
				s.Created = noon.Add(-time.Duration(rng.IntN(40)) * 41 * time.Minute)
			}
		})
		p := s.Split(hours(24, 0), noon, noon.Add(time.Duration(rng.IntN(20))*time.Hour))
		var all bucket.Spans
		var sum time.Duration
		add := func(w bucket.Window) { all, sum = all.Add(w), sum+w.Len() }
		for _, part := range []bucket.Spans{p.Final, p.Regular, p.Wanted} {
			for _, w := range part {
				add(w)
			}
		}
		for _, r := range p.Refused {
			add(r.Window)
		}
		if sum != 24*time.Hour || !all.Contains(hours(24, 0)) {
			t.Fatalf("seed %d: the parts of a day have %s and are %v", seed, sum, all)
		}
		for _, w := range p.Wanted {
			if len(s.Final.Within(w))+len(s.Regular.Within(w))+len(s.Other.Within(w)) > 0 {
				t.Fatalf("seed %d: %s is wanted, though it is final, regular work's or another size's", seed, w)
			}
		}
	}
}

func TestStates(t *testing.T) {
	j := job(hours(24, 0))
	steps := []struct {
		what    string
		do      func() (bool, error)
		changed bool
		refused bool
		state   State
	}{
		{"resume a running one", func() (bool, error) { return j.Resume(noon + 1) }, false, false, Running},
		{"pause", j.Pause, true, false, Paused},
		{"pause again", j.Pause, false, false, Paused},
		{"resume", func() (bool, error) { return j.Resume(noon + 2) }, true, false, Running},
		{"cancel", func() (bool, error) { return j.Cancel(noon + 3) }, true, false, Cancelled},
		{"cancel again", func() (bool, error) { return j.Cancel(noon + 4) }, false, false, Cancelled},
		{"pause an ended one", j.Pause, false, true, Cancelled},
		{"resume an ended one", func() (bool, error) { return j.Resume(noon + 5) }, false, true, Cancelled},
	}
	for _, s := range steps {
		changed, err := s.do()
		if changed != s.changed || errors.As(err, new(*RefusedError)) != s.refused || j.State != s.state {
			t.Errorf("%s: changed %t, %v, %s; want %t, refused %t, %s", s.what, changed, err, j.State, s.changed, s.refused, s.state)
		}
	}
	if j.Ended != noon+3 || j.Moved != noon+2 {
		t.Errorf("ended at %d, moved at %d", j.Ended, j.Moved)
	}
	done := job(hours(24, 0))
	done.Finish(noon)
	if _, err := done.Cancel(noon); !errors.As(err, new(*RefusedError)) {
		t.Errorf("a job that is done can be cancelled: %v", err)
	}
}

// What is written is what is read; what cannot be read is reported, and takes nothing along.
func TestRecords(t *testing.T) {
	j := job(hours(48, 0))
	j.Selection.Zones, j.Over, j.Reason, j.Requester, j.Key = []string{"shop.example"}, []bucket.Scope{zone(1)}, "why", "ada", "k"
	j.Total, j.Present, j.Refused = 48, 3, refusals(StoreRetention, "old", false, hours(48, 40))
	j.Progress = Progress{Counts: Counts{Total: 48, Present: 3, Filled: 4, Missing: 41}, Requests: 7, Moved: noon, Floor: hours(48, 0).Start, Failed: []GivenUp{{Dataset: "http_1h", Scope: zone(1), Window: hours(9, 8), Detail: "no"}}}
	later := job(hours(24, 0))
	later.ID, later.Created = "later", noon+60
	r, l := j.Records(), later.Records()
	bad := func(value string) store.Record { return store.Record{Kind: Kind, Key: "bad", Value: []byte(value)} }
	records := []store.Record{r[0], l[0], bad(`{`), bad(`{"id":"other"}`), bad(`{"id":"bad","state":"asleep"}`), bad(`{"id":"bad","state":"running","created":1}`)}
	all, damaged := Read(records, []store.Record{r[1], {Kind: KindProgress, Key: "later", Value: []byte(`[]`)}})
	if len(all) != 2 || len(damaged[Kind]) != 4 || len(damaged[KindProgress]) != 1 {
		t.Fatalf("%d jobs and %d and %d damaged records, want 2, 4 and 1: %v", len(all), len(damaged[Kind]), len(damaged[KindProgress]), damaged)
	}
	if diff := cmp.Diff(j, all[1]); diff != "" {
		t.Errorf("read as (-want +got):\n%s", diff)
	}
	if got := all[0]; got.ID != "later" || got.Floor != later.Selection.Window.Start || got.Requests != 0 {
		t.Errorf("a job without readable progress is %+v", got)
	}
}

func TestForget(t *testing.T) {
	var all []*Job
	for i := range MaxEnded + 10 {
		j := job(hours(24, 0))
		if j.ID = fmt.Sprint(i); i%11 != 0 {
			j.Finish(noon)
		}
		all = append(all, j)
	}
	kept, deleted := Forget(all)
	open := len(Open(all))
	if len(Open(kept)) != open || len(kept) != min(len(all), MaxEnded+open) || len(deleted) != 2*(len(all)-len(kept)) {
		t.Errorf("%d of %d jobs are kept, %d of %d unfinished ones; %d records are deleted", len(kept), len(all), len(Open(kept)), open, len(deleted))
	}
}

// Windows that leave the store's retention count once, as what they were.
func TestAdvance(t *testing.T) {
	j := job(bucket.Window{Start: noon.Add(-60 * time.Hour), End: noon})
	s := series(func(s *Series) {
		s.Final = bucket.Spans{hours(60, 58), hours(20, 10)}
		s.Limits.NotOlderThan = 56 * time.Hour
	})
	now := noon.Add(2 * time.Hour) // one more window is lost
	keep := noon.Add(-30 * time.Hour)
	s.Keep = keep
	if !j.Advance(now, keep, []Series{s}) || j.Advance(now, keep, []Series{s}) {
		t.Fatal("the floor did not move once")
	}
	if want := keep.Floor(day); j.Floor != want {
		t.Fatalf("the floor is %s, want %s", j.Floor, want)
	}
	// 60 to 36 hours: 2 final, 3 dropped before, 2 lost, 17 left.
	if diff := cmp.Diff(Below{Final: 2, Refused: 3 + 17, Lost: 2}, j.Below); diff != "" {
		t.Errorf("below the floor (-want +got):\n%s", diff)
	}
	s.Final = bucket.Spans{hours(20, 10)} // the store dropped the rest
	w := Evaluate(j, now, []Series{s})
	if diff := cmp.Diff(Counts{Total: 59, Filled: 12, Missing: 19, Refused: 20 + 6, Lost: 2}, w.Count()); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	var listed time.Duration
	refused, _ := w.Refused()
	for _, r := range refused {
		listed += r.Window.Len()
	}
	if listed != 28*time.Hour {
		t.Errorf("%s are listed as refused or lost, want 28 hours: %v", listed, refused)
	}
}

func TestADatasetThatIsNotCollectedAnyMoreIsRefused(t *testing.T) {
	j := job(hours(24, 0))
	j.Datasets = append(j.Datasets, "gone_1h")
	j.Total = 48
	w := Evaluate(j, noon, []Series{series(nil)})
	if got := w.Count(); got.Refused != 25 || got.Missing != 23 || got.Total != 48 {
		t.Errorf("counts are %+v", got)
	}
	if refused, _ := w.Refused(); len(refused) != 1 || refused[0].Dataset != "gone_1h" || refused[0].Reason != NotCollected {
		t.Errorf("refused are %v", refused)
	}
}

// pick is ready for some series and windows.
type pick struct {
	not    map[bucket.Scope]bool
	before bucket.Time // windows from here on wait; 0: none
}

func (p pick) Series(s *Series) bool { return !p.not[s.Scope] }

func (p pick) Window(_ *Series, start bucket.Time) bool { return p.before == 0 || start < p.before }

func TestPage(t *testing.T) {
	daysOf := func(wants []plan.Want) (out []string) {
		for _, w := range wants {
			out = append(out, fmt.Sprintf("%s %s %v", w.Scope.ID[31:], w.Window.Start.Std().Format("02"), int(w.Window.Len()/day)))
		}
		return out
	}
	month := bucket.Window{Start: noon.Floor(day).Add(-30 * day), End: noon.Floor(day)}
	build := func(change func(i int, s *Series)) *Work {
		var all []Series
		for i := 1; i <= 3; i++ {
			all = append(all, series(func(s *Series) {
				s.Scope = zone(i)
				if change != nil {
					change(i, s)
				}
			}))
		}
		return Evaluate(job(month), noon, all)
	}
	for name, c := range map[string]struct {
		work  *Work
		ready Ready
		want  []string
	}{
		"newest days that fit":                {build(nil), pick{}, []string{"1 05 16", "2 05 16", "3 05 16"}},
		"without a series that waits":         {build(nil), pick{not: map[bucket.Scope]bool{zone(2): true}}, []string{"1 27 25", "3 27 25"}},
		"past windows that wait":              {build(nil), pick{before: month.End.Add(-2 * day)}, []string{"1 03 16", "2 03 16", "3 03 16"}},
		"what is final is no reason to look":  {build(func(i int, s *Series) { s.Final = bucket.Spans{{Start: month.End.Add(-10 * day), End: month.End}} }), pick{}, []string{"1 26 16", "2 26 16", "3 26 16"}},
		"what Cloudflare drops soon is first": {build(func(i int, s *Series) { s.Limits.NotOlderThan = noon.Sub(month.Start) - day + time.Hour }), pick{}, []string{"1 23 1", "2 23 1", "3 23 1"}},
		"nothing is ready":                    {build(nil), pick{before: 1}, nil},
		"a scope without the newest day waits": {build(func(i int, s *Series) {
			s.Final = bucket.Spans{{Start: month.End.Add(-time.Duration(i) * day), End: month.End}}
		}), pick{}, []string{"1 22 29"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, daysOf(c.work.Page(c.ready))); diff != "" {
				t.Errorf("page (-want +got):\n%s", diff)
			}
		})
	}
}

// Requests are what the pages make, and use up the work.
func TestRequests(t *testing.T) {
	five := dataset("http_5m", 5*time.Minute)
	month := bucket.Window{Start: noon.Floor(day).Add(-30 * day), End: noon.Floor(day)}
	j := job(month)
	j.Datasets = []string{"http_5m", "http_1h"}
	var all []Series
	for i := range 25 {
		for _, d := range []*catalogue.Dataset{five, hourly} {
			all = append(all, Series{Dataset: d, Scope: zone(i), Variant: &d.Variants[0]})
		}
	}
	w := Evaluate(j, noon, all)
	// 30 days of two datasets are 60 selections, of which five fit for ten zones, and ten
	// for the other five.
	got := w.Requests()[0]
	if got < 2*12+6 || got > 2*15+15 {
		t.Errorf("25 zones, 2 datasets and 30 days take %d requests", got)
	}
	if rest := w.Page(pick{}); rest != nil {
		t.Errorf("%d wants are left", len(rest))
	}
	if n := Evaluate(j, noon, all).Rows(func(of ledger.Series) float64 { return map[string]float64{"http_5m": 3, "http_1h": 10}[of.Dataset] }); n != 25*30*(288*3+24*10) {
		t.Errorf("%d rows", n)
	}
}

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		requests, most int
		want           time.Duration
	}{{0, 10, 0}, {1, 10, time.Second}, {10, 10, 10 * time.Second}, {11, 10, 5*time.Minute + time.Second}, {25, 10, 10*time.Minute + 5*time.Second}, {3, 0, 10*time.Minute + time.Second}} {
		if got := Duration(c.requests, c.most, 5*time.Minute); got != c.want {
			t.Errorf("%d requests with %d in five minutes take %s, want %s", c.requests, c.most, got, c.want)
		}
	}
}
