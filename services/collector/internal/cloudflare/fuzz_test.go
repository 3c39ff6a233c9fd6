package cloudflare

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// Whatever arrives: an answer that has every selection of every zone in it, or
// an *Error with a class; never a panic, never the token.
func FuzzReply(f *testing.F) {
	f.Add(200, "application/json", goodBody)
	f.Add(200, "application/json", graphqlError("Rate limiter budget depleted.", "budget", "null"))
	f.Add(403, "application/json", `{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}`)
	f.Add(502, "text/html", "<html>")
	f.Add(200, "application/json", `{"data":{"viewer":{"zones":[{"zoneTag":"`+zoneA+`","s0":[{}],"settings":{}}]}}}`)
	f.Add(200, "application/json", `{"errors":[{"message":"zone '`+zoneA+`' cannot request data older than 1w1d","path":["viewer","zones","99999999999","s0"]}]}`)
	f.Fuzz(func(t *testing.T, status int, kind, body string) {
		r := &reply{status: status, header: http.Header{"Content-Type": {kind}, "Retry-After": {body}}, body: []byte(body), token: secret}
		q := exampleQuery()
		a, err := r.answer(&q)
		if err != nil {
			var e *Error
			if a != nil || !errors.As(err, &e) || e.Class < Transient || e.Class > BadAnswer {
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
