package cloudflare

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// published are the error messages of Cloudflare's documentation and of replies
// that others have published, by what they are about.
var published = []struct {
	message, code string
	want          Class
}{
	{`zone "` + zoneA + `" cannot request data older than 1w1d, but your query requests data from 4w2d2h25m10s ago`, "quota", Range},
	{`zone "` + zoneA + `" cannot request a time range wider than 1d, but your query time range spans 4w2d`, "quota", Range},
	{`cannot request data older than 2678400s`, "", Range},
	{`query time range is too large. Time range can't be wider than 86400s`, "", Range},
	{`limit must be positive number and not greater than 10000`, "", Range},
	{`zone '` + zoneA + `' does not have access to the path. Refer to this page for more details about access controls: https://developers.cloudflare.com/analytics/graphql-api/errors/`, "authz", Entitlement},
	{`account '` + accountA + `' does not have access to the path`, "authz", Entitlement},
	{`zone '` + zoneA + `' does not have access to the field 'botscore' from the path`, "authz", Entitlement},
	{`not available for your plan. Upgrade to Pro`, "", Entitlement},
	{`number of fields can't be more than 30`, "", Entitlement},
	{`Actor 'com.cloudflare.api.token.0' does not have permission 'com.cloudflare.api.account.zone.analytics.read' for zone ` + zoneA, "authz", Denied},
	{`not authorized for that account`, "authz", Denied},
	{`zones [` + zoneA + ` ` + zoneB + `] are not authorized`, "", Denied},
	{`Unauthorized`, "", Auth},
	{`too many zones requested`, "quota", TooBig},
	{`in combination, your request queries too many nodes, zones and accounts`, "", TooBig},
	{`query consumed excessive resources, please try running smaller queries which consume fewer resources`, "", TooBig},
	{`Rate limiter budget depleted. Please try again after 5 minutes.`, "budget", Budget},
	{`rate limiter budget depleted, try again after 5 minutes`, "", Budget},
	{`Account ` + accountA + ` has exceeded its rate limit. Please try again after 5 minutes.`, "budget", Budget},
	{`limit reached, please try again later`, "", Budget},
	{`quota exceeded, please repeat your request in the next minute`, "", Budget},
	{`Too many requests`, "", Budget},
	{`unknown field "requests"`, "", Ours},
	{`error parsing args for "httpRequests1mGroups"`, "", Ours},
	{`scalar fields must have no selections`, "", Ours},
	{`object field must have selections`, "", Ours},
	{`query contains error, please review it and retry`, "", Ours},
	{`too many queries in progress, please try again later`, "", Transient},
	{`unable to execute query, please try again later`, "", Transient},
	{`Service unavailable`, "", Transient},
	{`Internal server error`, "", Transient},
	{`Internal authentication error: internal server error`, "", Transient},
	{`Invalid access token`, "9109", Auth},
	{`Cannot use the access token from location: 203.0.113.9`, "9109", Auth},
	{`Authentication error`, "10000", Auth},
	{`Invalid API Token`, "1000", Auth},
	{`Invalid request headers`, "6003", Auth},
	{`Unauthorized to access requested resource`, "9109", Denied},
}

// statuses that a refusal has been seen with, or could have.
var statuses = []int{200, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 413, 415, 418, 422, 423, 424, 429, 451, 499, 500, 502, 503, 504, 520, 522, 530}

// envelopes are the two that an error can come in.
func envelopes(message, code, path string) map[string]string {
	return map[string]string{
		"GraphQL": graphqlError(message, code, path),
		"REST":    fmt.Sprintf(`{"success":false,"errors":[{"code":%q,"message":%q}],"messages":[],"result":null}`, code, message),
	}
}

func refusalOf(t *testing.T, status int, body string) *Error {
	t.Helper()
	c, _ := client(t, says(status, "application/json", body), nil)
	_, err := c.Query(t.Context(), exampleQuery())
	return failure(t, err)
}

