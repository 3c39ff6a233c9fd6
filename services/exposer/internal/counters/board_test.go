package counters_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/counters"
)

func minute(n float64) time.Time { return noon.Add(time.Duration(n * float64(time.Minute))) }

// served is a reader at minute 25 that has a bucket of each origin.
func served(t testing.TB) *reader {
	r := newReader(t, minute(25))
	if err := r.begin(first); err != nil {
		t.Fatal(err)
	}
	status := bucket.Rows{Family: "cloudflare_zone_requests_by_status_total", Labels: []string{"200", "500"}, Values: []float64{90, 0.25}}
	log := []*bucketv1.Entry{
		defined(http5m),
		entry(zone(1), `sh"op`, minute(-10), minute(1), bucket.Live, requests(7)), // with which collecting begins
		entry(zone(1), `sh"op`, minute(0), minute(12), bucket.Live, bucket.Rows{Family: "cloudflare_zone_bytes", Values: []float64{1e6}}, requests(100), status,
			bucket.Rows{Family: "cloudflare_zone_visitors", Values: []float64{3}}),
		entry(zone(1), `sh"op`, minute(5), minute(17), bucket.Live, requests(50)),
		entry(zone(1), `sh"op`, minute(-60), minute(18), bucket.Backfill, requests(1e9)),
		entry(zone(1), `sh"op`, minute(-5), minute(22), bucket.Live, requests(40)), // too late
	}
	for i, e := range log {
		e.Revision = uint64(i) + 1
	}
	r.show(log...)
	r.follow(minute(25), log...)
	return r
}

// The three kinds of a page, as a real Prometheus reads them.
func TestPage(t *testing.T) {
	r := served(t)
	pages := map[string]counters.Options{
		"text":        {Format: expo.Text, Created: true}, // which text has no way to tell
		"openmetrics": {Format: expo.OpenMetrics},
		"created":     open,
	}
	lines := map[string]int{}
	config := "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs:\n"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		o := pages[req.URL.Path[1:]]
		page, err := r.board.Page(nil, o)
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", o.Format.ContentType())
		_, _ = w.Write(page.Body)
	}))
	t.Cleanup(server.Close)
	for name, o := range pages {
		got, err := r.page(minute(25), o)
		if err != nil {
			t.Fatal(err)
		}
		testkit.Golden(t, filepath.Join("testdata", name+".txt"), []byte(got))
		lines[name] = len(values(t, got))
		config += fmt.Sprintf("- {job_name: %[1]s, metrics_path: /%[1]s, static_configs: [{targets: [%[2]q]}]}\n", name, strings.TrimPrefix(server.URL, "http://"))
	}
	text, _ := r.page(minute(25), pages["text"])
	if _, stderr, err := promtest.PromtoolIn(t, strings.NewReader(text), "check", "metrics"); err != nil {
		t.Errorf("%v\n%s", err, stderr)
	}
	p := promtest.Start(t, config)
	testkit.Eventually(t, func() error {
		for name, want := range lines {
			got := p.Query(fmt.Sprintf("scrape_samples_scraped{job=%q}", name), time.Now())
			if len(got) != 1 || got[0].Samples[0].Value != float64(want) {
				return fmt.Errorf("Prometheus has %v of %s, want %d samples; targets are %+v", got, name, want, p.Targets())
			}
		}
		return nil
	})
	for name := range pages {
		if got := p.Value(fmt.Sprintf(`cloudflare_zone_bytes_total{job=%q}`, name), time.Now()); got != 1e6 {
			t.Errorf("%s: the counter is %v in Prometheus", name, got)
		}
	}
}

