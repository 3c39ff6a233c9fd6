package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
	"github.com/weir-metrics/weir/services/standalone/internal/verify"
)

// receiver is a destination in memory that holds one value of each sample.
type receiver struct {
	t  *testing.T
	mu sync.Mutex // guards the rest; held while answer and after run
	// answer is asked before a request is taken; with an error it is not.
	answer func(series []deliver.Series) error
	// after is asked when the request is taken; with an error the response is lost.
	after    func() error
	held     map[string]map[sample.Millis]float64
	newest   map[string]sample.Millis
	requests int
	samples  int      // that were taken, repeated ones included
	disorder []string // samples that were older than one of their series
}

func newReceiver(t *testing.T) *receiver {
	return &receiver{t: t, held: map[string]map[sample.Millis]float64{}, newest: map[string]sample.Millis{}}
}

func name(s *deliver.Series) string {
	var b strings.Builder
	for _, l := range s.Labels {
		fmt.Fprintf(&b, "%s=%s,", l.Name, l.Value)
	}
	return b.String()
}

// Send implements [deliver.Sender].
func (r *receiver) Send(ctx context.Context, series []deliver.Series) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if r.answer != nil {
		if err := r.answer(series); err != nil {
			return err
		}
	}
	for i := range series {
		id := name(&series[i])
		if strings.HasPrefix(id, "__name__=weir_push_control,") {
			continue
		}
		if r.held[id] == nil {
			r.held[id] = map[sample.Millis]float64{}
		}
		for _, x := range series[i].Samples {
			if had, there := r.held[id][x.At]; there && had != x.Value {
				r.t.Errorf("%s at %d was %v and is sent again as %v", id, x.At, had, x.Value)
			}
			if x.At < r.newest[id] {
				r.disorder = append(r.disorder, fmt.Sprintf("%s at %d after %d", id, x.At, r.newest[id]))
			}
			r.newest[id] = max(r.newest[id], x.At)
			r.held[id][x.At] = x.Value
			r.samples++
		}
	}
	if r.after != nil {
		return r.after()
	}
	return nil
}

func (r *receiver) count() (n int) {
	for _, samples := range r.held {
		n += len(samples)
	}
	return n
}

// look runs f while no request is served.
func (r *receiver) look(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// rig is a collector, a destination, and a cursor file.
type rig struct {
	t       *testing.T
	feed    *feedtest.Scripted
	to      *receiver
	config  Config
	windows int
	meter   *prometheus.Registry
}

const zones = 3

func newRig(t *testing.T) *rig {
	g := &rig{t: t, feed: feedtest.NewScripted("store"), to: newReceiver(t)}
	g.feed.Append(feedtest.T0, feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)})
	g.config = Config{
		Conn: g.feed.Serve(t), To: g.to, Labels: []export.Label{{Name: "job", Value: "weir"}}, Repeatable: true, Start: Start{Beginning: true},
		Report: filepath.Join(t.TempDir(), "refused.jsonl"), MaxLag: time.Hour, Grace: time.Second, Min: time.Second, Max: time.Minute,
		Clock: clock.System(), Logger: slog.New(slog.DiscardHandler), Seed: 1,
	}
	return g
}

// grow commits windows of all zones, each at its time.
func (g *rig) grow(n int) {
	for range n {
		at := feedtest.T0.Add(time.Duration(g.windows+2) * 5 * time.Minute)
		var entries []feedtest.Entry
		for z := range zones {
			entries = append(entries, feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(z), g.windows)})
		}
		g.feed.Append(at, entries...)
		g.feed.SetProgress(at)
		g.windows++
	}
}

// samplesOf is how many samples a window of a zone has.
const samplesOf = 3

func (g *rig) path() string { return filepath.Join(filepath.Dir(g.config.Report), "cursor.json") }

