package web_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
	"github.com/weir-metrics/weir/services/exposer/internal/web"
)

var since = time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)

func unmatched(n int) (list []*bucketv1.Problem) {
	for i := range n {
		list = append(list, &bucketv1.Problem{
			Code: "SELECTION_UNMATCHED", About: fmt.Sprintf("CF_ZONES shop%d.exmaple", i), Since: timestamppb.New(since),
			Message: `CF_ZONES names a zone <b>that</b> the token does not see; did you mean "shop.example"?`,
		})
	}
	return list
}

// page asks for the landing page.
func page(ctx context.Context, t *testing.T, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "How to query") {
		t.Errorf("the landing page answers %d:\n%s", w.Code, w.Body)
	}
	return w.Body.String()
}

func landing(t *testing.T, from web.Status) http.Handler {
	board := view.NewBoard(clock.NewManual(since), recent.Limits{MaxAge: time.Hour, Soft: 100, Hard: 100}, nil)
	board.Publish(recent.New(sample.Store{ID: "test", Stamp: sample.End}, time.Hour).State(bucket.Position{Revision: 1}))
	return web.New(web.Config{Board: board, Status: from, Meter: &events{}, MaxScrapes: 1, MaxBackfills: 1, MaxBackfillHours: 1, Logger: testkit.Logger(t)})
}

const notKnown = "The status of the collector is unknown"

// collector is a real gRPC server that knows one method.
type collector struct {
	bucketv1.UnimplementedBucketServiceServer
	problems []*bucketv1.Problem
}

func (c *collector) GetStatus(context.Context, *bucketv1.GetStatusRequest) (*bucketv1.GetStatusResponse, error) {
	return &bucketv1.GetStatusResponse{Problems: c.problems}, nil
}

// The page shows what the collector says that somebody has to mend, over the
// connection that the exposer has; it is there all the same when the collector is
// away, or older than the question.
func TestLandingShowsProblems(t *testing.T) {
	for name, test := range map[string]struct {
		server        bucketv1.BucketServiceServer // nil: away
		banners       int
		want, wantNot []string
	}{
		"one": {&collector{problems: unmatched(1)}, 1, []string{
			"SELECTION_UNMATCHED", "<code>CF_ZONES shop0.exmaple</code>", "a zone &lt;b&gt;that&lt;/b&gt;", "did you mean", "since 2026-11-29T10:00:00Z",
		}, []string{notKnown}},
		"about everything": {&collector{problems: []*bucketv1.Problem{{Code: "NO_ZONES", Message: "nothing at all"}}}, 1, []string{"nothing at all", `<span class="warn">no zone is collected</span>`}, []string{"<code></code>", "since"}},
		"no account":       {&collector{problems: []*bucketv1.Problem{{Code: "NO_ACCOUNTS", Message: "none"}}}, 1, []string{`<span class="warn">no account is collected</span>`}, []string{"no zone is collected"}},
		"many":             {&collector{problems: append(unmatched(40), &bucketv1.Problem{Code: "NO_ZONES"})}, 12, []string{"30 more with this code", "NO_ZONES"}, nil},
		"none":             {&collector{}, 0, nil, []string{notKnown}},
		"old":              {bucketv1.UnimplementedBucketServiceServer{}, 0, nil, []string{notKnown}},
		"away":             {nil, 0, []string{notKnown}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			listener := testkit.Listen(t)
			address := listener.Addr().String()
			if test.server == nil {
				_ = listener.Close()
			} else {
				server := grpc.NewServer()
				bucketv1.RegisterBucketServiceServer(server, test.server)
				go func() { _ = server.Serve(listener) }()
				t.Cleanup(server.Stop)
			}
			conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			body := page(t.Context(), t, landing(t, bucketv1.NewBucketServiceClient(conn)))
			if got := strings.Count(body, `class="banner bad"`); got != test.banners {
				t.Errorf("%d banners, want %d:\n%s", got, test.banners, body)
			}
			for _, want := range test.want {
				if !strings.Contains(body, want) {
					t.Errorf("the page does not show %q:\n%s", want, body)
				}
			}
			for _, never := range test.wantNot {
				if strings.Contains(body[strings.Index(body, "<h1>"):], never) {
					t.Errorf("the page shows %q", never)
				}
			}
		})
	}
}

// slow answers after a while, and counts.
type slow struct {
	after                time.Duration
	err                  error
	calls, running, most atomic.Int64
}

func (s *slow) GetStatus(ctx context.Context, _ *bucketv1.GetStatusRequest, _ ...grpc.CallOption) (*bucketv1.GetStatusResponse, error) {
	s.calls.Add(1)
	s.most.Store(max(s.most.Load(), s.running.Add(1)))
	defer s.running.Add(-1)
	select {
	case <-time.After(s.after):
		if s.err != nil {
			return nil, s.err
		}
		return &bucketv1.GetStatusResponse{Problems: unmatched(1)}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// However many look at the page, the collector is asked once in ten seconds and
// by one at a time, and nobody waits for longer than two seconds for it.
func TestLandingAsksTheCollectorRarely(t *testing.T) {
	for name, test := range map[string]struct {
		status *slow
		knows  bool
	}{
		"quick": {&slow{after: 100 * time.Millisecond}, true},
		"hangs": {&slow{after: time.Hour}, false},
		"fails": {&slow{err: status.Error(codes.Unavailable, "away")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from := test.status
				h := landing(t, from)
				for round := range 3 {
					var wg sync.WaitGroup
					for range 5 {
						wg.Go(func() {
							began := time.Now()
							body := page(t.Context(), t, h)
							if strings.Contains(body, "SELECTION_UNMATCHED") != test.knows || strings.Contains(body, notKnown) == test.knows {
								t.Errorf("the page shows:\n%s", body[strings.Index(body, "<h1>"):])
							}
							if took := time.Since(began); took > 2*time.Second {
								t.Errorf("the page took %s", took)
							}
						})
					}
					wg.Wait()
					page(t.Context(), t, h) // from what is known
					if got := from.calls.Load(); got != int64(round+1) {
						t.Errorf("asked %d times in %d rounds", got, round+1)
					}
					time.Sleep(10 * time.Second)
				}
				if from.most.Load() > 1 {
					t.Errorf("%d asked at once", from.most.Load())
				}
			})
		})
	}
}

// Whoever closes the page before the answer takes nothing from the others.
func TestLandingThatIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &slow{after: time.Second}
		h := landing(t, from)
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Millisecond, func() { cancel(errors.New("gone")) })
		page(ctx, t, h)
		if body := page(t.Context(), t, h); strings.Contains(body, notKnown) {
			t.Error("what one reader missed is told to the next")
		}
	})
}
