package settle_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

const size = 5 * time.Minute

var (
	zone   = bucket.Scope{Kind: bucket.Zone, ID: "0000000000000000000000000000000a"}
	policy = settle.Policy{Size: size, Confirm: 2, Deadline: 20 * time.Minute}
	noon   = bucket.Time(1_795_262_400) // 2026-11-21T12:00:00Z
)

// look reads the window that starts at start and ends the story's sentence.
func look(t *testing.T, d *settle.Dataset, now, start bucket.Time, level float64) settle.Verdict {
	t.Helper()
	return observe(d, now, map[bucket.Scope][]settle.Reading{zone: {reading(start, level)}})[zone][0]
}

// lookBefore does the same in an answer that also shows the window after it,
// ordinary and final.
func lookBefore(t *testing.T, d *settle.Dataset, now, start bucket.Time, level float64) settle.Verdict {
	t.Helper()
	later := reading(start.Add(size), 100)
	later.Closed = true
	return observe(d, now, map[bucket.Scope][]settle.Reading{zone: {reading(start, level), later}})[zone][0]
}

// lookAgainst does the same with so much of the window after it, of 100.
func lookAgainst(t *testing.T, d *settle.Dataset, now, start bucket.Time, level, next float64) settle.Verdict {
	t.Helper()
	later := reading(start.Add(size), next)
	later.Closed = true
	return observe(d, now, map[bucket.Scope][]settle.Reading{zone: {reading(start, level), later}})[zone][0]
}

// lookFar does the same in an answer that shows two windows after it.
func lookFar(t *testing.T, d *settle.Dataset, now, start bucket.Time, level float64) settle.Verdict {
	t.Helper()
	answer := []settle.Reading{reading(start, level), reading(start.Add(size), 100), reading(start.Add(2*size), 100)}
	answer[1].Closed, answer[2].Closed = true, true
	return observe(d, now, map[bucket.Scope][]settle.Reading{zone: answer})[zone][0]
}

// observe notes an answer and judges it by what this dataset alone shows.
func observe(d *settle.Dataset, now bucket.Time, answer map[bucket.Scope][]settle.Reading) map[bucket.Scope][]settle.Verdict {
	d.Note(now, answer)
	out := map[bucket.Scope][]settle.Verdict{}
	for s, readings := range answer {
		out[s] = d.Judge(now, s, readings, d.Hole(s))
	}
	return out
}

func reading(start bucket.Time, level float64) settle.Reading {
	return settle.Reading{Start: start, Digest: uint64(level*8) + 1, Level: level, Empty: level == 0}
}

// busy is a scope that was seen long ago and had about 100 in each of its last
// twelve windows before noon.
func busy() []settle.Final { return level(100) }

func level(usual float64) []settle.Final {
	var out []settle.Final
	for i := range 12 {
		out = append(out, settle.Final{Start: noon.Add(-time.Duration(12-i) * size), Level: usual, Empty: usual == 0})
	}
	return out
}

func newDataset(recent []settle.Final, suspect ...bucket.Time) *settle.Dataset {
	d := settle.New(policy)
	d.Restore(zone, settle.Past{FirstSeen: noon.Add(-72 * time.Hour), Recent: recent, Suspect: suspect})
	return d
}

func wantFinal(t *testing.T, v settle.Verdict, want bucket.Finality) {
	t.Helper()
	if v.Final != want {
		t.Fatalf("final ground is %d, want %d (reason %d, again at %s)", v.Final, want, v.Reason, v.Again)
	}
}

func wantWait(t *testing.T, v settle.Verdict, reason settle.Reason, again bucket.Time) {
	t.Helper()
	if v.Final != 0 || v.Reason != reason || v.Again != again {
		t.Fatalf("got final %d reason %d again %s, want to wait for reason %d until %s", v.Final, v.Reason, v.Again, reason, again)
	}
}

// at is a time so long after the end of the window that starts at noon.
func at(age time.Duration) bucket.Time { return noon.Add(size + age) }

func TestEqualReadingsAMinuteApartAreFinal(t *testing.T) {
	d := newDataset(busy())
	wantWait(t, lookBefore(t, d, at(5*time.Minute), noon, 90), settle.Settling, at(6*time.Minute))
	wantFinal(t, lookBefore(t, d, at(6*time.Minute), noon, 90), bucket.Confirmed)
}

