package chaos

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// That the end is right is not enough: while something is wrong that a person
// should know, Weir must say so. Among many faults that proves nothing, since one
// hides the other, so most schedules have one fault on a stage: what else could
// hide what it tells is taken away, before it, meanwhile, and for a time after it.

// signal is something that Weir tells: a problem by its code, a gap by its reason,
// or that a process is not ready.
type signal struct {
	Code  string
	About string // the zone, or what the problem is about; of one that is waited for, its beginning
}

const notReady = "not ready"

func gap(reason bucketv1.GapReason, zone string) signal {
	return signal{Code: "gap " + strings.TrimPrefix(reason.String(), "GAP_REASON_"), About: zone}
}

func (s signal) String() string { return strings.TrimSpace(s.Code + " " + s.About) }

// is reports whether a signal that was heard is the one that was waited for.
func (s signal) is(want signal) bool {
	code := s.Code
	if want.Code == anyGap {
		code, _, _ = strings.Cut(s.Code, " ")
	}
	return code == want.Code && strings.HasPrefix(s.About, want.About)
}

// anyGap is a gap, whatever its reason.
const anyGap = "gap"

// Within these times a signal is heard, and is over after what it is about. A
// question about a zone is asked every five minutes, a window is a gap when it has
// been due for some minutes, zones are listed every hour.
const (
	// toldWithin is from the first refused request, or failed write, until the
	// problem is told. An alert on it has three minutes more until it fires: a
	// scrape, an evaluation, and its own. What is told is heard once a minute.
	toldWithin  = 2 * time.Minute
	heardWithin = 10 * time.Minute
	gapWithin   = 25 * time.Minute
	// Pauses after failures are 5, 10, 20 and 40 minutes or somewhat less, so a fault of half an
	// hour may have met four.
	overWithin  = 45 * time.Minute
	namesWithin = 70 * time.Minute
)

// stages are the faults that are staged.
var stages = []func(d dice, s *schedule, e *event){
	func(d dice, _ *schedule, e *event) { // refused in unknown words, all alike
		e.Kind, e.Fault = api, d.refuse("")
		e.Signals = []signal{{Code: "UNKNOWN_REFUSAL"}, gap(bucketv1.GapReason_GAP_REASON_UNKNOWN, d.one(allows("")...))}
	},
	func(d dice, _ *schedule, e *event) { // one zone
		zone := d.one(allows("")...)
		e.Kind, e.Fault = api, d.refuse(zone)
		e.Signals = []signal{{Code: "UNKNOWN_REFUSAL", About: zone}, gap(bucketv1.GapReason_GAP_REASON_UNKNOWN, zone)}
	},
	func(d dice, _ *schedule, e *event) { // one dataset of one zone
		zone := d.one(allows("rollup_1m")...)
		e.Kind, e.Fault = api, d.refuse(zone)
		e.Fault.Dataset = "httpRequests1mGroups"
		e.Signals = []signal{{Code: "UNKNOWN_REFUSAL", About: zone + " http_5m"}, gap(bucketv1.GapReason_GAP_REASON_UNKNOWN, zone)}
	},
	func(d dice, _ *schedule, e *event) { // the token is not for this address
		e.Kind, e.Fault = api, cfsim.Fault{Kind: cfsim.FaultLocation, Path: d.one("", "/graphql")}
		e.Signals = []signal{{Code: "TOKEN_REFUSED"}, gap(bucketv1.GapReason_GAP_REASON_UNAUTHORIZED, d.one(allows("")...))}
	},
	func(d dice, _ *schedule, e *event) { // the token is no good
		e.Kind, e.Becomes = badToken, d.one("disabled", "unknown")
		e.Signals = []signal{{Code: "TOKEN_REFUSED"}, gap(bucketv1.GapReason_GAP_REASON_UNAUTHORIZED, d.one(allows("")...))}
	},
	func(d dice, _ *schedule, e *event) { // the token is not for a zone that Cloudflare names
		zone := d.one(allows("")...)
		e.Kind, e.Fault = api, cfsim.Fault{Kind: cfsim.FaultZonesDenied, Path: "/graphql", Zone: cfsim.Tag("zone:" + zone)}
		e.Signals = []signal{gap(bucketv1.GapReason_GAP_REASON_UNAUTHORIZED, zone)}
		e.Quiet = 75 * time.Minute // asked again within an hour
	},
	func(d dice, _ *schedule, e *event) { // a name that cannot be a label
		zone := d.one(allows("")...)
		e.Kind, e.Fault = api, cfsim.Fault{Kind: cfsim.FaultZoneName, Zone: cfsim.Tag("zone:" + zone), Odd: []string{unprintable(d)}}
		e.Signals, e.Quiet = []signal{{Code: "INVALID_VALUE", About: "zone " + cfsim.Tag("zone:"+zone)}}, namesWithin
	},
	func(d dice, s *schedule, e *event) { // an account's
		account, zone := "retail", "shop.example"
		if d.chance(.5) {
			account, zone = "labs", "api.example"
		}
		e.Kind, e.Fault = api, cfsim.Fault{Kind: cfsim.FaultAccountName, Zone: cfsim.Tag("account:" + account), Odd: []string{unprintable(d)}}
		e.Signals, e.Quiet = []signal{{Code: "INVALID_VALUE", About: "zone " + cfsim.Tag("zone:"+zone)}}, namesWithin
		if e.Fault.Odd[0] == "9MB" { // one for each of its zones: no list can be as large
			e.Signals = []signal{{Code: "UPSTREAM_FAILING", About: s.about(account, "list of zones")}}
		}
	},
	func(d dice, _ *schedule, e *event) { // numbers and times that no count and no window can be
		zone := d.one(allows("rollup_1m")...)
		e.Kind, e.Fault = api, cfsim.Fault{Kind: cfsim.FaultNumber, Zone: cfsim.Tag("zone:" + zone), Odd: []string{d.one("-1", "1e400", "2^63", "null", "string")}}
		if d.chance(.4) {
			e.Fault.Kind, e.Fault.Odd = cfsim.FaultTime, []string{d.one(cfsim.OddStrings()[:9]...)}
		}
		e.Signals = []signal{{Code: anyGap, About: zone}}
	},
	stageUnwritable, stageUnwritable, stagePoison, stagePoison,
}

