package web_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
	"github.com/weir-metrics/weir/services/exposer/internal/web"
)

// FuzzQuery: whatever is asked of the data port, the answer is the data, or 400
// with the name of the parameter; never a panic, never the server's fault.
func FuzzQuery(f *testing.F) {
	f.Add(uint8(0), "hours=5&step_seconds=60", "text/plain", "gzip")
	f.Add(uint8(0), "start=1795341300&end=2026-11-22T10:15:00Z&format=text", "", "")
	f.Add(uint8(1), "extend_to_now=1&family=cloudflare_zone_http_5m_requests", "*/*", "identity;q=0, *")
	f.Add(uint8(1), "zone=nobody.example&dataset=http_5m", "", "gzip;q=0")
	f.Add(uint8(0), "hours=1&hours=2", "", "")
	f.Add(uint8(0), "%zz=1;&=&&start", "", "")
	f.Add(uint8(2), "replay_hours=3", "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2", "gzip")
	f.Add(uint8(2), "replay_hours=0&replay_hours=0", "application/openmetrics-text;version=\"1.0.0\"", "x;q=9,")
	f.Add(uint8(3), "", "text/html", "")

	now := feedtest.T0.Add(4*time.Hour + 30*time.Second)
	r := recent.New(sample.Store{ID: "test", Stamp: sample.End, Retention: 40 * time.Hour}, 24*time.Hour)
	for _, id := range []string{"http_5m", "http_1m"} {
		d := feedtest.Definition(id, 1)
		if id == "http_1m" {
			d.Size = time.Minute
		}
		if err := r.Define(d); err != nil {
			f.Fatal(err)
		}
	}
	board := view.NewBoard(clock.NewManual(now), recent.Limits{MaxAge: 24 * time.Hour, Soft: 1000, Hard: 2000}, nil)
	board.Publish(r.State(bucket.Position{Revision: 1}))
	handler := web.New(web.Config{
		Board: board, Store: &source{err: io.EOF}, Meter: &events{}, MaxScrapes: 4, MaxBackfills: 4, MaxBackfillHours: 48,
		CollectionInterval: 10 * time.Minute, Logger: testkit.Logger(f),
	})
	paths := []string{"/backfill", "/cloudflare/backfill", "/metrics", "/"}
	f.Fuzz(func(t *testing.T, which uint8, query, accept, encoding string) {
		path := paths[int(which)%len(paths)]
		req := &http.Request{
			Method: http.MethodGet, URL: &url.URL{Path: path, RawQuery: query}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{"Accept": {accept}, "Accept-Encoding": {encoding}}, Host: "weir.example", Body: http.NoBody,
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req.WithContext(t.Context()))
		switch {
		case w.Code == http.StatusOK && path != "/":
			if e := w.Header().Get("Content-Encoding"); e != "" && e != "gzip" {
				t.Fatalf("content encoding is %q", e)
			}
			if kind := w.Header().Get("Content-Type"); w.Header().Get("Content-Encoding") == "" && strings.Contains(kind, "openmetrics") != strings.HasSuffix(w.Body.String(), "# EOF\n") {
				t.Fatalf("%q ends with %.40q", kind, w.Body.String()[max(0, w.Body.Len()-40):])
			}
		case w.Code == http.StatusOK:
		case w.Code == http.StatusBadRequest && path != "/":
			named(t, query, w.Body.String())
		default:
			t.Fatalf("GET %s?%s is %d: %s", path, query, w.Code, w.Body)
		}
	})
}

// named checks that a refusal names a parameter that was really given, and is
// a line for people.
func named(t *testing.T, query, text string) {
	t.Helper()
	if strings.Count(text, "\n") != 1 || len(text) > 1000 {
		t.Fatalf("?%s: the refusal is no line for people: %q", query, text)
	}
	if strings.HasPrefix(text, "query is malformed: ") {
		if _, err := url.ParseQuery(query); err == nil {
			t.Fatalf("?%s is called malformed: %s", query, text)
		}
		return
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatalf("?%s is malformed, and the refusal says %q", query, text)
	}
	for name := range values {
		if len(name) > 40 { // is shortened
			return
		}
		if strings.HasPrefix(text, fmt.Sprintf("parameter %s is ", name)) || strings.HasPrefix(text, fmt.Sprintf("parameter %q is ", name)) {
			return
		}
	}
	t.Fatalf("?%s: the refusal names none of the parameters given: %q", query, text)
}