// A verdict tells how settling went: when the window was first read, and since
// when as it is stored.
func TestAVerdictTellsSinceWhen(t *testing.T) {
	d := newDataset(busy())
	for i, level := range []float64{80, 88, 88} {
		v := lookBefore(t, d, at(time.Duration(5+i)*time.Minute), noon, level)
		if i < 2 {
			continue
		}
		wantFinal(t, v, bucket.Confirmed)
		if v.First != at(5*time.Minute) || v.Since != at(6*time.Minute) || v.Equal != 2 {
			t.Errorf("first %s, since %s, %d equal; want the readings after 5 and after 6 minutes, two of them equal", v.First, v.Since, v.Equal)
		}
	}
}

func TestReadingsCloserThanAMinuteCountOnce(t *testing.T) {
	d := newDataset(busy())
	lookBefore(t, d, at(5*time.Minute), noon, 90)
	if v := lookBefore(t, d, at(5*time.Minute+59*time.Second), noon, 90); v.Final != 0 {
		t.Fatal("two readings 59 s apart were taken for two opinions")
	}
}

func TestAStragglerIsReadUntilItStandsStill(t *testing.T) {
	d := newDataset(busy())
	lookBefore(t, d, at(5*time.Minute), noon, 60)
	wantWait(t, lookBefore(t, d, at(6*time.Minute), noon, 100), settle.Settling, at(7*time.Minute))
	wantFinal(t, lookBefore(t, d, at(7*time.Minute), noon, 100), bucket.Confirmed)
}

func TestTheDeadlineStoresTheLastReading(t *testing.T) {
	d := newDataset(busy())
	for i := range 15 {
		if v := lookBefore(t, d, at(time.Duration(5+i)*time.Minute), noon, float64(80+i)); v.Final != 0 {
			t.Fatalf("reading %d was final although it differed", i)
		}
	}
	wantFinal(t, lookBefore(t, d, at(20*time.Minute), noon, 99), bucket.Deadline)
}

func TestAWindowFirstReadAfterItsDeadlineNeedsOneReading(t *testing.T) {
	d := newDataset(busy())
	wantFinal(t, lookFar(t, d, at(20*time.Minute+time.Second), noon, 90), bucket.Confirmed)
	d = newDataset(busy())
	wantFinal(t, look(t, d, at(6*time.Hour), noon, 90), bucket.Confirmed)
}

