package exposer_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/counter"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// counting is a collector that knows counters: a scripted one whose totals are those of
// nothing, so that all entries follow them. Several may have the log of one.
type counting struct {
	*feedtest.Scripted

	mu      sync.Mutex
	epoch   counter.Epoch
	refuses error         // requests for counters
	cut     bool          // no stream delivers anything
	refused int           // streams of counters that were cut
	until   time.Time     // entries of before are delivered, and confirmed
	changed chan struct{} // closed and replaced
}

func newCounting(s *feedtest.Scripted, epoch string) *counting {
	return &counting{Scripted: s, epoch: counter.Epoch{ID: epoch, Began: at(0).Add(-time.Hour), Settled: at(0), Rules: counter.Rules}, changed: make(chan struct{})}
}

const countedStore = "11112222333344445555666677778888"

func (c *counting) change(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *counting) confirm(until time.Time) { c.change(func() { c.until = until }) }

var errCut = feedtest.Error(codes.Unavailable, client.ReasonStoreUnavailable)

func (c *counting) WatchBuckets(req *bucketv1.WatchBucketsRequest, ss grpc.ServerStreamingServer[bucketv1.WatchBucketsResponse]) error {
	c.mu.Lock()
	refuses, cut, epoch, counts := c.refuses, c.cut, c.epoch.ID, req.GetCounters() != nil
	c.mu.Unlock()
	switch {
	case cut:
		if counts || req.GetCounterEpoch() != "" {
			c.change(func() { c.refused++ })
		}
		return errCut
	case req.GetCounterEpoch() != "" && req.GetCounterEpoch() != epoch:
		return feedtest.Error(codes.FailedPrecondition, client.ReasonHistoryChanged)
	case counts && refuses != nil:
		return refuses
	case counts:
		req = &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Resume{Resume: &bucketv1.ResumePoint{StoreId: countedStore}}}
	}
	return c.Scripted.WatchBuckets(req, &confirming{ss, c, counts})
}

// confirming is a stream to which a collector adds what belongs to counters.
type confirming struct {
	grpc.ServerStreamingServer[bucketv1.WatchBucketsResponse]
	c      *counting
	counts bool
}

func (s *confirming) Send(m *bucketv1.WatchBucketsResponse) error {
	for {
		s.c.mu.Lock()
		cut, until, epoch, changed := s.c.cut, s.c.until, s.c.epoch, s.c.changed
		s.c.mu.Unlock()
		if cut {
			return errCut
		}
		if p := m.GetProgress(); p != nil {
			p.CompleteUntil = wire.Timestamp(until)
		}
		if e := m.GetEntry(); e == nil || e.GetCommittedAt().AsTime().Before(until) {
			if err := s.ServerStreamingServer.Send(m); err != nil || m.GetInfo() == nil || !s.counts {
				return err
			}
			if err := s.ServerStreamingServer.Send(&bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_CounterEpoch{CounterEpoch: wire.CounterEpoch(epoch)}}); err != nil {
				return err
			}
			return s.ServerStreamingServer.Send(&bucketv1.WatchBucketsResponse{Event: &bucketv1.WatchBucketsResponse_SnapshotEnd{
				SnapshotEnd: &bucketv1.SnapshotEnd{Point: &bucketv1.ResumePoint{StoreId: countedStore}},
			}})
		}
		select {
		case <-changed:
		case <-s.Context().Done():
			return s.Context().Err()
		}
	}
}

// serve returns a connection to the server.
func (c *counting) serve(t testing.TB) *grpc.ClientConn { return serve(t, c) }

// serve returns a connection to a collector.
func serve(t testing.TB, c bucketv1.BucketServiceServer) *grpc.ClientConn {
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	bucketv1.RegisterBucketServiceServer(server, c)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///counting", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		<-done
	})
	return conn
}

// counters waits for an answer of /counters with a status and a text.
func (r *running) counters(code int, text string) reply {
	r.t.Helper()
	var got reply
	testkit.Eventually(r.t, func() (err error) {
		if got, err = r.ask(r.data + "/counters"); err != nil {
			return err
		}
		if got.code != code || !strings.Contains(got.body, text) {
			return fmt.Errorf("/counters: %d %s; want %d with %q", got.code, got.body, code, text)
		}
		return nil
	})
	return got
}