// start runs a push until the returned function ends it.
func (g *rig) start() (p *Pusher, stop func()) {
	g.t.Helper()
	file, cursor, err := OpenCursor(g.path(), "http://x/api")
	if err != nil {
		g.t.Fatal(err)
	}
	c := g.config
	c.File, c.Cursor = file, cursor
	g.meter = prometheus.NewRegistry()
	c.Meter = NewMeter(g.meter)
	p = New(c)
	ctx, cancel := context.WithCancel(g.t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	return p, func() {
		g.t.Helper()
		cancel()
		if err := <-done; err != nil {
			g.t.Error(err)
		}
		if err := file.Close(); err != nil {
			g.t.Error(err)
		}
	}
}

// cursor is the revision on the disk; 0: there is none.
func (g *rig) cursor() bucket.Revision {
	g.t.Helper()
	c, err := (&CursorFile{path: g.path(), destination: "http://x/api"}).read()
	if err != nil {
		g.t.Fatal(err)
	}
	if c == nil {
		return 0
	}
	return c.Revision
}

// metric is the sum of a metric.
func (g *rig) metric(want string) (sum float64) {
	g.t.Helper()
	families, err := g.meter.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != want {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// within runs a test in virtual time that begins after the exam's windows.
func within(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t) })
}

// settled waits until nothing happens, for some time.
func settled(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestEverythingIsSentInOrder(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.grow(20)
		p, stop := g.start()
		settled(5 * time.Second)
		g.grow(20)
		settled(5 * time.Second)
		lag := p.Lag()
		stop()
		if got, want := g.to.samples, 40*zones*samplesOf; got != want || g.to.count() != want {
			t.Errorf("%d samples were taken, %d are held; want %d, each once", got, g.to.count(), want)
		}
		if len(g.to.disorder) > 0 {
			t.Errorf("out of order: %v", g.to.disorder[:1])
		}
		if got, want := g.cursor(), g.feed.Head().Revision; got != want {
			t.Errorf("the cursor is at %d, want the head %d", got, want)
		}
		for id := range g.to.held {
			if !strings.Contains(id, "job=weir,") || !strings.Contains(id, "zone=zone-") {
				t.Errorf("series %s lacks its labels", id)
			}
		}
		if lag != 0 { // the exam's windows are in the future of this clock
			t.Errorf("the lag is %s", lag)
		}
	})
}

// A batch has one sample of a series, so that its repetition is the newest again.
func TestABatchHasOneWindow(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.to.answer = func(series []deliver.Series) error {
			for i := range series {
				if len(series[i].Samples) != 1 {
					t.Errorf("%s has %d samples in a request", name(&series[i]), len(series[i].Samples))
				}
			}
			return nil
		}
		g.grow(30)
		_, stop := g.start()
		settled(5 * time.Second)
		stop()
		if g.to.requests != 30 {
			t.Errorf("%d requests, want one for each window", g.to.requests)
		}
	})
}

// Wherever a push ends, each sample is taken at least once, in order, with one value, and
// the cursor covers nothing that was not acknowledged. What is repeated is the batch that
// was not acknowledged, and no more.
func TestNothingIsLostWhereverItEnds(t *testing.T) {
	seeds := []uint64{1, 2, 3, uint64(time.Now().UnixNano())}
	for _, seed := range seeds {
		t.Logf("seed %d", seed)
		within(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			g := newRig(t)
			g.grow(60)
			ends := 0
			for life := 0; life < 200 && g.cursor() != g.feed.Head().Revision; life++ {
				dead := errors.New("the process has ended")
				left, gone := r.IntN(8), make(chan struct{})
				end := func() error {
					close(gone)
					left = -1
					return dead
				}
				g.to.answer = func([]deliver.Series) error {
					g.covered()
					switch {
					case left < 0:
						return dead
					case left == 0 && r.IntN(2) == 0:
						return end() // before the receiver has it
					}
					return nil
				}
				g.to.after = func() error {
					g.covered()
					if left--; left == -1 {
						return end() // between acknowledgement and cursor
					}
					return nil
				}
				_, stop := g.start()
				select {
				case <-gone:
					ends++
				case <-time.After(10 * time.Second):
				}
				stop()
			}
			if got, want := g.to.count(), 60*zones*samplesOf; got != want {
				t.Errorf("%d samples are held, want %d", got, want)
			}
			if repeated := g.to.samples - g.to.count(); repeated > ends*zones*samplesOf {
				t.Errorf("%d samples were repeated after %d ends: more than a batch each", repeated, ends)
			}
			if ends == 0 || len(g.to.disorder) > 0 {
				t.Errorf("after %d ends out of order: %v", ends, g.to.disorder)
			}
		})
	}
}

