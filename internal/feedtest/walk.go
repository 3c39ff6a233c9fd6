package feedtest

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

var (
	walkSeed  = flag.Uint64("feedtest.seed", 0, "walk with this seed, and alone unless -feedtest.seeds says otherwise; 0: with the seeds from 1 on")
	walkSeeds = flag.Int("feedtest.seeds", 0, "number of seeds to walk with; 0: what the test thinks fit")
	walkSteps = flag.Int("feedtest.steps", 40, "steps of each walk")
)

// Arena is a deployment for a walk: one store, empty, and the processes that
// serve it. Functions are called by one goroutine.
type Arena struct {
	StoreID string
	// Append, Progress, Backup and Retire are those of [Subject]. A backup may be
	// restored more than once.
	Append   func(t testing.TB, committedAt time.Time, entries ...Entry)
	Progress func(t testing.TB, at time.Time)
	Backup   func(t testing.TB) (restore func(t testing.TB))
	Retire   func(t testing.TB, before bucket.Time)
	// Processes serve the store; at least one.
	Processes []Process
	// Lag is how many entries a stream may be behind before it is told that it
	// is slow; 0: any number.
	Lag int
	// Held: a snapshot that is not read may be kept open while the store changes.
	Held bool
}

// Process is one server of the store. A nil function is something that cannot
// happen to it.
type Process struct {
	Dial func(ctx context.Context) (net.Conn, error)
	// Restart ends the process in order and starts another in its place.
	Restart func(t testing.TB)
	// Stall: the process knows where the primary's head is and cannot read up to
	// it, as one that is behind.
	Stall func(on bool)
	// Away: the store does not answer the process.
	Away func(on bool)
}

// Walk takes the server on random walks: batches, retention, restores of old
// states, fail-overs that lose commits, restarts, processes that fall behind or
// lose the store, connections cut at any byte, readers that stop reading, and
// streams that are opened at any place of any history with any filter. A model
// of the log judges every message: each matching entry once and in order, no
// progress before its data, no error without its reason, no view replaced by an
// older one; and after each respite everybody has everything. Readers are plain
// streams as well as followers of package client.
//
// It walks with the seeds 1 to seeds, each in a bubble of virtual time. A failure
// names its seed; -feedtest.seed repeats that walk alone. What is done depends
// on the seed only; how messages fall between the steps also on the scheduler.
func Walk(t *testing.T, seeds int, start func(t *testing.T, rng *rand.Rand) Arena) {
	first := uint64(1)
	if *walkSeed > 0 {
		first, seeds = *walkSeed, 1
	}
	if *walkSeeds > 0 {
		seeds = *walkSeeds
	}
	for i := range seeds {
		seed := first + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 0x5eed))
				newWalk(t, rng, start(t, rng)).run(*walkSteps)
				if t.Failed() {
					t.Logf("repeat with -feedtest.seed=%d -feedtest.steps=%d", seed, *walkSteps)
				}
			})
		})
	}
}

// walk is one walk under way. Its fields belong to the driver's goroutine,
// except those below the lock.
type walk struct {
	*testing.T
	rng   *rand.Rand
	arena Arena
	model *model

	now     time.Time         // the leader's clock
	window  int               // newest window that was appended
	taken   map[string]bool   // keys of the present history
	fresh   int               // entries appended since the last respite
	version map[string]uint32 // newest version of each dataset
	fat     bool              // buckets are so large that a snapshot does not fit into buffers
	month   int               // retention has come to here
	backups []backup
	taps    []*stream
	readers []*reader

	mu      sync.Mutex
	trace   []string
	events  []event
	settled int // events before this have had their effect
	calm    int // the model's moment of the last respite
	failed  bool
}

type backup struct {
	version version
	taken   map[string]bool
	newest  map[string]uint32
	restore func(testing.TB)
}

// event is something that was done to somebody, for which a stream may end.
type event struct {
	what    what
	process int // -1: all
	line    *line
}

type what string

const (
	restored  what = "restored"  // the history changed
	retired   what = "retired"   // old buckets were dropped
	restarted what = "restarted" // a process ended
	stalled   what = "stalled"   // a process fell behind
	away      what = "away"      // a process lost the store
	cut       what = "cut"       // a line was cut
	slow      what = "slow"      // a line lets nothing pass
	flooded   what = "flooded"   // more was appended than a stream may lag
)

