package cloudflare

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func graphqlError(message, code, path string) string {
	ext := `null`
	if code != "" {
		ext = fmt.Sprintf(`{"code":%q,"timestamp":"2026-11-22T10:07:01Z"}`, code)
	}
	return fmt.Sprintf(`{"data":null,"errors":[{"message":%q,"path":%s,"extensions":%s}]}`, message, path, ext)
}

// Every wording that is documented or was seen, at status 200 and at the
// documented one.
func TestErrorForms(t *testing.T) {
	path := `["viewer","zones","1","s0"]`
	for _, tc := range []struct {
		name, message, code, path string
		status                    int // documented
		want                      Error
	}{
		{
			"too old", `zone "` + zoneB + `" cannot request data older than 1w1d, but your query requests data from 4w2d2h25m10s ago`, "quota", path, 400,
			Error{Class: Range, Zone: zoneB, Node: "httpRequests1mGroups", Limit: 8 * 24 * time.Hour, Age: true},
		},
		{"too old, older form", `cannot request data older than 2678400s`, "", path, 400, Error{Class: Range, Zone: zoneB, Limit: 31 * 24 * time.Hour, Age: true}},
		{
			"too wide", `zone "` + zoneA + `" cannot request a time range wider than 1d, but your query time range spans 4w2d`, "quota", path, 400,
			Error{Class: Range, Zone: zoneA, Limit: 24 * time.Hour},
		},
		{"too wide, doc form", `query time range is too large`, "", path, 400, Error{Class: Range, Zone: zoneB}},
		{"too wide, 2025 form", `query time range is too large. Time range can't be wider than 86400s`, "", path, 400, Error{Class: Range, Zone: zoneB, Limit: 24 * time.Hour}},
		{
			"node not in plan", `zone '` + zoneB + `' does not have access to the path. Refer to this page for more details about access controls: https://developers.cloudflare.com/analytics/graphql-api/errors/`, "authz", path, 403,
			Error{Class: Entitlement, Zone: zoneB, Node: "httpRequests1mGroups"},
		},
		{"account node not in plan", `account '` + accountA + `' does not have access to the path.`, "authz", path, 403, Error{Class: Entitlement, Account: accountA, Zone: zoneB}},
		{
			"field not in plan", `zone '` + zoneA + `' does not have access to the field 'botscore' from the path`, "authz", path, 403,
			Error{Class: Entitlement, Zone: zoneA, Field: "botscore", Node: "httpRequests1mGroups"},
		},
		{
			"token lacks permission", `Actor 'com.cloudflare.api.token.0123456789abcdef0123456789abcdef' does not have permission 'com.cloudflare.api.account.zone.analytics.read' for zone ` + zoneC, "authz", `null`, 403,
			Error{Class: Denied, Zone: zoneC},
		},
		{"account not allowed", `not authorized for that account`, "authz", `["viewer","accounts","0"]`, 403, Error{Class: Denied}},
		{"zones not allowed", `zones [` + zoneA + `] are not authorized`, "", `null`, 403, Error{Class: Denied, Zone: zoneA}},
		{"old plan wording", `httpRequests1mGroups is not available for your plan. Upgrade to Pro`, "", path, 403, Error{Class: Entitlement, Zone: zoneB}},
		{"bad token", `Unauthorized`, "", `null`, 401, Error{Class: Auth}},
		{"too many zones", `too many zones requested`, "quota", `null`, 400, Error{Class: TooBig}},
		{"budget", `Rate limiter budget depleted. Please try again after 5 minutes.`, "budget", `null`, 429, Error{Class: Budget, RetryAfter: 5 * time.Minute}},
		{"budget, doc form", `rate limiter budget depleted, try again after 7 minutes`, "", `null`, 429, Error{Class: Budget, RetryAfter: 7 * time.Minute}},
		{
			"account budget", `Account ` + accountA + ` has exceeded its rate limit. Please try again after 5 minutes. Refer to this page for more details about rate limits: https://developers.cloudflare.com/analytics/graphql-api/limits/`, "budget", `null`, 429,
			Error{Class: Budget, Account: accountA, RetryAfter: 5 * time.Minute},
		},
		{"zone budget", `Zone ` + zoneB + ` has exceeded its rate limit. Please try again after 5 minutes.`, "budget", `null`, 429, Error{Class: Budget, Zone: zoneB, RetryAfter: 5 * time.Minute}},
		{"old budget", `limit reached, please try again later`, "", `null`, 429, Error{Class: Budget, RetryAfter: 5 * time.Minute}},
		{"old budget per minute", `quota exceeded, please repeat your request in the next minute`, "", `null`, 429, Error{Class: Budget, RetryAfter: time.Minute}},
		{"scopes and nodes", `in combination, your request queries too many nodes, zones and accounts`, "", `null`, 429, Error{Class: TooBig}},
		{"too expensive", `query consumed excessive resources, please try running smaller queries which consume fewer resources`, "", path, 429, Error{Class: TooBig, Zone: zoneB}},
		{"too many fields", `number of fields can't be more than 30`, "", path, 400, Error{Class: Entitlement, Zone: zoneB}},
		{"page size", `limit must be positive number and not greater than 10000`, "", path, 400, Error{Class: Range, Zone: zoneB}},
		{"unknown field", `unknown field "requests"`, "", path, 400, Error{Class: Ours, Zone: zoneB, Field: "requests"}},
		{"bad arguments", `error parsing args for "httpRequests1mGroups": filter`, "", path, 400, Error{Class: Ours, Zone: zoneB}},
		{"scalar", `scalar fields must have no selections`, "", `null`, 400, Error{Class: Ours}},
		{"object", `object field must have selections`, "", `null`, 400, Error{Class: Ours}},
		{"malformed", `query contains error, please review it and retry`, "", `null`, 400, Error{Class: Ours}},
		{"busy", `too many queries in progress, please try again later`, "", `null`, 503, Error{Class: Transient}},
		{"busy too", `unable to execute query, please try again later`, "", `null`, 503, Error{Class: Transient}},
		{"unavailable", `Service unavailable`, "", `null`, 503, Error{Class: Transient}},
		{"internal", `Internal server error`, "", `null`, 500, Error{Class: Transient}},
		{"internal authentication", `Internal authentication error: internal server error`, "", `null`, 500, Error{Class: Transient}},
		{"new authz wording", `zone '` + zoneA + `' may not`, "authz", path, 403, Error{Class: Entitlement, Zone: zoneA}},
		{"new quota wording", `beyond the quota`, "quota", path, 400, Error{Class: Range, Zone: zoneB}},
	} {
		for _, status := range []int{200, tc.status} {
			t.Run(fmt.Sprintf("%s/%d", tc.name, status), func(t *testing.T) {
				c, _ := client(t, says(status, "application/json", graphqlError(tc.message, tc.code, tc.path)), nil)
				_, err := c.Query(t.Context(), exampleQuery())
				e := failure(t, err)
				if e.Class != tc.want.Class || e.Zone != tc.want.Zone || e.Account != tc.want.Account && tc.want.Account != "" ||
					e.Field != tc.want.Field || e.Limit != tc.want.Limit || e.Age != tc.want.Age || e.RetryAfter != tc.want.RetryAfter {
					t.Errorf("got  %+v\nwant %+v", *e, tc.want)
				}
				if tc.want.Node != "" && (e.Node != tc.want.Node || e.Alias != "s0") {
					t.Errorf("node %q alias %q, want %q s0", e.Node, e.Alias, tc.want.Node)
				}
				if e.Status != status || e.Ray != "8f0a1b2c3d4e5f60-AMS" || !strings.Contains(e.Error(), e.Ray) {
					t.Errorf("status %d and ray %q in %q; want %d and the ray", e.Status, e.Ray, e, status)
				}
			})
		}
	}
}

