package quota

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// ledger is a Reserver in memory; the decision is the store's own.
type ledger struct {
	mu     sync.Mutex
	blocks []store.PermitBlock
	calls  int
	fail   error
}

func (l *ledger) Reserve(_ context.Context, p store.Permits) (store.Grant, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.fail != nil {
		return store.Grant{}, l.fail
	}
	if err := p.Validate(); err != nil {
		return store.Grant{}, err
	}
	g, blocks := p.Grant(l.blocks)
	if blocks != nil {
		l.blocks = blocks
	}
	return g, nil
}

var start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

func limiter(t *testing.T, c Config) *Limiter {
	t.Helper()
	c.User, c.Logger = "main", testkit.Logger(t)
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func take(t *testing.T, l *Limiter, lane Lane) (bool, time.Time) {
	t.Helper()
	ok, wait, err := l.TryTake(t.Context(), lane)
	if err != nil {
		t.Fatal(err)
	}
	return ok, l.c.Clock.Now().Add(wait)
}

// drain takes until nothing is left and returns how many there were.
func drain(t *testing.T, l *Limiter, lane Lane) (int, time.Time) {
	t.Helper()
	for n := 0; ; n++ {
		ok, at := take(t, l, lane)
		if !ok {
			return n, at
		}
		if n > 10000 {
			t.Fatal("no end of permits")
		}
	}
}

func TestShareIsHalfOf300AndComesBack(t *testing.T) {
	clk := clock.NewManual(start)
	l := limiter(t, Config{Reserver: new(ledger), Clock: clk})
	n, at := drain(t, l, Urgent)
	if n != 150 {
		t.Errorf("took %d permits at once, want the share of 150", n)
	}
	if want := start.Add(6 * time.Minute); !at.Equal(want) {
		t.Errorf("told to retry at %s, want %s: use-by plus span", at, want)
	}
	clk.Set(at)
	if n, _ := drain(t, l, Urgent); n != 150 {
		t.Errorf("took %d permits after they came back, want 150", n)
	}
}

func TestBackgroundLeavesHeadroom(t *testing.T) {
	l := limiter(t, Config{Reserver: new(ledger), Clock: clock.NewManual(start)})
	background, _ := drain(t, l, Background)
	urgent, _ := drain(t, l, Urgent)
	if background != 112 || urgent != 38 {
		t.Errorf("background took %d and urgent %d after it, want 112 (a quarter of 150 left alone) and 38", background, urgent)
	}
}

// What need not be done stops at half of the share, whoever used the other half,
// and holds no permits that it does not use.
func TestSpareStopsAtHalf(t *testing.T) {
	l := limiter(t, Config{Reserver: new(ledger), Clock: clock.NewManual(start)})
	spare, _ := drain(t, l, Spare)
	background, _ := drain(t, l, Background)
	urgent, _ := drain(t, l, Urgent)
	if spare != 75 || background != 37 || urgent != 38 {
		t.Errorf("spare took %d, background %d and urgent %d, want 75, 37 and 38", spare, background, urgent)
	}

	l = limiter(t, Config{Reserver: new(ledger), Clock: clock.NewManual(start)})
	if ok, _, err := l.TryTake(t.Context(), Spare); !ok || err != nil {
		t.Fatalf("%t, %v", ok, err)
	}
	if left := l.State().Left; left != 149 {
		t.Errorf("%d are left of 150 after one was spared", left)
	}
	l = limiter(t, Config{Reserver: new(ledger), Clock: clock.NewManual(start)})
	for range 75 {
		if ok, _, err := l.TryTake(t.Context(), Urgent); !ok || err != nil {
			t.Fatalf("%t, %v", ok, err)
		}
	}
	if ok, again, err := l.TryTake(t.Context(), Spare); ok || err != nil || again <= 0 {
		t.Errorf("with half of the share used: %t, again at %s, %v", ok, again, err)
	}

	// A share of one request has nothing to spare, and says so without spinning.
	l = limiter(t, Config{Reserver: new(ledger), Clock: clock.NewManual(start), Limit: 2})
	if ok, again, err := l.TryTake(t.Context(), Spare); ok || err != nil || again <= 0 {
		t.Errorf("of one request: %t, again at %s, %v", ok, again, err)
	}
}

// A block that was reserved for urgent work is not eaten by the background
// beyond its own share.
func TestBackgroundDoesNotUseUrgentBlocks(t *testing.T) {
	clk := clock.NewManual(start)
	l := limiter(t, Config{Reserver: new(ledger), Clock: clk})
	drain(t, l, Background)
	if ok, _ := take(t, l, Urgent); !ok {
		t.Fatal("no permit for urgent work")
	}
	if ok, _ := take(t, l, Background); ok {
		t.Error("background took a permit of the block that urgent work reserved")
	}
	if n, _ := drain(t, l, Urgent); n != 37 {
		t.Errorf("urgent work had %d left, want 37", n)
	}
}

// A third of a small share, a few requests a minute, goes on for ever: what
// lapses of each block must not use up the rest.
func TestASmallShareIsNotWasted(t *testing.T) {
	clk := clock.NewManual(start)
	l := limiter(t, Config{Reserver: new(ledger), Clock: clk, Share: .131}) // 39 requests in five minutes
	for minute := range 60 {
		for range 3 {
			if ok, at := take(t, l, Urgent); !ok {
				t.Fatalf("no permit in minute %d, %d lapsed; retry at %s", minute, l.State().Lapsed, at)
			}
		}
		clk.Set(clk.Now().Add(time.Minute))
	}
}

func TestPermitsLapse(t *testing.T) {
	clk := clock.NewManual(start)
	store := new(ledger)
	l := limiter(t, Config{Reserver: store, Clock: clk})
	take(t, l, Urgent)
	clk.Advance(54 * time.Second)
	take(t, l, Urgent)
	if store.calls != 1 {
		t.Fatalf("%d reservations within the use-by time, want 1", store.calls)
	}
	clk.Advance(time.Second) // 5 s before use-by: a request needs time to leave
	take(t, l, Urgent)
	if store.calls != 2 {
		t.Errorf("%d reservations, want a second one: the block was too close to its use-by time", store.calls)
	}
	clk.Advance(5 * time.Second)
	if s := l.State(); s.Lapsed != 8 || s.Sent != 3 {
		t.Errorf("state %+v, want 8 lapsed and 3 sent", s)
	}
}

// Without the store, what is in hand may be used; then nothing goes out (G7).
func TestStoreAway(t *testing.T) {
	away := fmt.Errorf("dial: %w", store.ErrUnavailable)
	mem := new(ledger)
	l := limiter(t, Config{Reserver: mem, Clock: clock.NewManual(start)})
	take(t, l, Urgent)
	mem.fail = away
	for range 9 {
		if ok, _ := take(t, l, Urgent); !ok {
			t.Fatal("the block in hand was not used up")
		}
	}
	if _, _, err := l.TryTake(t.Context(), Urgent); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("TryTake without block and store: %v, want %v", err, store.ErrUnavailable)
	}
}

