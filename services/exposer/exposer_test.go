package exposer_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/exposer"
)

func at(n int) time.Time { return feedtest.T0.Add(time.Duration(n) * 5 * time.Minute) }

// running is an exposer in this process, between a scripted collector and HTTP.
type running struct {
	t         testing.TB
	data, ops string // base URLs
	clock     *clock.Manual
	stop      func() error // ends it and waits
	cancel    func()
	http      *http.Client
}

func config() exposer.Config {
	var c exposer.Config
	cli.Defaults(c.Settings())
	c.Drain = 0
	c.Counters = false // scripts name the streams of the replay
	return c
}

func start(t testing.TB, conn grpc.ClientConnInterface, c exposer.Config, now time.Time) *running {
	t.Helper()
	r := &running{t: t, clock: clock.NewManual(now), http: &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: testkit.Patience}}
	data, ops := testkit.Listen(t), testkit.Listen(t)
	r.data, r.ops = "http://"+data.Addr().String(), "http://"+ops.Addr().String()
	x, err := exposer.New(c, exposer.Deps{
		Clock: r.clock, Logger: testkit.Logger(t), Conn: conn, Data: data, Ops: ops,
		Backoff: client.Backoff{Min: time.Millisecond, Max: 10 * time.Millisecond, Long: 20 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	stopped := false
	r.cancel = cancel
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		r.http.CloseIdleConnections()
		return <-done
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return r
}

type reply struct {
	code   int
	header http.Header
	body   string
}

func (r *running) ask(url string, headers ...string) (reply, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(body)}, err
}

func (r *running) get(path string, headers ...string) reply {
	r.t.Helper()
	got, err := r.ask(r.data+path, headers...)
	if err != nil {
		r.t.Fatalf("GET %s: %v", path, err)
	}
	return got
}

// await waits until /metrics shows the revision.
func (r *running) await(revision int) {
	r.t.Helper()
	testkit.Eventually(r.t, func() error {
		got, err := r.ask(r.data + "/metrics")
		if err != nil {
			return err
		}
		if is := got.header.Get("X-Weir-Revision"); is != fmt.Sprint(revision) {
			return fmt.Errorf("at revision %q (%d), want %d", is, got.code, revision)
		}
		return nil
	})
}

func scripted() *feedtest.Scripted {
	s := feedtest.NewScripted("11112222333344445555666677778888")
	s.Heartbeat = 10 * time.Millisecond
	return s
}

// fill appends a dataset and n windows of two zones: revisions 1 to 1+2n.
func fill(s *feedtest.Scripted, dataset string, n int) {
	s.Append(at(0), feedtest.Entry{Definition: feedtest.Definition(dataset, 1)})
	for i := range n {
		s.Append(at(i+2),
			feedtest.Entry{Bucket: feedtest.Bucket(dataset, feedtest.Zone(0), i)},
			feedtest.Entry{Bucket: feedtest.Bucket(dataset, feedtest.Zone(1), i)})
	}
	s.SetProgress(at(n + 1))
}

func TestFollowAndServe(t *testing.T) {
	testkit.NoLeaks(t)
	s := scripted()
	fill(s, "http_5m", 3)
	x := start(t, s.Serve(t), config(), at(4).Add(30*time.Second))
	x.await(7)

	text := x.get("/metrics")
	if got, want := text.header.Get("Content-Type"), "text/plain; version=0.0.4; charset=utf-8"; got != want {
		t.Errorf("content type is %q, want %q", got, want)
	}
	if got := strings.Count(text.body, "cloudflare_zone_http_5m_requests{"); got != 6 {
		t.Errorf("%d samples of the total, want 6:\n%s", got, text.body)
	}
	if got := text.header.Get("Content-Length"); got != fmt.Sprint(len(text.body)) {
		t.Errorf("content length is %s, the body has %d bytes", got, len(text.body))
	}
	if got := text.header.Get("X-Weir-Age-Seconds"); got != "30" {
		t.Errorf("age is %q s, want 30", got)
	}
	open := x.get("/metrics", "Accept", "application/openmetrics-text;version=1.0.0", "Accept-Encoding", "gzip")
	zip, err := gzip.NewReader(strings.NewReader(open.body))
	if err != nil {
		t.Fatalf("%v in %v", err, open.header)
	}
	plain, err := io.ReadAll(zip)
	if err != nil || !strings.HasSuffix(string(plain), "\n# EOF\n") || !strings.Contains(string(plain), ".999\n") {
		t.Errorf("OpenMetrics: %v\n%s", err, plain)
	}

	// Live, and through a cut without losing anything.
	s.DropConnections()
	s.Append(at(6), feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(0), 3)})
	x.await(8)
	if got := strings.Count(x.get("/metrics").body, "cloudflare_zone_http_5m_requests{"); got != 7 {
		t.Errorf("%d samples of the total after a live bucket, want 7", got)
	}
	for query, hours := range map[string]string{"": "24", "?replay_hours=6": "6", "?replay_hours=0": "0"} {
		if got := x.get("/metrics" + query).header.Get("X-Weir-Replay-Hours"); got != hours {
			t.Errorf("/metrics%s says that it replays %q hours, want %s", query, got, hours)
		}
	}
	if newest := x.get("/metrics?replay_hours=0"); strings.Count(newest.body, "cloudflare_zone_http_5m_requests{") != 2 {
		t.Errorf("the newest alone:\n%s", newest.body)
	}
	if head := headOf(t, x, "/metrics"); head.Get("Content-Length") == "" || head.Get("X-Weir-Revision") != "8" {
		t.Errorf("HEAD gives %v", head)
	}
	if err := x.stop(); err != nil {
		t.Error(err)
	}
}

