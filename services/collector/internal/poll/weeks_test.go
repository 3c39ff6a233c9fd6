package poll_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	_ "time/tzdata" // the stories live in several time zones, whatever the machine has

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// weeks is a world in which collectors come and go for weeks of virtual time,
// and everything that may be asked of a collector is checked every day.
type weeks struct {
	*world
	rng     *rand.Rand
	began   bucket.Time
	zones   int
	asking  *between
	store   *flaky
	crashIn int // answers until the process at hand is killed; 0 or less: never
	kill    context.CancelFunc
	log     weekLog
}

// flaky is a store that is away at times.
type flaky struct {
	store.Store
	away bool
}

var errStoreAway = fmt.Errorf("%w: the story takes it away", store.ErrUnavailable)

func (f *flaky) Append(ctx context.Context, term store.Term, at bucket.Position, b store.Batch) (bucket.Position, error) {
	if f.away {
		return bucket.Position{}, errStoreAway
	}
	return f.Store.Append(ctx, term, at, b)
}

func (f *flaky) Acquire(ctx context.Context, holder string, ttl time.Duration) (store.Lease, error) {
	if f.away {
		return store.Lease{}, errStoreAway
	}
	return f.Store.Acquire(ctx, holder, ttl)
}

func (f *flaky) Reserve(ctx context.Context, p store.Permits) (store.Grant, error) {
	if f.away {
		return store.Grant{}, errStoreAway
	}
	return f.Store.Reserve(ctx, p)
}

func (f *flaky) Renew(ctx context.Context, term store.Term, ttl time.Duration, progress time.Time) error {
	if f.away {
		return errStoreAway
	}
	return f.Store.Renew(ctx, term, ttl, progress)
}

// share of Cloudflare's 300 requests that the stories may use: so little that a
// crash loop which forgot what was sent would be over it at once.
const (
	share = .2
	limit = 60
)

// shortRetention of the stories is short enough to drop buckets in them.
const shortRetention = 9 * 24 * time.Hour

// newWeeks begins at a time with zones of the demo's world: Cloudflare keeps the
// minutes of shop.example for a week, those of the others for a day.
func newWeeks(t *testing.T, at time.Time, names []string, faults ...cfsim.Fault) *weeks {
	t.Helper()
	w := &weeks{world: newWorldAt(t, at, func(c *cfsim.Config) {
		zones(names...)(c)
		c.Faults = faults
		c.LogSize = 1
	}), rng: rand.New(rand.NewPCG(uint64(at.Unix()), 1)), zones: len(names), began: bucket.TimeOf(at)}
	w.only("http_5m", "uniques_1h", "uniques_1d")
	w.store = &flaky{Store: w.world.store}
	w.config.Store, w.config.Retention, w.config.Lookback = w.store, shortRetention, 24*time.Hour
	w.config.Interval = 10 * time.Minute // what falls due is not waited for, and weeks are long
	w.asking = &between{query: w.mayAsk, answer: w.mayCrash}
	w.stand(w.asking)
	w.log.begin()
	return w
}

// process is one collector: what it remembers dies with it.
func (w *weeks) process(name string) poll.Config {
	c := w.config
	limiter, err := quota.New(quota.Config{User: "u", Reserver: w.store, Clock: w.clock, Share: share, Block: 2, Holder: name, Logger: c.Logger})
	if err != nil {
		w.t.Fatal(err)
	}
	c.Credentials = slices.Clone(c.Credentials)
	c.Credentials[0].Budget = limiter
	return c
}

// lead lets a process lead until a time, or until it is killed. It reports
// whether it lived.
func (w *weeks) lead(name string, c poll.Config, until time.Time) (lived bool) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	w.clock.end, w.clock.done, w.kill = until, cancel, cancel
	won, err := w.store.Acquire(ctx, name, 15*time.Second)
	switch {
	case errors.Is(err, store.ErrHeld), errors.Is(err, store.ErrUnavailable):
		w.clock.Advance(5 * time.Second)
		return true
	case err != nil:
		w.t.Fatal(err)
	}
	err = poll.New(c).Lead(ctx, won)
	if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, store.ErrUnavailable) {
		w.t.Fatalf("lead: %v", err)
	}
	if errors.Is(err, store.ErrUnavailable) {
		w.clock.Advance(5 * time.Second)
	}
	return !w.clock.Now().Before(until) || err == nil
}

// calm lets one process lead until a time.
func (w *weeks) calm(until time.Time) {
	c := w.process("calm")
	for w.clock.Now().Before(until) {
		w.lead("calm", c, until)
	}
}