func TestBudgetErrorPausesAndHalves(t *testing.T) {
	clk := clock.NewManual(start)
	l := limiter(t, Config{Reserver: new(ledger), Clock: clk})
	for range 20 {
		take(t, l, Urgent)
	}
	l.Refused(0)
	s := l.State()
	if !s.Shared || s.Limit != 75 || s.Left != 0 || !s.PausedUntil.Equal(start.Add(5*time.Minute)) {
		t.Errorf("state after a budget error: %+v, want shared, a limit of 75, nothing left, paused for 5 minutes", s)
	}
	if ok, at := take(t, l, Urgent); ok || !at.Equal(start.Add(5*time.Minute)) {
		t.Errorf("took a permit in the pause (%v), or told to retry at %s", ok, at)
	}
	l.Refused(time.Second)
	if s := l.State(); !s.PausedUntil.Equal(start.Add(5 * time.Minute)) {
		t.Errorf("a shorter pause ended the longer one: %s", s.PausedUntil)
	}
	clk.Advance(10 * time.Minute)
	if n, _ := drain(t, l, Urgent); n != 75 {
		t.Errorf("took %d permits while shared, want half of 150", n)
	}
	clk.Set(start.Add(time.Hour + time.Second))
	if n, _ := drain(t, l, Urgent); n != 150 {
		t.Errorf("took %d permits after an hour, want 150", n)
	}
}

