package settle

import (
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Dataset holds the readings of one dataset that are not final yet.
type Dataset struct {
	policy Policy
	scopes map[bucket.Scope]*scope
	// delayedFrom is the first window of an outage of the dataset that goes on,
	// 0 if none.
	delayedFrom bucket.Time
	// holes are the windows that look suspect in too many scopes at once.
	holes map[bucket.Time]bool
	tally tally
}

type scope struct {
	firstSeen bucket.Time
	history   []level // newest last, at most historyLen, of final buckets
	pending   map[bucket.Time]*pending
	// ordinary is the newest window that was ever read with ordinary rows, or is
	// closed and has any.
	ordinary bucket.Time
	// hole is the first window of the suspect ones that the scope's data ends
	// with; 0 when it ends with an ordinary one.
	hole bucket.Time
	// keeps is how long Cloudflare keeps the scope's data; 0: not known.
	keeps time.Duration
	// ended: the scope is not collected any more, so that its last windows are
	// silent whatever the dataset does.
	ended bool

	// What the scope counts for in the tally: nothing while counts is false. Then
	// expires is when that changes by itself, 0: never, and awaited under which time
	// it is among the expiries, 0: it is not.
	counts           bool
	shares           []share
	expires, awaited bucket.Time
}

type level struct {
	start bucket.Time
	value float64
	empty bool
}

// pending is what is remembered of a window that is not final.
type pending struct {
	digest  uint64
	first   bucket.Time   // first reading
	since   bucket.Time   // first reading with this digest
	last    bucket.Time   // newest reading that counted
	counted bool          // the newest reading did
	equal   int           // readings in a row with this digest
	past    time.Duration // how far past the window the data of the newest answer had come
	whole   int           // readings in a row that were equal and in whose answers it had come far enough
	after   bucket.Time   // since when all were ordinary and it had; 0: the newest was not or it had not
	late    bool          // first read after the deadline
	sampled bool          // the newest reading was
	once    bool          // was suspect or doubtful at some time
	low     bool          // the newest reading looked suspect
	usual   float64       // the level that the scope had before
	traffic bool          // the scope had traffic when it was last judged
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

// Past is what the store knows of a scope.
type Past struct {
	FirstSeen bucket.Time
	// Keeps is how long Cloudflare keeps the scope's data; 0: not known.
	Keeps time.Duration
	// Recent are the scope's newest final buckets, ascending.
	Recent []Final
	// Suspect are the windows that were suspect when the last leader stopped.
	Suspect []bucket.Time
}

// Restore tells what the store knows of a scope. It must be called before the
// scope's first reading.
func (d *Dataset) Restore(s bucket.Scope, past Past) {
	sc := &scope{firstSeen: past.FirstSeen, keeps: past.Keeps, pending: map[bucket.Time]*pending{}}
	for _, f := range past.Recent {
		sc.remember(f)
	}
	for _, start := range past.Suspect {
		sc.pending[start] = &pending{once: true}
		if start > sc.ordinary && (sc.hole == 0 || start < sc.hole) {
			sc.hole = start
		}
	}
	d.Forget(s)
	d.scopes[s] = sc
	d.tally.changed[sc] = true
}

// Expire forgets the readings of windows that are no longer wanted.
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

// End tells whether a scope has ended, by a pause say: what is open of it is still
// judged, and its silence says nothing about the dataset. A scope that is not known
// is left alone.
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

// Again is when the next reading of a window may count: zero for a window that
// was never read.
func (d *Dataset) Again(s bucket.Scope, start bucket.Time) bucket.Time {
	sc := d.scopes[s]
	if sc == nil {
		return 0
	}
	p := sc.pending[start]
	if p == nil || p.last == 0 {
		return 0
	}
	return d.again(p, start)
}

// Read reports whether a window was read by this leader and is not final.
func (d *Dataset) Read(s bucket.Scope, start bucket.Time) bool {
	sc := d.scopes[s]
	return sc != nil && sc.pending[start] != nil && sc.pending[start].last != 0
}

// Reason is why a window is not final, as far as readings tell.
func (d *Dataset) Reason(s bucket.Scope, start bucket.Time) Reason {
	sc := d.scopes[s]
	if sc == nil || sc.pending[start] == nil {
		return None
	}
	return d.reason(sc.pending[start], start)
}

// Stored tells that a bucket was committed: its readings are forgotten and it
// becomes part of the scope's level.
func (d *Dataset) Stored(s bucket.Scope, f Final) {
	if sc := d.scopes[s]; sc != nil {
		d.tally.change(sc)
		delete(sc.pending, f.Start)
		sc.remember(f)
		sc.closeHole()
	}
}

// Note takes the readings that one answer brought at time now, by scope, each
// ascending by window; those that are not due are closed. Nothing is judged
// yet: whether a scope or the dataset is late shows only when all
// readings of an answer are in. Every scope must have been restored.
func (d *Dataset) Note(now bucket.Time, answer map[bucket.Scope][]Reading) {
	for s, readings := range answer {
		d.tally.change(d.scopes[s])
		d.scopes[s].take(d.policy, now, readings)
	}
	d.judgeDelay(now)
}

// Hole is the first of the suspect windows that a scope's data ends with, as far
// as this dataset shows; 0 when it ends with an ordinary one.
func (d *Dataset) Hole(s bucket.Scope) bucket.Time {
	if sc := d.scopes[s]; sc != nil {
		return sc.hole
	}
	return 0
}

// Judge decides on readings that were noted at the same time. hole is the first
// hole that any dataset of the scope shows, or 0: one of long buckets shows a
// delay only as a bucket that fills slowly, and learns from the others that it
// is one. Closed readings get an empty verdict.
func (d *Dataset) Judge(now bucket.Time, s bucket.Scope, readings []Reading, hole bucket.Time) []Verdict {
	sc := d.scopes[s]
	verdicts := make([]Verdict, len(readings))
	for i, r := range readings {
		if r.Closed {
			continue
		}
		p, end := sc.pending[r.Start], r.Start.Add(d.policy.Size)
		if hole != 0 && end > hole.Add(-doubt) {
			p.once = true
		}
		verdicts[i] = d.judge(sc, now, r)
	}
	return verdicts
}

// reached is how far past the window of reading i the data of its answer has
// come, as the rows tell: at least one nanosecond where there is anything. Up to
// the end of the next window it is told from how much of this one's level that has.
func (p Policy) reached(readings []Reading, i int) time.Duration {
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

// follow counts a reading, if the data of its answer has come far enough.
func (p *pending) follow(now bucket.Time) {
	switch {
	case p.past < Enough || p.low:
		p.after, p.whole = 0, 0 // not for good: another answer may show more
	case p.after == 0:
		p.after = now
		fallthrough
	default:
		if p.counted {
			p.whole++
		}
	}
}

// take notes the readings and marks what is suspect or doubtful.
func (sc *scope) take(policy Policy, now bucket.Time, readings []Reading) {
	// Levels are judged in ascending order against final buckets and, in a
	// catch-up, against the ordinary readings before them in this very answer.
	recent := slices.Clone(sc.history)
	low := make([]bool, len(readings))
	for i, r := range readings {
		if r.Closed {
			// Any row will do: it may be the window that fills just now.
			if low[i] = r.Empty; !r.Empty {
				sc.ordinary = max(sc.ordinary, r.Start)
			}
			continue
		}
		low[i] = suspect(recent, r, policy.Size)
		p := sc.pending[r.Start]
		if p == nil {
			p = &pending{late: now.Sub(r.Start.Add(policy.Size)) > policy.Deadline}
			sc.pending[r.Start] = p
		}
		p.note(now, r)
		p.usual = r.Level // of a new scope nothing else is known
		if known := before(recent, r.Start, policy.Size); len(known) > 0 {
			p.usual = median(known)
		}
		p.low, p.traffic = low[i], hasTraffic(recent) || !r.Empty
		p.once = p.once || p.low
		p.past = policy.reached(readings, i)
		if age := now.Sub(r.Start.Add(policy.Size)); !p.low && age >= SuspectAge {
			p.past = max(p.past, Beyond) // it was filled long ago
		}
		p.follow(now)
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

// closeHole ends a hole of which nothing is left to wait for: its silence was
// believed, and says nothing about what comes after it.
func (sc *scope) closeHole() {
	if sc.hole == 0 {
		return
	}
	for start, p := range sc.pending {
		if start >= sc.hole && (p.low || p.last == 0) {
			return
		}
	}
	sc.hole = 0
}

// findHole looks at what the scope's data ends with. Silence that was believed
// says nothing about it.
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

// note counts a reading, if it is far enough from the one before.
func (p *pending) note(now bucket.Time, r Reading) {
	if p.first == 0 {
		p.first = now
	}
	p.sampled, p.counted = r.Sampled, true
	switch {
	case p.last == 0 || p.digest != r.Digest:
		p.digest, p.since, p.equal, p.whole = r.Digest, now, 1, 0
	case now.Sub(p.last) >= Spacing:
		p.equal++
	default:
		p.counted = false // too close to be a second opinion
		return
	}
	p.last = now
}

// doubtful windows need two equal readings ten minutes apart.
func (p *pending) doubtful() bool { return p.once || p.past == 0 }

// agreed reports whether the readings of a window were the same for ten minutes;
// sampled ones, which never are, ordinary and not the last of the data for as long.
func (p *pending) agreed(now bucket.Time) bool {
	return now.Sub(p.since) >= AgreeApart || p.sampled && p.after != 0 && now.Sub(p.after) >= AgreeApart
}

func (d *Dataset) judge(sc *scope, now bucket.Time, r Reading) Verdict {
	p := sc.pending[r.Start]
	age := now.Sub(r.Start.Add(d.policy.Size))
	v := Verdict{Start: r.Start, First: p.first, Since: p.since, Equal: p.equal}
	switch {
	case d.late(p, r.Start) && age < DelayedAge:
	case p.doubtful(), p.past < Enough:
		if sc.overcome(p, r, now, age, d.policy.Size) {
			v.Final = bucket.SuspectConfirmed
		}
	case p.past >= Beyond && (p.late || p.sampled), p.whole >= d.policy.Confirm, p.whole > 0 && p.agreed(now):
		v.Final = bucket.Confirmed
	case age >= d.policy.Deadline && p.past >= Beyond:
		v.Final = bucket.Deadline
	}
	if v.Final == 0 {
		v.Reason, v.Again = d.reason(p, r.Start), d.again(p, r.Start)
	}
	return v
}

// patience is the age at which the silence of a window is believed by itself.
func (sc *scope) patience(start bucket.Time, size time.Duration) time.Duration {
	limit := SuspectAge
	if start.Add(size).Sub(sc.firstSeen) < YoungAge {
		limit = YoungAge
	}
	if sc.keeps > 0 {
		// Waiting until Cloudflare drops the data would turn a quiet zone's
		// zeros into losses.
		limit = min(limit, max(sc.keeps-keepMargin-2*size, sc.keeps/2))
	}
	return limit
}

// overcome says whether a window that was suspect or doubtful may be believed.
func (sc *scope) overcome(p *pending, r Reading, now bucket.Time, age, size time.Duration) bool {
	if age >= sc.patience(r.Start, size) {
		return true
	}
	// What came after must be in the same answer: another answer may have come
	// from where the data had arrived. Data may also stand still in the middle of
	// a window, so that silence after it tells nothing where there never is any.
	expected := p.usual * min(1, float64(age)/float64(size))
	return p.agreed(now) && (p.past >= Enough || !p.low && expected < lowMedian)
}

// late reports whether a window waits because the dataset is late.
func (d *Dataset) late(p *pending, start bucket.Time) bool {
	return d.delayedFrom != 0 && start >= d.delayedFrom || p.low && d.holes[start]
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

// again: a window that only settles is read every minute; one that must agree
// over ten minutes when these are over, or, if it agreed and something else is
// missing, ten minutes after it was last read.
func (d *Dataset) again(p *pending, start bucket.Time) bucket.Time {
	switch {
	case p.doubtful() || d.late(p, start):
	case p.sampled && p.past < Beyond:
		// Equal readings are not to be hoped for: when enough may have come after.
		return max(p.last.Add(Spacing), start.Add(d.policy.Size+Beyond+2*Spacing))
	case p.past < Enough && p.last.Sub(p.since) >= AgreeApart:
		return p.last.Add(AgreeApart)
	case p.past < Enough:
		// Of an hour, what comes after a peak takes its time to be enough.
		return p.last.Add(max(Spacing, min(AgreeApart, d.policy.Size/12)))
	default:
		return p.last.Add(Spacing)
	}
	if due := p.since.Add(AgreeApart); due > p.last {
		return due
	}
	return p.last.Add(AgreeApart)
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
