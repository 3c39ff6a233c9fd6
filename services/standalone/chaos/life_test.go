package chaos

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-metrics/weir/services/collector/collectortest"
)

var (
	errDead      = errors.New("this process is dead")
	errNoStore   = errors.New("connection refused")
	errNoConns   = errors.New("too many clients already")
	errLost      = errors.New("connection reset while waiting for the answer")
	errHung      = errors.New("no answer")
	errNoNetwork = errors.New("connection refused")
)

// surroundings are what a process runs in, from one life to the next: its clock,
// whether it is stopped, what is wrong with its store.
type surroundings struct {
	name   string
	clock  *drifting
	tokens string // what the names of the files that hold Cloudflare's begin with

	mu      sync.Mutex
	rng     *rand.Rand
	resumed chan struct{}         // closed when the process runs again; nil while it runs
	wrong   []event               // faults of the store and of the token that are on
	stalled time.Time             // nothing is read from connections before
	slow    time.Duration         // that each read of little takes; 0: none
	refused time.Time             // nobody can connect to it before
	trap    *event                // the call at which the process dies
	met     time.Time             // when a write first met the staged fault
	conns   map[net.Conn]struct{} // that it opened
}

// hold blocks while the process is stopped, and reports whether it was.
func (s *surroundings) hold(l *life) (was bool) {
	for {
		s.mu.Lock()
		resumed := s.resumed
		s.mu.Unlock()
		if resumed == nil {
			return was
		}
		was = true
		select {
		case <-resumed:
		case <-l.dead:
			return was
		}
	}
}

// spring counts down to the call at which the process dies or is stopped, and
// does that to it.
func (l *life) spring(beforeEffect bool, calls ...string) {
	l.mu.Lock()
	trap := l.trap
	if trap == nil || !slices.Contains(calls, trap.Call) || trap.BeforeEffect != beforeEffect {
		l.mu.Unlock()
		return
	}
	if trap.Nth--; trap.Nth > 0 {
		l.mu.Unlock()
		return
	}
	l.trap = nil
	l.mu.Unlock()
	if trap.Kind == crashAt {
		l.kill()
		return
	}
	l.stop()
	time.AfterFunc(trap.Amount, l.resume)
}

// stop stops the process until resume.
func (s *surroundings) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resumed == nil {
		s.resumed = make(chan struct{})
	}
}

func (s *surroundings) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resumed != nil {
		close(s.resumed)
		s.resumed = nil
	}
}

// writes are the names by which a trap knows a call of the store.
func writes(op collectortest.Op) []string {
	if !op.Write {
		return nil
	}
	return []string{"store", strings.ToLower(op.Name)}
}

// meet notes that a write met the staged fault.
func (s *surroundings) meet() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.met.IsZero() {
		s.met = time.Now()
	}
}

// trouble is what is wrong with the store at the moment.
func (s *surroundings) trouble() []event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event(nil), s.wrong...)
}

func (s *surroundings) chance(p float64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rng.Float64() < p
}

// drifting is a process's clock: the bubble's, off by some time. It waits as a
// real one does, on machine time: what it was asked for is turned into a
// duration when the waiting begins, and a jump meanwhile changes nothing.
type drifting struct {
	off    atomic.Int64
	report func(format string, args ...any)

	// A loop that waits for what is past goes round for ever in one instant.
	mu     sync.Mutex
	at     time.Time
	rounds int
}

// mostRounds of waiting in one instant are not a loop that spins.
const mostRounds = 1000

func (c *drifting) Now() time.Time { return time.Now().UTC().Add(time.Duration(c.off.Load())) }

func (c *drifting) WaitUntil(ctx context.Context, t time.Time) error {
	d := t.Sub(c.Now())
	if d <= 0 && c.spins() {
		c.report("somebody waits until %s again and again, though it is %s", t.UTC(), c.Now())
		d = time.Minute
	}
	if !sleep(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}

func (c *drifting) spins() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); !now.Equal(c.at) {
		c.at, c.rounds = now, 0
	}
	c.rounds++
	return c.rounds%mostRounds == 0
}

// sleep reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// life is one incarnation of a process: everything that leaves it goes through
// here, and nothing does once it is dead.
type life struct {
	*surroundings
	dead   chan struct{}
	kill   func() // idempotent; returns at once
	cancel context.CancelFunc
	onKill []func()
}

func (s *surroundings) newLife() (*life, context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &life{surroundings: s, dead: make(chan struct{}), cancel: cancel}
	var once sync.Once
	l.kill = func() {
		once.Do(func() {
			close(l.dead)
			for _, cut := range l.onKill {
				cut()
			}
			s.hangUp()
			cancel()
		})
	}
	return l, ctx
}

func (l *life) isDead() bool {
	select {
	case <-l.dead:
		return true
	default:
		return false
	}
}

// unwritable is what a database says that somebody has to mend.
var unwritable = map[kind]error{
	storeFull: collectortest.ErrNoSpace, storeFrozen: collectortest.ErrReadOnly, storeDenied: collectortest.ErrDenied,
	storeBare: collectortest.ErrSchema, storeBroken: collectortest.ErrCorrupt,
}

var _ collectortest.Gate = (*life)(nil)

// Before implements [collectortest.Gate].
func (l *life) Before(ctx context.Context, op collectortest.Op) (context.Context, error) {
	l.spring(true, writes(op)...)
	held := l.hold(l)
	if l.isDead() {
		return nil, errDead
	}
	if held {
		// Like a statement that was in the socket's buffer when the process was
		// stopped: it arrives, whatever became of its sender's patience.
		ctx = context.WithoutCancel(ctx)
	}
	for _, e := range l.trouble() {
		switch e.Kind {
		case storeDown:
			return nil, errNoStore
		case storeSlow:
			if !l.wait(ctx, e.Amount) {
				return nil, errHung
			}
		case storeHang:
			l.wait(ctx, e.For)
			return nil, errHung
		case storeConns:
			if l.chance(e.Chance) {
				return nil, errNoConns
			}
		default:
			if err := unwritable[e.Kind]; err != nil && slices.Contains(writes(op), e.Call) {
				if e.Staged {
					l.meet()
				}
				return nil, err
			}
		}
	}
	return ctx, nil
}

// After implements [collectortest.Gate].
func (l *life) After(_ context.Context, op collectortest.Op) error {
	l.spring(false, writes(op)...)
	l.hold(l)
	if l.isDead() {
		return errDead
	}
	for _, e := range l.trouble() {
		if e.Kind == storeLost && op.Write && l.chance(e.Chance) {
			return errLost
		}
	}
	return nil
}

// wait reports false when ctx or the process ended first.
func (l *life) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-l.dead:
	}
	return false
}

// transport carries a process's requests to Cloudflare.
type transport struct {
	l     *life
	inner http.RoundTripper
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.l.spring(true, "cloudflare")
	t.l.hold(t.l)
	if t.l.isDead() {
		return nil, errDead
	}
	response, err := t.inner.RoundTrip(r)
	t.l.spring(false, "cloudflare")
	t.l.hold(t.l)
	if t.l.isDead() {
		if err == nil {
			_, _ = io.Copy(io.Discard, response.Body) // a buffer in memory
		}
		return nil, errDead
	}
	return response, err
}