// With the whole limit as share, a budget error at the limit is our own doing.
func TestOwnBudgetErrorDoesNotHalve(t *testing.T) {
	l := limiter(t, Config{Reserver: new(ledger), Clock: clock.NewManual(start), Share: 1, Limit: 20})
	drain(t, l, Urgent)
	l.Refused(time.Minute)
	if s := l.State(); s.Shared || s.Limit != 20 {
		t.Errorf("state %+v, want not shared: we had sent the whole limit", s)
	}
}

// Many takers, one block: nobody gets a permit that somebody else has.
func TestConcurrentTakers(t *testing.T) {
	l := limiter(t, Config{Reserver: new(ledger), Clock: clock.NewManual(start), Limit: 100})
	var taken sync.Map
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			n := 0
			for {
				ok, _, err := l.TryTake(t.Context(), Urgent)
				if err != nil || !ok {
					break
				}
				n++
			}
			taken.Store(i, n)
		})
	}
	wg.Wait()
	sum := 0
	taken.Range(func(_, n any) bool { sum += n.(int); return true })
	if sum != 50 {
		t.Errorf("8 takers took %d permits, want 50", sum)
	}
}

// G7: in no five-minute span more than the share, whatever restarts, crashes,
// second processes, budget errors and bursts do.
func TestNeverMoreThanTheShareInAnySpan(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		clk := clock.NewManual(start)
		c := Config{
			User: "main", Reserver: new(ledger), Clock: clk, Limit: 20 + r.IntN(100), Share: .2 + .8*r.Float64(),
			Block: 1 + r.IntN(15), UseBy: time.Duration(6+r.IntN(100)) * time.Second,
		}
		open := func() *Limiter {
			l, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		share := max(1, int(c.Share*float64(c.Limit)))
		type process struct {
			*Limiter
			over []time.Time // of the requests that are under way
		}
		procs := []*process{{Limiter: open()}, {Limiter: open()}}
		var sent []time.Time
		for range 400 {
			p := procs[r.IntN(len(procs))]
			switch r.IntN(20) {
			case 0:
				p.Limiter, p.over = open(), nil // crash: its block is lost but counted
			case 1:
				p.Refused(time.Duration(r.IntN(400)) * time.Second)
			case 2:
				p.Expect(float64(r.IntN(share)))
			}
			for range r.IntN(30) {
				ok, _, err := p.TryTake(t.Context(), Lane(1+r.IntN(2)))
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				// The request leaves up to the safety margin later, and some are
				// given up at once or answered after a minute. Of a few nobody hears.
				leaves := clk.Now().Add(time.Duration(r.Int64N(int64(safety))))
				over := clk.Now().Add(time.Duration(r.Int64N(int64(safety))))
				sent = append(sent, time.Unix(0, min(leaves.UnixNano(), over.UnixNano())))
				if r.IntN(10) == 0 {
					over = over.Add(time.Minute)
				}
				if r.IntN(50) > 0 {
					p.over = append(p.over, over)
				}
			}
			for step := r.IntN(60); step > 0; step-- {
				clk.Advance(time.Second)
				for _, p := range procs {
					p.over = slices.DeleteFunc(p.over, func(at time.Time) bool {
						if at.After(clk.Now()) {
							return false
						}
						p.Over()
						return true
					})
				}
			}
		}
		slices.SortFunc(sent, time.Time.Compare)
		if len(sent) < share {
			t.Errorf("seed %d: only %d requests in hours; the test tests nothing", seed, len(sent))
		}
		if n, from := peak(sent); n > share {
			t.Fatalf("seed %d: %d requests in the five minutes from %s, share is %d of %d", seed, n, from, share, c.Limit)
		}
	}
}