// First rows of what came after may be there while the last ones of the window
// are not. A reading counts when there are two minutes' worth of them, by what the
// window itself has; where no equal one is waited for it takes five.
func TestFirstRowsOfTheNextWindowAreNotEnough(t *testing.T) {
	late := at(25 * time.Minute)
	t.Run("equal readings", func(t *testing.T) {
		d := newDataset(busy())
		for age := 5; age < 15; age++ { // it stands still
			if v := lookAgainst(t, d, at(time.Duration(age)*time.Minute), noon, 90, 30); v.Final != 0 {
				t.Fatalf("stored %d minutes after its end, with a minute and a half of what came after", age)
			}
		}
		wantWait(t, lookAgainst(t, d, at(15*time.Minute), noon, 100, 45), settle.Settling, at(16*time.Minute))
		wantFinal(t, lookAgainst(t, d, at(16*time.Minute), noon, 100, 60), bucket.Confirmed)
	})
	t.Run("first read after the deadline", func(t *testing.T) {
		d := newDataset(busy())
		wantWait(t, lookAgainst(t, d, late, noon, 90, 80), settle.Settling, late.Add(time.Minute))
		wantFinal(t, lookAgainst(t, d, late.Add(time.Minute), noon, 91, 95), bucket.Confirmed)
	})
	t.Run("at the deadline", func(t *testing.T) {
		d := newDataset(busy())
		for minute := 5; minute < 30; minute++ {
			if v := lookAgainst(t, d, at(time.Duration(minute)*time.Minute), noon, float64(50+minute), 40); v.Final != 0 {
				t.Fatalf("stored %d minutes after its end, while it changed", minute)
			}
		}
		wantFinal(t, lookFar(t, d, at(30*time.Minute), noon, 95), bucket.Deadline)
	})
	t.Run("only one of two equal readings shows them", func(t *testing.T) {
		d := newDataset(busy())
		look(t, d, at(5*time.Minute), noon, 44)
		if v := lookBefore(t, d, at(8*time.Minute), noon, 44); v.Final != 0 {
			t.Fatal("a reading that showed nothing of what came after was counted")
		}
		wantFinal(t, lookBefore(t, d, at(9*time.Minute), noon, 44), bucket.Confirmed)
	})
	t.Run("sampled", func(t *testing.T) {
		d := newDataset(busy())
		wantWait(t, sampled(t, d, late, 80, 40), settle.Settling, late.Add(time.Minute))
		wantFinal(t, sampled(t, d, late.Add(time.Minute), 90, 40, 1), bucket.Confirmed)
		d = newDataset(busy())
		wantWait(t, sampled(t, d, at(5*time.Minute), 80), settle.Suspect, at(15*time.Minute))
		wantWait(t, sampled(t, d, at(8*time.Minute), 90, 50), settle.Settling, at(9*time.Minute))
		wantFinal(t, sampled(t, d, at(9*time.Minute), 91, 70, 10), bucket.Confirmed)
	})
	t.Run("three readings are asked for", func(t *testing.T) {
		three := policy
		three.Confirm = 3
		d := settle.New(three)
		d.Restore(zone, settle.Past{FirstSeen: noon.Add(-72 * time.Hour), Recent: busy()})
		look(t, d, at(5*time.Minute), noon, 44)
		for _, age := range []int{8, 9} {
			if v := lookBefore(t, d, at(time.Duration(age)*time.Minute), noon, 44); v.Final != 0 {
				t.Fatal("a reading that showed nothing of what came after was counted")
			}
		}
		wantFinal(t, lookBefore(t, d, at(10*time.Minute), noon, 44), bucket.Confirmed)
	})
	t.Run("where traffic is rare", func(t *testing.T) { // a burst, a straggling visitor, and nobody
		d := newDataset(level(2))
		wantWait(t, lookAgainst(t, d, at(5*time.Minute), noon, 30, 1), settle.Settling, at(6*time.Minute))
		lookAgainst(t, d, at(6*time.Minute), noon, 30, 1)
		wantFinal(t, lookAgainst(t, d, at(15*time.Minute), noon, 30, 1), bucket.SuspectConfirmed)
	})
	t.Run("a peak", func(t *testing.T) { // of a zone that has fallen silent
		d := newDataset(busy())
		for age := 5; age < 16; age++ {
			lookAgainst(t, d, at(time.Duration(age)*time.Minute), noon, 900, 25)
		}
		wantWait(t, lookAgainst(t, d, at(16*time.Minute), noon, 900, 25), settle.Settling, at(26*time.Minute))
	})
	t.Run("distinct counts", func(t *testing.T) {
		distinct := policy
		distinct.Distinct = true
		d := settle.New(distinct)
		d.Restore(zone, settle.Past{FirstSeen: noon.Add(-72 * time.Hour), Recent: busy()})
		for age := 5; age < 8; age++ {
			if v := lookBefore(t, d, at(time.Duration(age)*time.Minute), noon, 90); v.Final != 0 {
				t.Fatal("the visitors of the next window's first minutes were taken for all of it")
			}
		}
		lookFar(t, d, at(8*time.Minute), noon, 90)
		wantFinal(t, lookFar(t, d, at(9*time.Minute), noon, 90), bucket.Confirmed)
	})
}

// Its answer shows nothing of what came after, so that it may be filling still,
// however late it is and though it stands still for a minute: incidents "An hour
// that nobody watched was stored half filled" and "A node that was late alone".
func TestAWindowThatTheDataEndsWithIsDoubtful(t *testing.T) {
	for _, age := range []time.Duration{5 * time.Minute, 25 * time.Minute} {
		d := newDataset(level(9)) // so that nothing may come for five minutes
		look(t, d, at(age), noon, 4)
		wantWait(t, look(t, d, at(age+time.Minute), noon, 4), settle.Suspect, at(age+10*time.Minute))
		wantWait(t, look(t, d, at(age+10*time.Minute-1), noon, 9), settle.Suspect, at(age+20*time.Minute-1))
		wantFinal(t, look(t, d, at(age+20*time.Minute), noon, 9), bucket.SuspectConfirmed)
	}
	// Nor does its deadline help one that changes still.
	d := newDataset(busy())
	for minute := 5; minute < 30; minute++ {
		if v := look(t, d, at(time.Duration(minute)*time.Minute), noon, float64(40+minute)); v.Final != 0 {
			t.Fatalf("stored %d minutes after its end, while it filled", minute)
		}
	}
}

