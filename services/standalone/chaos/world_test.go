package chaos

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/collectortest"
)

// world is one run: everything that a schedule happens to.
type world struct {
	*schedule
	sim        *cfsim.Server
	store      *collectortest.Shared
	net        *network
	record     *record
	prometheus *prometheus
	counters   *counters
	processes  map[string]*process
	lives      sync.WaitGroup
	logs       slog.Handler
	tally      *tally
	secrets    string // folder of the collectors' tokens
	unreadable unreadable
	stage      *played // nil: nothing is staged
	desk       desk

	mu         sync.Mutex
	violations []string
}

// mostViolations are kept of one run; one cause can have thousands of effects.
const mostViolations = 40

// report notes that something is not as it must be.
func (w *world) report(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.violations) < mostViolations {
		at := time.Since(w.Began).Round(time.Second)
		w.violations = append(w.violations, fmt.Sprintf("%9s %s", at, fmt.Sprintf(format, args...)))
	}
}

// play runs a schedule to its end and returns what was violated. It must be
// called inside a bubble. The log gets what the processes said.
func play(t *testing.T, s *schedule, log *bytes.Buffer, level slog.Level) (violations []string, _ *tally) {
	t.Helper()
	time.Sleep(time.Until(s.Began)) // the bubble begins in the year 2000
	w := &world{
		schedule: s, net: newNetwork(), processes: map[string]*process{}, tally: newTally(), secrets: t.TempDir(), unreadable: newUnreadable(), stage: s.staged(),
		logs: slog.NewTextHandler(log, &slog.HandlerOptions{Level: level}),
	}
	w.record = newRecord(w.report)
	conf, err := s.cloudflare(clock.System())
	if err != nil {
		t.Fatal(err)
	}
	if w.sim, err = cfsim.New(conf); err != nil {
		t.Fatal(err)
	}
	var c collector.Config
	cli.Defaults(c.Settings())
	c.Simulated = true
	opened, err := collector.OpenTemporary(t.Context(), c, collector.Deps{LeaseClock: clock.System()})
	if err != nil {
		t.Fatal(err)
	}
	w.store = collectortest.Share(opened, clock.System())
	defer func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	}()
	w.prometheus = newPrometheus(w)
	w.counters = newCounters(w)
	w.start()
	w.happen()
	w.check(t.Context())
	w.stop()
	w.tally.add(w)
	return w.violations, w.tally
}

// start starts all processes and their supervisors.
func (w *world) start() {
	for i, name := range everybody {
		p := &process{
			w: w, over: make(chan struct{}),
			surroundings: &surroundings{
				name: name, clock: &drifting{report: w.report}, rng: rand.New(rand.NewPCG(w.Seed, uint64(i)+1)),
				tokens: filepath.Join(w.secrets, name),
			},
		}
		switch name {
		case leftCollector, rightCollector:
			p.run = w.collector
		case leftExposer, rightExposer:
			p.run = w.exposer
		case recorder:
			p.run = w.recorder
		}
		w.processes[name] = p
		w.provide(p)
		w.lives.Go(p.supervise)
		time.Sleep(time.Second) // in this order: who leads first is no matter of chance
	}
}

// stop ends all processes in order. A goroutine that they leave behind makes
// the bubble fail.
func (w *world) stop() {
	for _, p := range w.processes {
		p.retire()
	}
	w.lives.Wait()
	w.prometheus.close()
}

