package chaos

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// tally is what one or several runs amounted to.
type tally struct {
	mu sync.Mutex // joins come from parallel tests

	runs, violated  int
	virtual         time.Duration
	faults          map[string]int // by kind: of the schedule, and of the simulator as they happened
	entries         int            // that the recorder was sent
	streams         int
	buckets, values int // compared with the truth
	ofAccounts      int // of these buckets
	held            int // samples in the TSDB at the end
	scrapes, failed int
	scraped         int                        // samples of all scrapes
	missing         int                        // scrapes that lacked a page in turn
	estimates       int                        // of the buckets, those that Cloudflare sampled
	looks           int                        // at coverage and problems
	counterPages    int                        // of counters
	counterValues   int                        // on them, compared with the log
	counterRefused  int                        // answers that there are no counters now
	mutated         int                        // of the buckets, those that may be made of mutated values
	heard           map[string][]time.Duration // by signal of a staged fault, after how long
	requests        int                        // to Cloudflare
	asked           map[string]int             // by operators, by kind and outcome
	filled          uint64                     // windows, by backfills
	restated        int                        // buckets that were listed as restated
	peak            float64                    // most requests in five minutes, as a part of the share
}

func newTally() *tally {
	return &tally{faults: map[string]int{}, heard: map[string][]time.Duration{}, asked: map[string]int{}}
}

// request takes what became of an operator's request.
func (t *tally) request(call string, is outcome) { t.asked[fmt.Sprintf("%s, %s", call, is)]++ }

// hear takes after how long a signal of a staged fault was heard.
func (t *tally) hear(what string, after time.Duration) { t.heard[what] = append(t.heard[what], after) }

// add takes in the end of a world.
func (t *tally) add(w *world) {
	t.runs++
	if len(w.violations) > 0 {
		t.violated++
	}
	t.virtual += w.Faulty + w.Calm
	for _, e := range w.Events {
		switch e.Kind {
		case api, operate:
		case badToken:
			whose := ""
			if e.Credential != "" {
				whose = " of one credential"
			}
			t.faults[fmt.Sprintf("%s%s: %s", e.Kind, whose, e.Becomes)]++
		default:
			t.faults[string(e.Kind)]++
		}
	}
	for _, f := range w.sim.Faults() {
		if f.Fired > 0 {
			of := ""
			if f.Token != "" {
				of = " for one credential"
			}
			t.faults["cloudflare "+string(f.Kind)+of]++
			t.faults["cloudflare, answers spoilt"] += f.Fired
		}
	}
	t.entries, t.streams = w.record.entries, w.record.streams
	t.counterPages, t.counterValues, t.counterRefused = w.counters.pages, w.counters.values, w.counters.refused
	t.scrapes, t.failed, t.scraped, t.missing = w.prometheus.scrapes, w.prometheus.failed+w.prometheus.unready, w.prometheus.samples, w.prometheus.missing
	c := w.sim.Counters()
	t.faults["cloudflare, queries over the budget"] += c.Outcomes["budget"]
	t.faults["cloudflare, other calls over the limit"] += c.Outcomes["limited"]
	t.requests, t.peak = c.GraphQL+c.REST, float64(c.PeakQueries)/float64(int(300*w.Share))
}

// join takes in another tally.
func (t *tally) join(o *tally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs, t.violated, t.virtual = t.runs+o.runs, t.violated+o.violated, t.virtual+o.virtual
	for k, n := range o.faults {
		t.faults[k] += n
	}
	t.entries, t.streams, t.buckets, t.values, t.held = t.entries+o.entries, t.streams+o.streams, t.buckets+o.buckets, t.values+o.values, t.held+o.held
	t.counterPages, t.counterValues, t.counterRefused = t.counterPages+o.counterPages, t.counterValues+o.counterValues, t.counterRefused+o.counterRefused
	t.scrapes, t.failed, t.scraped, t.missing = t.scrapes+o.scrapes, t.failed+o.failed, t.scraped+o.scraped, t.missing+o.missing
	t.looks, t.estimates, t.mutated = t.looks+o.looks, t.estimates+o.estimates, t.mutated+o.mutated
	for what, n := range o.asked {
		t.asked[what] += n
	}
	t.filled, t.restated = t.filled+o.filled, t.restated+o.restated
	for code, after := range o.heard {
		t.heard[code] = append(t.heard[code], after...)
	}
	t.requests, t.peak, t.ofAccounts = t.requests+o.requests, max(t.peak, o.peak), t.ofAccounts+o.ofAccounts
}

// print writes the table.
func (t *tally) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(w, "%s\t%v\n", name, value) }
	row("runs", t.runs)
	row("runs with violations", t.violated)
	row("virtual hours", int(t.virtual.Hours()))
	row("buckets compared with the truth", t.buckets)
	row("of them estimates, compared with what a sample can be", t.estimates)
	row("of them of accounts", t.ofAccounts)
	row("values in them", t.values)
	row("samples held by Prometheus, compared", t.held)
	row("scrapes", t.scrapes)
	row("scrapes without an answer", t.failed)
	row("scrapes that lacked a page in turn", t.missing)
	row("samples scraped", t.scraped)
	row("coverages and states checked", t.looks)
	row("pages of counters", t.counterPages)
	row("pages of counters refused", t.counterRefused)
	row("counters compared with the log", t.counterValues)
	row("buckets read while values were mutated, not compared", t.mutated)
	row("log entries recorded by a follower", t.entries)
	row("streams that it needed", t.streams)
	row("requests to Cloudflare", t.requests)
	row("most of them in five minutes, of the share", fmt.Sprintf("%.0f%%", 100*t.peak))
	row("windows filled by backfills", t.filled)
	row("restated buckets in lists", t.restated)
	for _, what := range slices.Sorted(maps.Keys(t.asked)) {
		row("asked by an operator: "+what, t.asked[what])
	}
	for _, code := range slices.Sorted(maps.Keys(t.heard)) {
		after := slices.Sorted(slices.Values(t.heard[code]))
		row("signal: "+code, fmt.Sprintf("%d, half of them within %s, all within %s", len(after), after[len(after)/2].Round(time.Second), after[len(after)-1].Round(time.Second)))
	}
	for _, k := range slices.Sorted(maps.Keys(t.faults)) {
		row("fault: "+k, t.faults[k])
	}
	_ = w.Flush()
}
