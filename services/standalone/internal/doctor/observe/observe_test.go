package observe_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/dial"
	"github.com/weir-metrics/weir/internal/testkit"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor"
	"github.com/weir-metrics/weir/services/standalone/internal/doctor/observe"
)

var now = time.Date(2026, 11, 30, 12, 40, 0, 0, time.UTC)

// serve answers by path; a path that it does not know is 404.
func serve(t *testing.T, pages map[string]http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if page := pages[r.URL.Path]; page != nil {
			page(w, r)
			return
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func says(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// gone is an address on which nobody listens.
func gone(t *testing.T) string {
	t.Helper()
	l := testkit.Listen(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// cut breaks a response off.
func cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	fmt.Fprint(w, `{"status":"success"`)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// What answers at three in the morning is named, whatever it is.
func TestWhoAnswersForPrometheus(t *testing.T) {
	for name, tc := range map[string]struct {
		query http.HandlerFunc
		says  string
	}{
		"a page":            {says(200, "text/html; charset=utf-8", "<!doctype html><title>Log in</title>"), "it answers with an HTML page, so this is not the API of Prometheus"},
		"a gateway":         {says(502, "text/html", "<html>Bad gateway</html>"), "it answers 502 with an HTML page"},
		"a login":           {says(401, "text/plain", "Unauthorized"), "it asks for a credential, or refuses the one that was given"},
		"a refusal":         {says(403, "text/plain", "Forbidden"), "the credential may not do this"},
		"another server":    {nil, "it answers 404: 404 page not found"},
		"another API":       {says(200, "application/json", `{"success":true,"result":[]}`), "which is not of Prometheus's API"},
		"a cut response":    {cut, "the response broke off"},
		"nothing":           {says(200, "application/json", ""), "which is not of Prometheus's API"},
		"an error":          {says(422, "application/json", `{"status":"error","errorType":"execution","error":"too many samples"}`), "Prometheus refuses: too many samples"},
		"another data type": {says(200, "application/json", `{"status":"success","data":[1]}`), "not of the expected form"},
	} {
		t.Run(name, func(t *testing.T) {
			base := serve(t, map[string]http.HandlerFunc{"/api/v1/query": tc.query})
			got := observe.NewPrometheus(base, http.DefaultClient, now).Ask(t.Context(), "weir", nil)
			if got.Err == nil || !strings.Contains(got.Err.Error(), tc.says) {
				t.Errorf("the error is %v, want %q", got.Err, tc.says)
			}
		})
	}
	got := observe.NewPrometheus("http://"+gone(t), http.DefaultClient, now).Ask(t.Context(), "weir", nil)
	if got.Err == nil || !strings.Contains(got.Err.Error(), "connection refused") {
		t.Errorf("the error of nobody is %v", got.Err)
	}
}

const body = `# HELP cloudflare_zone_requests Requests.
# TYPE cloudflare_zone_requests gauge
cloudflare_zone_requests{zone="a\"b\\c.example",account="x"} 5 1764500400000
cloudflare_zone_requests_by_status{zone="a.example",account="x",status="200"} 5 1764500400000
`

func TestWhoAnswersForAnExposer(t *testing.T) {
	ready := says(200, "text/plain", "weir-exposer is ready\n")
	metrics := func(header map[string]string, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for n, v := range header {
				w.Header().Set(n, v)
			}
			fmt.Fprint(w, text)
		}
	}
	good := map[string]string{"X-Weir-Store": "s", "X-Weir-Revision": "7", "X-Weir-Age-Seconds": "3", "X-Weir-Replay-Hours": "24", "X-Weir-Turn": "9", "X-Weir-Pages-Missing": "2"}
	for name, tc := range map[string]struct {
		pages map[string]http.HandlerFunc
		says  string
	}{
		"a page":            {map[string]http.HandlerFunc{"/-/ready": says(200, "text/html", "<html></html>")}, "so this is not an exposer"},
		"a Prometheus":      {map[string]http.HandlerFunc{"/-/ready": says(200, "text/plain", "Prometheus Server is Ready.")}, "so this is not an exposer"},
		"a login":           {map[string]http.HandlerFunc{"/-/ready": says(401, "text/plain", "")}, "it asks for a credential"},
		"operations":        {map[string]http.HandlerFunc{"/-/ready": ready, "/metrics": says(200, "text/plain", "go_goroutines 5\n")}, "not its operations port"},
		"a refused scrape":  {map[string]http.HandlerFunc{"/-/ready": ready, "/metrics": says(503, "text/plain", "too many samples")}, "it answers 503: too many samples"},
		"no revision":       {map[string]http.HandlerFunc{"/-/ready": ready, "/metrics": metrics(map[string]string{"X-Weir-Store": "s"}, body)}, "X-Weir-Revision"},
		"no timestamps":     {map[string]http.HandlerFunc{"/-/ready": ready, "/metrics": metrics(good, "x{zone=\"a\"} 1\n")}, "line 1: the sample has no timestamp"},
		"not an exposition": {map[string]http.HandlerFunc{"/-/ready": ready, "/metrics": metrics(good, "x{zone=\"a\n")}, "line 1: it is not a sample"},
	} {
		t.Run(name, func(t *testing.T) {
			got := observe.Exposers(t.Context(), []string{serve(t, tc.pages)}, http.DefaultClient)[0]
			if got.Err == nil || !strings.Contains(got.Err.Error(), tc.says) {
				t.Errorf("the error is %v, want %q", got.Err, tc.says)
			}
		})
	}
	url := serve(t, map[string]http.HandlerFunc{"/-/ready": ready, "/metrics": metrics(good, body)})
	counting := metrics(map[string]string{"X-Weir-Store": "s", "X-Weir-Counter-Epoch": "e"}, "x_total{zone=\"a\"} 1\nx_total{zone=\"b\"} 2\nweir_counter_epoch_info{epoch=\"e\"} 1\n")
	for name, tc := range map[string]struct {
		page http.HandlerFunc
		want doctor.Counters
		says string
	}{
		"served":     {counting, doctor.Counters{StoreID: "s", Epoch: "e", Series: 2}, ""},
		"off":        {says(404, "text/plain", "counters are not served"), doctor.Counters{Off: true}, ""},
		"not now":    {says(503, "text/plain", "the clock went back\n"), doctor.Counters{Why: "the clock went back"}, ""},
		"a login":    {says(401, "text/plain", ""), doctor.Counters{}, "/counters: it answers 401"},
		"a proxy":    {says(503, "text/html", "<html>"), doctor.Counters{}, "an HTML page"},
		"no epoch":   {metrics(map[string]string{"X-Weir-Store": "s"}, body), doctor.Counters{StoreID: "s"}, "X-Weir-Counter-Epoch"},
		"timestamps": {metrics(map[string]string{"X-Weir-Store": "s", "X-Weir-Counter-Epoch": "e"}, body), doctor.Counters{StoreID: "s", Epoch: "e"}, "the counter has a timestamp"},
	} {
		site := serve(t, map[string]http.HandlerFunc{"/-/ready": ready, "/metrics": metrics(good, body), "/counters": tc.page})
		got := observe.Exposers(t.Context(), []string{site}, http.DefaultClient)[0]
		if says := fmt.Sprint(got.Counters.Err); got.Err != nil || (got.Counters.Err != nil) != (tc.says != "") || !strings.Contains(says, tc.says) {
			t.Errorf("%s: %v, %v; want %q", name, got.Err, got.Counters.Err, tc.says)
		}
		if got.Counters.Err = nil; got.Counters != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got.Counters, tc.want)
		}
	}
	waiting := serve(t, map[string]http.HandlerFunc{"/-/ready": says(503, "text/plain", "weir-exposer is not ready: no view yet\n")})
	want := []doctor.Exposer{
		{URL: url, StoreID: "s", Revision: 7, Age: 3 * time.Second, HasAge: true, Replay: 24 * time.Hour, Missing: 2, Turn: 9, Bytes: int64(len(body)), Samples: 2, Families: []string{"cloudflare_zone_requests"}, Counters: doctor.Counters{Off: true}},
		{URL: waiting, NotReady: "weir-exposer is not ready: no view yet"},
	}
	if diff := cmp.Diff(want, observe.Exposers(t.Context(), []string{url, waiting}, http.DefaultClient)); diff != "" {
		t.Errorf("exposers (-want +got):\n%s", diff)
	}
}

// The targets of the job say which store they serve. Credentials are not for addresses that
// a Prometheus names.
func TestTargetStores(t *testing.T) {
	serves := func(store string) string {
		return serve(t, map[string]http.HandlerFunc{"/metrics": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" || r.FormValue("round") != "2h" {
				t.Errorf("asked %s with %v", r.URL, r.Header)
			}
			w.Header().Set("X-Weir-Store", store)
		}}) + "/metrics?round=2h"
	}
	given := "http://" + gone(t) // asked as an exposer: not once more
	targets := []doctor.Target{
		{URL: serves("a")},
		{URL: given + "/metrics"},
		{URL: serve(t, map[string]http.HandlerFunc{"/metrics": says(200, "text/plain", "x 1\n")}) + "/metrics"},
		{URL: serve(t, map[string]http.HandlerFunc{"/metrics": says(401, "text/plain", "")}) + "/metrics"},
		{URL: "http://" + gone(t) + "/metrics"},
	}
	observe.TargetStores(t.Context(), targets, []doctor.Exposer{{URL: given, StoreID: "b"}})
	for i, want := range []struct{ store, err string }{{"a", ""}, {"b", ""}, {"", "no header X-Weir-Store"}, {"", "401"}, {"", "connection refused"}} {
		got := targets[i]
		if got.Store != want.store || (got.StoreErr == nil) != (want.err == "") || got.StoreErr != nil && !strings.Contains(got.StoreErr.Error(), want.err) {
			t.Errorf("target %d: store %q, error %v; want %q, %q", i, got.Store, got.StoreErr, want.store, want.err)
		}
	}
}