// Data stands still in the middle of a window for longer than ten minutes. Where
// ten more would have come by now, had all gone on, silence is no sign that the
// window is whole.
func TestAStandstillInTheMiddleOfAWindowIsWaitedFor(t *testing.T) {
	d := newDataset(busy())
	for _, age := range []int{5, 15, 25, 60, 300} {
		r := []settle.Reading{reading(noon, 44), reading(noon.Add(size), 0), reading(noon.Add(2*size), 0)}
		if age == 5 {
			r = r[:1]
		}
		if v := observe(d, at(time.Duration(age)*time.Minute), map[bucket.Scope][]settle.Reading{zone: r})[zone][0]; v.Final != 0 {
			t.Fatalf("44 of 100 were final %d minutes after the end", age)
		}
	}
	lookFar(t, d, at(301*time.Minute), noon, 100)
	wantFinal(t, lookFar(t, d, at(311*time.Minute), noon, 100), bucket.SuspectConfirmed)
	// Of a scope without history the window itself says what is usual.
	d = newDataset(nil)
	look(t, d, at(5*time.Minute), noon, 44)
	if v := look(t, d, at(15*time.Minute), noon, 44); v.Final != 0 {
		t.Fatal("a new scope's first window was final while its data stood still")
	}
	// It did end there: believed as silence is.
	d = newDataset(busy())
	look(t, d, at(5*time.Minute), noon, 44)
	wantFinal(t, look(t, d, at(6*time.Hour), noon, 44), bucket.Confirmed)
}

// sampled is a look at noon in an answer from a sample, with levels of the windows after it.
func sampled(t *testing.T, d *settle.Dataset, now bucket.Time, level float64, after ...float64) settle.Verdict {
	t.Helper()
	answer := []settle.Reading{reading(noon, level)}
	answer[0].Sampled = true
	for i, next := range after {
		answer = append(answer, settle.Reading{Start: noon.Add(time.Duration(1+i) * size), Level: next, Closed: true})
	}
	return observe(d, now, map[bucket.Scope][]settle.Reading{zone: answer})[zone][0]
}

// Another reading of it would differ for ever: it is final by itself, when what
// came after has grown.
func TestASampledReadingIsFinalByItself(t *testing.T) {
	d := newDataset(busy())
	wantWait(t, sampled(t, d, at(5*time.Minute), 80, 50), settle.Settling, at(7*time.Minute))
	wantFinal(t, sampled(t, d, at(7*time.Minute), 90, 80, 10), bucket.Confirmed)
}

// Once it was empty, it must have been ordinary for ten minutes.
func TestASampledWindowOvercomesADoubt(t *testing.T) {
	d := newDataset(busy())
	sampled(t, d, at(5*time.Minute), 0, 50)
	wantWait(t, sampled(t, d, at(15*time.Minute), 80, 100, 100), settle.Suspect, at(25*time.Minute))
	if v := sampled(t, d, at(20*time.Minute), 90, 100, 100); v.Final != 0 {
		t.Fatal("believed after five minutes")
	}
	wantFinal(t, sampled(t, d, at(25*time.Minute), 85, 100, 100), bucket.SuspectConfirmed)
}

// Silence that was believed makes nothing doubtful that comes after it.
func TestABelievedSilenceLeavesNoHole(t *testing.T) {
	d := newDataset(busy())
	look(t, d, at(5*time.Minute), noon, 0)
	if d.Hole(zone) != noon {
		t.Fatalf("hole at %s, want at noon", d.Hole(zone))
	}
	wantFinal(t, look(t, d, at(6*time.Hour), noon, 0), bucket.SuspectConfirmed)
	d.Stored(zone, settle.Final{Start: noon, Empty: true})
	if hole := d.Hole(zone); hole != 0 {
		t.Errorf("a hole at %s is left", hole)
	}
	// One that is still open stays.
	look(t, d, at(7*time.Hour), noon.Add(6*time.Hour+30*time.Minute), 0)
	d.Stored(zone, settle.Final{Start: noon.Add(time.Hour), Level: 100})
	if d.Hole(zone) == 0 {
		t.Error("another window's end closed the hole")
	}
}