func headOf(t *testing.T, x *running, path string) http.Header {
	t.Helper()
	resp, err := x.http.Head(x.data + path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header
}

// One exposer has followed all along, the other has just begun (G5).
func TestTwoExposersGiveTheSameBytes(t *testing.T) {
	s := scripted()
	fill(s, "http_5m", 2)
	s.Append(at(3), feedtest.Entry{Definition: feedtest.Definition("uniques_5m", 1)})
	old := start(t, s.Serve(t), config(), at(60))
	old.await(6)
	changed := feedtest.Definition("uniques_5m", 2)
	changed.Families[0].Help = "Uniques, said better."
	s.Append(at(3), feedtest.Entry{Definition: changed})
	for i := 2; i < 40; i++ { // beyond the depth of 30
		uniques := feedtest.Bucket("uniques_5m", feedtest.Zone(0), i)
		uniques.Version = 2
		s.Append(at(i+2), feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(i%2), i)}, feedtest.Entry{Bucket: uniques})
	}
	head := s.Append(at(45), feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(0), 5)}) // a repair beyond the replay
	s.SetProgress(at(45))
	old.await(int(head.Revision))
	fresh := start(t, s.Serve(t), config(), at(60).Add(time.Second))
	fresh.await(int(head.Revision))
	for _, accept := range []string{"text/plain", "application/openmetrics-text"} {
		for _, encoding := range []string{"gzip", "identity"} {
			for _, query := range []string{"", "?replay_hours=3", "?replay_hours=0"} {
				a := old.get("/metrics"+query, "Accept", accept, "Accept-Encoding", encoding)
				b := fresh.get("/metrics"+query, "Accept", accept, "Accept-Encoding", encoding)
				if a.body != b.body || a.code != http.StatusOK {
					t.Errorf("%s %s %s: bodies differ (%d):\n%s", accept, encoding, query, a.code, cmp.Diff(a.body, b.body))
				}
			}
		}
	}
	for line := range strings.Lines(old.get("/metrics").body) {
		if strings.HasPrefix(line, "# HELP cloudflare_zone_uniques_5m_requests ") && !strings.Contains(line, "said better") {
			t.Errorf("the old words are shown: %s", line)
		}
	}
}