// What Cloudflare is known to say means the same at every status. In the REST
// API's envelope it can only be about the request or the token, whatever the
// words seem to say of zones, plans and fields.
func TestPublishedRefusals(t *testing.T) {
	for _, p := range published {
		for _, status := range statuses {
			for kind, body := range envelopes(p.message, p.code, "null") {
				want := p.want
				if kind == "REST" {
					switch {
					case want == Denied && p.code == "9109":
						want = Auth
					case want != Budget && want != Auth && want != Transient:
						want = Unknown
					}
				}
				if e := refusalOf(t, status, body); e.Class != want {
					t.Errorf("%s, %d, %q: class %s; want %s", kind, status, p.message, e.Class, want)
				}
			}
		}
	}
}

// What nobody has seen before is evidence of nothing: whatever the status, the
// code and the envelope, it is not about a zone's plan, a zone's token or our
// question. Where HTTP itself says what it is, that is believed.
func TestInventedRefusals(t *testing.T) {
	for _, words := range []string{
		"", "computer says no", "plan upgrade pending", "access policy 42 forbids it", "request is unauthorized by policy of the host",
		"forbidden", "not entitled", "field is under maintenance", "zone " + zoneA + " is in quarantine",
	} {
		for _, code := range []string{"", "authz", "quota", "brandnew", "4242"} {
			for _, status := range statuses {
				for kind, body := range envelopes(words, code, "null") {
					want := Unknown
					switch {
					case status == http.StatusTooManyRequests:
						want = Budget
					case status == http.StatusUnauthorized:
						want = Auth
						if strings.Contains(words, zoneA) && kind == "GraphQL" {
							want = Denied // of that zone, for minutes
						}
					case status == http.StatusRequestEntityTooLarge:
						want = TooBig
					case status == http.StatusRequestTimeout || status >= 500:
						want = Transient
					}
					e := refusalOf(t, status, body)
					if e.Class != want {
						t.Errorf("%s, %d, code %q, %q: class %s; want %s", kind, status, code, words, e.Class, want)
					}
					if want == Unknown && e.Body == "" {
						t.Errorf("%s, %d, %q: nothing of the body is kept for the log", kind, status, words)
					}
				}
			}
		}
	}
}

// A code is believed where the path names what it is about.
func TestACodeNeedsAPath(t *testing.T) {
	path := `["viewer","zones","0","s0"]`
	for code, want := range map[string]Class{"authz": Entitlement, "quota": Range, "brandnew": Unknown, "": Unknown} {
		if e := refusalOf(t, 200, graphqlError("news", code, path)); e.Class != want || e.Alias != "s0" || e.Zone != zoneA {
			t.Errorf("code %q with a path: %s about zone %q, %q; want %s", code, e.Class, e.Zone, e.Alias, want)
		}
	}
}

func TestSeveralZonesAreNamed(t *testing.T) {
	e := refusalOf(t, 403, graphqlError(`zones [`+zoneC+` `+strings.ToUpper(zoneA)+`] are not authorized`, "", "null"))
	if e.Class != Denied || e.Zone != "" || len(e.Zones) != 2 || e.Zones[0] != zoneC || e.Zones[1] != zoneA {
		t.Errorf("%s about %q and %v; want denied, both zones", e.Class, e.Zone, e.Zones)
	}
}

// What is kept of a body is short and has no token in it, also where the cut
// goes through one.
func TestTheBeginningOfABodyHasNoToken(t *testing.T) {
	for fill := range 4 * bodyShown {
		r := &reply{body: []byte(strings.Repeat(" ", fill) + "x" + secret + strings.Repeat("y", 2000)), token: secret}
		got := r.beginning()
		if len(got) > bodyShown+len("…") || strings.Contains(got, secret[:8]) {
			t.Fatalf("after %d blanks: %q", fill, got)
		}
	}
}
