package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// act is one fault in a schedule. Times are of the machine, since the story
// began: leases, connections and processes live by those.
type act struct {
	fault *fault
	at    time.Duration
	lasts time.Duration
	who   int     // 0 or 1, where there are two
	size  float64 // how bad, 0 to 1
}

func (a act) String() string {
	return fmt.Sprintf("%6.1fs +%4.1fs  %s (%d, %.2f)", a.at.Seconds(), a.lasts.Seconds(), a.fault.name, a.who, a.size)
}

// script is everything that is decided before a run begins. It follows from
// the seed and the length alone.
type script struct {
	acts   []act
	faults []cfsim.Fault
	events map[string][]cfsim.ZoneEvent // by zone tag
	added  time.Duration                // when a zone appears, virtual
	told   []string                     // what happens to zones, for people
	names  map[string]int               // zone events by kind
}

// write makes the script of a story that takes so long on the clock, at a
// speed, and begins at a time.
func write(seed uint64, began time.Time, story time.Duration, speed float64) *script {
	rng := rand.New(rand.NewPCG(seed, 0x3e17))
	s := &script{events: map[string][]cfsim.ZoneEvent{}, names: map[string]int{}}
	s.writeActs(rng, time.Duration(float64(story)/speed))
	s.writeFaults(rng, began, story)
	s.writeEvents(rng, began, story)
	return s
}

// writeActs lines up episodes of one to three faults at a time, with a few
// seconds of peace behind each, in which what fell due meanwhile can settle. No
// kind comes twice before all have come.
func (s *script) writeActs(rng *rand.Rand, story time.Duration) {
	var bag []*fault
	at := 4 * time.Second // everybody has started
	for {
		episode := map[string]bool{}
		end := at
		for range 1 + rng.IntN(3) {
			if len(bag) == 0 {
				bag = slices.Clone(faultTable)
				rng.Shuffle(len(bag), func(i, j int) { bag[i], bag[j] = bag[j], bag[i] })
			}
			// Two faults of one group would get into each other's way.
			i := slices.IndexFunc(bag, func(f *fault) bool { return !episode[f.group] })
			if i < 0 {
				break
			}
			f := bag[i]
			bag = slices.Delete(bag, i, i+1)
			episode[f.group] = true
			a := act{
				fault: f, at: at + time.Duration(rng.Float64()*float64(3*time.Second)),
				lasts: seconds(f.min + rng.Float64()*(f.max-f.min)), who: rng.IntN(2), size: rng.Float64(),
			}
			if a.at+a.lasts > story {
				return
			}
			s.acts = append(s.acts, a)
			end = max(end, a.at+a.lasts)
		}
		at = end + seconds(2.5+2.5*rng.Float64())
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// writeFaults chooses what Cloudflare does wrong: spans of the clock, in which
// no answer, or no whole answer, or an answer without data comes.
func (s *script) writeFaults(rng *rand.Rand, began time.Time, story time.Duration) {
	minutes := func(from, to int) time.Duration { return time.Duration(from+rng.IntN(to-from+1)) * time.Minute }
	zone := cfsim.Tag("zone:" + []string{"shop.example", "checkout.example", "media.example", "api.example"}[rng.IntN(4)])
	kinds := []cfsim.Fault{
		{Kind: cfsim.FaultBudget, Path: "/graphql"},
		{Kind: cfsim.FaultDatasetEmpty},
		{Kind: cfsim.FaultDatasetEmpty, Dataset: "httpRequests1mGroups"},
		{Kind: cfsim.FaultZoneDelayed, Zone: zone, Delay: 30 * time.Minute},
		{Kind: cfsim.FaultHTML, Status: 522, Probability: .5},
		{Kind: cfsim.FaultChallenge, Probability: .5},
		{Kind: cfsim.FaultTruncated, Probability: .5},
		{Kind: cfsim.FaultRubbish, Probability: .5},
		{Kind: cfsim.FaultReset, Probability: .5},
		{Kind: cfsim.FaultResetBody, Probability: .5},
		{Kind: cfsim.FaultShortBody, Probability: .5},
		{Kind: cfsim.FaultEmptyBody, Probability: .5},
		{Kind: cfsim.FaultEmptyObject},
		{Kind: cfsim.FaultNullData},
		{Kind: cfsim.FaultDuplicate},
		{Kind: cfsim.FaultPartial, Zone: zone},
		{Kind: cfsim.FaultBusy, Probability: .7},
		{Kind: cfsim.FaultInternal, Probability: .7},
		{Kind: cfsim.FaultSlow, Delay: 2 * time.Second, Probability: .3},
		{Kind: cfsim.FaultDrip, Delay: 2 * time.Second, Probability: .3},
		{Kind: cfsim.FaultSkew, Delay: 10 * time.Minute},
		{Kind: cfsim.FaultSkew, Delay: -10 * time.Minute},
	}
	for range 2 + int(story/(45*time.Minute)) {
		f := kinds[rng.IntN(len(kinds))]
		f.From = began.Add(25*time.Minute + time.Duration(rng.Float64()*float64(story-60*time.Minute)))
		f.To = f.From.Add(minutes(8, 30))
		s.faults = append(s.faults, f)
	}
}

// Zones to which something happens, and those that only trouble reaches: shop,
// quiet and parked.
func (s *script) writeEvents(rng *rand.Rand, began time.Time, story time.Duration) {
	labs, retail := cfsim.Tag("account:labs"), cfsim.Tag("account:retail")
	// Late enough for history to be there, early enough to be noticed.
	some := func() time.Duration {
		return (30*time.Minute + time.Duration(rng.Float64()*float64(story-70*time.Minute))).Truncate(time.Minute)
	}
	away := func() time.Duration { return time.Duration(40+rng.IntN(40)) * time.Minute }
	for _, e := range []struct {
		kind, zone string
		of         func() []cfsim.ZoneEvent
	}{
		{"renamed", "checkout.example", func() []cfsim.ZoneEvent { return []cfsim.ZoneEvent{{Rename: "kasse.example"}} }},
		{"up-graded", "blog.example", func() []cfsim.ZoneEvent { return []cfsim.ZoneEvent{{Plan: cfsim.Pro}} }},
		{"down-graded", "checkout.example", func() []cfsim.ZoneEvent { return []cfsim.ZoneEvent{{Plan: cfsim.Pro}} }},
		{"moved", "api.example", func() []cfsim.ZoneEvent { return []cfsim.ZoneEvent{{Account: retail}} }},
		{"moved", "blog.example", func() []cfsim.ZoneEvent { return []cfsim.ZoneEvent{{Account: labs}} }},
		{"paused and resumed", "media.example", func() []cfsim.ZoneEvent { return []cfsim.ZoneEvent{{Pause: true}, {Resume: true}} }},
		{"left and came back", "media.example", func() []cfsim.ZoneEvent { return []cfsim.ZoneEvent{{Leave: true}, {Resume: true}} }},
		{"deleted", "docs.example", func() []cfsim.ZoneEvent { return []cfsim.ZoneEvent{{Delete: true}} }},
	} {
		id := cfsim.Tag("zone:" + e.zone)
		if rng.IntN(2) == 0 || e.zone == "media.example" && len(s.events[id]) > 0 {
			continue
		}
		at := some()
		for _, event := range e.of() {
			event.At = began.Add(at).Truncate(time.Minute)
			s.events[id] = append(s.events[id], event)
			s.told = append(s.told, fmt.Sprintf("%s %s at %s", e.zone, e.kind, event.At.Format("15:04")))
			at += away()
		}
		s.names["zone "+e.kind]++
	}
	s.added = some()
	s.names["zone added"]++
}
