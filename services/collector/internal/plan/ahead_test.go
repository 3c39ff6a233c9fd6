package plan_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// A catch-up that is planned in steps asks for the most urgent windows of each group first, for all of
// them in the end, and takes hardly more requests than one that is planned at once.
func TestACatchUpInSteps(t *testing.T) {
	wants := missing(offer(t, catalogue.DefaultProfile).zones(80, mixed), noon)
	for i := range wants {
		wants[i].Group = i % 80 / 60 // a quarter of the zones
	}
	atOnce := len(plan.Make(noon, wants, state{}, plan.DefaultCeilings).Requests)
	c := plan.DefaultCeilings
	c.Ahead = 10
	sent, steps := 0, 0
	for ; steps < atOnce; steps++ {
		p := plan.Make(noon, wants, state{}, c)
		if len(p.Requests) == 0 {
			break
		}
		asked := map[bucket.Scope]map[string]bucket.Spans{}
		group := map[int]int{}
		for i := range wants {
			asked[wants[i].Scope] = map[string]bucket.Spans{}
		}
		for _, r := range p.Requests {
			for _, sc := range r.Scopes {
				for _, s := range r.Selections {
					asked[sc][s.Dataset.Dataset] = asked[sc][s.Dataset.Dataset].Add(s.Window)
				}
			}
		}
		for i := range wants {
			w := &wants[i]
			lacks := bucket.Spans{w.Window}
			for _, have := range w.Have {
				lacks = lacks.Remove(have)
			}
			for _, span := range lacks {
				for _, got := range asked[w.Scope][w.Dataset.Dataset].Within(span) {
					group[w.Group] += int(got.Len() / w.Dataset.Size)
					w.Have = w.Have.Add(got)
				}
			}
		}
		for of := range 2 {
			lacks := false
			for i := range wants {
				lacks = lacks || wants[i].Group == of && !wants[i].Have.Contains(wants[i].Window)
			}
			if lacks && group[of] == 0 {
				t.Errorf("step %d asks nothing of group %d, which lacks windows", steps, of)
			}
		}
		sent += len(p.Requests)
	}
	for _, w := range wants {
		if !w.Have.Contains(w.Window) {
			t.Fatalf("%s of %s lacks windows after %d steps: it has %v", w.Dataset.Dataset, w.Scope, steps, w.Have)
		}
	}
	t.Logf("%d requests in %d steps, %d at once", sent, steps, atOnce)
	if steps < 5 || float64(sent) > 1.15*float64(atOnce) {
		t.Errorf("%d requests in %d steps, want about the %d that are planned at once", sent, steps, atOnce)
	}
}

// What is planned ahead is what ranks first, however much there is besides: what Cloudflare drops soon, then
// the newest.
func TestWhatIsPlannedAheadIsTheMostUrgent(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	var wants []plan.Want
	for i := range 40 {
		w := want(http, zone(i), now, 48*time.Hour)
		w.Have = nil
		w.Variant = &http.Variants[1]
		if i == 39 {
			w.Limits.NotOlderThan = 48 * time.Hour
		}
		wants = append(wants, w)
	}
	c := plan.DefaultCeilings
	c.Ahead = 1
	for _, r := range plan.Make(now, wants, state{}, c).Requests {
		if r.Lane != plan.Repair {
			continue
		}
		if len(r.Scopes) != 1 || r.Scopes[0] != zone(39) || r.Selections[0].Window.Start != wants[39].Window.Start {
			t.Errorf("planned ahead is %v of %v; the day that leaves is of %v", r.Selections[0].Window, r.Scopes, zone(39))
		}
		return
	}
	t.Error("nothing is planned ahead")
}
