package e2e

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

var (
	campaignSeed  = flag.Uint64("campaign.seed", 9, "seed of TestCampaign's first run")
	campaignRuns  = flag.Int("campaign.runs", 1, "runs of TestCampaign, each with the seed after the last one's")
	campaignHours = flag.Float64("campaign.hours", 2, "length of a run of TestCampaign, in hours of its clock")
	campaignSpeed = flag.Float64("campaign.speed", 120, "speed of its clock")
)

// The fault campaign: every process can be killed, paused and restarted at any
// moment, every connection can be cut, the database can be away, slow, full;
// Cloudflare answers nonsense, zones come and go. What happens when follows
// from the seed. In the end everything is healed, and then nothing may be
// missing, wrong, extra, twice or out of order, anywhere (G1 to G5, G7, G9).
//
// A run with another seed, or many of them, as "make chaos-long" does:
//
//	TEST_ALL=1 go test -run '^TestCampaign$' -timeout 2h -v -campaign.seed 7 -campaign.runs 20 -campaign.hours 4
func TestCampaign(t *testing.T) {
	testkit.InAll(t)
	t.Parallel()
	sum := &tally{done: map[string]int{}}
	for i := range *campaignRuns {
		seed := *campaignSeed + uint64(i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			c := &campaign{}
			defer func() { sum.add(c, t) }() // also where the run breaks off
			run(t, c, seed)
		})
	}
	t.Logf("campaign\n%s", sum)
}

func run(t *testing.T, c *campaign, seed uint64) {
	story := time.Duration(*campaignHours * float64(time.Hour))
	c.start(t, seed, story, *campaignSpeed)
	t.Logf("seed %d: %s of the clock at %g times the speed, from %s; %s; added at %s", seed, story, *campaignSpeed, c.began,
		strings.Join(c.script.told, ", "), c.began.Add(c.script.added).Format("15:04"))
	for _, f := range c.script.faults {
		t.Logf("Cloudflare: %s %s %s from %s to %s", f.Kind, f.Dataset, f.Zone, f.From.Format("15:04:05"), f.To.Format("15:04:05"))
	}
	c.play(story)
	until := c.clock.Now()
	c.checkTruth(until)
	c.checkLog()
	c.checkLeader()
	c.checkCoverage(until)
	c.checkPages()
	sameBytes(t, c.data[0], c.data[1])
	c.violations("Prometheus", complaints(c.prometheus))
	testkit.Eventually(t, func() error { // the scrape that it was asked for meanwhile may have failed
		for _, target := range c.prometheus.Targets() {
			if target.Health != "up" {
				return fmt.Errorf("target %s is %s: %s", target.ScrapeURL, target.Health, target.LastError)
			}
		}
		return nil
	})
	budget(t, c.world)
	for name, proxies := range map[string][]*proxy{"statements": c.toDatabase, "requests": c.toCloudflare, "streams": c.toCollector} {
		said, told := 0, 0
		for _, p := range proxies {
			ofClient, ofServer := p.cuts()
			said, told = said+ofClient, told+ofServer
		}
		t.Logf("%s: %d cut as they were sent, %d as they were answered", name, said, told)
	}
	for _, m := range slices.Concat(c.collectors, c.exposers) {
		c.violations("process", m.complaints())
		t.Logf("%s was started %d times", m.part.Name, m.starts)
	}
	if t.Failed() {
		for _, m := range slices.Concat(c.collectors, c.exposers) {
			t.Logf("%s wrote:\n%s", m.part.Name, m.log)
		}
	}
}

// tally adds up runs.
type tally struct {
	runs, failed, violations, samples, pages int
	done                                     map[string]int
}

func (s *tally) add(c *campaign, t *testing.T) {
	s.runs++
	if t.Failed() {
		s.failed++
	}
	s.violations += c.broken
	s.samples += c.samples
	s.pages += c.pages
	for k, n := range c.done {
		s.done[k] += n
	}
}

func (s *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| runs | failed | violations | samples compared | pages read |\n|---|---|---|---|---|\n")
	fmt.Fprintf(&b, "| %d | %d | %d | %d | %d |\n\n", s.runs, s.failed, s.violations, s.samples, s.pages)
	b.WriteString("| fault | times |\n|---|---|\n")
	for _, k := range slices.Sorted(maps.Keys(s.done)) {
		fmt.Fprintf(&b, "| %s | %d |\n", k, s.done[k])
	}
	return b.String()
}
