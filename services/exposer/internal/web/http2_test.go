package web_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/web"
)

// quiet is a source that says nothing for a while before some of its buckets.
type quiet struct {
	*source
	before map[int]time.Duration
}

func (q *quiet) ListBuckets(ctx context.Context, req *bucketv1.ListBucketsRequest, o ...grpc.CallOption) (grpc.ServerStreamingClient[bucketv1.ListBucketsResponse], error) {
	from, err := q.source.ListBuckets(ctx, req, o...)
	return &quietListing{listing: from.(*listing), before: q.before}, err
}

type quietListing struct {
	*listing
	before map[int]time.Duration
}

func (l *quietListing) Recv() (*bucketv1.ListBucketsResponse, error) {
	select {
	case <-time.After(l.before[l.n]):
		return l.listing.Recv()
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

// overHTTP2 serves the source's history in virtual time, under the limits that
// every listener has, and hands out a client whose streams take little that is
// not read.
func overHTTP2(t *testing.T, from *quiet, use func(t *testing.T, c *http.Client, e *events)) {
	synctest.Test(t, func(t *testing.T) {
		var e events
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		server := &http.Server{
			Handler:   pages(boardOf(historic(t), historyEnd), from, &e, web.Limits{}, 1),
			Protocols: &protocols, ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute,
		}
		l := bufconn.Listen(4 << 10)
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		transport := &http.Transport{
			Protocols: &protocols, DisableCompression: true, HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.DialContext(ctx) },
		}
		defer func() { // also when use gives up
			transport.CloseIdleConnections()
			if err := server.Close(); err != nil {
				t.Error(err)
			}
			<-served
		}()
		use(t, &http.Client{Transport: transport}, &e)
	})
}

// Over HTTP/2 a write deadline ends an answer even while nobody writes. A source
// may be quiet for longer than a client may stall.
func TestQuietSourceDoesNotCutABackfill(t *testing.T) {
	from := &quiet{&source{after: buckets, err: io.EOF}, map[int]time.Duration{0: 10 * time.Minute, buckets / 2: 10 * time.Minute, buckets: 5 * time.Minute}}
	overHTTP2(t, from, func(t *testing.T, c *http.Client, _ *events) {
		resp, err := c.Get("http://weir" + long)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.ProtoMajor != 2 {
			t.Fatalf("%s: after %d bytes: %v", resp.Proto, len(body), err)
		}
		if got := strings.Count(string(body), "\ncloudflare_zone_http_5m_requests{"); got != buckets || !strings.HasSuffix(string(body), "# EOF\n") {
			t.Errorf("%d samples, want %d", got, buckets)
		}
	})
}

// A client that does not read is cut over HTTP/2 too, and one whose time is up
// before the first byte is told so.
func TestBackfillsAreBoundedInTimeOverHTTP2(t *testing.T) {
	t.Run("not read", func(t *testing.T) {
		overHTTP2(t, &quiet{source: &source{after: buckets, err: io.EOF}}, func(t *testing.T, c *http.Client, e *events) {
			began := time.Now()
			resp, err := c.Get("http://weir" + long)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			time.Sleep(2 * time.Minute)
			if got := e.last(); got != "broken" {
				t.Errorf("after %s without reading the backfill is counted as %q", time.Since(began), got)
			}
			if rest, err := io.ReadAll(resp.Body); err == nil || strings.Contains(string(rest), "# EOF") {
				t.Errorf("it ended properly after %d bytes", len(rest))
			}
		})
	})
	t.Run("too long before the first byte", func(t *testing.T) {
		from := &quiet{&source{after: 1, err: io.EOF}, map[int]time.Duration{0: 2 * time.Hour}}
		overHTTP2(t, from, func(t *testing.T, c *http.Client, _ *events) {
			resp, err := c.Get("http://weir" + long)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), "in parts") {
				t.Errorf("%s %s, %v", resp.Status, body, err)
			}
		})
	})
}

// An HTTP/1.0 client takes the end of the connection for the end of the answer,
// whatever it breaks off at: it needs a format with an end of its own.
func TestOldClientsGetNoText(t *testing.T) {
	var e events
	address := strings.TrimPrefix(serve(t, &source{after: 3, err: io.EOF}, &e), "http://")
	for format, want := range map[string]string{"text": "400 Bad Request", "openmetrics": "200 OK"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := fmt.Fprintf(conn, "GET /backfill?hours=168&format=%s HTTP/1.0\r\n\r\n", format); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 "+want) || !strings.Contains(string(answer), "openmetrics") {
			t.Errorf("%s: %v, %.300s", format, err, answer)
		}
	}
}