// covered checks that the receiver has everything up to the cursor.
func (g *rig) covered() {
	g.t.Helper()
	// Revision 1 is the definition, then one entry for each zone and window.
	if want := (int(g.cursor()) - 1) * samplesOf; g.to.count() < want {
		g.t.Errorf("the cursor covers %d samples, the receiver has %d", want, g.to.count())
	}
}

// Samples of a series ascend in a batch, whatever order its datasets come in, and of two
// scopes with one series the lower one counts, as in lists of the store.
func TestSamplesOfABatchAscend(t *testing.T) {
	d := feedtest.Definition("http_5m", 1)
	b := newBatch(nil)
	add := func(dataset string, zone, window int, value float64) {
		k := feedtest.Bucket("http_5m", feedtest.Zone(zone), window)
		k.Dataset, k.Zone = dataset, "shop.example"
		k.Families[0].Values[0] = value
		sets, err := sample.Append(nil, k, d, sample.End)
		if err != nil {
			t.Fatal(err)
		}
		if !b.fits(k) {
			t.Errorf("%s does not fit", k.Key)
		}
		b.add(k, sets)
	}
	add("http_5m", 1, 4, 41)
	add("http_1h", 1, 2, 21)
	add("http_1d", 1, 3, 31)
	add("http_5m", 0, 4, 40)
	add("http_5m", 2, 4, 42)
	for _, s := range b.all() {
		if len(s.Samples) != 3 || !slices.IsSortedFunc(s.Samples, func(x, y deliver.Sample) int { return int(x.At - y.At) }) {
			t.Errorf("%s has %+v", name(&s), s.Samples)
		}
		if strings.HasSuffix(s.Labels[0].Value, "requests") && s.Samples[2].Value != 40 {
			t.Errorf("the newest sample is %v, want that of the lower scope", s.Samples[2].Value)
		}
	}
	if b.hidden != 2*samplesOf || b.samples != 3*samplesOf {
		t.Errorf("%d samples are hidden, %d are not", b.hidden, b.samples)
	}
}

func rejected(text string) error { return &deliver.RejectedError{Status: 400, Text: text} }

// What is refused takes no others along, and its windows are in the report, which an import
// takes.
func TestRefusedSamplesAreReported(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		old := sample.MillisOf(feedtest.T0.Add(20 * 5 * time.Minute))
		g.to.answer = func(series []deliver.Series) error {
			for i := range series {
				for _, x := range series[i].Samples {
					if x.At < old && strings.Contains(name(&series[i]), "zone=zone-a001") {
						return rejected("out of order sample")
					}
				}
			}
			return nil
		}
		g.grow(40)
		_, stop := g.start()
		settled(5 * time.Second)
		stop()
		if got, want := g.to.count(), (40*zones-20)*samplesOf; got != want {
			t.Errorf("%d samples are held, want %d", got, want)
		}
		if got := g.metric("weir_push_samples_refused_total"); got != 20*samplesOf {
			t.Errorf("%v samples count as refused, want %d", got, 20*samplesOf)
		}
		f, err := os.Open(g.config.Report)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var got []string
		h, err := verify.ReadFindings(f, verify.Missing, func(x verify.Finding) error {
			got = append(got, fmt.Sprintf("%s %s %s [%s, %s] %d %s", x.Dataset, x.ScopeKind, x.ScopeID[28:], x.First.Std().Format("15:04"), (x.Last+1).Std().Format("15:04"), x.Samples, x.Reason))
			return nil
		})
		if diff := cmp.Diff([]string{"http_5m zone a001 [00:00, 01:40] 60 out_of_order"}, got); err != nil || h.StoreID != "store" || diff != "" {
			t.Errorf("the report of store %s (%v) (-want +got):\n%s", h.StoreID, err, diff)
		}
		if g.cursor() != g.feed.Head().Revision {
			t.Errorf("the cursor is at %d", g.cursor())
		}
	})
}

