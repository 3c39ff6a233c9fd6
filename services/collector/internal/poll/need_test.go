package poll_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/upstream"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/trouble"
)

// many are zones of the plans in turn.
func many(n int, plans ...cfsim.Plan) func(*cfsim.Config) {
	return func(c *cfsim.Config) {
		one := c.Zones[1]
		c.Zones = nil
		for i := range n {
			one.Name, one.Plan = fmt.Sprintf("zone-%d.example", i), plans[i%len(plans)]
			one.ID = cfsim.Tag("zone:" + one.Name)
			c.Zones = append(c.Zones, one)
		}
	}
}

// give gives the loop a limiter of its own, as a fresh process has.
func (w *world) give(part float64) *expecting {
	w.t.Helper()
	limiter, err := quota.New(quota.Config{User: "u", Reserver: w.store, Clock: w.clock, Holder: "test", Share: part, Logger: w.config.Logger})
	if err != nil {
		w.t.Fatal(err)
	}
	heard := &expecting{Budget: limiter}
	w.config.Credentials[0].Budget = heard
	return heard
}

// expecting notes what a budget is told to expect.
type expecting struct {
	upstream.Budget
	need  float64
	times int
}

func (e *expecting) Expect(need float64) {
	e.need, e.times = need, e.times+1
	e.Budget.Expect(need)
}

// asked counts the requests to Cloudflare, audits apart.
func (w *world) asked() (n float64) {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "weir_collector_upstream_requests_total" && m.GetLabel()[0].GetValue() != "audit" {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}

// What the planner says in advance is what is sent once nothing is missing; and
// where that is less than the share nothing is late.
func TestNeedIsWhatIsSent(t *testing.T) {
	for _, story := range []struct {
		zones int
		plans []cfsim.Plan
		hours int
	}{
		{10, []cfsim.Plan{cfsim.Pro}, 6},
		{60, []cfsim.Plan{cfsim.Enterprise, cfsim.Business, cfsim.Pro, cfsim.Free}, 1},
		{300, []cfsim.Plan{cfsim.Pro}, 1},
	} {
		t.Run(fmt.Sprint(story.zones), func(t *testing.T) {
			if story.zones > 60 {
				testkit.InAll(t)
			}
			t.Parallel()
			w := newWorld(t, many(story.zones, story.plans...))
			w.config.Lookback = 15 * time.Minute
			heard := w.give(.5)
			w.run(61*time.Minute + 30*time.Second) // to the whole hour
			before := w.asked()
			w.run(time.Duration(story.hours) * time.Hour)
			sent := (w.asked() - before) / float64(story.hours*12)
			if heard.need < .85*sent || heard.need > 1.15*sent {
				t.Errorf("%.2f requests were sent in five minutes, %.2f were expected", sent, heard.need)
			}
			t.Logf("%.2f requests were sent in five minutes, %.2f were expected", sent, heard.need)
			if heard.times != 2 { // by each leader
				t.Errorf("the need was reckoned %d times, although nothing changed", heard.times)
			}
			late, worst := 0, time.Duration(0)
			for key, b := range w.stored() {
				if came := b.ReadAt.Sub(b.Window().End); key.Start > bucket.TimeOf(began.Add(15*time.Minute)) && came > 25*time.Minute {
					late, worst = late+1, max(worst, came)
				}
			}
			if late > 0 {
				t.Errorf("%d buckets were late, by up to %s", late, worst)
			}
		})
	}
}

// Thousand zones need more than half of the limit, and the operator is told so
// with what would help.
func TestAShortShareIsTold(t *testing.T) {
	w := newWorld(t, many(1000, cfsim.Pro))
	w.config.Lookback = 5 * time.Minute
	board := trouble.New(testkit.Logger(t), w.clock.Now, nil)
	w.config.Trouble = board
	told := &telling{board: board}
	w.config.Credentials[0].Budget = told
	told.expecting = w.give(.5)
	w.config.Credentials[0].Budget = told
	w.run(3 * time.Minute)
	if len(told.problems) != 1 || told.problems[0].Code != trouble.BudgetShort {
		t.Fatalf("problems %+v, want a share that is too small", told.problems)
	}
	for _, want := range []string{fmt.Sprintf("need %.0f requests", math.Ceil(told.need)), "is 150", "WEIR_BUDGET_SHARE=", "CF_BUCKET_SECONDS=", "leaving out http_5m", "CF_ZONES"} {
		if !strings.Contains(told.problems[0].Message, want) {
			t.Errorf("%q does not say %q", told.problems[0].Message, want)
		}
	}
	t.Log(told.problems[0].Message)
}

// telling is a budget that looks at the board when it is asked.
type telling struct {
	*expecting
	board    *trouble.Board
	problems []trouble.Problem
}

func (e *telling) Over() {
	if e.times > 0 {
		e.problems = e.board.List(true)
	}
	e.expecting.Over()
}

// Zones that need more than the share: all of it is used, and in no five minutes
// more is sent, also when a process dies with permits in hand (G7). Stream time
// goes on meanwhile.
func TestASaturatedShareIsUsedUp(t *testing.T) {
	for _, story := range []struct {
		zones int
		share float64
	}{{300, .1}, {1000, .5}} {
		t.Run(fmt.Sprintf("%.0f%%", 100*story.share), func(t *testing.T) {
			if story.zones > 300 {
				testkit.InAll(t)
			}
			t.Parallel()
			const each = 10 * time.Minute // whole spans: what is sent comes in bursts
			w := newWorld(t, many(story.zones, cfsim.Pro))
			w.config.Lookback = time.Hour
			seen := &streamWatch{Store: w.store, w: w}
			w.config.Store = seen
			w.stand(&between{query: func(cloudflare.Query) error {
				w.clock.Advance(300 * time.Millisecond)
				return nil
			}})
			w.give(story.share)
			w.run(each)
			before, from := w.sim.Counters().GraphQL, w.clock.Now()
			w.run(each)
			w.give(story.share) // the process is killed, another one goes on
			w.run(each)
			sent, limit := w.sim.Counters().GraphQL-before, 300*story.share
			if most := w.sim.Counters().PeakQueries; most > int(limit) {
				t.Errorf("%d requests in five minutes, the share is %.0f", most, limit)
			}
			used := float64(sent) / (limit * float64(w.clock.Now().Sub(from)) / float64(5*time.Minute))
			if used < .97 {
				t.Errorf("%.1f%% of the share was used, want at least 97%%", 100*used)
			}
			t.Logf("%.1f%% of the share was used", 100*used)
			if seen.lag > time.Minute {
				t.Errorf("stream time was %s old", seen.lag)
			}
		})
	}
}