// peak is the most requests of any five minutes, and when these begin.
func peak(sent []time.Time) (most int, begin time.Time) {
	sent = slices.SortedFunc(slices.Values(sent), time.Time.Compare)
	first := 0
	for i, at := range sent {
		for !at.Before(sent[first].Add(5 * time.Minute)) {
			first++
		}
		if n := i - first + 1; n > most {
			most, begin = n, sent[first]
		}
	}
	return most, begin
}

// Permits count from when they were sent: a process that always has more to ask
// uses the whole share, and never more (G7). So do two at a time, of which one
// crashes with a block in hand; and work in the background, where urgent work
// needs a tenth.
func TestASaturatedShareIsUsed(t *testing.T) {
	for _, share := range []float64{.1, .5, 1} {
		for name, story := range map[string]struct {
			procs   int
			crash   bool
			lane    Lane
			latency time.Duration
		}{
			"one":            {procs: 1, lane: Urgent, latency: 300 * time.Millisecond},
			"slow answers":   {procs: 2, lane: Urgent, latency: 1500 * time.Millisecond},
			"two, one dies":  {procs: 2, lane: Urgent, latency: 300 * time.Millisecond, crash: true},
			"background too": {procs: 1, lane: Background, latency: 300 * time.Millisecond},
		} {
			t.Run(fmt.Sprintf("%s at %.0f%%", name, 100*share), func(t *testing.T) {
				clk := clock.NewManual(start)
				c := Config{Reserver: new(ledger), Clock: clk, Share: share}
				type process struct {
					*Limiter
					next time.Time // when it does something
					busy bool
				}
				var procs []*process
				for i := range story.procs {
					procs = append(procs, &process{Limiter: limiter(t, c), next: start.Add(time.Duration(i) * time.Second)})
				}
				limit := procs[0].limit
				var sent []time.Time
				const hours = 2
				urgent := start
				for end, crashed := start.Add(hours*time.Hour), false; clk.Now().Before(end); {
					p := slices.MinFunc(procs, func(a, b *process) int { return a.next.Compare(b.next) })
					clk.Set(p.next)
					if p.busy {
						p.Over()
						p.busy = false
					}
					if story.crash && !crashed && clk.Now().Sub(start) > time.Hour {
						p.Limiter, crashed = limiter(t, c), true
					}
					lane := story.lane
					if lane == Background && !clk.Now().Before(urgent) {
						// Bursts of urgent work, a tenth of the share every five minutes.
						lane = Urgent
						if urgent = urgent.Add(5 * time.Minute / time.Duration(limit/10)); p.need < 0 {
							p.Expect(float64(limit) / 10)
						}
					}
					ok, at := take(t, p.Limiter, lane)
					if p.next = at; ok {
						sent = append(sent, clk.Now())
						p.next, p.busy = clk.Now().Add(story.latency), true
					}
				}
				if n, from := peak(sent); n > limit {
					t.Errorf("%d requests in the five minutes from %s, the share is %d", n, from, limit)
				}
				if used := float64(len(sent)) / float64(limit*hours*12); used < .97 {
					t.Errorf("%.1f%% of the share was used, want at least 97%%; %d lapsed", 100*used, procs[0].State().Lapsed)
				} else {
					t.Logf("%.1f%% used with %d reservations for %d requests", 100*used, c.Reserver.(*ledger).calls, len(sent))
				}
			})
		}
	}
}

func TestNewNamesEveryProblem(t *testing.T) {
	_, err := New(Config{Limit: -1, Share: 2, Headroom: 1, Block: -1, UseBy: time.Second})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{"user is empty", "reserver and clock", "limit is -1", "share is 2", "headroom is 1", "block is -1", "use-by 1s"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}