func unprintable(d dice) string {
	if d.chance(.1) {
		return d.one("1MB", "9MB") // cut
	}
	return d.one("empty", "nul", "control")
}

func stageUnwritable(d dice, _ *schedule, e *event) {
	d.unwritable(e)
	e.Target = ""
	e.Signals = []signal{{Code: "STORE_NOT_WRITABLE"}, {Code: notReady}}
}

func stagePoison(d dice, _ *schedule, e *event) {
	d.poison(e)
	e.Signals = []signal{{Code: "STORE_UNREADABLE", About: "http_5m zone "}}
}

// unwritable draws a store that somebody has to mend.
func (d dice) unwritable(e *event) {
	e.Kind = []kind{storeFull, storeFrozen, storeDenied, storeBare, storeBroken}[d.IntN(5)]
	e.For, e.Call = d.skewed(time.Minute, 40*time.Minute), d.one("append", "store")
	if d.chance(.5) {
		e.Target = d.one(collectors...)
	}
}

// allows are the zones with steady traffic whose http_5m is of a variant, or any.
func allows(variant string) (out []string) {
	for _, zone := range zoneNames {
		if v := allowed[zone]; v != "" && (variant == "" || v == variant) {
			out = append(out, zone)
		}
	}
	return out
}

// stage puts one fault on the stage of most schedules.
func (d dice) stage(s *schedule) {
	if d.chance(.15) {
		return
	}
	e := event{At: d.between(45*time.Minute, s.Faulty-45*time.Minute), Staged: true, Quiet: overWithin}
	e.At = max(e.At, 45*time.Minute)
	if s.Several && d.chance(.4) {
		d.stageApart(s, &e)
	} else {
		stages[d.IntN(len(stages))](d, s, &e)
	}
	if e.Kind != poison {
		e.For = d.between(28*time.Minute, 40*time.Minute)
	}
	if e.Kind != poison && unwritable[e.Kind] == nil {
		// Where requests are few, who is to blame may take longer to find out.
		s.Starved, s.Share, s.Limits = false, max(s.Share, .12), cfsim.Limits{PageSize: s.Limits.PageSize}
	}
	// What began long before can reach into it: traps wait for their call.
	from, to := e.At-45*time.Minute, e.At+e.lasts()+max(e.Quiet, gapWithin)+2*time.Minute
	s.Events = slices.DeleteFunc(s.Events, func(o event) bool {
		if o.Kind == poison && e.Kind != poison && o.At > e.At-heardWithin && o.At < e.At+heardWithin {
			return true // who would tell dies, and what is asked for counts as stored
		}
		if o.Call == "restate" && o.At > e.At-2*heardWithin && o.At < e.At+heardWithin {
			return true // it may use up the share, one request for each window
		}
		if o.Call == "accept" && e.names(o.Zone) {
			return o.At < to && o.At > e.At-45*time.Minute // a gap that is accepted is told no longer
		}
		return o.hides() && o.At < to && (o.At >= from || o.At+max(o.For, o.Amount)+o.echo() > e.At || o.Nth > 0)
	})
	s.Events = append(s.Events, e)
	if zone := d.one(zoneNames[:4]...); !e.names(zone) && e.For > 0 {
		s.Events = append(s.Events, event{At: d.between(e.At+gapWithin, e.At+e.For), Kind: operate, Call: "accept", Zone: zone, Amount: 10 * time.Minute, Nth: 12})
	}
	if e.Fault.Kind == cfsim.FaultZoneName || e.Fault.Kind == cfsim.FaultAccountName || e.Becomes == "absent" {
		// Whoever begins to lead lists the zones.
		for _, name := range collectors {
			s.Events = append(s.Events, event{At: e.At + time.Second, Kind: crash, Target: name, Amount: 5 * time.Second})
		}
	}
}

