package web_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/exposer/internal/backfill"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
	"github.com/weir-metrics/weir/services/exposer/internal/web"
)

// port is a data port whose connections buffer nothing: what is written is
// written when it has been read.
type port struct {
	*httptest.Server
	pipes  *pipes
	client *http.Client
	events events
	view   *view.View
}

// pipes is a listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed context.Context
	close  context.CancelFunc
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn)}
	p.closed, p.close = context.WithCancel(context.Background())
	return p
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }
func (p *pipes) Close() error   { p.close(); return nil }
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed.Done():
		return nil, net.ErrClosed
	}
}

func (p *pipes) dial() net.Conn {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
	case <-p.closed.Done():
		_ = there.Close()
	}
	return here
}

func open(t testing.TB, zones int, limits web.Limits, scrapes int) *port {
	t.Helper()
	state, now := store(t, zones)
	return listen(t, state, now, nil, limits, scrapes)
}

// history is a data port whose backfills find buckets.
func history(t testing.TB, from *source, limits web.Limits) *port {
	t.Helper()
	return listen(t, historic(t), historyEnd, from, limits, 1)
}

// historic is the state of an exposer that knows http_5m and holds nothing.
func historic(t testing.TB) *recent.State {
	t.Helper()
	r := recent.New(sample.Store{ID: "test", Stamp: sample.End}, 24*time.Hour)
	if err := r.Define(feedtest.Definition("http_5m", 1)); err != nil {
		t.Fatal(err)
	}
	return r.State(bucket.Position{Revision: 1})
}

// buckets of a long history, and the address of all of it.
const (
	buckets = 6000
	long    = "/backfill?hours=501"
)

// historyEnd is when such a history is asked for.
var historyEnd = feedtest.T0.Add(buckets*5*time.Minute + time.Second)

// pages are those of a board, whose backfills read from a source.
func pages(board *view.Board, from backfill.Lister, e *events, limits web.Limits, scrapes int) http.Handler {
	config := web.Config{
		Board: board, Store: from, Meter: e, MaxScrapes: scrapes, MaxBackfills: 1, MaxBackfillHours: 1000,
		Logger: slog.New(slog.DiscardHandler),
	}
	return web.New(config.With(limits))
}

func boardOf(state *recent.State, now time.Time) *view.Board {
	board := view.NewBoard(clock.NewManual(now), recent.Limits{MaxAge: 48 * time.Hour, Soft: 10_000_000, Hard: 10_000_000}, nil)
	board.Publish(state)
	return board
}

func listen(t testing.TB, state *recent.State, now time.Time, from *source, limits web.Limits, scrapes int) *port {
	t.Helper()
	board := boardOf(state, now)
	p := &port{pipes: newPipes()}
	p.client = &http.Client{Transport: &http.Transport{
		DisableCompression: true, DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return p.pipes.dial(), nil },
	}}
	var err error
	if p.view, err = board.View(view.Default); err != nil {
		t.Fatal(err)
	}
	p.Server = httptest.NewUnstartedServer(pages(board, from, &p.events, limits, scrapes))
	if err := p.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	p.Listener = p.pipes
	p.Start()
	t.Cleanup(p.Close)
	return p
}

// ask sends a request on a connection of its own and reads nothing.
func (p *port) ask(t testing.TB, path, encoding string) net.Conn {
	t.Helper()
	conn := p.pipes.dial()
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: weir\r\nAccept: text/plain\r\nAccept-Encoding: %s\r\n\r\n", path, encoding); err != nil {
		t.Fatal(err)
	}
	return conn
}

// begun is a connection whose answer has begun to arrive; only its header and a
// little more has been read.
func begun(t testing.TB, conn net.Conn) (*http.Response, *bufio.Reader) {
	t.Helper()
	in := bufio.NewReaderSize(conn, 4<<10)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp, in
}

// get asks as others do, and reads everything.
func (p *port) get(t testing.TB, path string) (code int, header http.Header, body string) {
	t.Helper()
	resp, err := p.client.Get("http://weir" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(all)
}

// Someone who does not read holds a place only for so long; those who go away
// give it back at once. What they got is visibly not all.
func TestScraperThatDoesNotReadIsCut(t *testing.T) {
	p := open(t, 40, web.Limits{Stall: time.Second, Patience: time.Minute}, 2)
	want := p.view.Body(expo.Text, expo.Identity).Len
	silent, leaving := p.ask(t, "/metrics", "identity"), p.ask(t, "/metrics", "identity")
	resp, _ := begun(t, silent)
	begun(t, leaving)
	if err := leaving.Close(); err != nil {
		t.Fatal(err)
	}
	// Both places are taken, or were; this scrape waits for one.
	if code, _, body := p.get(t, "/metrics"); code != http.StatusOK || len(body) != want {
		t.Fatalf("after the others were cut: %d with %d bytes, want %d", code, len(body), want)
	}
	testkit.Eventually(t, func() error {
		if n := p.events.cut.Load(); n != 2 {
			return fmt.Errorf("%d scrapes were counted as cut, want 2", n)
		}
		return nil
	})
	rest, err := io.ReadAll(resp.Body)
	if err == nil || len(rest) >= want {
		t.Errorf("the body that was cut ended properly after %d bytes of %d", len(rest), want)
	}
}

// Without a free place a scrape waits for a moment, and is refused with the
// reason. What needs no place is answered meanwhile.
func TestScrapesWaitAndAreRefused(t *testing.T) {
	p := open(t, 40, web.Limits{Patience: 50 * time.Millisecond}, 1)
	begun(t, p.ask(t, "/metrics", "identity"))
	code, header, body := p.get(t, "/metrics")
	if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" || !strings.Contains(body, "WEIR_EXPOSER_MAX_SCRAPES") {
		t.Errorf("without a place: %d, Retry-After %q, %q", code, header.Get("Retry-After"), body)
	}
	for _, path := range []string{"/-/healthy", "/-/ready", "/"} {
		if code, _, body := p.get(t, path); code != http.StatusOK {
			t.Errorf("%s during the flood: %d %s", path, code, body)
		}
	}
}