// An entry that comes late is sent all the same.
func TestALateRepairIsSent(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.grow(5)
		g.windows = 10
		g.grow(5)
		late := feedtest.Bucket("http_5m", feedtest.Zone(0), 7)
		late.Origin = bucket.Repair
		restated := feedtest.Bucket("http_5m", feedtest.Zone(0), 3)
		restated.Families[0].Values[0]++
		g.feed.Append(feedtest.T0.Add(24*time.Hour), feedtest.Entry{Bucket: late}, feedtest.Entry{Restated: restated})
		_, stop := g.start()
		settled(5 * time.Second)
		stop()
		if got, want := g.to.count(), (10*zones+1)*samplesOf; got != want || len(g.to.disorder) != samplesOf {
			t.Errorf("%d samples are held, %d of them out of order; want %d and %d", got, len(g.to.disorder), want, samplesOf)
		}
	})
}

// A receiver that refuses everything for a reason of its own is no evidence about samples:
// nothing is reported, the cursor stays, and the push is not ready until it is over.
func TestEverythingRefusedStopsTheCursor(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.grow(10)
		p, stop := g.start()
		settled(5 * time.Second)
		before := g.cursor()
		g.to.look(func() { g.to.answer = func([]deliver.Series) error { return rejected("no such tenant") } })
		g.grow(1)
		settled(time.Hour)
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "refuses everything") {
			t.Errorf("readiness is %v", err)
		}
		if _, err := os.Stat(g.config.Report); !os.IsNotExist(err) || g.cursor() != before {
			t.Errorf("the cursor went from %d to %d, the report: %v", before, g.cursor(), err)
		}
		g.to.look(func() {
			if g.to.requests > 10+3*130 {
				t.Errorf("%d requests in an hour of refusals", g.to.requests)
			}
			g.to.answer = nil
		})
		settled(2 * time.Minute)
		stop()
		if g.to.count() != 11*zones*samplesOf || g.cursor() != g.feed.Head().Revision {
			t.Errorf("%d samples are held, the cursor is at %d", g.to.count(), g.cursor())
		}
	})
}

// Without an accepted sample before, some refusals one by one are enough of a doubt.
func TestEverythingRefusedFromTheStart(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.to.answer = func([]deliver.Series) error { return rejected("no such tenant") }
		g.grow(3)
		_, stop := g.start()
		settled(time.Hour)
		stop()
		if _, err := os.Stat(g.config.Report); !os.IsNotExist(err) || g.cursor() > 1 {
			t.Errorf("the cursor is at %d, the report: %v", g.cursor(), err)
		}
	})
}

// A destination that is away is asked again with pauses, and no sooner than it says.
func TestRetryAfter(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.grow(1)
		var asked []time.Time
		g.to.answer = func([]deliver.Series) error {
			asked = append(asked, time.Now())
			if len(asked) <= 3 {
				return &deliver.BusyError{Status: 503, After: 10 * time.Minute, Err: errors.New("busy")}
			}
			return nil
		}
		p, stop := g.start()
		settled(time.Minute)
		if p.Ready() == nil {
			t.Error("ready while the destination is busy")
		}
		settled(time.Hour)
		stop()
		for i := 1; i < len(asked); i++ {
			if d := asked[i].Sub(asked[i-1]); d < 10*time.Minute {
				t.Errorf("asked again after %s", d)
			}
		}
		if len(asked) != 4 || g.metric("weir_push_retries_total") != 3 || g.cursor() != g.feed.Head().Revision {
			t.Errorf("asked %d times, the cursor is at %d", len(asked), g.cursor())
		}
	})
}

// ahead is a clock that differs from the machine's.
type ahead struct {
	clock.Clock
	by time.Duration
}