func TestCounters(t *testing.T) {
	testkit.NoLeaks(t)
	s := scripted()
	fill(s, "http_5m", 3) // window 0 was due at minute 10, when it was committed
	c := newCounting(s, "one")
	c.refuses = feedtest.Error(codes.InvalidArgument, client.ReasonBadRequest)
	set := config()
	set.Counters = true
	now := at(4).Add(2 * time.Minute)
	x := start(t, c.serve(t), set, now)
	x.counters(http.StatusServiceUnavailable, "does not know these counters")
	c.change(func() { c.refuses = feedtest.Error(codes.Unavailable, client.ReasonNoCounters) })
	if got := x.counters(http.StatusServiceUnavailable, "begun to count"); got.header.Get("Retry-After") == "" {
		t.Errorf("headers are %v", got.header)
	}
	c.change(func() { c.refuses = nil })
	c.confirm(now)
	x.await(7) // the replay does not depend on it
	x.counters(http.StatusOK, "cloudflare_zone_http_5m_requests_total{")
	x.clock.Advance(30 * time.Minute)
	x.counters(http.StatusServiceUnavailable, "confirmed up to")
	c.confirm(now.Add(30 * time.Minute))
	page := x.counters(http.StatusOK, "\nweir_bucket_end_timestamp_seconds{dataset=\"http_5m\",zone=\"zone-a000.example\",account=\"Example\"} ")
	for i := range 2 { // the three windows have been played out
		want := 0.
		for n := range 3 {
			want += feedtest.Bucket("http_5m", feedtest.Zone(i), n).Families[0].Values[0]
		}
		if line := fmt.Sprintf("\ncloudflare_zone_http_5m_requests_total{zone=\"zone-a00%d.example\",account=\"Example\"} %g\n", i, want); !strings.Contains(page.body, line) {
			t.Errorf("no line %q in\n%s", line, page.body)
		}
	}
	if got := page.header; got.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" || got.Get("X-Weir-Counter-Epoch") != "one" || got.Get("X-Weir-Store") != countedStore {
		t.Errorf("headers are %v", got)
	}
	plain := x.get("/counters?created=true", "Accept", "application/openmetrics-text")
	if zipped := x.get("/counters?created=true", "Accept", "application/openmetrics-text", "Accept-Encoding", "gzip"); !sameZipped(t, zipped.body, plain.body) || !strings.HasSuffix(plain.body, "# EOF\n") || !strings.Contains(plain.body, "_created{") {
		t.Errorf("%v and %v:\n%s", zipped.header, plain.header, plain.body)
	}
	if head := headOf(t, x, "/counters"); head.Get("Content-Length") != fmt.Sprint(len(page.body)) {
		t.Errorf("HEAD gives %v, GET %d bytes", head, len(page.body))
	}
	for query, want := range map[string]string{
		"?creatd=true": "creatd", "?created=1": "true or false", "?created=true&created=true": "once", "?%zz": "malformed",
	} {
		if got := x.get("/counters" + query); got.code != http.StatusBadRequest || !strings.Contains(got.body, want) {
			t.Errorf("%s: %d %s", query, got.code, got.body)
		}
	}
	own, err := x.ask(x.ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"weir_exposer_counters_available 1\n", "weir_exposer_counters_series 6\n", "weir_exposer_counters_lag_seconds 0\n",
		`weir_exposer_counters_pages_total{outcome="refused"} 4`, `weir_exposer_counters_entries_rejected_total 0`,
	} {
		if !strings.Contains(own.body, line) {
			t.Errorf("own metrics have no %q", line)
		}
	}
	// The store is restored: not before an operator has begun another epoch.
	restore := s.Backup()
	s.Append(at(5), feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(0), 3)})
	x.await(8)
	restore()
	x.counters(http.StatusServiceUnavailable, "collector counters restart")
	if page := x.get("/"); !strings.Contains(page.body, "collector counters restart") {
		t.Error("the landing page does not say what to do")
	}
	c.change(func() { c.epoch.ID = "two" })
	x.counters(http.StatusOK, `weir_counter_epoch_info{epoch="two"} 1`)
	// An epoch that begins while the exposer is cut off: it asks for the one that it has.
	c.change(func() { c.cut = true })
	testkit.Eventually(t, func() error {
		if _, err := x.ask(x.ops + "/metrics"); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.refused == 0 {
			return errors.New("no stream of counters was refused")
		}
		return nil
	})
	c.change(func() { c.cut, c.epoch.ID = false, "three" })
	x.counters(http.StatusOK, `weir_counter_epoch_info{epoch="three"} 1`)
}

func TestCountersAreOff(t *testing.T) {
	s := scripted()
	fill(s, "http_5m", 1)
	x := start(t, s.Serve(t), config(), at(4))
	x.await(3)
	if got := x.get("/counters"); got.code != http.StatusNotFound || !strings.Contains(got.body, "WEIR_EXPOSER_COUNTERS") {
		t.Errorf("%d %s", got.code, got.body)
	}
	if got := len(s.Requests()); got != 1 {
		t.Errorf("%d streams, want one", got)
	}
	if page := x.get("/"); !strings.Contains(page.body, "WEIR_EXPOSER_COUNTERS") {
		t.Error("the landing page does not say that there are no counters")
	}
}

