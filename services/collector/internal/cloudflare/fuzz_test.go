package cloudflare

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Whatever arrives: an answer that has every selection of every zone in it, or
// an *Error with a class; never a panic, never the token. An answer is what a
// second reader, who knows nothing of our types, finds in the bytes too.
func FuzzReply(f *testing.F) {
	f.Add(200, "application/json", goodBody)
	f.Add(200, "application/json", graphqlError("Rate limiter budget depleted.", "budget", "null"))
	f.Add(403, "application/json", `{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}`)
	f.Add(502, "text/html", "<html>")
	f.Add(200, "application/json", `{"data":{"viewer":{"zones":[{"zoneTag":"`+zoneA+`","s0":[{}],"settings":{}}]}}}`)
	f.Add(200, "application/json", `{"data":{"viewer":{"zones":[{"zoneTag":"`+zoneA+`","s0":[{"count":1}]}],"zones":[{"zoneTag":"`+zoneB+`"}]}}}`)
	f.Add(200, "application/json", `{"DATA":{"viewer":{"zones":[]}},"data":null}`)
	f.Add(200, "application/json", `{"errors":[{"message":"zone '`+zoneA+`' cannot request data older than 1w1d","path":["viewer","zones","99999999999","s0"]}]}`)
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		q := exampleQuery()
		r := &reply{status: status, header: http.Header{"Content-Type": {kind}, "Retry-After": {body}}, body: []byte(body), token: secret}
		r.bounds = (&Client{maxReply: DefaultMaxReply}).queryBounds(&q)
		var a *Response
		var err error
		// The dearest of what is let through is an object in eight bytes.
		if used := allocated(func() { a, err = r.response(&q) }); used > 64*uint64(len(body))+256<<10 {
			t.Fatalf("%d bytes were allocated for a body of %d", used, len(body))
		}
		if err != nil {
			var e *Error
			if a != nil || !errors.As(err, &e) || e.Class < Transient || e.Class > Unknown {
				t.Fatalf("answer %v, error %#v", a, err)
			}
			if e.Class == Budget && (e.RetryAfter <= 0 || e.RetryAfter.Hours() > 1) {
				t.Fatalf("budget error with retry after %s", e.RetryAfter)
			}
			if e.Limit < 0 || strings.Contains(e.Error(), secret) || strings.ContainsAny(e.Error(), "\n\r") {
				t.Fatalf("error %#v", e)
			}
			return
		}
		if status != 200 {
			t.Fatalf("status %d became an answer", status)
		}
		sameToAnother(t, a, body)
		for tag, zone := range a.Zones {
			if tag != zoneA && tag != zoneB && tag != zoneC {
				t.Fatalf("zone %q was not asked for", tag)
			}
			if list, ok := zone["s0"]; !ok || list == nil || len(list) > 100 {
				t.Fatalf("selection of %s: %v", tag, list)
			}
		}
		if _, err := settingsOf(map[string]any{"settings": nil}, []string{"x"}); err == nil {
			t.Fatal("settings of null")
		}
	})
}

// sameToAnother reads the body without any types and compares.
func sameToAnother(t *testing.T, a *Response, body string) {
	t.Helper()
	var root map[string]any
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&root); err != nil {
		t.Fatalf("an answer from what is no JSON object: %v", err)
	}
	if list, ok := at(root, "errors").([]any); ok && len(list) > 0 {
		t.Fatalf("an answer beside errors: %.500s", body)
	}
	zones, ok := at(root, "data", "viewer", "zones").([]any)
	if !ok || len(zones) != len(a.Zones) {
		t.Fatalf("an answer of %d zones from %.500s", len(a.Zones), body)
	}
	for _, z := range zones {
		zone, _ := z.(map[string]any)
		tag, _ := zone["zoneTag"].(string)
		groups, _ := zone["s0"].([]any)
		var got []any
		for _, g := range a.Zones[tag]["s0"] {
			got = append(got, g)
		}
		if diff := cmp.Diff(groups, got); diff != "" && len(groups)+len(got) > 0 {
			t.Fatalf("zone %s has other groups than the body %.500s (-body +answer):\n%s", tag, body, diff)
		}
	}
}