func TestReadiness(t *testing.T) {
	s := scripted()
	fill(s, "http_5m", 2)
	// The first snapshot breaks off in the middle: it must not be shown.
	s.Script(feedtest.Step{After: 3, Hang: true})
	x := start(t, s.Serve(t), config(), at(4))
	testkit.Eventually(t, func() error {
		own, err := x.ask(x.ops + "/metrics")
		if err == nil && !strings.Contains(own.body, "weir_exposer_stream_connected 1\n") {
			err = errors.New("no message of the stream yet")
		}
		return err
	})
	for _, path := range []string{"/metrics", "/-/ready", "/backfill"} {
		got := x.get(path)
		if got.code != http.StatusServiceUnavailable || !strings.Contains(got.body, "first complete snapshot") {
			t.Errorf("%s before the first view: %d %s", path, got.code, got.body)
		}
	}
	if got := x.get("/-/healthy"); got.code != http.StatusOK {
		t.Errorf("health is %d", got.code)
	}
	s.DropConnections()
	x.await(5)
	// From now on it stays ready, however old the view becomes.
	s.Drain()
	x.clock.Advance(90 * 24 * time.Hour)
	if got := x.get("/-/ready"); got.code != http.StatusOK {
		t.Errorf("age revoked readiness: %d %s", got.code, got.body)
	}
	if got := x.get("/metrics"); got.code != http.StatusOK || strings.Contains(got.body, "{") || !strings.HasPrefix(got.body, "# HELP") {
		t.Errorf("with everything expired: %d %s", got.code, got.body)
	}
}

func TestRejectedBucket(t *testing.T) {
	s := scripted()
	fill(s, "http_5m", 1)
	odd := feedtest.Bucket("http_5m", feedtest.Zone(0), 1)
	odd.Version = 9 // never defined
	s.Append(at(3), feedtest.Entry{Bucket: odd}, feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(1), 1)})
	x := start(t, s.Serve(t), config(), at(4))
	x.await(5)
	if got := strings.Count(x.get("/metrics").body, "cloudflare_zone_http_5m_requests{"); got != 3 {
		t.Errorf("%d samples beside a rejected bucket, want 3", got)
	}
	own, err := x.ask(x.ops + "/metrics")
	if err != nil || !strings.Contains(own.body, "weir_exposer_entries_rejected_total 1\n") {
		t.Errorf("the rejection is not counted: %v", err)
	}
}

func TestHardLimit(t *testing.T) {
	s := scripted()
	fill(s, "http_5m", 4)
	c := config()
	c.SoftSamples, c.HardSamples = 5, 11 // two windows of two zones have 12
	x := start(t, s.Serve(t), c, at(6))
	testkit.Eventually(t, func() error {
		got := x.get("/metrics")
		if got.code != http.StatusServiceUnavailable || !strings.Contains(got.body, "12 samples") {
			return fmt.Errorf("%d %s", got.code, got.body)
		}
		return nil
	})
	own, err := x.ask(x.ops + "/metrics")
	if err != nil || !strings.Contains(own.body, "weir_exposer_replay_refused 1\n") {
		t.Errorf("the refusal is not a metric: %v", err)
	}
	if page := x.get("/"); !strings.Contains(page.body, "answers 503") {
		t.Error("the page does not say that /metrics answers 503")
	}
}

// Shutdown says no first, and finishes what it has begun.
func TestShutdown(t *testing.T) {
	testkit.NoLeaks(t)
	s := scripted()
	fill(s, "http_5m", 1)
	c := config()
	c.Drain = 300 * time.Millisecond
	x := start(t, s.Serve(t), c, at(3))
	x.await(3)
	x.cancel()
	testkit.Eventually(t, func() error {
		got, err := x.ask(x.ops + "/-/ready")
		if err != nil {
			return err
		}
		if got.code != http.StatusServiceUnavailable {
			return fmt.Errorf("ready is %d", got.code)
		}
		return nil
	})
	if got := x.get("/metrics"); got.code != http.StatusOK {
		t.Errorf("a scrape while draining is %d", got.code)
	}
	if err := x.stop(); err != nil {
		t.Error(err)
	}
	if _, err := x.ask(x.data + "/metrics"); err == nil {
		t.Error("it still listens after Run has returned")
	}
}
