package deliver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
)

// answering is a server with one answer, and the requests that it got.
type answering struct {
	*httptest.Server
	status     int
	kind, body string
	requests   int
	uri        string
}

func newAnswering(t *testing.T) *answering {
	a := &answering{}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.requests++
		a.uri = r.RequestURI
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header()["Content-Type"] = nil
		if a.kind != "" {
			w.Header().Set("Content-Type", a.kind)
		}
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
	}))
	t.Cleanup(a.Close)
	return a
}

// The page of a login or of a proxy acknowledges nothing, whatever its status says.
func TestAPageIsNoAcknowledgement(t *testing.T) {
	a := newAnswering(t)
	w, err := NewRemoteWrite(a.URL+"/api/v1/write", a.Client(), now)
	if err != nil {
		t.Fatal(err)
	}
	two, err := NewRemoteWrite2(a.URL+"/api/v1/write", a.Client(), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		status     int
		kind, body string
		page       bool
	}{
		{200, "text/html; charset=utf-8", "<html>login</html>", true},
		{200, "text/html", "", false}, // a framework's default
		{200, "", " <!DOCTYPE html><title>x</title>", true},
		{200, "text/plain", "<html>login</html>", true},
		{202, "application/xhtml+xml", "<x/>", true},
		{204, "text/html", "", false},
		{204, "", "", false},
		{200, "", "", false},
		{200, "text/plain", "ok", false},
		{200, "application/json", `{"status":"success"}`, false},
		{200, "application/json", `{"error":"","errors":[],"success":true,"status":0}`, false},
		{200, "application/json", `[{"error":"x"}]`, false},
	} {
		a.status, a.kind, a.body = tc.status, tc.kind, tc.body
		var page *AnswerError
		err := w.Send(t.Context(), some(1, "a"))
		if is := errors.As(err, &page); is != tc.page || !is && err != nil {
			t.Errorf("%d %q %q: %v", tc.status, tc.kind, tc.body, err)
		}
		if page != nil && (page.Once || !strings.Contains(err.Error(), "a login or a proxy")) {
			t.Errorf("%d %q %q: %v", tc.status, tc.kind, tc.body, err)
		}
		if page = nil; tc.body == "" { // the library wants the headers of its version
			continue
		}
		if err := two.Send(t.Context(), some(1, "a")); errors.As(err, &page) != tc.page {
			t.Errorf("%d %q %q with remote write 2: %v", tc.status, tc.kind, tc.body, err)
		}
	}
}

// A gateway that says in JSON that something failed acknowledges nothing, whatever its status is.
func TestAnErrorInJSONIsNoAcknowledgement(t *testing.T) {
	a := newAnswering(t)
	w, err := NewRemoteWrite(a.URL+"/api/v1/write", a.Client(), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{
		`{"status":"error","errorType":"x","error":"no such tenant"}`, `{"error":"unauthorized"}`, `{"error":{"code":16}}`, `{"error":true}`,
		`{"success":false,"errors":[{"code":10000}]}`, "\n{\"Status\":\"Failed\"}\n",
	} {
		for _, kind := range []string{"application/json", "text/plain", ""} {
			a.status, a.kind, a.body = 200, kind, body
			var answer *AnswerError
			if err := w.Send(t.Context(), some(1, "a")); !errors.As(err, &answer) || answer.Once || !strings.Contains(err.Error(), "an error in JSON") {
				t.Errorf("%q %q: %v", kind, body, err)
			}
		}
	}
}

// Remote write 2 says how many samples were written. What was not is rejected, with any status.
func TestFewerSamplesWrittenThanSent(t *testing.T) {
	var written string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Prometheus-Remote-Write-Samples-Written", written)
	}))
	defer server.Close()
	w, err := NewRemoteWrite2(server.URL+"/api/v1/write", server.Client(), now)
	if err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]bool{"3": true, "4": true, "2": false, "0": false, "-3": false, "many": false} {
		written = given
		var rejected *RejectedError
		err := w.Send(t.Context(), some(3, "a"))
		if want && err != nil || !want && (!errors.As(err, &rejected) || !strings.Contains(err.Error(), "of 3 samples")) {
			t.Errorf("%s of 3 samples were written: %v", given, err)
		}
	}
}