func TestEmptyOrFarTooLowIsSuspect(t *testing.T) {
	for _, level := range []float64{0, 19} {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			d := newDataset(busy())
			wantWait(t, look(t, d, at(5*time.Minute), noon, level), settle.Suspect, at(15*time.Minute))
			wantWait(t, look(t, d, at(15*time.Minute), noon, level), settle.Suspect, at(25*time.Minute))
			// Neither the deadline nor any number of equal readings helps, as
			// long as nothing later has arrived.
			if v := look(t, d, at(5*time.Hour+59*time.Minute), noon, level); v.Final != 0 {
				t.Fatal("a suspect window was believed before it was six hours old")
			}
			wantFinal(t, look(t, d, at(6*time.Hour), noon, level), bucket.SuspectConfirmed)
		})
	}
}

func TestSuspectIsBelievedWhenALaterWindowIsOrdinary(t *testing.T) {
	d := newDataset(busy())
	look(t, d, at(5*time.Minute), noon, 0)
	if v := lookBefore(t, d, at(14*time.Minute), noon, 0); v.Final != 0 {
		t.Fatal("two readings nine minutes apart were enough")
	}
	wantFinal(t, lookBefore(t, d, at(15*time.Minute), noon, 0), bucket.SuspectConfirmed)
}

// The false empty: nothing at first, then partly filled, then all.
func TestAFalseEmptyIsNeverStoredHalfFilled(t *testing.T) {
	d := newDataset(busy())
	lookBefore(t, d, at(5*time.Minute), noon, 0)
	lookBefore(t, d, at(31*time.Minute), noon, 44)
	lookBefore(t, d, at(32*time.Minute), noon, 89)
	lookBefore(t, d, at(34*time.Minute), noon, 100)
	if v := lookBefore(t, d, at(43*time.Minute), noon, 100); v.Final != 0 {
		t.Fatal("believed before two equal readings stood ten minutes apart")
	}
	wantFinal(t, lookBefore(t, d, at(44*time.Minute), noon, 100), bucket.SuspectConfirmed)
}

// The same with a change of leader in the middle: the ledger remembers that
// the window was suspect, and one late reading is not enough for it.
func TestSuspicionSurvivesAChangeOfLeader(t *testing.T) {
	d := newDataset(busy(), noon)
	if v := look(t, d, at(32*time.Minute), noon, 44); v.Final != 0 {
		t.Fatal("a half-filled window that was suspect became final by one late reading")
	}
	lookBefore(t, d, at(34*time.Minute), noon, 100)
	wantFinal(t, lookBefore(t, d, at(44*time.Minute), noon, 100), bucket.SuspectConfirmed)
}

// A collector that starts while a zone is late sees ordinary windows, then a
// half-filled one, then a hole. The half-filled one must not be believed.
func TestTheLastWindowBeforeAHoleIsDoubtful(t *testing.T) {
	d := newDataset(busy())
	now := at(31 * time.Minute)
	got := observe(d, now, map[bucket.Scope][]settle.Reading{zone: {
		reading(noon.Add(-2*size), 100), // age 41 min: whole
		reading(noon, 44),               // age 31 min: filling
		reading(noon.Add(size), 0),      // hole
		reading(noon.Add(2*size), 0),
	}})[zone]
	wantFinal(t, got[0], bucket.Confirmed)
	if got[1].Final != 0 {
		t.Fatal("the window before the hole was believed at once")
	}
	// Nor is the one before that, though something came after it.
	d = newDataset(busy())
	got = observe(d, now, map[bucket.Scope][]settle.Reading{zone: {reading(noon.Add(-size), 90), reading(noon, 44), reading(noon.Add(size), 0)}})[zone]
	if got[0].Final != 0 {
		t.Fatal("the window ten minutes before the hole was believed at once")
	}
	// Nor where they were watched: two equal readings a minute apart are not enough.
	d = newDataset(busy())
	for _, age := range []time.Duration{12 * time.Minute, 13 * time.Minute} {
		got = observe(d, at(age), map[bucket.Scope][]settle.Reading{zone: {reading(noon.Add(-size), 90), reading(noon, 44), reading(noon.Add(size), 0)}})[zone]
		if got[0].Final != 0 || got[1].Final != 0 {
			t.Fatalf("a window before the hole was believed %s after its end", age)
		}
	}
}