// A page needs the confirmation that nothing is missing that was committed 90 s before, and
// nothing else (G10).
func TestUnavailable(t *testing.T) {
	r := newReader(t, noon)
	want := func(now time.Time, reason string) {
		t.Helper()
		if got := r.reason(now); got != reason {
			t.Errorf("at %s the reason is %q, want %q", now, got, reason)
		}
	}
	lost := func(code codes.Code, reason string) {
		r.in.Disconnected(fmt.Errorf("watch: %w", feedtest.Error(code, reason)), time.Second)
	}
	want(noon, "disconnected")
	r.in.Disconnected(fmt.Errorf("watch: %w", status.Error(codes.InvalidArgument, "start is missing")), time.Second)
	want(noon, "unsupported")
	lost(codes.InvalidArgument, client.ReasonBadRequest)
	want(noon, "unsupported")
	lost(codes.Unavailable, client.ReasonNoCounters)
	want(noon, "no_counters")
	if err := r.begin(first); err != nil {
		t.Fatal(err)
	}
	want(noon, "catching_up")
	r.follow(time.Time{}) // not all of it is here
	want(noon, "catching_up")
	r.follow(noon)
	want(noon, "")
	want(noon.Add(counter.Announced), "")
	want(noon.Add(counter.Announced+time.Millisecond), "behind")
	// A stream that ends takes nothing away, nor does one that begins again.
	lost(codes.Unavailable, client.ReasonDraining)
	want(noon.Add(counter.Announced), "")
	r.in.Info(&bucketv1.StoreInfo{})
	r.follow(time.Time{})
	want(noon.Add(counter.Announced), "")
	r.follow(noon.Add(-time.Minute)) // a collector that knows less
	want(noon.Add(counter.Announced), "")
	r.follow(minute(5))
	want(minute(6), "")
	// New totals, as after a resume point that was compacted: what is there is served until
	// they are.
	if err := r.begin(first); err != nil {
		t.Fatal(err)
	}
	want(minute(6), "")
	r.follow(minute(7))
	want(minute(8), "")
	want(minute(9), "behind")
	ahead := first
	ahead.Settled = minute(30)
	if err := r.begin(ahead); err != nil {
		t.Fatal(err)
	}
	r.follow(minute(10))
	want(minute(10), "clock")
}

// Entries count only where the stream has confirmed them, and those of an interrupted
// snapshot never.
func TestInterruptedTotals(t *testing.T) {
	r := served(t)
	before, err := r.page(minute(25), open)
	if err != nil {
		t.Fatal(err)
	}
	fold := counter.New()
	totals := fold.Totals(noon)
	r.in.SnapshotBegin(&bucketv1.StoreInfo{StoreId: "store"})
	if err := r.in.CounterEpoch(wire.CounterEpoch(first)); err != nil || len(totals) != 0 {
		t.Fatal(err, totals)
	}
	r.in.Disconnected(errors.New("cut"), time.Second)
	r.in.Info(&bucketv1.StoreInfo{StoreId: "store"})
	r.follow(minute(25))
	if got, err := r.page(minute(25), open); got != before || err != nil {
		t.Errorf("%v (-before +after):\n%s", err, cmp.Diff(before, got))
	}
}

// When history has changed, totals of the same epoch would make counters step back: they
// are not served, and those of another epoch are (G10).
func TestARestoredStoreIsNotServed(t *testing.T) {
	for reason, code := range map[string]codes.Code{
		client.ReasonHistoryChanged: codes.FailedPrecondition, client.ReasonFutureRevision: codes.FailedPrecondition, "": codes.FailedPrecondition,
	} {
		r := served(t)
		err := feedtest.Error(code, reason)
		if reason == "" {
			err = status.Error(code, "of a later release")
		}
		r.in.Disconnected(fmt.Errorf("watch: %w", err), time.Second)
		if got := r.reason(minute(25)); got != "history_changed" {
			t.Errorf("%s: the reason is %q", reason, got)
		}
		for range 3 {
			err := r.begin(first)
			if err == nil {
				t.Fatalf("%s: totals of the same epoch were taken", reason)
			}
			r.in.Disconnected(fmt.Errorf("%w: totals: %w", client.ErrHandler, err), time.Second)
			_, err = r.page(minute(25), open)
			if got := r.reason(minute(25)); got != "restored" || !strings.Contains(err.Error(), "collector counters restart") {
				t.Errorf("%s: the reason is %q: %v", reason, got, err)
			}
		}
		if err := r.begin(second); err != nil {
			t.Fatal(err)
		}
		r.follow(minute(70))
		if got := r.reason(minute(70)); got != "" {
			t.Errorf("%s: with another epoch the reason is %q", reason, got)
		}
		// The next change is judged by that one.
		r.in.Disconnected(fmt.Errorf("watch: %w", err), time.Second)
		if err := r.begin(second); err == nil {
			t.Errorf("%s: totals of the second epoch were taken again", reason)
		}
	}
}

