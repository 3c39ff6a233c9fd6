package poll_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
	"github.com/weir-metrics/weir/services/collector/internal/poll"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

// The stories make much that is short-lived and hold little: collecting it less
// often is a tenth of their time.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(3 << 30) // a thousand zones hold more than little
	os.Exit(m.Run())
}

// began is when most stories begin.
var began = time.Date(2026, 6, 20, 11, 58, 30, 0, time.UTC)

// leaping is a clock that jumps to whatever is waited for: a loop that waits
// for minutes runs as fast as it can work, and does the same in every run.
type leaping struct {
	*clock.Manual
	end  time.Time
	done context.CancelFunc
	held atomic.Pointer[chan struct{}] // waits end when it is closed; see world.later
}

func (l *leaping) WaitUntil(ctx context.Context, t time.Time) error {
	if held := l.held.Load(); held != nil {
		select {
		case <-*held:
			l.held.Store(nil)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if t.After(l.end) {
		l.Set(l.end)
		l.done()
		<-ctx.Done()
		return context.Cause(ctx)
	}
	l.Set(t)
	return ctx.Err()
}

// world is a simulated Cloudflare with a collector's loop on it.
type world struct {
	t         *testing.T
	clock     *leaping
	sim       *cfsim.Server
	store     store.Store
	catalogue *catalogue.Catalogue
	config    poll.Config
	registry  *prometheus.Registry
	token     string // that the loop's client sends
	poller    *poll.Poller
}

func newWorld(t *testing.T, change func(*cfsim.Config)) *world {
	t.Helper()
	return newWorldAt(t, began, change)
}

func newWorldAt(t *testing.T, at time.Time, change func(*cfsim.Config)) *world {
	t.Helper()
	w := &world{t: t, clock: &leaping{Manual: clock.NewManual(at)}, registry: prometheus.NewRegistry(), token: cfsim.DemoToken}
	conf := cfsim.Demo(w.clock, 1)
	if change != nil {
		change(&conf)
	}
	sim, err := cfsim.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	w.sim = sim
	w.store, err = sqlite.Open(t.Context(), sqlite.Options{Ephemeral: true, Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	if w.catalogue, err = catalogue.Load(nil, catalogue.Options{}); err != nil {
		t.Fatal(err)
	}
	log := testkit.Logger(t)
	client, err := cloudflare.New(cloudflare.Config{
		BaseURL: "https://simulator.example" + cfsim.Prefix, Transport: cfsimtest.Transport(sim), Token: func() (string, error) { return w.token, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	limiter, err := quota.New(quota.Config{User: "u", Reserver: w.store, Clock: w.clock, Holder: "test", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	w.config = poll.Config{
		Store: w.store, Credentials: []upstream.Credential{{Name: roster.DefaultCredential, Client: client, User: "u", Budget: limiter}}, Clock: w.clock, Catalogue: w.catalogue,
		Metrics: poll.NewMetrics(w.registry), Logger: log,
		Lookback: 3 * time.Hour, Retention: 90 * 24 * time.Hour, Interval: time.Minute, LeaseTTL: 15 * time.Second, Seed: 1,
	}
	return w
}

// only collects these datasets.
func (w *world) only(datasets ...string) {
	w.t.Helper()
	var others []string
	for _, d := range w.catalogue.Datasets {
		if !slices.Contains(datasets, d.Dataset) {
			others = append(others, d.Name)
		}
	}
	var err error
	if w.catalogue, err = catalogue.Load(nil, catalogue.Options{Disable: others}); err != nil {
		w.t.Fatal(err)
	}
	w.config.Catalogue = w.catalogue
}

// zones leaves these alone in the simulated world.
func zones(names ...string) func(*cfsim.Config) {
	return func(c *cfsim.Config) {
		c.Zones = slices.DeleteFunc(c.Zones, func(z cfsim.Zone) bool { return !slices.Contains(names, z.Name) })
	}
}

// run leads for so long in virtual time, as a fresh process would.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	if err := w.tryToRun(d); err != nil {
		w.t.Fatalf("lead: %v", err)
	}
}

// tryToRun is run where the term may end by itself.
func (w *world) tryToRun(d time.Duration) error {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	w.clock.end, w.clock.done = w.clock.Now().Add(d), cancel
	won, err := w.store.Acquire(w.t.Context(), "test", 15*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	w.poller = poll.New(w.config)
	if err := w.poller.Lead(ctx, won); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// stored reads every bucket.
func (w *world) stored() map[bucket.Key]*bucket.Bucket {
	w.t.Helper()
	out := map[bucket.Key]*bucket.Bucket{}
	err := w.store.List(w.t.Context(), store.ListQuery{Window: bucket.Window{Start: 0, End: 1 << 40}}, func(e store.Entry) error {
		b, err := wire.DecodeBucket(e.Payload)
		if err == nil {
			out[b.Key] = b
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func value(b *bucket.Bucket, family string) float64 {
	for _, rows := range b.Families {
		if rows.Family == family {
			var sum float64
			for _, v := range rows.Values {
				sum += v
			}
			return sum
		}
	}
	return -1
}

// checkTruth compares every stored bucket with what really happened.
func (w *world) checkTruth() int {
	w.t.Helper()
	n := 0
	for key, b := range w.stored() {
		truth, err := w.sim.True(key.Scope.ID, key.Start.Std(), key.Start.Add(b.Size).Std())
		if err != nil {
			w.t.Fatal(err)
		}
		family, want := "cloudflare_zone_requests", float64(truth.Requests)
		switch key.Dataset {
		case "uniques_1h":
			family, want = "cloudflare_zone_unique_visitors", float64(truth.Uniques)
		case "uniques_1d":
			family, want = "cloudflare_zone_daily_unique_visitors", float64(truth.Uniques)
		case "countries_1h", "content_types_1h":
			continue
		}
		n++
		if got := value(b, family); got != want {
			w.t.Errorf("%s (%s, read at %s): %s is %v, truth is %v", key, b.Variant, b.ReadAt, family, got, want)
		}
	}
	return n
}

// missing counts windows of http_5m that are due for longer than an hour and not stored.
func (w *world) missing(zone string, from time.Time) int {
	stored, n := w.stored(), 0
	start := bucket.TimeOf(from).Ceil(5 * time.Minute)
	for end := bucket.TimeOf(w.clock.Now()).Add(-time.Hour); start.Add(5*time.Minute) < end; start = start.Add(5 * time.Minute) {
		if stored[bucket.Key{Dataset: "http_5m", Scope: bucket.Scope{Kind: bucket.Zone, ID: zone}, Start: start}] == nil {
			n++
		}
	}
	return n
}

func TestWhatIsStoredIsTheTruth(t *testing.T) {
	w := newWorld(t, nil)
	w.run(6 * time.Hour)
	if n := w.checkTruth(); n < 6*100 {
		t.Fatalf("only %d buckets were stored and compared", n)
	}
	for _, name := range []string{"shop.example", "blog.example", "api.example"} {
		if n := w.missing(cfsim.Tag("zone:"+name), began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%s: %d windows are missing", name, n)
		}
	}
}

// Whatever goes wrong for an hour, at the end everything that Cloudflare still
// has is stored, and nothing that is stored is false (G1, G2, G3, G12).
func TestTroubleForAnHourChangesNothingInTheEnd(t *testing.T) {
	from, to := began.Add(time.Hour), began.Add(2*time.Hour)
	shop := cfsim.Tag("zone:shop.example")
	graphql := func(f cfsim.Fault) []cfsim.Fault {
		f.From, f.To, f.Path = from, to, "/graphql"
		return []cfsim.Fault{f}
	}
	for _, story := range []struct {
		name     string
		faults   []cfsim.Fault
		restarts int // also told with so many restarts
	}{
		{"budget errors for ten minutes", []cfsim.Fault{{Kind: cfsim.FaultBudget, From: from, To: from.Add(10 * time.Minute), Path: "/graphql"}}, 0},
		{"dataset empty although traffic exists", []cfsim.Fault{{Kind: cfsim.FaultDatasetEmpty, From: from, To: to}}, 8},
		{"one zone delayed", []cfsim.Fault{{Kind: cfsim.FaultZoneDelayed, Zone: shop, Delay: 30 * time.Minute, From: from, To: to}}, 8},
		{"HTML instead of JSON", graphql(cfsim.Fault{Kind: cfsim.FaultHTML, Status: 502}), 8},
		{"cut JSON, every third answer", graphql(cfsim.Fault{Kind: cfsim.FaultTruncated, Probability: .3}), 0},
		{"connections reset, every second one", graphql(cfsim.Fault{Kind: cfsim.FaultReset, Probability: .5}), 0},
		{"empty objects", graphql(cfsim.Fault{Kind: cfsim.FaultEmptyObject}), 0},
		{"null data", graphql(cfsim.Fault{Kind: cfsim.FaultNullData}), 0},
		{"duplicate rows", graphql(cfsim.Fault{Kind: cfsim.FaultDuplicate}), 0},
		{"one zone's node is null beside an error", graphql(cfsim.Fault{Kind: cfsim.FaultPartial, Zone: shop}), 0},
		{"server too busy", graphql(cfsim.Fault{Kind: cfsim.FaultBusy, Probability: .7}), 0},
	} {
		for _, restarts := range slices.Compact([]int{0, story.restarts}) {
			name := story.name
			if restarts > 0 {
				name += ", restarted every half hour"
			}
			t.Run(name, func(t *testing.T) {
				w := newWorld(t, func(c *cfsim.Config) { c.Faults = story.faults })
				for range restarts + 1 {
					w.run(270 * time.Minute / time.Duration(restarts+1))
				}
				w.checkTruth()
				for _, name := range []string{"shop.example", "checkout.example", "blog.example", "api.example"} {
					if n := w.missing(cfsim.Tag("zone:"+name), began.Add(-3*time.Hour)); n != 0 {
						t.Errorf("%s: %d windows are missing", name, n)
					}
				}
			})
		}
	}
}

// However late the hourly node alone is, each hour is stored whole: the first rows
// of the next hour are there before its own last ones, also at its deadline (30
// minutes) and where it is first read after that (a start in the middle).
func TestANodeThatIsLateByAnythingIsWaitedFor(t *testing.T) {
	for _, starts := range []time.Duration{time.Minute, 40 * time.Minute} {
		for delay := time.Minute; delay < 40*time.Minute; delay += time.Minute + 7*time.Second {
			w := newWorld(t, func(c *cfsim.Config) {
				zones("shop.example", "blog.example")(c)
				c.Faults = []cfsim.Fault{{Kind: cfsim.FaultZoneDelayed, Dataset: "httpRequests1hGroups", Delay: delay}}
			})
			var err error
			if w.catalogue, err = catalogue.Load(nil, catalogue.Options{HTTPSize: time.Hour, Disable: []string{"countries_1h", "content_types_1h"}}); err != nil {
				t.Fatal(err)
			}
			w.config.Catalogue = w.catalogue
			w.clock.Set(began.Add(starts))
			w.run(80 * time.Minute)
			if n := w.checkTruth(); n < 10 {
				t.Errorf("only %d buckets are final", n)
			}
			if t.Failed() {
				t.Fatalf("started at %s with a delay of %s", began.Add(starts).Format("15:04"), delay)
			}
		}
	}
}

// Data stops coming for forty minutes, at every half minute of a window, and comes
// again: each bucket is stored whole, though readings were equal while it did not.
func TestANodeThatStandsStillIsWaitedFor(t *testing.T) {
	for _, node := range []string{"httpRequests1mGroups", "httpRequestsAdaptiveGroups", ""} {
		for offset := time.Duration(0); offset < 5*time.Minute; offset += 30 * time.Second {
			from := began.Truncate(5 * time.Minute).Add(time.Hour + offset)
			w := newWorld(t, func(c *cfsim.Config) {
				zones("shop.example", "checkout.example", "blog.example", "api.example")(c)
				c.Settling.Stragglers = 0 // see TestALimitAStragglerBehindALateNodeIsStoredShort
				c.Faults = []cfsim.Fault{{Kind: cfsim.FaultZoneFrozen, Dataset: node, From: from, To: from.Add(40 * time.Minute)}}
			})
			w.only("http_5m", "uniques_1h")
			w.run(3 * time.Hour)
			if n := w.checkTruth(); n < 150 {
				t.Errorf("only %d buckets are stored", n)
			}
			if t.Failed() {
				t.Fatalf("%q stood still %s into a window", node, offset)
			}
		}
	}
}

// A zone without any traffic: no zero is stored before it is a day old, then
// all of them, and from then on it keeps up (G3).
func TestSilenceIsBelievedAfterADay(t *testing.T) {
	w := newWorld(t, nil)
	parked := bucket.Scope{Kind: bucket.Zone, ID: cfsim.Tag("zone:parked.example")}
	zeros := func() (n int) {
		for key, b := range w.stored() {
			if key.Dataset == "http_5m" && key.Scope == parked {
				if v := value(b, "cloudflare_zone_requests"); v != 0 {
					t.Fatalf("%s holds %v requests of a zone without traffic", key, v)
				}
				n++
			}
		}
		return n
	}
	// Cloudflare keeps a Pro zone's minutes for a day, so belief comes two
	// hours before that; the oldest window began three hours before the story.
	w.run(18 * time.Hour)
	if n := zeros(); n != 0 {
		t.Fatalf("%d zeros were stored within the zone's first day", n)
	}
	w.run(10 * time.Hour)
	if n := w.missing(parked.ID, began.Add(-3*time.Hour)); n != 0 {
		t.Fatalf("%d windows of a quiet zone are missing after a day", n)
	}
	if n := zeros(); n < 28*12 {
		t.Fatalf("only %d zeros are stored", n)
	}
}

// One zone voids every answer that it is part of, and the error does not name
// it. Its neighbours, in the same requests, must not starve.
func TestAPoisonedZoneDoesNotStarveItsNeighbours(t *testing.T) {
	from, shop := began.Add(time.Hour), cfsim.Tag("zone:shop.example")
	w := newWorld(t, func(c *cfsim.Config) {
		c.Faults = []cfsim.Fault{{Kind: cfsim.FaultInternal, Zone: shop, Path: "/graphql", From: from, To: from.Add(4 * time.Hour)}}
	})
	w.run(3 * time.Hour)
	w.checkTruth()
	for _, name := range []string{"checkout.example", "blog.example", "api.example"} {
		if n := w.missing(cfsim.Tag("zone:"+name), began.Add(-3*time.Hour)); n != 0 {
			t.Errorf("%s: %d windows are missing", name, n)
		}
	}
	if w.missing(shop, began.Add(-3*time.Hour)) == 0 {
		t.Error("the poisoned zone is complete: the story has lost its subject")
	}
	if peak := w.sim.Counters().PeakQueries; peak > 150 {
		t.Errorf("%d requests within five minutes; the share is 150", peak)
	}
	w.run(4 * time.Hour)
	w.checkTruth()
	if n := w.missing(shop, began.Add(-3*time.Hour)); n != 0 {
		t.Errorf("%d windows of the poisoned zone are still missing after it recovered", n)
	}
}

// At any moment coverage says of every window from the horizon to now − delay
// what it is, without hole or overlap, on leader and standby alike (G2).
func TestCoverageAccountsForEveryWindow(t *testing.T) {
	from := began.Add(time.Hour)
	w := newWorld(t, func(c *cfsim.Config) {
		c.Faults = []cfsim.Fault{
			{Kind: cfsim.FaultDatasetEmpty, Dataset: "httpRequests1mGroups", From: from, To: from.Add(time.Hour)},
			{Kind: cfsim.FaultHTML, Status: 503, Path: "/graphql", From: from.Add(100 * time.Minute)},
		}
	})
	source := status.Source{Store: w.store, Catalogue: w.catalogue, Clock: w.clock, Retention: w.config.Retention, Leading: func() bool { return false }}
	reasons := map[bucketv1.GapReason]bool{}
	for range 6 {
		w.run(30 * time.Minute)
		coverages, asOf, err := source.Coverage(t.Context(), store.Filter{}, bucket.Window{})
		if err != nil {
			t.Fatal(err)
		}
		if want := 5 * 8; len(coverages) != want {
			t.Fatalf("coverage of %d series, want %d datasets and zones", len(coverages), want)
		}
		for _, c := range coverages {
			d := w.catalogue.Find(c.Dataset)
			at := bucket.Time(c.HorizonUnixSeconds)
			for _, r := range c.Ranges {
				if bucket.Time(r.StartUnixSeconds) != at {
					t.Fatalf("%s %s: a range begins at %s, the one before ended at %s", c.Dataset, c.Scope.Id, bucket.Time(r.StartUnixSeconds), at)
				}
				at = bucket.Time(r.EndUnixSeconds)
				reasons[r.Reason] = true
				if r.State == bucketv1.CoverageState_COVERAGE_STATE_MISSING && r.Reason == bucketv1.GapReason_GAP_REASON_UNSPECIFIED {
					t.Errorf("%s %s: missing without a reason", c.Dataset, c.Scope.Id)
				}
			}
			if due := plan.Due(bucket.TimeOf(asOf), d.Size, d.Delay); at != due && due > bucket.Time(c.HorizonUnixSeconds) {
				t.Errorf("%s %s: coverage ends at %s, due is %s", c.Dataset, c.Scope.Id, at, due)
			}
		}
	}
	for _, r := range []bucketv1.GapReason{bucketv1.GapReason_GAP_REASON_DELAYED, bucketv1.GapReason_GAP_REASON_SUSPECT, bucketv1.GapReason_GAP_REASON_UPSTREAM_ERROR} {
		if !reasons[r] {
			t.Errorf("no gap had the reason %s, though there was cause", r)
		}
	}
}

// A bucket in twenty stays at half its value until it is six minutes old (the
// simulator's model of what was recorded once). Equal readings see through it.
func TestStragglersAreNotStoredEarly(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) { c.Settling.Stragglers = .05 })
	w.run(5 * time.Hour)
	if n := w.checkTruth(); n < 500 {
		t.Fatalf("only %d buckets were stored and compared", n)
	}
}

// Readings of the real API, one for each bucket, go through as they are.
func TestRecordedReadingsAreStoredAsTheyAre(t *testing.T) {
	root, err := testkit.Root()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(root, "..", "shared", "recorded", "zone_requests_1m.csv"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the recorded readings are kept beside the project, not in it: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	w := newWorld(t, func(c *cfsim.Config) {
		recorded, err := cfsim.Recorded(c.Clock, 1, file)
		if err != nil {
			t.Fatal(err)
		}
		*c = recorded
	})
	w.clock.Set(time.Date(2026, 6, 26, 13, 0, 0, 0, time.UTC))
	if w.catalogue, err = catalogue.Load(nil, catalogue.Options{HTTPSize: time.Minute}); err != nil {
		t.Fatal(err)
	}
	w.config.Catalogue, w.config.Lookback = w.catalogue, 6*24*time.Hour
	w.run(2 * time.Hour)
	recorded := 0
	for key, b := range w.stored() {
		if key.Dataset != "http_1m" {
			continue
		}
		truth, err := w.sim.True(key.Scope.ID, key.Start.Std(), key.Start.Add(b.Size).Std())
		if err != nil {
			t.Fatal(err)
		}
		if got := value(b, "cloudflare_zone_requests"); got != float64(truth.Requests) {
			t.Errorf("%s is %v, recorded is %d", key, got, truth.Requests)
		}
		if truth.Requests > 0 {
			recorded++
		}
	}
	if recorded < 20 {
		t.Errorf("only %d recorded buckets were stored", recorded)
	}
}