// Its next zero takes no hours, but ten minutes: traffic may begin again while its
// data is late.
func TestAQuietScopeIsNotSuspect(t *testing.T) {
	d := newDataset(level(0))
	look(t, d, at(5*time.Minute), noon, 0)
	if v := look(t, d, at(14*time.Minute), noon, 0); v.Final != 0 || d.Suspects() != 0 {
		t.Fatalf("final ground %d with %d suspects after nine minutes", v.Final, d.Suspects())
	}
	wantFinal(t, look(t, d, at(15*time.Minute), noon, 0), bucket.SuspectConfirmed)
	// Rows of what came after say more than time does.
	d = newDataset(level(0))
	lookBefore(t, d, at(5*time.Minute), noon, 0)
	wantFinal(t, lookBefore(t, d, at(6*time.Minute), noon, 0), bucket.Confirmed)
}

// Rows that appear after an emptiness have not been there for as long as that was.
func TestAnEmptinessIsNoPartOfTenMinutes(t *testing.T) {
	d := newDataset(level(0))
	look(t, d, at(5*time.Minute), noon, 0)
	if v := lookAgainst(t, d, at(20*time.Minute), noon, 3, 2); v.Final != 0 {
		t.Fatal("the first rows of a window were final at once")
	}
	wantFinal(t, lookAgainst(t, d, at(21*time.Minute), noon, 3, 2), bucket.Confirmed)
}

func TestAYoungScopesSilenceTakesADay(t *testing.T) {
	d := settle.New(policy)
	d.Restore(zone, settle.Past{FirstSeen: noon})
	look(t, d, at(5*time.Minute), noon, 0)
	if v := look(t, d, at(23*time.Hour), noon, 0); v.Final != 0 {
		t.Fatal("an empty bucket of a scope seen today was believed before a day had passed")
	}
	wantFinal(t, look(t, d, at(24*time.Hour), noon, 0), bucket.SuspectConfirmed)
}

func TestALateDatasetIsSeenAsOne(t *testing.T) {
	d := settle.New(policy)
	var zones []bucket.Scope
	for i := range 4 {
		zones = append(zones, bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i+1)})
		d.Restore(zones[i], settle.Past{FirstSeen: noon.Add(-72 * time.Hour), Recent: busy()})
	}
	see := func(now, start bucket.Time, levels ...float64) map[bucket.Scope][]settle.Verdict {
		answer := map[bucket.Scope][]settle.Reading{}
		for i, l := range levels {
			answer[zones[i]] = []settle.Reading{reading(start, l)}
			if l > 0 {
				answer[zones[i]] = append(answer[zones[i]], settle.Reading{Start: start.Add(size), Level: 100, Closed: true})
			}
		}
		return observe(d, now, answer)
	}
	// Two of four: more than a third. The two that look well wait too.
	see(at(5*time.Minute), noon, 0, 0, 100, 100)
	got := see(at(15*time.Minute), noon, 0, 0, 100, 100)
	for i, z := range zones {
		if v := got[z][0]; v.Final != 0 || v.Reason != settle.Delayed {
			t.Fatalf("zone %d: final %d reason %d, want to wait for the dataset", i, v.Final, v.Reason)
		}
	}
	if from, delayed := d.Delayed(); !delayed || from != noon {
		t.Fatalf("delayed from %s (%t), want from %s", from, delayed, noon)
	}
	// It recovers: those that were never suspect are final, the others wait
	// for their ten minutes.
	got = see(at(25*time.Minute), noon, 100, 100, 100, 100)
	if _, delayed := d.Delayed(); delayed {
		t.Fatal("still delayed although every zone has ordinary rows")
	}
	if got[zones[2]][0].Final == 0 || got[zones[0]][0].Final != 0 {
		t.Fatalf("after recovery: untouched zone final %d, suspect zone final %d", got[zones[2]][0].Final, got[zones[0]][0].Final)
	}
	got = see(at(35*time.Minute), noon, 100, 100)
	wantFinal(t, got[zones[0]][0], bucket.SuspectConfirmed)
}