func TestWhoAnswersForACollector(t *testing.T) {
	silent := testkit.Listen(t) // accepts, and says nothing that is gRPC
	go func() {
		for {
			conn, err := silent.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = conn.Close()
		}
	}()
	empty := grpc.NewServer()
	l := testkit.Listen(t)
	go func() { _ = empty.Serve(l) }()
	t.Cleanup(empty.Stop)
	for name, tc := range map[string]struct{ address, says string }{
		"nobody":         {gone(t), "it does not respond"},
		"not gRPC":       {silent.Addr().String(), "it does not respond"},
		"another server": {l.Addr().String(), "it is not a collector"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := grpc.NewClient("passthrough:///"+tc.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, to string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", to)
				}))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got := observe.Status(t.Context(), tc.address, conn)
			if got.Err == nil || !strings.Contains(got.Err.Error(), tc.says) {
				t.Errorf("the error is %v, want %q", got.Err, tc.says)
			}
		})
	}
}

// A Service in Kubernetes without a ready pod is a name without addresses, as gRPC's resolver
// for DNS gives it to the balancer.
func TestStatusOfANameWithoutAddresses(t *testing.T) {
	names := manual.NewBuilderWithScheme("names")
	names.InitialState(resolver.State{})
	conn, err := grpc.NewClient("names:///weir-collector", grpc.WithResolvers(names), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// So do addresses of collectors (package dial), which need no name server to have none.
	ours, err := dial.Open(dial.Config{Addresses: []string{"weir-collector.invalid:1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	for _, conn := range []*grpc.ClientConn{conn, ours} {
		got := observe.Status(t.Context(), "weir-collector", conn)
		if got.Err != nil && strings.Contains(got.Err.Error(), "cannot be looked up") && conn == ours {
			continue // a machine without a name server
		}
		if got.Err == nil || !strings.Contains(got.Err.Error(), "has no address now") {
			t.Errorf("the error is %v", got.Err)
		}
	}
}

// audited is an AdminService that answers to all calls in one way.
type audited struct {
	adminv1.UnimplementedAdminServiceServer
	err error
}

func (a audited) ListAuditEvents(_ context.Context, r *adminv1.ListAuditEventsRequest) (*adminv1.ListAuditEventsResponse, error) {
	if r.GetLimit() != 1 {
		return nil, status.Errorf(codes.InvalidArgument, "the limit is %d", r.GetLimit())
	}
	return &adminv1.ListAuditEventsResponse{}, a.err
}

func TestAdmin(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want doctor.Admin
		says string
	}{
		"access":        {nil, doctor.Admin{}, ""},
		"a wrong token": {status.Error(codes.Unauthenticated, "unknown bearer token"), doctor.Admin{}, "refuses the one that was given: unknown bearer token"},
		"read access":   {status.Error(codes.PermissionDenied, "grants read access"), doctor.Admin{Read: true}, "no admin access: grants read access"},
	} {
		t.Run(name, func(t *testing.T) {
			s := grpc.NewServer()
			adminv1.RegisterAdminServiceServer(s, audited{err: tc.err})
			l := testkit.Listen(t)
			go func() { _ = s.Serve(l) }()
			t.Cleanup(s.Stop)
			conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got := observe.Admin(t.Context(), conn)
			if (got.Err == nil) != (tc.says == "") || got.Err != nil && !strings.Contains(got.Err.Error(), tc.says) {
				t.Errorf("the error is %v, want %q", got.Err, tc.says)
			}
			if got.Err = nil; *got != tc.want {
				t.Errorf("got %+v, want %+v", *got, tc.want)
			}
		})
	}
}

func TestOwn(t *testing.T) {
	url := serve(t, map[string]http.HandlerFunc{
		"/metrics": says(200, "text/plain",
			"weir_collector_leader 1\nprocess_start_time_seconds 1.7645e+09\ngo_goroutines 9\nweir_collector_budget_needed_requests{user=\"a\"} 5\n"),
		"/-/ready": says(503, "text/plain", "weir-collector is not ready: the disk is full\n"),
	})
	other := serve(t, map[string]http.HandlerFunc{"/metrics": says(200, "text/plain", "go_goroutines 9\n")})
	got := observe.OwnFrom(t.Context(), []string{url, other}, http.DefaultClient)
	want := []doctor.Sample{
		{Name: "weir_collector_leader", Labels: map[string]string{}, From: url, Value: 1},
		{Name: "process_start_time_seconds", Labels: map[string]string{}, From: url, Value: 1.7645e9},
		{Name: "weir_collector_budget_needed_requests", Labels: map[string]string{"user": "a"}, From: url, Value: 5},
	}
	if diff := cmp.Diff(want, got.Samples); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if len(got.Errs) != 1 || !strings.Contains(got.Errs[0], "has no metric of Weir") {
		t.Errorf("errors are %q", got.Errs)
	}
	if got.Asked != 1 || len(got.NotReady) != 1 || got.NotReady[0] != url+": weir-collector is not ready: the disk is full" {
		t.Errorf("of %d asked are not ready: %q", got.Asked, got.NotReady)
	}
}

// Operations ports that do not answer take no time of the others, and each error names its URL.
func TestOwnOfPortsThatAnswerNothingOfUse(t *testing.T) {
	end := make(chan struct{})
	silent := serve(t, map[string]http.HandlerFunc{"/metrics": func(http.ResponseWriter, *http.Request) { <-end }})
	login := serve(t, map[string]http.HandlerFunc{"/metrics": says(200, "text/html", "<html>Sign in</html>")})
	odd := serve(t, map[string]http.HandlerFunc{"/metrics": says(200, "text/plain", "hello")})
	rubbish := testkit.Listen(t)
	t.Cleanup(func() { _ = rubbish.Close() })
	go func() {
		for c, err := rubbish.Accept(); err == nil; c, err = rubbish.Accept() {
			_, _ = c.Write(bytes.Repeat([]byte("\x00rubbish"), 100))
			_ = c.Close()
		}
	}()
	fine := serve(t, map[string]http.HandlerFunc{
		"/metrics": says(200, "text/plain", "weir_collector_leader 1\n"), "/-/ready": says(200, "text/plain", "weir-collector is ready\n"),
	})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 2*time.Second, errors.New("the time is over"))
	defer cancel()
	urls := []string{silent, login, odd, "http://" + rubbish.Addr().String(), fine}
	got := observe.OwnFrom(ctx, urls, http.DefaultClient)
	close(end)
	if len(got.Samples) != 1 || got.Asked != 1 {
		t.Errorf("of the port that answers there are %d samples; it was asked %d times", len(got.Samples), got.Asked)
	}
	if len(got.Errs) != 4 {
		t.Fatalf("errors are %q, want 4", got.Errs)
	}
	for i, text := range got.Errs {
		if !strings.HasPrefix(text, urls[i]+"/metrics") || len(text) > 500 {
			t.Errorf("error %d is %q, want a short one that names %s", i, text, urls[i])
		}
	}
}