// names reports whether a signal of a staged fault is about a zone.
func (e event) names(zone string) bool {
	return slices.ContainsFunc(e.Signals, func(s signal) bool { return strings.Contains(s.About, zone) })
}

// hides reports whether a fault can keep another one from being told.
func (e event) hides() bool {
	switch e.Kind {
	case zoneEvent, scrapeless, poison:
		return false
	case operate:
		return false
	}
	return e.Target == "" || slices.Contains(collectors, e.Target)
}

// lasts is for how long a staged fault is listened for: at an instant's, too,
// somebody must listen when it should have been heard.
func (e event) lasts() time.Duration { return max(e.For, heardWithin+time.Minute) }

// played is what has become of a staged fault.
type played struct {
	event
	heard map[signal]time.Duration // when first, after the fault began
	met   time.Time                // when a process met it first; zero: not yet, or not known of its kind
}

// toldSoon are problems that are told soon after whatever they tell of was met.
var toldSoon = []string{"UNKNOWN_REFUSAL", "TOKEN_REFUSED", "STORE_NOT_WRITABLE"}

// meets finds out when a process first met the staged fault.
func (w *world) meets(p *played) {
	if !p.met.IsZero() {
		return
	}
	began := w.Began.Add(p.At)
	switch {
	case p.Kind == api:
		for _, r := range w.sim.Requests() {
			if r.Fault == p.Fault.Kind && !r.Time.Before(began) && !isAudit(r) {
				p.met = r.Time
				return
			}
		}
	case p.Kind == badToken:
		for _, r := range w.sim.Requests() {
			if !r.Time.Before(began) && (r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden) {
				p.met = r.Time
				return
			}
		}
	case unwritable[p.Kind] != nil:
		for _, name := range collectors {
			s := w.processes[name].surroundings
			s.mu.Lock()
			if at := s.met; !at.IsZero() && (p.met.IsZero() || at.Before(p.met)) {
				p.met = at
			}
			s.mu.Unlock()
		}
	}
}

// staged is the schedule's staged fault, or nil.
func (s *schedule) staged() *played {
	for _, e := range s.Events {
		if e.Staged {
			return &played{event: e, heard: map[signal]time.Duration{}}
		}
	}
	return nil
}

// listen hears what is told while a fault is on the stage, and after it.
func (w *world) listen(at time.Duration) {
	p := w.stage
	if p == nil || at <= p.At {
		return
	}
	lasts := p.lasts()
	if at > p.At+lasts+max(p.Quiet, gapWithin)+time.Minute {
		return
	}
	if p.Kind == poison && len(w.unreadable.windows) == 0 {
		return // there was nothing to spoil
	}
	on := at <= p.At+lasts
	over := p.Kind != poison && at > p.At+p.For+p.Quiet
	if !on && !over {
		return
	}
	var heard []signal
	for _, name := range collectors {
		heard = append(heard, w.problems(name)...)
		if slices.ContainsFunc(p.Signals, func(s signal) bool { return strings.HasPrefix(s.Code, anyGap) }) && (over || at%(5*time.Minute) == 0) {
			heard = append(heard, w.checkCoverage(name, false)...)
		}
	}
	w.meets(p)
	since := at - p.At
	if on && since >= gapWithin {
		w.checkNeighbours(p, heard)
	}
	for _, want := range p.Signals {
		within := heardWithin
		if strings.HasPrefix(want.Code, anyGap) {
			within = gapWithin
		}
		is := slices.ContainsFunc(heard, func(s signal) bool { return s.is(want) })
		_, was := p.heard[want]
		switch {
		case over && is:
			w.report("%q is told %s after its end: %s", want, (since - p.For).Round(time.Second), p.event)
		case on && is && !was:
			p.heard[want] = since
			w.tally.hear(want.Code, since)
			if known := w.Began.Add(at).Sub(p.met); !p.met.IsZero() && slices.Contains(toldSoon, want.Code) {
				known -= w.stopped(p.met, w.Began.Add(at))
				w.tally.hear(want.Code+", after it was met", known)
				if known > toldWithin+time.Minute {
					w.report("%q is told only %s after it was met: %s", want, known.Round(time.Second), p.event)
				}
			}
		case on && !was && since >= within:
			p.heard[want] = since // once
			w.report("%q is not told after %s (heard: %v): %s", want, since.Round(time.Second), compact(heard), p.event)
		}
	}
}

