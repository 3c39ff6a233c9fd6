package chaos

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// kind is a kind of fault.
type kind string

// Faults of processes.
const (
	crash   kind = "crash"   // killed at an instant
	crashAt kind = "crashAt" // killed at a call of its store or of Cloudflare
	restart kind = "restart" // told to end, and started again
	down    kind = "down"    // killed and away for long
	pause   kind = "pause"   // stopped in its tracks for longer than a lease
	pauseAt kind = "pauseAt" // stopped with an append on its way
	jump    kind = "clock"   // its clock is off by some time
)

// Faults of the store, as one process or all see it.
const (
	storeDown  kind = "store down"
	storeSlow  kind = "store slow"
	storeHang  kind = "store hangs"
	storeConns kind = "store connections" // some calls find none
	storeLost  kind = "store answers lost"
	// Reads work and writes do not, until somebody mends the database.
	storeFull   kind = "store full"
	storeFrozen kind = "store read-only"
	storeDenied kind = "store denied"
	storeBare   kind = "store without tables"
	storeBroken kind = "store damaged"
	// Something is stored that nobody can read.
	poison kind = "unreadable entries"
)

// Faults of connections, and the rest.
const (
	cut        kind = "cut"       // all connections of a process break
	stall      kind = "stall"     // nothing is read on them for a while
	trickle    kind = "trickle"   // little is read at a time, slowly
	refuse     kind = "refuse"    // no new ones to it
	api        kind = "api"       // a fault of the simulator
	badToken   kind = "token"     // a token that is no good, or only in part, in place of the good one
	zoneEvent  kind = "zone"      // a change in the life of a zone
	scrapeless kind = "no scrape" // Prometheus is away
)

// Names of processes.
const (
	leftCollector  = "collector-a"
	rightCollector = "collector-b"
	leftExposer    = "exposer-1"
	rightExposer   = "exposer-2"
	recorder       = "recorder"
)

var (
	collectors = []string{leftCollector, rightCollector}
	exposers   = []string{leftExposer, rightExposer}
	everybody  = []string{leftCollector, rightCollector, leftExposer, rightExposer, recorder}
)

// event is one fault.
type event struct {
	At     time.Duration // after the world's beginning
	For    time.Duration // 0: an instant
	Kind   kind
	Target string // process; empty: all that it applies to
	Amount time.Duration
	Chance float64
	// CrashAt and pauseAt: the Nth call from then on, before or after it took
	// effect. A store that cannot be written fails these calls; of unreadable
	// entries Nth is what their dice begin with.
	Nth           int
	Call          string // "append", "store" for any write, or "cloudflare"
	BeforeEffect  bool
	Fault         cfsim.Fault
	Zone, Becomes string // a zone, or the token and the zone that it is wrong about
	Credential    string // whose token it is; empty: of all
	// Staged: nothing else happens meanwhile that could hide it, so what it tells
	// must be told, and told no longer when it has been over for Quiet.
	Staged  bool
	Signals []signal
	Quiet   time.Duration
}

func (e event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%9s", e.At.Round(time.Second))
	if e.For > 0 {
		fmt.Fprintf(&b, " for %-8s", e.For.Round(time.Second))
	}
	fmt.Fprintf(&b, " %s", e.Kind)
	if e.Target != "" {
		fmt.Fprintf(&b, " of %s", e.Target)
	}
	if e.Amount != 0 && e.Kind != operate {
		fmt.Fprintf(&b, " by %s", e.Amount.Round(time.Millisecond))
	}
	if e.Chance != 0 {
		fmt.Fprintf(&b, " chance %.2f", e.Chance)
	}
	if e.Nth == 0 && e.Call != "" {
		fmt.Fprintf(&b, " for %s", e.Call)
	}
	if e.Kind == operate {
		fmt.Fprintf(&b, " asks for %s (%d, %s)", e.Call, e.Nth, e.Amount.Round(time.Second))
	} else if e.Nth > 0 && e.Call != "" {
		when := "after"
		if e.BeforeEffect {
			when = "before"
		}
		fmt.Fprintf(&b, " %s call %d of %s", when, e.Nth, e.Call)
	}
	if e.Fault.Kind != "" {
		f := e.Fault
		fmt.Fprintf(&b, " %s path=%s zone=%.8s dataset=%s token=%.8s delay=%s chance=%.2f status=%d", f.Kind, f.Path, f.Zone, f.Dataset, f.Token, f.Delay, f.Probability, f.Status)
		if f.Refusal != (cfsim.Refusal{}) {
			fmt.Fprintf(&b, " refusal=%+v", f.Refusal)
		}
		if len(f.Odd) > 0 {
			fmt.Fprintf(&b, " odd=%v", f.Odd)
		}
	}
	if e.Zone != "" {
		fmt.Fprintf(&b, " %s", e.Zone)
	}
	if e.Credential != "" {
		fmt.Fprintf(&b, " of credential %s", e.Credential)
	}
	if e.Becomes != "" {
		fmt.Fprintf(&b, ": %s", e.Becomes)
	}
	if e.Staged {
		fmt.Fprintf(&b, ", staged: %v", e.Signals)
	}
	return b.String()
}

