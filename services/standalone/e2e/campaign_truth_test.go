package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/standalone/truth"
)

const fiveMinutes = 5 * time.Minute

// reach is how long a window may take to become final when everything that can
// go wrong does: later than that, a zone may be gone before anybody came by.
const reach = 105 * time.Minute

// expected is the truth by zones' tags: what they were called when is another
// question. Nothing of it has to be held yet; [campaign.must] says what does.
func (c *campaign) expected(until time.Time) truth.Samples {
	c.t.Helper()
	c.fates()
	zones := slices.Clone(c.zones)
	for i := range zones {
		z := &zones[i]
		z.From = later(c.began.Add(-c.lookback), z.Created)
		z.Must = z.From
		z.Name, z.AccountName = z.ID, ""
		if slices.ContainsFunc(z.Events, func(e cfsim.ZoneEvent) bool { return e.Plan != "" }) {
			z.Plan = cfsim.Business // what it may once have had
		}
	}
	return expected(c.t, c.sim, zones, until)
}

// must is what has to be held by now, for all that has happened to zones.
func (c *campaign) must(want truth.Samples) map[truth.Point]bool {
	out := maps.Clone(want.Must)
	started, listings := c.started(), c.listings()
	for _, z := range c.zones {
		begins, began := started[z.ID], started[z.ID]
		away := slices.ContainsFunc(z.Events, func(e cfsim.ZoneEvent) bool { return e.Resume })
		if away { // and has begun anew, perhaps
			began = later(c.listed(z.Created).Add(-c.lookback), z.Created)
		}
		if latest := c.listed(z.Created).Add(reach - c.lookback); begins.After(latest) && !away {
			c.violations("beginning", []string{fmt.Sprintf("history of %s begins at %s; it was there to be listed before %s", z.Name, begins, latest)})
		}
		for p := range want.Must {
			if id, _, _ := p.Labels(); id != z.ID {
				continue
			}
			name, end := p.Family(), p.End()
			size := truth.Families[name].Size()
			if end.Add(-size).Before(began.Truncate(size)) || c.excused(z, name, end.Add(-size), end, begins, listings) {
				delete(out, p)
			}
			if z.Name == "quiet.example" && size == fiveMinutes { // a zero is believed after hours
				if v, err := c.sim.True(z.ID, end.Add(-size), end); err != nil || v.Requests == 0 {
					delete(out, p)
				}
			}
		}
	}
	return out
}

// excused says whether what happened to a zone is a reason for not having a
// window.
func (c *campaign) excused(z truth.Zone, family string, start, end, begins time.Time, listings []time.Time) bool {
	for i, e := range z.Events {
		switch {
		case e.Delete: // and nobody may have come by in time
			if end.After(e.At.Add(-reach)) {
				return true
			}
		case e.Pause, e.Leave:
			// A zone that was seen to be away is wanted from when it was seen
			// to be back, which is at some listing after that.
			back := later(z.Events[i+1].At, begins)
			next := slices.IndexFunc(listings, func(at time.Time) bool { return at.After(z.Events[i+1].At) })
			if next < 0 {
				return end.After(e.At)
			}
			// Of its last window before that nothing shows that it is whole: it is
			// believed when silence is.
			if end.After(e.At.Add(-fiveMinutes)) && start.Before(later(back, listings[next])) {
				return true
			}
		case e.Plan != "" && z.Plan == cfsim.Free:
			// It gets the better variant when that has been noticed.
			if truth.Families[family].Rollup {
				return true
			}
		}
	}
	return false
}

// listings are the times at which the zones were listed, ascending.
func (c *campaign) listings() (out []time.Time) {
	for _, r := range c.sim.Requests() {
		if r.Kind == "rest" && strings.Contains(r.Path, "/zones") && r.Outcome == "ok" && r.Fault == "" {
			out = append(out, r.Time)
		}
	}
	return out
}

// fates brings the zones' stories up to date with the script.
func (c *campaign) fates() {
	for i := range c.zones {
		c.zones[i].Events = c.script.events[c.zones[i].ID]
	}
}

// started is where the collectors say that each zone's history begins.
func (c *campaign) started() map[string]time.Time {
	var scopes *bucketv1.ListScopesResponse
	service := c.service()
	testkit.Eventually(c.t, func() (err error) { // the database has only just come back
		scopes, err = service.ListScopes(c.t.Context(), &bucketv1.ListScopesRequest{})
		return err
	})
	out := map[string]time.Time{}
	for _, s := range scopes.GetScopes() {
		out[s.GetScope().GetId()] = time.Unix(s.GetStartUnixSeconds(), 0).UTC()
	}
	return out
}