func TestOneZoneOfThreeIsNotADatasetsDelay(t *testing.T) {
	d := settle.New(policy)
	answer := map[bucket.Scope][]settle.Reading{}
	for i, level := range []float64{0, 100, 100} {
		z := bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i+1)}
		d.Restore(z, settle.Past{FirstSeen: noon.Add(-72 * time.Hour), Recent: busy()})
		answer[z] = []settle.Reading{reading(noon, level)}
	}
	d.Note(at(5*time.Minute), answer)
	if _, delayed := d.Delayed(); delayed {
		t.Fatal("one late zone was taken for a late dataset")
	}
}

// Cloudflare keeps the minutes of a Pro zone for a day: waiting a day for a
// young scope's silence would lose it.
func TestSilenceIsBelievedBeforeCloudflareDropsIt(t *testing.T) {
	d := settle.New(policy)
	d.Restore(zone, settle.Past{FirstSeen: noon, Keeps: 24 * time.Hour})
	look(t, d, at(5*time.Minute), noon, 0)
	if v := look(t, d, at(21*time.Hour), noon, 0); v.Final != 0 {
		t.Fatal("believed three hours before it would be dropped")
	}
	wantFinal(t, look(t, d, at(22*time.Hour-2*size), noon, 0), bucket.SuspectConfirmed)
	// A window is given up two windows before its retention ends.
	d = settle.New(settle.Policy{Size: time.Hour, Confirm: 2, Deadline: 20 * time.Minute})
	d.Restore(zone, settle.Past{FirstSeen: noon, Keeps: 24 * time.Hour})
	end := noon.Add(time.Hour)
	look(t, d, end.Add(5*time.Minute), noon, 0)
	wantFinal(t, look(t, d, end.Add(20*time.Hour), noon, 0), bucket.SuspectConfirmed)
}

// One response may be empty by mistake. However old the window is, its zeros need a second
// reading ten minutes later, unless it would come too late.
func TestOneEmptyResponseIsNoEvidence(t *testing.T) {
	const month = 30 * 24 * time.Hour
	begin := func(keeps time.Duration) *settle.Dataset {
		d := settle.New(policy)
		d.Restore(zone, settle.Past{FirstSeen: noon.Add(-72 * time.Hour), Recent: busy(), Keeps: keeps})
		return d
	}
	d := begin(2 * month)
	v := look(t, d, at(month), noon, 0)
	if v.Final != 0 || v.Reason != settle.Suspect || v.Again != at(month+settle.AgreeApart) {
		t.Fatalf("the verdict on one empty response is %+v", v)
	}
	if v := look(t, d, at(month+settle.Spacing), noon, 0); v.Final != 0 {
		t.Fatalf("a minute later it is %+v", v)
	}
	wantFinal(t, look(t, d, at(month+settle.AgreeApart), noon, 0), bucket.SuspectConfirmed)

	d = begin(2 * month)
	look(t, d, at(month), noon, 0)
	v = look(t, d, at(month+settle.AgreeApart), noon, 100)
	if v.Final != 0 && v.Since != at(month+settle.AgreeApart) {
		t.Fatalf("after another response it is %+v", v)
	}
	wantFinal(t, look(t, d, at(month+2*settle.AgreeApart), noon, 100), bucket.SuspectConfirmed)

	d = begin(month)
	wantFinal(t, look(t, d, at(month-15*time.Minute-2*size), noon, 0), bucket.SuspectConfirmed)
}

