package web_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/backfill"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
	"github.com/weir-metrics/weir/services/exposer/internal/web"
)

// events counts what the meter is told.
type events struct {
	cut, began atomic.Int64

	mu       sync.Mutex
	outcomes []string
}

func (*events) ScrapeBegan()           {}
func (*events) Scraped(int)            {}
func (e *events) ScrapeCut()           { e.cut.Add(1) }
func (*events) CountersScraped(string) {}
func (*events) CompatScraped(string)   {}
func (*events) Denied(string)          {}
func (e *events) BackfillBegan()       { e.began.Add(1) }
func (e *events) BackfillEnded(outcome string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.outcomes = append(e.outcomes, outcome)
}

func (e *events) last() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.outcomes) == 0 {
		return ""
	}
	return e.outcomes[len(e.outcomes)-1]
}

// source lists buckets of zone 0 without end, until it fails.
type source struct {
	after int // buckets before the failure
	err   error
	gate  chan struct{} // if set, waits for it before the first bucket
}

func (s *source) ListScopes(context.Context, *bucketv1.ListScopesRequest, ...grpc.CallOption) (*bucketv1.ListScopesResponse, error) {
	return &bucketv1.ListScopesResponse{}, nil
}

func (s *source) GetCoverage(context.Context, *bucketv1.GetCoverageRequest, ...grpc.CallOption) (*bucketv1.GetCoverageResponse, error) {
	return &bucketv1.GetCoverageResponse{}, nil
}

func (s *source) ListBuckets(ctx context.Context, _ *bucketv1.ListBucketsRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[bucketv1.ListBucketsResponse], error) {
	return &listing{source: s, ctx: ctx}, nil
}

type listing struct {
	grpc.ClientStream
	*source
	ctx context.Context
	n   int
}

func (l *listing) Recv() (*bucketv1.ListBucketsResponse, error) {
	if l.gate != nil {
		select {
		case <-l.gate:
		case <-l.ctx.Done():
			return nil, context.Cause(l.ctx)
		}
	}
	if l.n == l.after {
		return nil, l.err
	}
	b := feedtest.Bucket("http_5m", feedtest.Zone(0), l.n)
	l.n++
	return &bucketv1.ListBucketsResponse{Entry: &bucketv1.Entry{Kind: &bucketv1.Entry_Bucket{Bucket: wire.ProtoBucket(b)}}}, nil
}

const windows = 1500 // a body well above the buffer of the stream

func serve(t *testing.T, from backfill.Lister, e *events) string {
	t.Helper()
	board := view.NewBoard(clock.NewManual(feedtest.T0.Add(windows*5*time.Minute+time.Second)),
		recent.Limits{MaxAge: 24 * time.Hour, Soft: 100_000, Hard: 250_000}, nil)
	r := recent.New(sample.Store{ID: "test", Stamp: sample.End}, 24*time.Hour)
	if err := r.Define(feedtest.Definition("http_5m", 1)); err != nil {
		t.Fatal(err)
	}
	board.Publish(r.State(bucket.Position{Revision: 1}))
	server := httptest.NewServer(web.New(web.Config{
		Board: board, Store: from, Meter: e, MaxScrapes: 2, MaxBackfills: 1, MaxBackfillHours: 168,
		CollectionInterval: time.Minute, Logger: testkit.Logger(t),
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func get(t *testing.T, url, encoding string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", encoding)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

func TestBackfillWhole(t *testing.T) {
	var e events
	url := serve(t, &source{after: windows, err: io.EOF}, &e)
	resp, body, err := get(t, url+"/backfill?hours=168", "identity")
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasSuffix(body, "\n# EOF\n") {
		t.Fatalf("%v, %s, ends with %.200q", err, resp.Status, body[max(0, len(body)-200):])
	}
	if got := strings.Count(body, "\ncloudflare_zone_http_5m_requests{"); got != windows {
		t.Errorf("%d samples, want %d", got, windows)
	}
	if got, want := resp.Header.Get("Content-Type"), expo.OpenMetrics.ContentType(); got != want {
		t.Errorf("content type is %q, want %q", got, want)
	}
	if e.last() != "whole" {
		t.Errorf("counted as %q", e.last())
	}
}

// A client must notice that what it got is not all: the connection breaks, in
// plain and in gzip, and nothing looks like an end.
func TestBackfillBreaksOff(t *testing.T) {
	for _, encoding := range []string{"identity", "gzip"} {
		var e events
		url := serve(t, &source{after: windows - 1, err: status.Error(codes.Internal, "bug 12")}, &e)
		resp, body, err := get(t, url+"/backfill?hours=168", encoding)
		if err == nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s ended properly after %d bytes", encoding, resp.Status, len(body))
		}
		if strings.Contains(body, "# EOF") {
			t.Errorf("%s: a broken body is closed as if it were whole", encoding)
		}
		if e.last() != "broken" {
			t.Errorf("%s: counted as %q", encoding, e.last())
		}
	}
}

func TestBackfillFailsEarly(t *testing.T) {
	for code, want := range map[codes.Code]int{codes.Internal: http.StatusBadGateway, codes.DeadlineExceeded: http.StatusServiceUnavailable} {
		var e events
		url := serve(t, &source{after: 3, err: status.Error(code, "secret detail")}, &e)
		resp, body, err := get(t, url+"/backfill?hours=168", "gzip")
		if err != nil || resp.StatusCode != want || strings.Contains(body, "secret") {
			t.Errorf("%s: %s %q %v, want %d", code, resp.Status, body, err, want)
		}
	}
}

func TestTooManyBackfills(t *testing.T) {
	var e events
	gate := make(chan struct{})
	url := serve(t, &source{after: 1, err: io.EOF, gate: gate}, &e)
	first := make(chan error, 1)
	go func() {
		resp, err := http.Get(url + "/backfill?hours=168")
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		first <- err
	}()
	// Taken only once the first one has its place and reads; for its next
	// bucket it waits again.
	gate <- struct{}{}
	if resp, body, err := get(t, url+"/backfill?hours=1&nonsense=1", "identity"); err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a bad request is judged before its place: %s %s %v", resp.Status, body, err)
	}
	if resp, _, err := get(t, url+"/backfill?hours=168", "identity"); err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("the second backfill is %s (%v), Retry-After %q", resp.Status, err, resp.Header.Get("Retry-After"))
	}
	close(gate)
	if err := <-first; err != nil {
		t.Error(err)
	}
}