func newWalk(t *testing.T, rng *rand.Rand, a Arena) *walk {
	return &walk{
		T: t, rng: rng, arena: a, model: newModel(a.StoreID), now: T0, taken: map[string]bool{},
		version: map[string]uint32{}, fat: a.Held && rng.IntN(4) == 0,
	}
}

func (w *walk) run(steps int) {
	defer w.leave()
	w.define("http_5m")
	w.define("dns_5m")
	w.progress()
	w.enter()
	for range steps {
		w.step()
		if w.broken() {
			return
		}
	}
	w.respite()
}

// enter starts the followers that go all the way.
func (w *walk) enter() {
	w.follow(nil, nil)
	w.follow(w.filter(), nil)
	w.follow(nil, w.model.root)
}

func (w *walk) leave() {
	for _, r := range w.readers {
		r.stop()
	}
	for _, s := range w.taps {
		s.stop()
	}
	if w.Failed() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.Logf("the way:\n%s", strings.Join(w.trace, "\n"))
	}
}

// step does one thing, or a few at once.
func (w *walk) step() {
	for range 1 + w.rng.IntN(3) {
		w.act()
	}
	switch w.rng.IntN(4) {
	case 0:
		w.respite()
	case 1:
		time.Sleep(time.Duration(w.rng.IntN(45_000)) * time.Millisecond)
	case 2:
		time.Sleep(time.Duration(w.rng.IntN(3_000)) * time.Millisecond)
	default: // go on at once
	}
}

// say notes what is about to be done.
func (w *walk) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trace = append(w.trace, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// happens notes what may now end streams, before it is done.
func (w *walk) happens(what what, process int, l *line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, event{what, process, l})
}

// fail notes that a promise was broken.
func (w *walk) fail(who, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.say("BROKEN, %s: %s", who, text)
	w.mu.Lock()
	w.failed = true
	w.mu.Unlock()
	w.Errorf("%s: %s", who, text)
}

func (w *walk) broken() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// happened reports whether one of these things was done to this line or process
// since the event with this number.
func (w *walk) happened(since int, process int, l *line, any ...what) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.events[since:], func(e event) bool {
		return slices.Contains(any, e.what) &&
			(e.line == nil || e.line == l) && (e.process < 0 || process < 0 || e.process == process)
	})
}

// respite puts everything right and waits until everybody has everything.
func (w *walk) respite() {
	w.progress()
	w.say("respite")
	for i := range w.arena.Processes {
		w.heal(i)
	}
	for _, s := range w.taps {
		s.line.heal()
	}
	for _, r := range w.readers {
		r.line.heal()
	}
	// What was done to somebody who had everything has its effect first: a
	// process looks at its store every second, and may be in a call that has not
	// been answered for almost five.
	time.Sleep(10 * time.Second)
	head := w.model.now().head
	if !w.eventually(func() bool {
		return !slices.ContainsFunc(w.taps, func(s *stream) bool { return !s.ended() && s.place() != head }) &&
			!slices.ContainsFunc(w.readers, func(r *reader) bool { return r.place() != head })
	}) {
		for _, s := range w.taps {
			if !s.ended() && s.place() != head {
				w.fail(s.name, "still at %s, the head is %s", s.place().position(), head.position())
			}
		}
		for _, r := range w.readers {
			if r.place() != head {
				w.fail(r.name, "still at %s, the head is %s", r.place().position(), head.position())
			}
		}
		return
	}
	w.fresh = 0
	w.taps = slices.DeleteFunc(w.taps, func(s *stream) bool {
		if s.ended() {
			s.stop()
			return true
		}
		return false
	})
	w.mu.Lock()
	w.settled, w.calm = len(w.events), w.model.moment()
	w.mu.Unlock()
	for _, s := range w.taps {
		s.calm()
	}
	for _, r := range w.readers {
		r.calm()
	}
}

// eventually waits, in virtual time, far longer than any pause takes.
func (w *walk) eventually(ok func() bool) bool {
	for range 3000 {
		if ok() || w.broken() {
			return true
		}
		time.Sleep(200 * time.Millisecond)
	}
	return false
}

// since returns from where on events and states may explain what a stream that
// is opened now will see.
func (w *walk) since() (event, moment int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.settled, max(w.calm-1, 0)
}