// A reader may be slow for longer than a stall, as long as it reads.
func TestSlowBackfillIsWhole(t *testing.T) {
	const stall = 2 * time.Second
	p := history(t, &source{after: buckets, err: io.EOF}, web.Limits{BackfillStall: stall})
	resp, _ := begun(t, p.ask(t, long, "identity"))
	began := time.Now()
	var body strings.Builder
	var err error
	for err == nil && time.Since(began) < stall*3/2 { // a slow line
		_, err = io.CopyN(&body, resp.Body, 16<<10)
		time.Sleep(50 * time.Millisecond)
	}
	if err == nil {
		_, err = io.Copy(&body, resp.Body)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("after %d bytes: %v", body.Len(), err)
	}
	if got := strings.Count(body.String(), "\ncloudflare_zone_http_5m_requests{"); got != buckets || !strings.HasSuffix(body.String(), "# EOF\n") {
		t.Errorf("%d samples, want %d", got, buckets)
	}
}

// One that does not read gives its place back, and so does one whose time is up,
// before the first byte or after it.
func TestBackfillsAreBoundedInTime(t *testing.T) {
	t.Run("not read", func(t *testing.T) {
		p := history(t, &source{after: buckets, err: io.EOF}, web.Limits{BackfillStall: 100 * time.Millisecond})
		resp, _ := begun(t, p.ask(t, long, "identity"))
		p.ended(t, "broken")
		if rest, err := io.ReadAll(resp.Body); err == nil || strings.Contains(string(rest), "# EOF") {
			t.Errorf("it ended properly after %d bytes", len(rest))
		}
	})
	t.Run("too long before the first byte", func(t *testing.T) {
		p := history(t, &source{after: 1, gate: make(chan struct{})}, web.Limits{Backfill: 50 * time.Millisecond})
		code, _, body := p.get(t, long)
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "in parts") {
			t.Errorf("%d %s", code, body)
		}
	})
	t.Run("too long after it", func(t *testing.T) {
		p := history(t, &source{after: buckets, err: io.EOF}, web.Limits{Backfill: 3 * time.Second})
		resp, _ := begun(t, p.ask(t, long, "identity"))
		p.ended(t, "broken") // though a stall would be a minute
		if rest, err := io.ReadAll(resp.Body); err == nil || strings.Contains(string(rest), "# EOF") {
			t.Errorf("it ended properly after %d bytes", len(rest))
		}
	})
}

func (p *port) ended(t *testing.T, outcome string) {
	t.Helper()
	testkit.Eventually(t, func() error {
		if got := p.events.last(); got != outcome {
			return fmt.Errorf("the backfill is counted as %q, want %q", got, outcome)
		}
		return nil
	})
}

// Two hundred scrapes of a quarter of a million samples at one time share the
// bytes: together they allocate less than a hundredth of one body for each.
func TestManyScrapersShareOneBody(t *testing.T) {
	p := open(t, 262, web.Limits{}, 200)
	size := p.view.Body(expo.Text, expo.Identity).Len
	if p.view.Choice.Samples < 250_000 {
		t.Fatalf("%d samples", p.view.Choice.Samples)
	}
	const scrapers = 200
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	together(scrapers, func() { _ = scrape(t, p.Config.Handler, "identity") })
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > uint64(scrapers*size/100) {
		t.Errorf("%d scrapes of %d bytes allocated %d bytes", scrapers, size, used)
	}
}

// Every length of the replay, in every format and encoding, is made of the same parts:
// all of them together allocate less than the largest body.
func TestLengthsOfReplayShareTheirBytes(t *testing.T) {
	p := open(t, 262, web.Limits{}, 200)
	ask := func(hours int, accept, encoding string) {
		req := httptest.NewRequest(http.MethodGet, fmt.Sprintf("/metrics?replay_hours=%d", hours), nil)
		req.Header.Set("Accept", accept)
		req.Header.Set("Accept-Encoding", encoding)
		w := &sink{header: http.Header{}}
		p.Config.Handler.ServeHTTP(w, req)
		if w.code != http.StatusOK {
			t.Errorf("replay_hours=%d is %d", hours, w.code)
		}
	}
	formats, encodings := []string{"text/plain", "application/openmetrics-text"}, []string{"identity", "gzip"}
	for _, accept := range formats {
		ask(48, accept, "gzip") // compresses the parts
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for hours := 1; hours <= 48; hours++ {
		for _, accept := range formats {
			for _, encoding := range encodings {
				ask(hours, accept, encoding)
			}
		}
	}
	runtime.ReadMemStats(&after)
	if used, most := after.TotalAlloc-before.TotalAlloc, uint64(p.view.Body(expo.Text, expo.Identity).Len); used > most {
		t.Errorf("192 bodies allocated %d bytes, the largest has %d", used, most)
	}
}

// BenchmarkManyScrapers is what 200 scrapes of 250,000 samples at one time cost.
func BenchmarkManyScrapers(b *testing.B) {
	p := open(b, 262, web.Limits{}, 200)
	for _, encoding := range []string{"gzip", "identity"} {
		b.Run(encoding, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				together(200, func() { _ = scrape(b, p.Config.Handler, encoding) })
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/200, "µs/scrape")
		})
	}
}

func together(n int, work func()) {
	var all sync.WaitGroup
	for range n {
		all.Go(work)
	}
	all.Wait()
}