// A real Prometheus whose scrapes alternate between two exposers, of which one is always
// behind, is restarted, and is cut off, sees counters that never go back and end at the
// truth, in both formats (G10). An hour takes some seconds.
func TestCountersInPrometheus(t *testing.T) {
	s := scripted()
	s.Append(at(0), feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)})
	s.SetProgress(at(0))
	ahead, behind := newCounting(s, "one"), newCounting(s, "one")
	behindConn := behind.serve(t)
	set := config()
	set.Counters = true
	now := at(1)
	one := start(t, ahead.serve(t), set, now)
	two := start(t, behindConn, set, now)
	var backends [2]atomic.Pointer[string]
	backends[0].Store(&one.data)
	backends[1].Store(&two.data)
	var turn, refused atomic.Int64
	scraped := make(chan struct{}, 1)
	transport := &http.Transport{}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			to, _ := url.Parse(*backends[turn.Add(1)%2].Load())
			r.SetURL(to)
		},
		ModifyResponse: func(r *http.Response) error {
			if r.StatusCode == http.StatusServiceUnavailable {
				refused.Add(1)
			}
			select {
			case scraped <- struct{}{}:
			default:
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	})
	t.Cleanup(func() { proxy.Close(); transport.CloseIdleConnections() })
	p := promtest.Start(t, fmt.Sprintf(`global: {scrape_interval: 100ms, scrape_timeout: 100ms}
scrape_configs:
- {job_name: counters, metrics_path: /counters, params: {created: ["true"]}, static_configs: [{targets: [%q]}]}
- {job_name: text, metrics_path: /counters, scrape_protocols: [PrometheusText0.0.4], static_configs: [{targets: [%q]}]}
`, strings.TrimPrefix(proxy.URL, "http://"), strings.TrimPrefix(proxy.URL, "http://")))
	began := time.Now()
	truth, late := 0., 0.
	for next, step := 0, 0; now.Before(at(13)); step++ {
		now = now.Add(15 * time.Second)
		for ; !at(next + 2).After(now); next++ {
			if next%6 != 5 {
				b := feedtest.Bucket("http_5m", feedtest.Zone(0), next)
				truth += b.Families[0].Values[0]
				s.Append(at(next+2), feedtest.Entry{Bucket: b})
			}
			if n := next - 3; n >= 0 && n%6 == 5 { // a quarter of an hour late
				b := feedtest.Bucket("http_5m", feedtest.Zone(0), n)
				late += b.Families[0].Values[0]
				s.Append(at(next+2), feedtest.Entry{Bucket: b})
			}
		}
		s.SetProgress(now)
		one.clock.Advance(15 * time.Second)
		two.clock.Advance(15 * time.Second)
		ahead.confirm(now)
		behind.confirm(now.Add(-80 * time.Second))
		switch step {
		case 60: // a restart
			if err := two.stop(); err != nil {
				t.Fatal(err)
			}
			two = start(t, behindConn, set, now)
			backends[1].Store(&two.data)
		case 100:
			behind.change(func() { behind.cut = true })
		case 115:
			two.counters(http.StatusServiceUnavailable, "confirmed up to")
		case 140:
			behind.change(func() { behind.cut = false })
		}
		select { // Prometheus sets the pace
		case <-scraped:
		case <-time.After(testkit.Patience):
			t.Fatal("Prometheus does not scrape")
		}
	}
	// All has been played out a quarter of an hour after the last window.
	one.clock.Advance(30 * time.Minute)
	two.clock.Advance(30 * time.Minute)
	ahead.confirm(now.Add(30 * time.Minute))
	behind.confirm(now.Add(30*time.Minute - 80*time.Second))
	const live, repaired = "cloudflare_zone_http_5m_requests_total", "cloudflare_zone_http_5m_requests_late_total"
	for _, job := range []string{"counters", "text"} {
		of := fmt.Sprintf("{job=%q}", job)
		testkit.Eventually(t, func() error {
			for name, want := range map[string]float64{live: truth, repaired: late} {
				got := p.Query(name+of, time.Now())
				if len(got) != 1 || got[0].Samples[0].Value != want {
					return fmt.Errorf("%s%s is %v, want %v", name, of, got, want)
				}
			}
			return nil
		})
		over := fmt.Sprintf("[%ds]", int(time.Since(began).Seconds())+5)
		for _, name := range []string{live, repaired} {
			if n := p.Value("resets("+name+of+over+")", time.Now()); n != 0 {
				t.Errorf("%s%s has %v resets", name, of, n)
			}
		}
	}
	if refused.Load() == 0 {
		t.Error("no scrape met the exposer that was cut off")
	}
	t.Logf("%d scrapes, %d of them refused, in %s", turn.Load(), refused.Load(), time.Since(began))
}

func sameZipped(t *testing.T, body, want string) bool {
	t.Helper()
	zip, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(zip)
	return err == nil && string(got) == want
}