// isAudit reports whether a request asks for windows that are final already: nothing is
// missing where it is refused, so nothing is told.
func isAudit(r cfsim.Request) bool {
	return len(r.Queries) > 0 && !slices.ContainsFunc(r.Queries, func(q cfsim.Query) bool { return q.To.After(r.Time.Add(-45 * time.Minute)) })
}

// stopped is for how long no collector ran, of the time between two instants:
// entries are spoilt while all are stopped.
func (w *world) stopped(from, to time.Time) (d time.Duration) {
	for _, e := range w.Events {
		if at := w.Began.Add(e.At); e.Kind == poison && at.After(from) && at.Before(to) {
			d += e.Amount
		}
	}
	return d
}

// checkNeighbours: while Cloudflare refuses one zone, one dataset of it, or one
// credential, nothing is missing of the others.
func (w *world) checkNeighbours(p *played, heard []signal) {
	for _, s := range compact(heard) {
		if strings.HasPrefix(s.Code, anyGap) && p.spares(s.About) {
			w.report("the neighbour has %s during %s", s, p.event)
		}
	}
}

func mutatesNames(k cfsim.FaultKind) bool {
	return k == cfsim.FaultZoneName || k == cfsim.FaultAccountName
}

// checkFounded: nothing is told that nothing was done for.
func (w *world) checkFounded(name string) {
	done := func(kinds ...kind) bool {
		return slices.ContainsFunc(w.Events, func(e event) bool { return slices.Contains(kinds, e.Kind) })
	}
	for _, s := range w.problems(name) {
		var founded bool
		switch s.Code {
		case "STORE_UNREADABLE":
			founded = done(poison)
		case "STORE_NOT_WRITABLE":
			founded = done(storeDown, storeSlow, storeHang, storeConns, storeLost, storeFull, storeFrozen, storeDenied, storeBare, storeBroken)
		case "INVALID_VALUE":
			founded = w.has(cfsim.FaultZoneName, cfsim.FaultAccountName, cfsim.FaultDimension, cfsim.FaultTime, cfsim.FaultNumber, cfsim.FaultDuplicate, cfsim.FaultHuge)
		case "UNKNOWN_REFUSAL":
			// Too many fields for many zones at once is believed only when it is said again.
			founded = w.has(cfsim.FaultRefusal, cfsim.FaultChallenge, cfsim.FaultHTML, cfsim.FaultEmptyBody, cfsim.FaultTooManyFields) ||
				w.has(cfsim.FaultLocation) && w.has(cfsim.FaultEmptyErrors) // one body behind the other
		case "TOKEN_REFUSED":
			founded = w.has(cfsim.FaultLocation, cfsim.FaultZonesDenied) || done(badToken) // all zones are denied
		default:
			founded = true
		}
		if !founded {
			w.report("%s tells %s, and nothing was done for it", name, s)
		}
	}
}

func compact(heard []signal) []signal {
	slices.SortFunc(heard, func(a, b signal) int { return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.About, b.About)) })
	return slices.Compact(heard)
}

// checkQuiet: at the end nothing is told any more but what stays: what is stored
// and cannot be read, and a share that is too small.
func (w *world) checkQuiet() {
	for _, name := range collectors {
		for _, s := range w.problems(name) {
			switch {
			case s.Code == "STORE_UNREADABLE" && w.unreadable.written:
			case s.Code == "BUDGET_SHORT" && w.Starved:
			case slices.Contains(w.Refusing, s):
			case s.Code == "BACKFILL_STALLED" && w.waits(s.About):
			default:
				w.report("%s tells at the end: %s", name, s)
			}
		}
	}
}