// schedule is everything that a seed decides.
type schedule struct {
	Seed      uint64
	Began     time.Time
	Faulty    time.Duration // faults begin and end within it
	Calm      time.Duration // after it
	Lookback  time.Duration
	Share     float64  // of Cloudflare's 300 requests in five minutes
	Disable   []string // datasets left out
	Settling  cfsim.Settling
	Switches  cfsim.Switches
	Limits    cfsim.Limits
	Sampling  cfsim.Sampling
	Several   bool     // two credentials, of two Cloudflare users, instead of one
	Overlap   bool     // the second of them sees the account of the first too
	Workers   bool     // the Workers of accounts are collected
	Odd       bool     // label values are empty, quoted, not ASCII, very long
	Events    []event  // ascending
	Revisions bool     // Cloudflare changes values late
	Starved   bool     // the budget does not suffice: it is kept, but work stays undone
	Refusing  []signal // that are told at the end too, since what they are about lasts
}

func (s *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, begins %s, faults for %s, calm for %s, lookback %s, share %.3f, without %v, settling %+v\n",
		s.Seed, s.Began.Format(time.RFC3339), s.Faulty, s.Calm, s.Lookback, s.Share, s.Disable, s.Settling)
	fmt.Fprintf(&b, "switches %+v, limits %+v, sampling %+v, odd labels %t, several credentials %t, overlapping %t, Workers %t\n", s.Switches, s.Limits, s.Sampling, s.Odd, s.Several, s.Overlap, s.Workers)
	for _, e := range s.Events {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

// dice are the draws that schedules are made of.
type dice struct{ *rand.Rand }

func (d dice) between(a, b time.Duration) time.Duration {
	return a + time.Duration(d.Int64N(int64(b-a)+1))
}

// skewed draws between a and b, small values being likelier.
func (d dice) skewed(a, b time.Duration) time.Duration {
	u := d.Float64()
	return a + time.Duration(u*u*u*float64(b-a))
}

func (d dice) one(names ...string) string { return names[d.IntN(len(names))] }

func (d dice) chance(p float64) bool { return d.Float64() < p }

// draw makes the schedule of a seed. It is a pure function.
func draw(seed uint64) *schedule {
	d := dice{rand.New(rand.NewPCG(seed, 0x77656972))}
	s := &schedule{
		Seed:     seed,
		Began:    time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(d.between(0, 300*24*time.Hour).Truncate(time.Second)),
		Faulty:   d.between(150*time.Minute, 4*time.Hour),
		Calm:     calm,
		Lookback: d.between(time.Hour, 3*time.Hour),
		Share:    .12 + .13*d.Float64(), // small, so that catching up comes up against it
	}
	if d.chance(.2) {
		s.Starved, s.Share = true, .03+.03*d.Float64()
	}
	if d.chance(.5) {
		s.Disable = []string{"countries_1h", "content_types_1h"}
	}
	if d.chance(.5) {
		s.Settling.Stragglers = d.Float64() * .05
	}
	if d.chance(.2) {
		s.Revisions = true
		s.Settling.Stragglers, s.Settling.Revisions, s.Settling.Downward = 0, .02, .01
	}
	if d.chance(.2) {
		s.Switches.PartialData = true
	}
	if d.chance(.2) {
		s.Switches.DocumentedStatus = true
	}
	s.Several, s.Overlap, s.Workers = d.chance(.6), d.chance(.4), d.chance(.7)
	d.limits(s)
	d.zones(s)
	// Which kinds a world sees differs, so that each has room for its effects.
	menu := slices.Clone(menu)
	d.Shuffle(len(menu), func(i, j int) { menu[i], menu[j] = menu[j], menu[i] })
	menu = menu[:3+d.IntN(len(menu)-3)]
	for range 6 + d.IntN(30) {
		e := event{At: d.between(20*time.Minute, s.Faulty)}
		menu[d.IntN(len(menu))](d, s, &e)
		if e.Kind == "" {
			continue
		}
		e.For = min(e.For, s.Faulty-e.At)
		s.Events = append(s.Events, e)
	}
	d.operators(s)
	d.stage(s)
	slices.SortStableFunc(s.Events, func(a, b event) int { return cmp.Compare(a.At, b.At) })
	return s
}

// calm is how long a world runs on after its last fault: long enough for every
// back-off and every hour of a halved budget to end.
const calm = 150 * time.Minute

// menu are the faults that a schedule is drawn from.
var menu = []func(d dice, s *schedule, e *event){
	func(d dice, _ *schedule, e *event) {
		e.Kind, e.Target, e.Amount = crash, d.one(everybody...), d.skewed(time.Second, 5*time.Minute)
	},
	func(d dice, _ *schedule, e *event) {
		e.Kind, e.Target, e.Amount = crashAt, d.one(collectors...), d.skewed(time.Second, 5*time.Minute)
		e.Nth, e.Call, e.BeforeEffect = 1+d.IntN(12), d.one("append", "store", "cloudflare"), d.chance(.5)
	},
	func(d dice, _ *schedule, e *event) {
		e.Kind, e.Target, e.Amount = pauseAt, d.one(collectors...), d.skewed(12*time.Second, 5*time.Minute)
		e.Nth, e.Call, e.BeforeEffect = 1+d.IntN(4), "append", true
	},
	func(d dice, _ *schedule, e *event) {
		e.Kind, e.Target, e.Amount = restart, d.one(everybody...), d.skewed(time.Second, 5*time.Minute)
	},
	func(d dice, _ *schedule, e *event) {
		e.Kind, e.Target, e.Amount = down, d.one(everybody...), d.between(10*time.Minute, 2*time.Hour)
	},
	func(d dice, _ *schedule, e *event) {
		e.Kind, e.Target, e.For = pause, d.one(everybody...), d.skewed(12*time.Second, 20*time.Minute)
	},
	func(d dice, _ *schedule, e *event) {
		e.Kind, e.Target, e.For = jump, d.one(leftCollector, leftCollector, rightCollector, rightCollector, leftExposer, rightExposer), d.between(time.Minute, 90*time.Minute)
		if e.Amount = d.skewed(2*time.Second, time.Hour); d.chance(.5) {
			e.Amount = -e.Amount
		}
	},
	storeFault(storeDown), storeFault(storeSlow), storeFault(storeHang), storeFault(storeConns), storeFault(storeLost),
	func(d dice, _ *schedule, e *event) { d.unwritable(e) },
	func(d dice, _ *schedule, e *event) { d.unwritable(e) },
	func(d dice, _ *schedule, e *event) { d.poison(e) },
	func(d dice, _ *schedule, e *event) { e.Kind, e.Target = cut, d.one(everybody...) },
	func(d dice, _ *schedule, e *event) {
		e.Kind, e.Target, e.For = stall, d.one(exposers...), d.skewed(5*time.Second, 10*time.Minute)
	},
	func(d dice, _ *schedule, e *event) {
		e.Kind, e.Target, e.For = trickle, d.one(exposers...), d.between(5*time.Minute, 40*time.Minute)
		e.Amount = d.skewed(200*time.Millisecond, 5*time.Second)
	},
	func(d dice, s *schedule, e *event) {
		// A new process takes its first snapshot slowly.
		e.Kind, e.Target, e.For = trickle, d.one(exposers...), d.between(5*time.Minute, 20*time.Minute)
		e.Amount = d.skewed(500*time.Millisecond, 5*time.Second)
		s.Events = append(s.Events, event{At: e.At + time.Second, Kind: crash, Target: e.Target, Amount: 5 * time.Second})
	},
	func(d dice, _ *schedule, e *event) {
		e.Kind, e.Target, e.For = refuse, d.one(collectors...), d.skewed(5*time.Second, time.Hour)
	},
	dice.apiFault, dice.apiFault, dice.apiFault, dice.apiFault, dice.badToken, dice.badToken,
	dice.refusal, dice.refusal, dice.oddValues, dice.oddValues, dice.apart, dice.apart,
	func(d dice, _ *schedule, e *event) {
		e.Kind, e.For = scrapeless, d.between(2*time.Minute, 100*time.Minute)
	},
}

func storeFault(k kind) func(dice, *schedule, *event) {
	return func(d dice, _ *schedule, e *event) {
		e.Kind, e.For = k, d.skewed(5*time.Second, 40*time.Minute)
		if d.chance(.6) {
			e.Target = d.one(collectors...)
		}
		switch k {
		case storeSlow:
			e.Amount = d.skewed(50*time.Millisecond, 20*time.Second)
		case storeConns, storeLost:
			e.Chance = .1 + .8*d.Float64()
		}
	}
}