// Bodies that are no answer, whatever their status.
func TestForeignBodies(t *testing.T) {
	const html = "<!DOCTYPE html><html><title>cloudflare</title>"
	good := goodBody
	for _, tc := range []struct {
		name, kind, body string
		status           int
		want             Class
	}{
		{"HTML 502", "text/html", html, 502, Transient},
		{"HTML 520", "text/html; charset=UTF-8", html, 520, Transient},
		{"HTML challenge", "text/html", html, 403, Unknown},
		{"HTML 429", "text/html", html, 429, Budget},
		{"HTML 200", "text/html", html, 200, BadResponse},
		{"HTML without its type", "application/json", html, 200, BadResponse},
		{"empty 200", "application/json", "", 200, BadResponse},
		{"empty 503", "application/json", "", 503, Transient},
		{"empty object", "application/json", "{}", 200, BadResponse},
		{"data and errors null", "application/json", `{"data":null,"errors":null}`, 200, BadResponse},
		{"data null, no errors", "application/json", `{"data":null,"errors":[]}`, 200, BadResponse},
		{"viewer null", "application/json", `{"data":{"viewer":null}}`, 200, BadResponse},
		{"zones null", "application/json", `{"data":{"viewer":{"zones":null}}}`, 200, BadResponse},
		{"zone null", "application/json", `{"data":{"viewer":{"zones":[null]}}}`, 200, BadResponse},
		{"cut", "application/json", good[:len(good)/2], 200, BadResponse},
		{"rubbish behind", "application/json", good + "x", 200, BadResponse},
		{"two values", "application/json", good + good, 200, BadResponse},
		{"a list", "application/json", `[]`, 200, BadResponse},
		{"a number", "application/json", `1`, 200, BadResponse},
		{"null", "application/json", `null`, 200, BadResponse},
		{"zone not asked for", "application/json", strings.Replace(good, zoneB, accountA, 1), 200, BadResponse},
		{"zone twice", "application/json", strings.Replace(good, zoneB, zoneA, 1), 200, BadResponse},
		{"zone without a tag", "application/json", strings.Replace(good, "zoneTag", "tag", 1), 200, BadResponse},
		{"selection missing", "application/json", strings.Replace(good, `"s0":[]`, `"s1":[]`, 1), 200, BadResponse},
		{"selection null", "application/json", strings.Replace(good, `"s0":[]`, `"s0":null`, 1), 200, BadResponse},
		{"group null", "application/json", strings.Replace(good, `"s0":[]`, `"s0":[null]`, 1), 200, BadResponse},
		{"more than the limit", "application/json", strings.Replace(good, `"s0":[]`, `"s0":[`+strings.Repeat("{},", 100)+`{}]`, 1), 200, BadResponse},
		{"good body, bad status", "application/json", good, 500, Transient},
		{"data beside errors", "application/json", strings.Replace(good, `"errors":null`, `"errors":[{"message":"zone '`+zoneA+`' does not have access to the path"}]`, 1), 200, Entitlement},
		{"REST success", "application/json", `{"success":true,"result":[],"errors":[]}`, 200, BadResponse},
		{"REST 6003", "application/json", `{"success":false,"errors":[{"code":6003,"message":"Invalid request headers","error_chain":[{"code":6111,"message":"Invalid format for Authorization header"}]}],"messages":[],"result":null}`, 400, Auth},
		{"REST 10000", "application/json", `{"success":false,"errors":[{"code":10000,"message":"Authentication error"}],"messages":[],"result":null}`, 403, Auth},
		{"REST 9109", "application/json", `{"success":false,"errors":[{"code":9109,"message":"Invalid access token"}],"result":null}`, 403, Auth},
		{"REST 1000", "application/json", `{"success":false,"errors":[{"code":1000,"message":"Invalid API Token"}],"result":null}`, 401, Auth},
		{"REST rate", "application/json", `{"success":false,"errors":[{"code":10013,"message":"More than 1200 requests per 300 seconds reached"}],"result":null}`, 429, Budget},
		{"REST failure without errors", "application/json", `{"success":false,"errors":[],"result":null}`, 200, BadResponse},
		{"odd error types", "application/json", `{"errors":[{"message":"unknown field \"x\"","path":["viewer",0,{"a":1}],"extensions":{"code":7}}]}`, 200, Ours},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, _ := client(t, says(tc.status, tc.kind, tc.body), nil)
			a, err := c.Query(t.Context(), exampleQuery())
			if err == nil {
				t.Fatalf("took it for an answer: %+v", a)
			}
			if e := failure(t, err); e.Class != tc.want || e.Class == Budget && e.RetryAfter != DefaultBudgetPause {
				t.Errorf("class %s (%v), want %s", e.Class, err, tc.want)
			}
		})
	}
}