// crashLoop restarts a process that is killed by one of its first few answers,
// or after some minutes if it has nothing to ask.
func (w *weeks) crashLoop(until time.Time, answers int) {
	for w.clock.Now().Before(until) {
		w.crashIn = 1 + w.rng.IntN(answers)
		w.lead("looping", w.process("looping"), w.clock.Now().Add(time.Duration(1+w.rng.IntN(5))*time.Minute))
		w.crashIn = 0
		w.clock.Advance(time.Duration(1+w.rng.IntN(3)) * time.Second)
	}
}

// alternate lets two processes lead in turns, each with the permits that it
// remembers, and a deposed one try to go on.
func (w *weeks) alternate(until time.Time) {
	w.t.Helper()
	names := [2]string{"one", "other"}
	configs := [2]poll.Config{w.process(names[0]), w.process(names[1])}
	for i := 0; w.clock.Now().Before(until); i++ {
		w.lead(names[i%2], configs[i%2], w.clock.Now().Add(time.Duration(2+w.rng.IntN(9))*time.Minute))
		head, err := w.store.Head(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		w.clock.Advance(16 * time.Second) // the lease expires
		if i%5 != 4 {
			continue
		}
		next, err := w.store.Acquire(w.t.Context(), names[(i+1)%2], 15*time.Second)
		if err != nil {
			w.t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(w.t.Context())
		w.clock.end, w.clock.done = w.clock.Now().Add(10*time.Minute), cancel
		err = poll.New(configs[i%2]).Lead(ctx, store.Lease{Term: head.Term, Head: next.Head})
		cancel()
		if !errors.Is(err, store.ErrDeposed) {
			w.t.Errorf("at %s a deposed leader went on for ten minutes: %v", w.clock.Now(), err)
		}
		after, err := w.store.Head(w.t.Context())
		if err != nil || after.Position != next.Head.Position {
			w.t.Errorf("at %s a deposed leader moved the log from %v to %v (%v)", w.clock.Now(), next.Head.Position, after.Position, err)
		}
	}
}

// mayAsk checks every question: nothing is asked that the store's retention has
// dropped or would drop, nothing that Cloudflare no longer has, and nothing that
// lies wholly in the future.
func (w *weeks) mayAsk(q cloudflare.Query) error {
	now := bucket.TimeOf(w.clock.Now())
	for _, s := range q.Selections {
		if s.Window.Start < now.Add(-shortRetention) {
			w.t.Errorf("at %s %s is asked for %s, which retention has dropped", now, s.Node, s.Window)
		}
		if s.Window.Start >= now || s.Window.End > now.Ceil(24*time.Hour) {
			w.t.Errorf("at %s %s is asked for %s", now, s.Node, s.Window)
		}
	}
	return nil
}

// mayCrash kills the process at hand when an answer has arrived and nothing was
// made of it.
func (w *weeks) mayCrash(*cloudflare.Response) {
	if w.crashIn--; w.crashIn == 0 {
		w.kill()
	}
}

// dataset finds one to collect.
func (w *weeks) dataset(id string) *catalogue.Dataset { return w.catalogue.Find(id) }

// day is 24 hours, whatever the process's time zone makes of a day.
const day = 24 * time.Hour

// A crash loop forgets what it sent as often as it begins, and the budget holds:
// what the store has granted counts, whoever asks (G7).
func TestACrashLoopStaysWithinTheBudget(t *testing.T) {
	w := newWeeks(t, began, []string{"shop.example", "media.example"})
	w.crashLoop(began.Add(2*time.Hour), 1) // no answer is survived
	if peak := w.sim.Counters().PeakQueries; peak > limit || peak < limit/2 {
		t.Errorf("%d requests within five minutes; the share is %d, and a crash loop should come near it", peak, limit)
	}
	w.calm(began.Add(4 * time.Hour))
	w.checkDay()
}

// Four weeks in which everything happens, across the end of summer time in
// Europe and in America (of which make test tells sixteen days): also releases that do not
// count lead for a day or two, and a backup is restored.
func TestFourWeeks(t *testing.T) {
	t.Parallel()
	days := 16
	if testkit.All() {
		days = 28
	}
	began := time.Date(2026, 10, 11, 22, 10, 0, 0, time.UTC)
	at := func(d float64) time.Time { return began.Add(time.Duration(d * float64(day))) }
	w := newWeeks(t, began, []string{"shop.example", "media.example"},
		cfsim.Fault{Kind: cfsim.FaultHTML, Status: 503, From: at(4), To: at(4).Add(5 * time.Hour)},
		cfsim.Fault{Kind: cfsim.FaultBudget, From: at(5), To: at(5).Add(20 * time.Minute), Path: "/graphql"},
		cfsim.Fault{Kind: cfsim.FaultDatasetEmpty, Dataset: "httpRequests1mGroups", From: at(13).Add(23 * time.Hour), To: at(14).Add(2 * time.Hour)},
		cfsim.Fault{Kind: cfsim.FaultInternal, Probability: .4, Path: "/graphql", From: at(21), To: at(21).Add(2 * time.Hour)},
	)
	nobody := map[int]bool{10: true, 11: true, 12: true} // for three days
	for d := range days {
		morning := at(float64(d))
		switch {
		case nobody[d]:
			w.clock.Set(at(float64(d + 1)))
			continue
		case d == 2 || d == 21:
			w.crashLoop(morning.Add(time.Hour), 3)
		case d == 6 || d == 14:
			w.alternate(morning.Add(3 * time.Hour))
		case d == 8:
			w.calm(morning.Add(time.Hour))
			w.store.away = true
			w.calm(morning.Add(4 * time.Hour))
			w.store.away = false
		case d == 7 || d == 17 || d == 18:
			w.older(at(float64(d + 1)))
		case d == 9 || d == 23:
			w.calm(morning.Add(2 * time.Hour))
			dump := w.dump()
			w.calm(morning.Add(12 * time.Hour))
			w.clock.Set(morning.Add(13 * time.Hour)) // all are stopped for it
			w.restore(dump)
		}
		w.calm(at(float64(d + 1)))
		w.checkDay()
	}
	w.checkEnd()
	lost := w.log.lost
	for series, spans := range lost {
		if series.Scope.ID == cfsim.Tag("zone:shop.example") || series.Dataset != "http_5m" {
			t.Errorf("%s of %s is lost: %v; Cloudflare keeps it for longer than any outage was", series.Dataset, series.Scope, spans)
		}
	}
	// Nobody collected for three days, and a Pro zone's minutes are kept for one.
	media := lost[seriesOf("media.example")]
	if want := (bucket.Window{Start: bucket.TimeOf(at(10)).Floor(time.Hour), End: bucket.TimeOf(at(12))}); len(media) != 1 ||
		media[0].Start.Sub(want.Start).Abs() > time.Hour || media[0].End.Sub(want.End).Abs() > 30*time.Minute {
		t.Errorf("lost of the zone whose minutes are kept for a day: %v, want about %s", media, want)
	}
	if w.log.dropped == 0 {
		t.Error("retention dropped nothing: the story has lost its subject")
	}
}

// Borders of the calendar are nothing to a collector: what is stored across
// them does not depend on the time zone of the process, to the byte.
func TestBordersOfTheCalendar(t *testing.T) {
	for name, border := range map[string]struct {
		at      time.Time
		zone    string
		compare bool // with a process in UTC
	}{
		"summer time begins in Europe":  {time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), "Europe/Berlin", false},
		"summer time ends in Europe":    {time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC), "Europe/Berlin", true},
		"summer time begins in America": {time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC), "America/New_York", true},
		"summer time ends in America":   {time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC), "America/New_York", false},
		"the leap day":                  {time.Date(2028, 3, 1, 0, 0, 0, 0, time.UTC), "America/New_York", false},
		"New Year":                      {time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), "Europe/Berlin", false},
	} {
		t.Run(name, func(t *testing.T) {
			place, err := time.LoadLocation(border.zone)
			if err != nil {
				t.Fatal(err)
			}
			here := across(t, border.at, place)
			if border.compare && here != across(t, border.at, time.UTC) {
				t.Errorf("the log differs between a process in %s and one in UTC", border.zone)
			}
		})
	}
}

// across runs over a border in the time zone of a process, with the dataset late
// across it and a restart on it, and returns the chain of the log.
func across(t *testing.T, border time.Time, local *time.Location) bucket.Chain {
	was := time.Local
	time.Local = local // that it changes nothing is what is tested
	defer func() { time.Local = was }()
	w := newWeeks(t, border.Add(-3*time.Hour), []string{"shop.example", "media.example", "parked.example"}, cfsim.Fault{
		Kind: cfsim.FaultDatasetEmpty, Dataset: "httpRequests1mGroups", From: border.Add(-30 * time.Minute), To: border.Add(40 * time.Minute),
	})
	w.calm(border.Add(-3 * time.Minute))
	w.calm(border.Add(90 * time.Minute))
	w.checkDay()
	w.calm(border.Add(3 * time.Hour))
	w.checkDay()
	w.checkEnd()
	head, err := w.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head.Chain
}