// happen lets time pass: faults begin and end, Prometheus scrapes every minute.
func (w *world) happen() {
	type change struct {
		at time.Duration
		do func()
	}
	var changes []change
	for _, e := range w.Events {
		changes = append(changes, change{e.At, func() { w.begin(e) }})
		if e.For > 0 {
			changes = append(changes, change{e.At + e.For, func() { w.finish(e) }})
		}
	}
	end := w.Faulty + w.Calm
	for _, at := range w.counters.moments(end) {
		changes = append(changes, change{at, func() { w.counters.look(false) }})
	}
	for at := time.Minute; at <= end; at += time.Minute {
		for len(changes) > 0 {
			next := 0
			for i := range changes {
				if changes[i].at < changes[next].at {
					next = i
				}
			}
			if changes[next].at > at {
				break
			}
			w.sleepUntil(changes[next].at)
			changes[next].do()
			changes = append(changes[:next], changes[next+1:]...)
		}
		w.sleepUntil(at)
		if at-w.Faulty >= 0 && at-w.Faulty < time.Minute {
			w.disarm()
		}
		w.prometheus.rounds = end-at < lastRound
		w.prometheus.scrape()
		if at%lookEvery == 0 {
			for _, name := range collectors {
				w.checkCoverage(name, false)
				w.checkFounded(name)
			}
		}
		w.listen(at)
	}
}

// lastRound is for how long at the end Prometheus asks for one round of older windows
// after another: a round of 5-minute buckets, the pages of its first turn, and a turn.
const lastRound = 75 * time.Minute

// disarm takes away the traps that nobody stepped on.
func (w *world) disarm() {
	for _, p := range w.processes {
		p.surroundings.mu.Lock()
		p.trap = nil
		p.surroundings.mu.Unlock()
	}
}

// lookEvery is how often coverage is looked at while faults are on.
const lookEvery = 20 * time.Minute

func (w *world) sleepUntil(at time.Duration) { time.Sleep(time.Until(w.Began.Add(at))) }

// targets are the processes that a fault is about.
func (w *world) targets(e event) []*process {
	if e.Target != "" {
		return []*process{w.processes[e.Target]}
	}
	var out []*process
	for _, name := range collectors {
		out = append(out, w.processes[name])
	}
	return out
}

// begin begins a fault.
func (w *world) begin(e event) {
	switch e.Kind {
	case scrapeless:
		w.prometheus.away++
		return
	case api, zoneEvent:
		return // the simulator's own business
	case poison:
		w.poison(context.Background(), e)
		return
	case operate:
		w.operates(e)
		return
	}
	for _, p := range w.targets(e) {
		switch e.Kind {
		case crash, down:
			p.end(true, e.Amount)
			continue
		case restart:
			p.end(false, e.Amount)
			continue
		case pause:
			p.stop()
			continue
		case cut:
			w.net.cut(p.surroundings)
			continue
		}
		p.surroundings.mu.Lock()
		switch e.Kind {
		case crashAt, pauseAt:
			trap := e
			p.trap = &trap
		case jump:
			p.clock.off.Store(int64(e.Amount))
		case stall:
			p.stalled = time.Now().Add(e.For)
		case trickle:
			p.slow = e.Amount
		case refuse:
			p.refused = time.Now().Add(e.For)
		default: // the store's, or the token's
			p.wrong = append(p.wrong, e)
		}
		p.surroundings.mu.Unlock()
		if e.Kind == badToken {
			w.provide(p)
		}
	}
}

// finish ends a fault that lasts.
func (w *world) finish(e event) {
	if e.Kind == scrapeless {
		w.prometheus.away--
		return
	}
	for _, p := range w.targets(e) {
		if e.Kind == pause {
			p.resume()
			continue
		}
		p.surroundings.mu.Lock()
		switch e.Kind {
		case jump:
			p.clock.off.Store(0)
		case trickle:
			p.slow = 0
		default:
			for i := range p.wrong {
				if reflect.DeepEqual(p.wrong[i], e) {
					p.wrong = append(p.wrong[:i], p.wrong[i+1:]...)
					break
				}
			}
		}
		p.surroundings.mu.Unlock()
		if e.Kind == badToken {
			w.provide(p)
		}
	}
}

// head reads the store's own head.
func (w *world) head(ctx context.Context) uint64 {
	h, err := w.store.Head(ctx)
	if err != nil {
		w.report("read the head: %v", err)
	}
	return uint64(h.Revision)
}