// An OTLP request that may have been taken is not sent again, since its sums would count twice.
func TestOTLPAnswers(t *testing.T) {
	a := newAnswering(t)
	o, err := NewOTLP(a.URL+"/v1/metrics", a.Client(), nil, now)
	if err != nil {
		t.Fatal(err)
	}
	partly, err := proto.Marshal(&collectorpb.ExportMetricsServiceResponse{PartialSuccess: &collectorpb.ExportMetricsPartialSuccess{RejectedDataPoints: 3}})
	if err != nil {
		t.Fatal(err)
	}
	// The length of this one is that of a brace.
	braced, err := proto.Marshal(&collectorpb.ExportMetricsServiceResponse{PartialSuccess: &collectorpb.ExportMetricsPartialSuccess{RejectedDataPoints: 3, ErrorMessage: strings.Repeat("x", '{'-4)}})
	if err != nil || braced[1] != '{' {
		t.Fatalf("a response begins with %q (%v)", braced[:2], err)
	}
	for _, tc := range []struct{ kind, body, want string }{
		{"", "", "taken"},
		{"application/x-protobuf", "", "taken"},
		{"application/json", "{}", "taken"},
		{"text/plain; charset=utf-8", "{ }\n", "taken"},
		{"application/json", `{"partialSuccess":{}}`, "taken"},
		{"application/json", `{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"x"}}`, "partial"},
		{"application/x-protobuf", string(partly), "partial"},
		{"", string(partly), "partial"},
		{"text/plain", "ok", "strange"},
		{"application/x-protobuf", "ok", "strange"},
		{"application/json", `{"error":"who are you"}`, "strange"},
		{"text/html", "<html>login</html>", "strange"},
		{"text/html", "", "taken"},
		{"application/json", `{"partialSuccess":{},"requestId":"7"}`, "taken"},
		{"application/x-protobuf", string(braced), "partial"},
	} {
		a.status, a.kind, a.body, a.requests = 200, tc.kind, tc.body, 0
		ctx, end := context.WithCancelCause(t.Context())
		p := &Patience{To: o, Min: 1, Max: 1, Failed: func(err error, _ time.Duration) { end(fmt.Errorf("it is sent again: %w", err)) }}
		var answer *AnswerError
		var partial *PartialError
		got := "taken"
		switch err := p.Send(ctx, some(1, "a")); {
		case errors.As(err, &answer) && answer.Once && ctx.Err() == nil:
			got = "strange"
		case errors.As(err, &partial):
			got = "partial"
		case err != nil:
			got = err.Error()
		}
		end(nil)
		if got != tc.want || a.requests != 1 {
			t.Errorf("%q %q: %s after %d requests, want %s", tc.kind, tc.body, got, a.requests, tc.want)
		}
	}
}

// A URL is used as it is given, and one without a path is an error that says which is right.
func TestTheURLIsUsedAsItIs(t *testing.T) {
	a := newAnswering(t)
	a.status = 204
	for _, uri := range []string{"/insert/a%2Fb/api/v1/write/", "/api/v1/write", "/", "//x/./y", "/a%20b?x=1"} {
		w, err := NewRemoteWrite(a.URL+uri, a.Client(), now)
		if err == nil {
			err = w.Send(t.Context(), some(1, "a"))
		}
		if err != nil || a.uri != uri {
			t.Errorf("%s is sent to %s: %v", uri, a.uri, err)
		}
		o, err := NewOTLP(a.URL+uri, a.Client(), nil, now)
		if err == nil {
			err = o.Send(t.Context(), some(1, "a"))
		}
		if err != nil || a.uri != uri {
			t.Errorf("OTLP: %s is sent to %s: %v", uri, a.uri, err)
		}
	}
	if _, err := NewRemoteWrite("http://mimir:8080", http.DefaultClient, now); err == nil || !strings.Contains(err.Error(), "/api/v1/push of Mimir") {
		t.Errorf("without a path: %v", err)
	}
	if err := CheckTarget("http://collector:4318", true); err == nil || !strings.Contains(err.Error(), "/v1/metrics") {
		t.Errorf("OTLP without a path: %v", err)
	}
}

// A certificate that cannot be verified can be told from a server that does not answer.
func TestACertificateThatCannotBeVerified(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.StartTLS()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	w, err := NewRemoteWrite(server.URL+"/api/v1/write", client, now)
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOTLP(server.URL+"/v1/metrics", client, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []Sender{w, o} {
		var unverified *tls.CertificateVerificationError
		if err := to.Send(t.Context(), some(1, "a")); !errors.As(err, &unverified) {
			t.Errorf("%T: %v", to, err)
		}
	}
}

// The error of a server that does not answer names the URL that was asked.
func TestASilentServerIsNamedByItsURL(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	w, err := NewRemoteWrite(server.URL+"/tenant", http.DefaultClient, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Send(t.Context(), some(1, "a")); err == nil || !strings.Contains(err.Error(), `"`+server.URL+`/tenant"`) {
		t.Errorf("the error is %v, want the URL %s/tenant", err, server.URL)
	}
}