// While an exposer that was cut off may still show the epoch before, the next one has no
// series.
func TestANewEpochIsShownWhenTheOldOneIsOver(t *testing.T) {
	old, fresh := served(t), newReader(t, minute(26))
	restart := counter.Epoch{ID: "second", Began: minute(26), Settled: minute(26), Rules: counter.Rules}
	old.follow(minute(26)) // the latest time that it can have got
	if err := fresh.begin(restart); err != nil {
		t.Fatal(err)
	}
	log := []*bucketv1.Entry{defined(http5m), entry(zone(1), `sh"op`, minute(20), minute(26), bucket.Live, requests(1))}
	for now := minute(26); now.Before(minute(30)); now = now.Add(time.Second) {
		fresh.follow(now, log...)
		log = nil
		a, _ := old.page(now.Add(-5*time.Second), open) // its clock is late
		b, err := fresh.page(now, open)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(a, "\ncloudflare_zone_requests_total{") && strings.Contains(b, "\ncloudflare_zone_requests_total{") {
			t.Fatalf("at %s both epochs are shown", now)
		}
	}
	if got, _ := fresh.page(minute(30), open); !strings.Contains(got, "\ncloudflare_zone_requests_total{") {
		t.Errorf("the new epoch is never shown:\n%s", got)
	}
}

// How far a clock is ahead is the least that a confirmation takes, not what it takes now.
func TestHowFarAClockIsAhead(t *testing.T) {
	r := served(t)
	confirm := func(at, until time.Time) *time.Duration {
		r.clock.set(at)
		r.in.Complete(until)
		return r.board.State().Ahead
	}
	at := minute(30)
	for n, took := range []time.Duration{7 * time.Second, 3 * time.Second, 40 * time.Second, 8 * time.Second} {
		got := confirm(at, at.Add(-took))
		if want := min(took, 7*time.Second); n > 0 && (got == nil || *got != min(want, 3*time.Second)) || n == 0 && (got == nil || *got != want) {
			t.Errorf("after %d confirmations it is %v", n+1, got)
		}
		at = at.Add(time.Minute)
	}
	for range 20 { // set ahead
		at = at.Add(time.Minute)
		confirm(at, at.Add(-20*time.Second))
	}
	if got := r.board.State().Ahead; got == nil || *got != 20*time.Second {
		t.Errorf("twenty minutes later it is %v", got)
	}
}

// A leader whose clock was a day ahead is followed by another epoch, for which pages of the one
// before are no bound: exposers need no restart.
func TestANewEpochAfterAClockThatWasAhead(t *testing.T) {
	r := served(t)
	ahead := minute(30).Add(24 * time.Hour)
	r.follow(ahead)
	if _, err := r.page(ahead, open); err != nil {
		t.Fatal(err)
	}
	if got := r.reason(minute(31)); got != "clock" {
		t.Errorf("while the epoch lasts, the reason is %q", got)
	}
	if err := r.begin(counter.Epoch{ID: "second", Began: minute(31), Settled: minute(29), Rules: counter.Rules}); err != nil {
		t.Fatal(err)
	}
	r.follow(minute(33))
	if got := r.reason(minute(33)); got != "" {
		t.Errorf("in another epoch the reason is %q", got)
	}
}

// A clock that was ahead for a moment settles nothing that a page may still be asked about.
func TestAClockThatWasAhead(t *testing.T) {
	r := served(t)
	late := entry(zone(1), `sh"op`, minute(15), minute(27), bucket.Live, requests(300)) // plays from 29 to 34
	late.Revision = 7
	r.follow(minute(28), late)
	r.clock.set(minute(100))
	r.follow(minute(28))
	page, err := r.page(minute(29.5), open)
	if got := values(t, page)[`cloudflare_zone_requests_total{zone="sh\"op",account="Acme"`]; err != nil || got != 180 {
		t.Errorf("the counter is %v, want 150 and a tenth of 300: %v", got, err)
	}
}