func (c ahead) Now() time.Time { return c.Clock.Now().Add(c.by) }

// The lag is the age of what the destination has. It is known again after a restart, and a
// push that is too far behind is not ready.
func TestLag(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.grow(12) // until 01:05
		began := feedtest.T0.Add(70 * time.Minute)
		g.config.Clock = ahead{clock.System(), time.Until(began)}
		lag := func(p *Pusher, want time.Duration) {
			t.Helper()
			if got := p.Lag(); (got - want).Abs() > 10*time.Second {
				t.Errorf("the lag is %s, want about %s", got, want)
			}
		}
		p, stop := g.start()
		settled(time.Second)
		lag(p, 5*time.Minute)
		if err := p.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		settled(30 * time.Minute) // nobody leads
		lag(p, 35*time.Minute)
		g.feed.SetProgress(g.config.Clock.Now())
		settled(5 * time.Second)
		lag(p, 5*time.Second)
		settled(90 * time.Minute)
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "behind the log") {
			t.Errorf("with a lag of %s the readiness is %v", p.Lag(), err)
		}
		stop()
		// The cursor has the time of the last commit.
		p, stop = g.start()
		lag(p, g.config.Clock.Now().Sub(feedtest.T0.Add(65*time.Minute)))
		stop()
	})
}

// A cursor without its place in the log halts the push, which says why and sends nothing.
// It goes on when a collector has the place again.
func TestHalts(t *testing.T) {
	for _, tc := range []struct {
		reason string
		break_ func(g *rig)
	}{
		{"COMPACTED", func(g *rig) {
			g.feed.Script(feedtest.Step{}, feedtest.Step{After: -1, Err: feedtest.Error(codes.OutOfRange, "COMPACTED")})
		}},
		{"HISTORY_CHANGED", func(g *rig) {
			g.feed.Script(feedtest.Step{}, feedtest.Step{After: -1, Err: feedtest.Error(codes.FailedPrecondition, "HISTORY_CHANGED")})
		}},
		{"CONTRACT", func(g *rig) { // a cursor that is no resume point
			g.feed.Script(feedtest.Step{}, feedtest.Step{After: -1, Err: feedtest.Error(codes.InvalidArgument, "BAD_REQUEST")})
		}},
		{"FUTURE_REVISION", func(g *rig) {
			g.feed.Script(feedtest.Step{}, feedtest.Step{After: -1, Err: feedtest.Error(codes.FailedPrecondition, "FUTURE_REVISION")})
		}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			within(t, func(t *testing.T) {
				g := newRig(t)
				g.grow(5)
				_, stop := g.start()
				settled(5 * time.Second)
				stop()
				before := g.cursor()
				g.grow(5)
				tc.break_(g)
				p, stop := g.start()
				settled(30 * time.Second)
				if err := p.Ready(); err == nil || !strings.Contains(err.Error(), tc.reason) || g.metric("weir_push_halted") != 1 {
					t.Errorf("readiness is %v", err)
				}
				g.to.look(func() {
					if g.cursor() != before || g.to.count() != 5*zones*samplesOf {
						t.Errorf("the cursor went from %d to %d, %d samples are held", before, g.cursor(), g.to.count())
					}
				})
				settled(2 * time.Minute)
				stop()
				if g.to.count() != 10*zones*samplesOf || g.metric("weir_push_halted") != 0 {
					t.Errorf("%d samples are held after it is over", g.to.count())
				}
			})
		})
	}
}

// Another store behind the same address is not pushed.
func TestAnotherStoreHalts(t *testing.T) {
	within(t, func(t *testing.T) {
		g := newRig(t)
		g.grow(5)
		_, stop := g.start()
		settled(5 * time.Second)
		stop()
		other := newRig(t)
		other.grow(9)
		other.feed = feedtest.NewScripted("other")
		other.feed.Append(feedtest.T0, feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)})
		g.config.Conn = other.feed.Serve(t)
		p, stop := g.start()
		settled(10 * time.Second)
		if err := p.Ready(); err == nil || !strings.Contains(err.Error(), "OTHER_STORE") {
			t.Errorf("readiness is %v", err)
		}
		stop()
	})
}