// An hourly bucket of a zone that is half an hour late fills slowly and never
// looks low. The zone's short buckets show the hole; past its deadline or not,
// the hour must wait.
func TestAnotherDatasetsHoleMakesAWindowDoubtful(t *testing.T) {
	hourly := settle.New(settle.Policy{Size: time.Hour, Confirm: 2, Deadline: 20 * time.Minute})
	hourly.Restore(zone, settle.Past{FirstSeen: noon.Add(-72 * time.Hour), Recent: busy()})
	end, hole := noon.Add(time.Hour), noon.Add(35*time.Minute)
	running := settle.Reading{Start: end, Level: 20, Closed: true}
	for i, level := range []float64{60, 70, 80, 85} {
		now := end.Add(time.Duration(5+5*i) * time.Minute)
		r := []settle.Reading{reading(noon, level), running}
		hourly.Note(now, map[bucket.Scope][]settle.Reading{zone: r})
		if v := hourly.Judge(now, zone, r, hole)[0]; v.Final != 0 {
			t.Fatalf("a filling hour was final at %v after its end", now.Sub(end))
		}
	}
	for _, age := range []time.Duration{50 * time.Minute, time.Hour} {
		now, r := end.Add(age), []settle.Reading{reading(noon, 100), running}
		hourly.Note(now, map[bucket.Scope][]settle.Reading{zone: r})
		if v := hourly.Judge(now, zone, r, 0)[0]; (v.Final != 0) != (age == time.Hour) {
			t.Fatalf("at %s after the end: final ground %d", age, v.Final)
		}
	}
}

// What is empty more often than not, or always, says by being empty nothing about the
// other datasets of its zone: incident "A dataset without rows held its zone back".
func TestWhatIsUsuallyEmptyIsNoWitness(t *testing.T) {
	mixed := func(empty int) []settle.Final {
		all := busy()
		for i := range empty {
			all[i] = settle.Final{Start: all[i].Start, Empty: true}
		}
		return all
	}
	for name, one := range map[string]struct {
		recent []settle.Final
		want   bucket.Time
	}{
		"never had rows":            {nil, 0},
		"eleven without rows":       {level(0)[1:], 0},
		"seven of twelve are empty": {mixed(7), 0},
		"half are empty":            {mixed(6), noon},
		"busy until six days ago":   {[]settle.Final{{Start: noon.Add(-6 * 24 * time.Hour), Level: 100}}, noon},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDataset(one.recent)
			wantWait(t, look(t, d, at(5*time.Minute), noon, 0), settle.Suspect, at(15*time.Minute))
			if got := d.Hole(zone); got != one.want {
				t.Errorf("hole at %v, want %v", got, one.want)
			}
			// After a change of leader as before it.
			if got := newDataset(one.recent, noon).Hole(zone); got != one.want {
				t.Errorf("restored: hole at %v, want %v", got, one.want)
			}
		})
	}
	// A new zone shows in one answer that it has traffic.
	d := newDataset(nil)
	observe(d, at(time.Hour), map[bucket.Scope][]settle.Reading{zone: {reading(noon, 100), reading(noon.Add(size), 90), reading(noon.Add(2*size), 0)}})
	if got := d.Hole(zone); got != noon.Add(2*size) {
		t.Errorf("hole at %v of a new zone, want %v", got, noon.Add(2*size))
	}
}

// A catch-up reads the newest windows first, so that what is remembered of a
// scope may be noon when a window of the night before is read: incident "A
// night that was held against noon".
func TestLevelsAreHeldAgainstTheBucketsBefore(t *testing.T) {
	for name, start := range map[string]bucket.Time{
		"night, read after noon":                noon.Add(-7 * time.Hour),
		"morning, after an outage of the night": noon.Add(9 * time.Hour),
	} {
		d := newDataset(busy())
		now := max(at(0), start.Add(size)).Add(time.Hour)
		wantFinal(t, lookFar(t, d, now, start, 15), bucket.Confirmed)
		if d.Suspects() != 0 {
			t.Errorf("%s: %d windows are suspect, want none", name, d.Suspects())
		}
	}
	// Within two hours after them the same level is suspect.
	d := newDataset(busy())
	wantWait(t, look(t, d, at(time.Hour), noon, 15), settle.Suspect, at(70*time.Minute))
}

// A reading less than a minute after the last one does not count. The next one is not
// due before it does: the window would be read again and again until then.
func TestTheNextReadingIsDueWhenItCounts(t *testing.T) {
	d := newDataset(busy())
	look(t, d, at(5*time.Minute), noon, 0)
	// An answer about its neighbours shows it once more, just before its time.
	last := at(14*time.Minute + 30*time.Second)
	look(t, d, last, noon, 0)
	if again := d.Again(zone, noon); again != last.Add(time.Minute) {
		t.Errorf("the next reading is due at %s, want %s", again, last.Add(time.Minute))
	}
}
