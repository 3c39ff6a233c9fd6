package settle

import (
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Dataset holds the pending windows of one dataset.
type Dataset struct {
	policy Policy
	scopes map[bucket.Scope]*scope
	// delayedFrom is the first window of a current delay of the whole dataset, 0 if
	// there is none.
	delayedFrom bucket.Time
	// holes are the windows that look suspect in too many scopes at once.
	holes map[bucket.Time]bool
	tally tally
}

type scope struct {
	firstSeen bucket.Time
	history   []level // newest last, at most historyLen, of final buckets
	pending   map[bucket.Time]*pending
	// ordinary is the newest window that was ever read with an ordinary level, or is
	// closed and has rows.
	ordinary bucket.Time
	// hole is the first of the suspect windows at the end of the scope's data; 0 if
	// the data ends with an ordinary window.
	hole bucket.Time
	// keeps is how long Cloudflare keeps the scope's data; 0: unknown.
	keeps time.Duration
	// ended: the scope is no longer collected, so that its last windows are empty
	// whether or not the dataset is late.
	ended bool

	// The scope's contribution to the tally; none while counts is false. expires is
	// when it changes by itself, 0: never. awaited is the time of its element among
	// the expiries, 0: it has none.
	counts           bool
	shares           []share
	expires, awaited bucket.Time
}

type level struct {
	start bucket.Time
	value float64
	empty bool
}

// pending is the state of a window that is not final.
type pending struct {
	digest      uint64      // of the newest reading
	firstRead   bucket.Time // first reading
	sameSince   bucket.Time // first reading with this digest
	lastCounted bucket.Time // newest reading that counted; 0: none by this leader
	counted     bool        // the newest reading counted
	equal       int         // consecutive readings with this digest
	// Lead is how far past the window the data of the newest response lies.
	lead time.Duration
	// confirmations counts consecutive equal readings whose responses had enough lead.
	confirmations int
	// leadSince is since when all readings were ordinary and had enough lead; 0: the
	// newest was not ordinary or had too little.
	leadSince    bucket.Time
	overdue      bool    // first read after the deadline
	sampled      bool    // the newest reading was sampled
	everSuspect  bool    // was suspect or doubtful at some time
	looksSuspect bool    // the newest reading was suspect
	usualLevel   float64 // the scope's level before this window
	hadTraffic   bool    // the scope had traffic when the window was last read
}

// New returns a Dataset without readings.
func New(p Policy) *Dataset {
	return &Dataset{policy: p, scopes: map[bucket.Scope]*scope{}, holes: map[bucket.Time]bool{}, tally: newTally()}
}

// Known reports whether the scope was given to [Dataset.Restore].
func (d *Dataset) Known(s bucket.Scope) bool { return d.scopes[s] != nil }

// Final is a stored bucket as far as the rules need it.
type Final struct {
	Start bucket.Time
	Level float64
	Empty bool
}

// Past is what is stored of a scope.
type Past struct {
	FirstSeen bucket.Time
	// Keeps is how long Cloudflare keeps the scope's data; 0: unknown.
	Keeps time.Duration
	// Recent are the scope's newest final buckets, ascending.
	Recent []Final
	// Suspect are the windows that were suspect when the last leader stopped.
	Suspect []bucket.Time
}

// Restore adds a scope with what is stored of it. It must be called before the scope's
// first reading.
func (d *Dataset) Restore(s bucket.Scope, past Past) {
	sc := &scope{firstSeen: past.FirstSeen, keeps: past.Keeps, pending: map[bucket.Time]*pending{}}
	for _, f := range past.Recent {
		sc.remember(f)
	}
	for _, start := range past.Suspect {
		sc.pending[start] = &pending{everSuspect: true}
		if start > sc.ordinary && (sc.hole == 0 || start < sc.hole) {
			sc.hole = start
		}
	}
	d.Forget(s)
	d.scopes[s] = sc
	d.tally.changed[sc] = true
}

// Expire drops the pending windows before the horizon.
func (d *Dataset) Expire(s bucket.Scope, horizon bucket.Time) {
	sc := d.scopes[s]
	if sc == nil {
		return
	}
	for start := range sc.pending {
		if start < horizon {
			d.tally.change(sc)
			delete(sc.pending, start)
		}
	}
	sc.closeHole()
}

// End sets whether a scope has ended, for instance because it was paused: its pending
// windows are still judged, but its empty windows say nothing about the dataset. An
// unknown scope is ignored.
func (d *Dataset) End(s bucket.Scope, ended bool) {
	if sc := d.scopes[s]; sc != nil && sc.ended != ended {
		d.tally.change(sc)
		sc.ended = ended
	}
}

// Forget drops a scope that is no longer collected.
func (d *Dataset) Forget(s bucket.Scope) {
	if sc := d.scopes[s]; sc != nil {
		d.tally.forget(sc)
		delete(d.scopes, s)
	}
}

// Again is when the next reading of a window can count; zero for a window that was never
// read.
func (d *Dataset) Again(s bucket.Scope, start bucket.Time) bucket.Time {
	sc := d.scopes[s]
	if sc == nil {
		return 0
	}
	p := sc.pending[start]
	if p == nil || p.lastCounted == 0 {
		return 0
	}
	return d.nextReading(p, start)
}

// Read reports whether a window was read by this leader and is not final.
func (d *Dataset) Read(s bucket.Scope, start bucket.Time) bool {
	sc := d.scopes[s]
	return sc != nil && sc.pending[start] != nil && sc.pending[start].lastCounted != 0
}

// Reason is why a window is not final, according to its readings.
func (d *Dataset) Reason(s bucket.Scope, start bucket.Time) Reason {
	sc := d.scopes[s]
	if sc == nil || sc.pending[start] == nil {
		return None
	}
	return d.reason(sc.pending[start], start)
}

// Stored records that a bucket was committed: the window is no longer pending and becomes
// part of the scope's history.
func (d *Dataset) Stored(s bucket.Scope, f Final) {
	if sc := d.scopes[s]; sc != nil {
		d.tally.change(sc)
		delete(sc.pending, f.Start)
		sc.remember(f)
		sc.closeHole()
	}
}

// Note adds the readings of one response at time now, by scope, each ascending by window;
// those that are not due are closed. It does not judge them: whether a scope or the
// dataset is late is known only after all readings of a response. Every scope must have
// been restored.
func (d *Dataset) Note(now bucket.Time, response map[bucket.Scope][]Reading) {
	for s, readings := range response {
		d.tally.change(d.scopes[s])
		d.scopes[s].take(d.policy, now, readings)
	}
	d.judgeDelay(now)
}

// Hole is the first of the suspect windows at the end of a scope's data in this dataset; 0
// if the data ends with an ordinary window, or if most of the windows before had no rows
// either: then the hole says nothing about other datasets.
func (d *Dataset) Hole(s bucket.Scope) bucket.Time {
	sc := d.scopes[s]
	if sc == nil || sc.hole == 0 {
		return 0
	}
	known := before(sc.history, sc.hole, d.policy.Size)
	if len(known) == 0 {
		known = sc.history // of long ago
	}
	if p := sc.pending[sc.hole]; p != nil && p.usualLevel > 0 || median(known) > 0 {
		return sc.hole
	}
	return 0
}

// Judge decides on readings that were noted at the same time. hole is the earliest hole of
// any dataset of the scope, or 0: in a dataset of long buckets a delay is visible only as
// a bucket that fills slowly, so it needs the holes of the others. Closed readings get an
// empty verdict.
func (d *Dataset) Judge(now bucket.Time, s bucket.Scope, readings []Reading, hole bucket.Time) []Verdict {
	sc := d.scopes[s]
	verdicts := make([]Verdict, len(readings))
	for i, r := range readings {
		if r.Closed {
			continue
		}
		p, end := sc.pending[r.Start], r.Start.Add(d.policy.Size)
		if hole != 0 && end > hole.Add(-doubt) {
			p.everSuspect = true
		}
		verdicts[i] = d.judge(sc, now, r)
	}
	return verdicts
}

// Lead is how far past the window of reading i the data of its response lies. It is inferred
// from the response: the distance to its newest non-empty window, at least one nanosecond if
// there is one. If that is the next window, the lead is as large a share of it as its
// level is of this window's level.
func (p Policy) Lead(readings []Reading, i int) time.Duration {
	end := readings[i].Start.Add(p.Size)
	for _, r := range slices.Backward(readings[i+1:]) {
		switch {
		case r.Empty:
		case r.Start > end:
			return r.Start.Sub(end)
		case readings[i].Level <= 0:
			return p.Size
		default:
			share := min(1, r.Level/readings[i].Level)
			if p.Distinct {
				share /= distinct
			}
			return max(1, time.Duration(share*float64(p.Size)))
		}
	}
	return 0
}

// confirm counts a reading as a confirmation if its response has enough lead.
func (p *pending) confirm(now bucket.Time) {
	switch {
	case p.lead < Enough || p.looksSuspect:
		p.leadSince, p.confirmations = 0, 0 // another response may have more lead
	case p.leadSince == 0:
		p.leadSince = now
		fallthrough
	default:
		if p.counted {
			p.confirmations++
		}
	}
}

// take adds the readings and marks suspect and doubtful windows.
func (sc *scope) take(policy Policy, now bucket.Time, readings []Reading) {
	// Levels are compared in ascending order with final buckets and, in a catch-up, with
	// the ordinary readings before them in the same response.
	recent := slices.Clone(sc.history)
	low := make([]bool, len(readings))
	for i, r := range readings {
		if r.Closed {
			// Any row is enough: it may be the window that is filling now.
			if low[i] = r.Empty; !r.Empty {
				sc.ordinary = max(sc.ordinary, r.Start)
			}
			continue
		}
		low[i] = suspect(recent, r, policy.Size)
		p := sc.pending[r.Start]
		if p == nil {
			p = &pending{overdue: now.Sub(r.Start.Add(policy.Size)) > policy.Deadline}
			sc.pending[r.Start] = p
		}
		p.note(now, r)
		p.usualLevel = r.Level // a new scope has no history
		if known := before(recent, r.Start, policy.Size); len(known) > 0 {
			p.usualLevel = median(known)
		}
		p.looksSuspect, p.hadTraffic = low[i], hasTraffic(recent) || !r.Empty
		p.everSuspect = p.everSuspect || p.looksSuspect
		p.lead = policy.Lead(readings, i)
		if age := now.Sub(r.Start.Add(policy.Size)); !p.looksSuspect && age >= SuspectAge {
			p.lead = max(p.lead, Beyond) // old enough to be complete
		}
		p.confirm(now)
		if low[i] {
			continue
		}
		if !r.Empty {
			sc.ordinary = max(sc.ordinary, r.Start)
		}
		recent = push(recent, level{r.Start, r.Level, r.Empty})
	}
	sc.findHole(readings, low)
}

// closeHole ends a hole that has no pending windows left: its emptiness was confirmed, and
// says nothing about later windows.
func (sc *scope) closeHole() {
	if sc.hole == 0 {
		return
	}
	for start, p := range sc.pending {
		if start >= sc.hole && (p.looksSuspect || p.lastCounted == 0) {
			return
		}
	}
	sc.hole = 0
}

// findHole sets the hole at the end of the scope's data. Confirmed empty windows do not
// count.
func (sc *scope) findHole(readings []Reading, low []bool) {
	hole, ordinary := bucket.Time(0), bucket.Time(0)
	for i, r := range readings {
		switch {
		case r.Closed && low[i]:
		case !low[i]:
			hole, ordinary = 0, r.Start
		case hole == 0:
			hole = r.Start
		}
	}
	switch {
	case hole != 0:
		sc.hole = hole
	case ordinary >= sc.hole:
		sc.hole = 0
	}
}

// note adds a reading, and counts it if it is far enough from the previous one.
func (p *pending) note(now bucket.Time, r Reading) {
	if p.firstRead == 0 {
		p.firstRead = now
	}
	p.sampled, p.counted = r.Sampled, true
	switch {
	case p.lastCounted == 0 || p.digest != r.Digest:
		p.digest, p.sameSince, p.equal, p.confirmations = r.Digest, now, 1, 0
	case now.Sub(p.lastCounted) >= Spacing:
		p.equal++
	default:
		p.counted = false // too close to the previous reading
		return
	}
	p.lastCounted = now
}

// doubtful reports whether the window needs two equal readings ten minutes apart.
func (p *pending) doubtful() bool { return p.everSuspect || p.lead == 0 }

// agreed reports whether the readings of a window have been equal for ten minutes.
// Sampled readings never are: they must have been ordinary, with enough lead, for as long.
func (p *pending) agreed(now bucket.Time) bool {
	return now.Sub(p.sameSince) >= AgreeApart || p.sampled && p.leadSince != 0 && now.Sub(p.leadSince) >= AgreeApart
}

func (d *Dataset) judge(sc *scope, now bucket.Time, r Reading) Verdict {
	p := sc.pending[r.Start]
	age := now.Sub(r.Start.Add(d.policy.Size))
	v := Verdict{Start: r.Start, First: p.firstRead, Since: p.sameSince, Equal: p.equal}
	switch {
	case d.late(p, r.Start) && age < DelayedAge:
	case p.doubtful(), p.lead < Enough:
		if sc.credible(p, r, now, age, d.policy.Size) {
			v.Final = bucket.SuspectConfirmed
		}
	case p.lead >= Beyond && (p.overdue || p.sampled), p.confirmations >= d.policy.Confirm, p.confirmations > 0 && p.agreed(now):
		v.Final = bucket.Confirmed
	case age >= d.policy.Deadline && p.lead >= Beyond:
		v.Final = bucket.Deadline
	}
	if v.Final == 0 {
		v.Reason, v.Again = d.reason(p, r.Start), d.nextReading(p, r.Start)
	}
	return v
}

// credibleAge is the age at which a suspect window is final without further evidence.
func (sc *scope) credibleAge(start bucket.Time, size time.Duration) time.Duration {
	limit := SuspectAge
	if start.Add(size).Sub(sc.firstSeen) < YoungAge {
		limit = YoungAge
	}
	if sc.keeps > 0 {
		// Waiting until Cloudflare drops the data would turn the zeros of a quiet zone
		// into lost windows.
		limit = min(limit, max(sc.keeps-keepMargin-2*size, sc.keeps/2))
	}
	return limit
}

// credible reports whether a suspect or doubtful window may become final.
func (sc *scope) credible(p *pending, r Reading, now bucket.Time, age, size time.Duration) bool {
	if age >= sc.credibleAge(r.Start, size) {
		// One response may be empty by mistake, whatever the age of the window. Only if
		// Cloudflare drops the window before it can be read again, one reading must do.
		return p.agreed(now) || sc.keeps > 0 && age >= sc.keeps-2*size-lastChance
	}
	// The lead must be that of the same response: another response may come from a replica
	// with newer data. Data may also stop arriving in the middle of a window. So without
	// enough lead an ordinary window is credible only if little traffic is expected after it.
	expected := p.usualLevel * min(1, float64(age)/float64(size))
	return p.agreed(now) && (p.lead >= Enough || !p.looksSuspect && expected < lowMedian)
}

// late reports whether a window waits because the whole dataset is late.
func (d *Dataset) late(p *pending, start bucket.Time) bool {
	return d.delayedFrom != 0 && start >= d.delayedFrom || p.looksSuspect && d.holes[start]
}

func (d *Dataset) reason(p *pending, start bucket.Time) Reason {
	switch {
	case d.late(p, start):
		return Delayed
	case p.doubtful():
		return Suspect
	}
	return Settling
}

// nextReading is when the next reading of a window can count. An ordinary window is read
// every minute. One that needs equal readings ten minutes apart is read after that time
// or, if it has them and something else is missing, ten minutes after its last reading.
func (d *Dataset) nextReading(p *pending, start bucket.Time) bucket.Time {
	switch {
	case p.doubtful() || d.late(p, start):
	case p.sampled && p.lead < Beyond:
		// Sampled readings are never equal: read again when the lead may be enough.
		return max(p.lastCounted.Add(Spacing), start.Add(d.policy.Size+Beyond+2*Spacing))
	case p.lead < Enough && p.lastCounted.Sub(p.sameSince) >= AgreeApart:
		return p.lastCounted.Add(AgreeApart)
	case p.lead < Enough:
		// After an hour with a peak, the next window needs longer for enough lead.
		return p.lastCounted.Add(max(Spacing, min(AgreeApart, d.policy.Size/12)))
	default:
		return p.lastCounted.Add(Spacing)
	}
	if due := p.sameSince.Add(AgreeApart); due > p.lastCounted {
		// A reading before that would not count, and the window would be read again at once.
		return max(due, p.lastCounted.Add(Spacing))
	}
	return p.lastCounted.Add(AgreeApart)
}

func (sc *scope) remember(f Final) {
	i := len(sc.history)
	for i > 0 && sc.history[i-1].start > f.Start {
		i--
	}
	sc.history = slices.Insert(sc.history, i, level{f.Start, f.Level, f.Empty})
	if over := len(sc.history) - historyLen; over > 0 {
		sc.history = slices.Delete(sc.history, 0, over)
	}
	if !f.Empty {
		sc.ordinary = max(sc.ordinary, f.Start)
	}
}