// Where a push without a cursor begins.
func TestStart(t *testing.T) {
	for _, tc := range []struct {
		start Start
		want  int // windows before the start
	}{{Start{}, 0}, {Start{Beginning: true}, 20}, {Start{Age: time.Hour}, 11}} {
		within(t, func(t *testing.T) {
			g := newRig(t)
			g.config.Start = tc.start
			g.grow(20)
			_, stop := g.start()
			settled(5 * time.Second)
			g.grow(2)
			settled(5 * time.Second)
			stop()
			if got := g.to.count() / zones / samplesOf; got != tc.want+2 {
				t.Errorf("%+v: %d windows were sent, want %d", tc.start, got, tc.want+2)
			}
			if len(g.to.disorder) > 0 || g.cursor() != g.feed.Head().Revision {
				t.Errorf("%+v: the cursor is at %d; out of order: %v", tc.start, g.cursor(), g.to.disorder)
			}
		})
	}
}

// Two processes cannot use one cursor, and a cursor is of one destination.
func TestCursorFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cursor.json")
	f, c, err := OpenCursor(path, "http://a/")
	if err != nil || c != nil {
		t.Fatalf("a new cursor: %v, %v", c, err)
	}
	if _, _, err := OpenCursor(path, "http://a/"); err == nil || !strings.Contains(err.Error(), "in use by another weir push") {
		t.Errorf("a second process: %v", err)
	}
	want := &Cursor{StoreID: "s", Position: bucket.Position{Revision: 7, Chain: bucket.Chain{1, 2}}, Until: feedtest.T0}
	if err := errors.Join(f.Save(want), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenCursor(path, "http://b/"); err == nil || !strings.Contains(err.Error(), "http://a/") {
		t.Errorf("another destination: %v", err)
	}
	f, c, err = OpenCursor(path, "http://a/")
	if diff := cmp.Diff(want, c); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{}", `{"format":"weir-push-cursor-1","destination":"http://a/","store_id":"s","revision":1,"chain":"00"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := OpenCursor(path, "http://a/"); err == nil {
			t.Errorf("%q is taken for a cursor", text)
		}
	}
}

// The report joins windows, in any order, and may be moved away.
func TestReport(t *testing.T) {
	r := &Report{filepath.Join(t.TempDir(), "report"), "store"}
	at := bucket.TimeOf(feedtest.T0)
	window := func(n int, reason string) refused {
		start := at.Add(time.Duration(n) * 5 * time.Minute)
		return refused{part{"http_5m", feedtest.Zone(0), bucket.Window{Start: start, End: start.Add(5 * time.Minute)}}, reason, 3}
	}
	read := func() (out []string) {
		t.Helper()
		findings, err := r.read()
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range findings {
			out = append(out, fmt.Sprintf("%s-%s %d %s", x.First.Std().Format("15:04"), (x.Last+1).Std().Format("15:04"), x.Samples, x.Reason))
		}
		return out
	}
	for _, n := range rand.New(rand.NewPCG(1, 1)).Perm(10) {
		if n == 4 {
			continue
		}
		if err := r.Add([]refused{window(n, "too_old"), window(n, "too_old")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Add([]refused{window(10, "duplicate")}); err != nil {
		t.Fatal(err)
	}
	want := []string{"00:00-00:20 12 too_old", "00:25-00:50 15 too_old", "00:50-00:55 3 duplicate"}
	if diff := cmp.Diff(want, read()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := os.Remove(r.Path); err != nil {
		t.Fatal(err)
	}
	if err := r.Add([]refused{window(4, "too_old")}); err != nil {
		t.Fatal(err)
	}
	if got := read(); !slices.Equal(got, []string{"00:20-00:25 3 too_old"}) {
		t.Errorf("after it was moved away: %v", got)
	}
	if err := (&Report{r.Path, "other"}).Add([]refused{window(5, "x")}); err == nil {
		t.Error("a report about another store is overwritten")
	}
}