// What cannot be counted affects nothing else.
func TestRejectedEntries(t *testing.T) {
	r := served(t)
	bad := entry(zone(2), "blog", minute(15), minute(25), bucket.Live, requests(-1))
	odd := entry(zone(2), "blog", minute(15), minute(25), bucket.Live, requests(1))
	odd.GetBucket().DatasetVersion = 9
	good := entry(zone(3), "news", minute(15), minute(25), bucket.Live, requests(1))
	more := entry(zone(3), "news", minute(20), minute(30), bucket.Live, requests(1))
	for i, e := range []*bucketv1.Entry{bad, odd, good, more} {
		e.Revision = uint64(i) + 7
	}
	r.follow(minute(30), bad, odd, good, more)
	page, err := r.page(minute(30), open)
	if err != nil || strings.Contains(page, "blog") || !strings.Contains(page, `requests_total{zone="news",account="Acme"} 0`) {
		t.Errorf("%v:\n%s", err, page)
	}
	if got := r.rejected.Load(); got != 2 {
		t.Errorf("%d rejected, want 2", got)
	}
}

// A zone that takes over the name of another is one series with it: no page shows both, and
// the later one is shown when every exposer knows it.
func TestTwoZonesOfOneName(t *testing.T) {
	twoZones(t, zone(7), zone(3))
	twoZones(t, zone(3), zone(7))
}

func twoZones(t *testing.T, old, later bucket.Scope) {
	t.Helper()
	r := newReader(t, minute(120))
	if err := r.begin(first); err != nil {
		t.Fatal(err)
	}
	var log []*bucketv1.Entry
	for i := range 10 {
		log = append(log, entry(old, "shop", minute(float64(5*i)), minute(float64(5*i+11)), bucket.Live, requests(100)))
	}
	for i := 10; i < 20; i++ {
		log = append(log, entry(later, "shop", minute(float64(5*i)), minute(float64(5*i+11)), bucket.Live, requests(1)))
	}
	log = append([]*bucketv1.Entry{defined(http5m)}, log...)
	for i, e := range log {
		e.Revision = uint64(i) + 1
	}
	r.show(log...)
	before, reset := -1., time.Time{}
	for now := noon; now.Before(minute(130)); now = now.Add(time.Second) {
		n := slices.IndexFunc(log, func(e *bucketv1.Entry) bool { return e.GetCommittedAt().AsTime().After(now) })
		if n < 0 {
			n = len(log)
		}
		r.follow(now, log[r.given:n]...)
		page, err := r.page(now, open)
		if err != nil {
			t.Fatal(err)
		}
		v, shown := values(t, page)[`cloudflare_zone_requests_total{zone="shop",account="Acme"`]
		if !shown {
			continue
		}
		if v < before {
			if !reset.IsZero() {
				t.Fatalf("at %s it goes from %v to %v again", now, before, v)
			}
			reset = now
			if !strings.Contains(page, `cloudflare_zone_info{zone="shop",account="Acme",zone_id="`+later.ID+`"} 1`) || strings.Count(page, "zone_id=") != 1 {
				t.Errorf("the id of the zone:\n%s", page)
			}
		}
		before = v
	}
	// The first bucket of a scope counts nothing when it was due before its commit, as here.
	if want := minute(5*11 + 11).Add(counter.Announced + 5*time.Second); !reset.Equal(want) {
		t.Errorf("the later zone is shown from %s on, want %s", reset, want)
	}
}

// Whatever two exposers know beyond what they must, when they restart, and whichever is
// asked: no counter goes back while it has the same start time (G10).
func TestPagesNeverDecrease(t *testing.T) {
	for seed := range uint64(6) {
		neverDecreases(t, seed)
	}
}

func FuzzPagesNeverDecrease(f *testing.F) {
	f.Add(uint64(7))
	f.Fuzz(func(t *testing.T, seed uint64) { neverDecreases(t, seed) })
}