// aliases are all names that each zone ever had, with the account's, in the
// order in which it had them.
func (c *campaign) aliases() map[string][]string {
	accounts := map[string]string{cfsim.Tag("account:retail"): "Example Retail", cfsim.Tag("account:labs"): "Example Labs"}
	out := map[string][]string{}
	for _, z := range c.zones {
		name, account := z.Name, z.AccountName
		out[z.ID] = []string{name + "," + account}
		for _, e := range c.script.events[z.ID] {
			switch {
			case e.Rename != "":
				name = e.Rename
			case e.Account != "":
				account = accounts[e.Account]
			default:
				continue
			}
			out[z.ID] = append(out[z.ID], name+","+account)
		}
	}
	return out
}

// byTag puts zones' tags in the place of their names. A point that has two
// names is a violation.
func (c *campaign) byTag(of string, points map[truth.Point]float64) map[truth.Point]float64 {
	tags := map[string]string{}
	for id, names := range c.aliases() {
		for _, n := range names {
			tags[n] = id
		}
	}
	out := map[truth.Point]float64{}
	var wrong []string
	for p, v := range points {
		zone, account, label := p.Labels()
		id, known := tags[zone+","+account]
		if !known {
			wrong = append(wrong, fmt.Sprintf("%s is of a zone that never had that name", p))
			continue
		}
		q := truth.Of(p.Family(), id, "", label, p.End())
		if _, twice := out[q]; twice {
			wrong = append(wrong, fmt.Sprintf("%s is there under two names", p))
		}
		out[q] = v
	}
	c.violations(of, wrong)
	return out
}

// logged is what the entries of the log say.
func (c *campaign) logged(entries []*bucketv1.Entry) map[truth.Point]float64 {
	points := map[truth.Point]float64{}
	var wrong []string
	names := map[string]int{}
	aliases := c.aliases()
	for _, e := range entries {
		b := e.GetBucket()
		if b == nil {
			continue
		}
		id := b.GetScope().GetId()
		end := time.Unix(b.GetStartUnixSeconds()+int64(b.GetSizeSeconds()), 0)
		// Names go forward only: a bucket never has an older name than one
		// that was stored before it.
		name := slices.Index(aliases[id], b.GetZone()+","+b.GetAccount())
		if name < names[id] {
			wrong = append(wrong, fmt.Sprintf("revision %d calls %s %q of %q, after %q", e.GetRevision(), id, b.GetZone(), b.GetAccount(), aliases[id][names[id]]))
		}
		names[id] = max(name, names[id])
		for _, f := range b.GetFamilies() {
			if labels := len(f.GetLabelValues()); labels != 0 && labels != len(f.GetValues()) {
				c.t.Fatalf("family %s has more than one label of its own; the test's arithmetic ends there", f.GetFamily())
			}
			for i, v := range f.GetValues() {
				label := ""
				if len(f.GetLabelValues()) > 0 {
					label = f.GetLabelValues()[i]
				}
				p := truth.Of(f.GetFamily(), id, "", label, end)
				if _, twice := points[p]; twice {
					wrong = append(wrong, fmt.Sprintf("%s is stored twice", p))
				}
				points[p] = v
			}
		}
	}
	c.violations("log", wrong)
	return points
}

// checkTruth compares log and Prometheus with the truth up to until.
func (c *campaign) checkTruth(until time.Time) {
	t := c.t
	want := c.expected(until)
	// Calm: everything that has to be final is. Back-offs that grew in the
	// trouble end in it.
	_ = testkit.Poll(testkit.Patience, func() error { // what is missing after that is told below
		entries, _, _ := c.diary.sofar()
		return lacks(c.logged(entries), truth.Samples{Must: c.must(want)})
	})
	must := c.must(want)
	t.Logf("calm %s after the trouble ended, on the clock", c.clock.Now().Sub(until).Round(time.Second))
	entries, _, _ := c.diary.sofar()
	inLog := c.logged(entries)
	report := func(of string, got map[truth.Point]float64) {
		wrong := want.Wrong(got, until)
		for _, p := range truth.Missing(got, must) {
			wrong = append(wrong, fmt.Sprintf("%s, %v, is missing", p, want.May[p]))
		}
		c.violations(of, wrong)
	}
	report("log and truth", inLog)

	since := c.began.Add(-50 * time.Hour) // the first day's bucket may begin that early
	// Two rounds of the carousel, and a little.
	patience := time.Duration(float64(2*carousel.New(fiveMinutes, 24*time.Hour, carousel.Most).Round())/c.speed) + 5*time.Second
	_ = testkit.Poll(patience, func() error { // as above
		return lacks(c.byTag("Prometheus", held(t, c.prometheus, since)), truth.Samples{Must: must})
	})
	report("Prometheus and truth", c.byTag("Prometheus", held(t, c.prometheus, since)))
	c.samples += len(must)
	t.Logf("%d samples compared with the truth in log and Prometheus", len(must))
	if len(must) < 1000 {
		t.Errorf("only %d samples were expected: the test has lost its subject", len(must))
	}
}