func at(v any, path ...string) any {
	for _, name := range path {
		object, _ := v.(map[string]any)
		v = nil
		for have := range object {
			if strings.EqualFold(have, name) { // as encoding/json finds it
				v = object[have]
			}
		}
	}
	return v
}

// FuzzClient sends every kind of request and gets anything back, compressed or
// not, cut or not: an answer or an *Error, within bounded memory, without the
// token.
func FuzzClient(f *testing.F) {
	zones := `{"success":true,"errors":[],"result":[{"id":"` + zoneA + `","name":"shop.example","status":"active","created_on":"2026-01-01T00:00:00Z","account":{"id":"` + accountA + `","name":"A"}}],"result_info":{"page":1,"total_pages":1,"total_count":1}}`
	f.Add(uint8(0), 200, "application/json", "", []byte(goodBody))
	f.Add(uint8(1), 200, "application/json", "x", []byte(`{"data":{"viewer":{"zones":[{"zoneTag":"`+zoneA+`","settings":{"httpRequests1mGroups":{"enabled":true,"maxDuration":86400,"maxNumberOfFields":30,"maxPageSize":10000,"notOlderThan":604800,"availableFields":["sum_requests",null]}}}]}}}`))
	f.Add(uint8(2), 200, "application/json", "", []byte(zones))
	f.Add(uint8(2), 200, "application/json", "", []byte(strings.Replace(zones, `"total_count":1`, `"total_count":7`, 1)))
	f.Add(uint8(3), 401, "application/json", "", []byte(`{"success":false,"errors":[{"code":1000,"message":"Invalid API Token","error_chain":[{"code":6111,"message":"`+secret+`"}]}]}`))
	f.Add(uint8(3), 302, "text/html", "gzip", []byte("<html>"))
	f.Fuzz(func(t *testing.T, kind uint8, status int, contentType, encoding string, body []byte) {
		if status < 100 || status > 999 {
			return // no transport returns it
		}
		wire := body
		if kind&16 != 0 { // a bomb, or what would be one: many zeros in few bytes
			var buf bytes.Buffer
			z := gzip.NewWriter(&buf)
			_, _ = z.Write(body)
			_, _ = z.Write(make([]byte, 1<<20))
			_ = z.Close()
			wire = buf.Bytes()
		}
		c, err := New(Config{
			Token: func() (string, error) { return secret, nil }, MaxReply: 64 << 10, Timeout: time.Minute,
			Transport: answers(func() *http.Response {
				var from io.Reader = bytes.NewReader(wire)
				if kind&16 != 0 { // as the real transport unpacks it
					from, _ = gzip.NewReader(from)
				}
				if kind&32 != 0 {
					from = io.MultiReader(from, cut{})
				}
				return &http.Response{
					StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(from),
					Header: http.Header{"Content-Type": {contentType}, "Retry-After": {encoding}, "Cf-Ray": {contentType}, "Date": {encoding}, "Location": {contentType}},
				}
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var got any
		q := exampleQuery()
		switch kind % 4 {
		case 0:
			got, err = c.Query(t.Context(), q)
		case 1:
			got, err = c.Settings(t.Context(), "", q.Zones, []string{"httpRequests1mGroups"})
		case 2:
			got, err = c.Zones(t.Context())
		case 3:
			got, err = c.Accounts(t.Context())
		}
		runtime.ReadMemStats(&after)
		// 64 KiB are read at most twice over while they grow, for two pages, and what is
		// dearest of them is an object in eight bytes.
		if used := after.TotalAlloc - before.TotalAlloc; used > 2*(64<<10)/8*(costObject+costNames+costItem)+1<<20 {
			t.Fatalf("%d bytes were allocated for a reply of %d", used, len(wire))
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Class < Transient || e.Class > Unknown {
				t.Fatalf("error %#v", err)
			}
			if strings.Contains(err.Error(), secret) || strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 4000 {
				t.Fatalf("error %q", err)
			}
			return
		}
		if status != http.StatusOK || kind&32 != 0 || kind&16 != 0 {
			t.Fatalf("status %d, kind %d became %v", status, kind, got)
		}
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(body) || bytes.Equal(bytes.TrimSpace(body), []byte("null")) {
			t.Fatalf("%q became %s", body, text)
		}
	})
}

// answers is a transport.
type answers func() *http.Response

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := a()
	resp.Request = r
	return resp, nil
}

// cut is the end of a connection that broke.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