func neverDecreases(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	log := history(r)
	readers := [2]*reader{}
	skew := [2]time.Duration{time.Duration(r.IntN(2500)) * time.Millisecond, -time.Duration(r.IntN(2500)) * time.Millisecond}
	before, asked := map[string]float64{}, 0
	for now := minute(3); now.Before(noon.Add(40 * time.Hour)); now = now.Add(5*time.Second + time.Duration(r.IntN(120_000))*time.Millisecond) {
		k := r.IntN(2)
		x := readers[k]
		if x == nil || r.IntN(150) == 0 { // begins, with totals of some time or with none
			x = newReader(t, now.Add(skew[k]))
			readers[k] = x
			at := now.Add(-time.Duration(r.Int64N(int64(3 * time.Hour))))
			totals, n := settled(t, log, at)
			e := first
			if n == 0 {
				totals = nil
			} else {
				e.Settled = at.Add(-time.Minute)
			}
			if err := x.begin(e, totals...); err != nil {
				t.Fatal(err)
			}
			x.given = n
		}
		// It has what was committed before some time within 85 s, or nothing more.
		if r.IntN(10) > 0 {
			until := now.Add(-time.Duration(r.IntN(85_000)) * time.Millisecond)
			n := x.given
			for n < len(log) && log[n].GetCommittedAt().AsTime().Before(until) {
				n++
			}
			x.follow(until, log[x.given:n]...)
		}
		x.clock.set(now.Add(skew[k]))
		page, err := x.page(now.Add(skew[k]), open)
		if err != nil {
			continue
		}
		asked++
		got := values(t, page)
		for series, v := range got {
			name, labels, _ := strings.Cut(series, "{")
			base, is := strings.CutSuffix(name, "_total")
			if !is {
				continue
			}
			created := base + "_created{" + labels
			if was, known := before[series]; known && v < was && before[created] == got[created] {
				t.Fatalf("seed %d, %s: exposer %d shows %s as %v after %v", seed, now, k, series, v, was)
			}
			before[series], before[created] = v, got[created]
		}
	}
	if asked < 500 || len(before) < 6 {
		t.Fatalf("seed %d: %d pages with %d series tell nothing", seed, asked, len(before))
	}
}

// settled are the totals of a log at a time, and how many of its entries are in them.
func settled(t *testing.T, log []*bucketv1.Entry, at time.Time) ([]counter.Totals, int) {
	fold, n := counter.New(), 0
	for ; n < len(log) && log[n].GetCommittedAt().AsTime().Before(at); n++ {
		e, err := wire.Entry(log[n])
		if err == nil {
			if e.Bucket != nil {
				e.Definition = http5m
			}
			err = fold.Add(&e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return fold.Totals(at.Add(-time.Minute)), n
}

// history is a log of two zones for some days, with an outage, repairs and backfills.
func history(r *rand.Rand) (log []*bucketv1.Entry) {
	outage := noon.Add(time.Duration(r.IntN(20*60)) * time.Minute)
	mended := outage.Add(time.Duration(r.IntN(20*60)) * time.Minute)
	for i, name := range []string{"shop", "blog"} {
		for start := noon.Add(-2 * time.Hour); start.Before(noon.Add(40 * time.Hour)); start = start.Add(http5m.Size) {
			at, origin := start.Add(10*time.Minute+time.Duration(r.IntN(230_000))*time.Millisecond), bucket.Live
			switch {
			case start.Before(noon.Add(-10 * time.Minute)):
				at, origin = noon.Add(time.Second), bucket.Repair
			case start.After(outage) && start.Before(mended):
				at, origin = mended.Add(time.Duration(r.IntN(3_600_000))*time.Millisecond), bucket.Repair
			case r.IntN(20) == 0:
				at = at.Add(time.Duration(r.IntN(900_000)) * time.Millisecond)
			case r.IntN(50) == 0:
				at, origin = at.Add(time.Hour), bucket.Backfill
			}
			bytes := bucket.Rows{Family: "cloudflare_zone_bytes", Values: []float64{r.Float64() * 1e6}}
			log = append(log, entry(zone(i+1), name, start, at, origin, bytes, requests(float64(r.IntN(1000)))))
		}
	}
	slices.SortStableFunc(log, func(a, b *bucketv1.Entry) int {
		return a.GetCommittedAt().AsTime().Compare(b.GetCommittedAt().AsTime())
	})
	log = append([]*bucketv1.Entry{defined(http5m)}, log...)
	for i, e := range log {
		e.Revision = uint64(i) + 1
	}
	return log
}