// Forms that differ from the example and are answers all the same.
func TestAcceptableBodies(t *testing.T) {
	for name, body := range map[string]string{
		"errors absent": strings.Replace(goodBody, `,"errors":null`, "", 1),
		"errors empty":  strings.Replace(goodBody, `"errors":null`, `"errors":[]`, 1),
		"white space":   "\n " + goodBody + " \n",
		"more fields":   strings.Replace(goodBody, `"errors":null`, `"extensions":{"x":1},"errors":null`, 1),
	} {
		c, _ := client(t, says(200, "application/json", body), nil)
		if a, err := c.Query(t.Context(), exampleQuery()); err != nil || len(a.Zones) != 2 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One reply may name several refusals: what concerns every question comes
// first, the others are kept.
func TestSeveralErrors(t *testing.T) {
	body := `{"data":null,"errors":[
	 {"message":"zone '` + zoneA + `' does not have access to the path","path":["viewer","zones",0,"s0"]},
	 {"message":"Rate limiter budget depleted. Please try again after 5 minutes.","extensions":{"code":"budget"}},
	 {"message":"zone '` + zoneB + `' does not have access to the path","path":["viewer","zones",1,"s0"]}]}`
	c, _ := client(t, says(200, "application/json", body), nil)
	_, err := c.Query(t.Context(), exampleQuery())
	e := failure(t, err)
	if e.Class != Budget || len(e.Also) != 2 || e.Also[0].Zone != zoneA || e.Also[1].Zone != zoneB {
		t.Errorf("got %v with %v, want the budget error with both refusals", e, e.Also)
	}
}

func TestRetryAfter(t *testing.T) {
	for name, tc := range map[string]struct {
		header string
		want   time.Duration
	}{
		"seconds":                       {"17", 17 * time.Second},
		"a date, by Cloudflare's clock": {"Sun, 22 Nov 2026 10:02:00 GMT", 2 * time.Minute},
		"in the past":                   {"Sun, 22 Nov 2026 09:00:00 GMT", 5 * time.Minute},
		"negative":                      {"-3", 5 * time.Minute},
		"absurd":                        {"999999999", time.Hour},
		"nonsense":                      {"soon", 5 * time.Minute},
	} {
		c, _ := client(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", tc.header)
			w.Header().Set("Date", "Sun, 22 Nov 2026 10:00:00 GMT")
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = io.WriteString(w, graphqlError("Rate limiter budget depleted.", "budget", "null"))
		}, nil)
		_, err := c.Query(t.Context(), exampleQuery())
		if e := failure(t, err); e.RetryAfter != tc.want {
			t.Errorf("%s: retry after %s, want %s", name, e.RetryAfter, tc.want)
		}
	}
}

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"1w1d": 8 * day, "4w2d": 30 * day, "4w3d": 31 * day, "4w4d": 32 * day, "12w6d": 90 * day, "13w2d": 93 * day,
		"52w1d1h": 365*day + time.Hour, "1d1s620ms": day + 1620*time.Millisecond, "86400s": day, "2678400s": 31 * day,
		"38w2d15h32m42s924ms": 268*day + 15*time.Hour + 32*time.Minute + 42*time.Second + 924*time.Millisecond,
	} {
		if d, ok := parseDuration(text); !ok || d != want {
			t.Errorf("parseDuration(%q) = %s, %v; want %s", text, d, ok, want)
		}
	}
	for _, text := range []string{"", "d", "5", "1x", "1d 2h", "99999999999999999999w", "9999999999w", " 1d"} {
		if d, ok := parseDuration(text); ok {
			t.Errorf("parseDuration(%q) = %s; want a refusal", text, d)
		}
	}
}
