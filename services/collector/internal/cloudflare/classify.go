package cloudflare

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultBudgetPause is the pause that Cloudflare's documentation requires after a budget
// error. Responses rarely have it.
const DefaultBudgetPause = 5 * time.Minute

// messages are known parts of messages, in lower case. The first that occurs determines
// the class. Older wordings are kept, since their removal is not announced.
var messages = []struct {
	part  string
	class Class
}{
	{"rate limiter budget depleted", Budget},
	{"has exceeded its rate limit", Budget},
	{"limit reached, please try again later", Budget},
	{"quota exceeded, please repeat your request", Budget},
	{"too many requests", Budget},

	{"cannot request data older than", Range},
	{"cannot request a time range wider than", Range},
	{"time range is too large", Range},
	{"time range can't be wider than", Range},
	{"limit must be positive", Range},

	{"does not have access to the path", Entitlement},
	{"does not have access to the field", Entitlement},
	{"does not have permission", Denied},
	{"not authorized for that account", Denied},
	{"are not authorized", Denied},
	{"not available for your plan", Entitlement},
	{"unauthorized to access requested resource", Denied},
	// The maximum number of fields depends on the plan, and splitting by zone or time
	// does not reduce it: the zone cannot use this variant.
	{"number of fields can't be more than", Entitlement},

	{"too many zones requested", TooBig},
	{"queries too many nodes", TooBig},
	{"consumed excessive resources", TooBig},

	{"unknown field", Ours},
	{"unknown arg", Ours},
	{"error parsing args", Ours},
	{"scalar fields must have no selections", Ours},
	{"object field must have selections", Ours},
	{"query contains error", Ours},

	{"too many queries in progress", Transient},
	{"unable to execute query", Transient},
	{"service unavailable", Transient},
	{"internal server error", Transient},
	{"internal authentication error", Transient},

	{"invalid access token", Auth},
	{"cannot use the access token from location", Auth},
	{"invalid api token", Auth},
	{"invalid api key", Auth},
	{"authentication error", Auth},
	{"invalid request headers", Auth},
	{"invalid format for authorization header", Auth},
}

// tokenCodes are the codes of the REST API that are about the token or its headers,
// regardless of the message.
var tokenCodes = []string{"1000", "6003", "6111", "9103", "9106", "9107", "9109", "10000", "10001"}

// classify returns the class of a GraphQL error: by its message; else by its code, if the
// path names the selection; else by the status. Everything else is [Unknown].
func classify(e *Error) Class {
	if class := classOfWords(e.Message); class != 0 {
		return class
	}
	switch {
	case e.Code == "budget":
		return Budget
	case e.Code == "authz" && e.Zone != "" && e.Alias != "":
		return Entitlement
	case e.Code == "quota" && e.Zone != "" && e.Alias != "":
		return Range
	}
	return classOf(e.Status)
}

// classifyREST returns the class of an error in the REST API's envelope. On the GraphQL
// endpoint such an envelope comes from the layer in front of it, which knows the token but
// no zone, plan or field. So a message that seems to be about those is ignored.
func classifyREST(e *Error, graphql bool) Class {
	class := classOfWords(e.Message)
	aboutToken := slices.Contains(tokenCodes, e.Code)
	switch class {
	case 0:
		if aboutToken {
			return Auth
		}
		return classOf(e.Status)
	case Denied, Entitlement, Range, TooBig, Ours:
		switch {
		case !graphql:
		case aboutToken:
			return Auth
		default:
			return Unknown
		}
	}
	return class
}

// classOfWords returns the class of the first known part of a message; 0: none.
func classOfWords(message string) Class {
	lower := strings.ToLower(message)
	if strings.Trim(lower, " .") == "unauthorized" { // as a part of a message it could be about anything
		return Auth
	}
	for _, m := range messages {
		if strings.Contains(lower, m.part) {
			return m.class
		}
	}
	return 0
}

// classOf returns the class of a status without further information, by its meaning in
// HTTP.
func classOf(status int) Class {
	switch {
	case status == http.StatusTooManyRequests:
		return Budget
	case status == http.StatusUnauthorized:
		return Auth
	case status == http.StatusRequestEntityTooLarge:
		return TooBig
	case status == http.StatusRequestTimeout || status >= 500:
		return Transient
	}
	return Unknown
}

var (
	tagInMessage   = regexp.MustCompile(`(?i)\b(zone|account) ['"]?([0-9a-f]{32})\b`)
	tagsInMessage  = regexp.MustCompile(`(?i)\bzones \[([^\]]*)\]`)
	anyTag         = regexp.MustCompile(`(?i)\b[0-9a-f]{32}\b`)
	fieldInMessage = regexp.MustCompile(`(?i)(?:access to the|unknown) field ['"]([^'"]+)['"]`)
	limitInMessage = regexp.MustCompile(`(?i)(older|wider) than ((?:\d+(?:ms|[wdhms]))+)`)
	afterInMessage = regexp.MustCompile(`(?i)(?:try again after|repeat your request in the next) ?(\d*) ?(second|minute|hour)`)
	durationPart   = regexp.MustCompile(`(\d+)(ms|[wdhms])`)
)

var units = map[string]time.Duration{
	"w": 7 * 24 * time.Hour, "d": 24 * time.Hour, "h": time.Hour, "m": time.Minute, "s": time.Second, "ms": time.Millisecond,
	"second": time.Second, "minute": time.Minute, "hour": time.Hour,
}

// parseDuration reads a duration as Cloudflare writes it: "1w1d2h3m4s5ms" without zero
// units, or "86400s". ok is false unless the whole text is a duration.
func parseDuration(text string) (d time.Duration, ok bool) {
	rest := text
	for _, part := range durationPart.FindAllStringSubmatch(text, -1) {
		var found bool
		if rest, found = strings.CutPrefix(rest, part[0]); !found {
			return 0, false
		}
		n, err := strconv.ParseInt(part[1], 10, 64)
		unit := units[part[2]]
		if err != nil || n > int64((1<<62)/unit) || d > 1<<62-time.Duration(n)*unit {
			return 0, false
		}
		d += time.Duration(n) * unit
	}
	return d, rest == "" && text != ""
}

// explain sets the fields that the message has.
func (e *Error) explain() {
	if m := tagInMessage.FindStringSubmatch(e.Message); m != nil {
		if strings.EqualFold(m[1], "zone") {
			e.Zone = strings.ToLower(m[2])
		} else {
			e.Account = strings.ToLower(m[2])
		}
	}
	if m := tagsInMessage.FindStringSubmatch(e.Message); m != nil && e.Zone == "" {
		for _, tag := range anyTag.FindAllString(m[1], -1) {
			e.Zones = append(e.Zones, strings.ToLower(tag))
		}
		if len(e.Zones) == 1 {
			e.Zone, e.Zones = e.Zones[0], nil
		}
	}
	if m := fieldInMessage.FindStringSubmatch(e.Message); m != nil {
		e.Field = strings.ToLower(m[1])
	}
	if m := limitInMessage.FindStringSubmatch(e.Message); m != nil {
		if d, ok := parseDuration(m[2]); ok {
			e.Limit, e.Age = d, strings.EqualFold(m[1], "older")
		}
	}
}

// pause sets the RetryAfter of a budget error if no header has it.
func (e *Error) pause() {
	if e.Class == Budget && e.RetryAfter == 0 {
		e.RetryAfter = DefaultBudgetPause
		if m := afterInMessage.FindStringSubmatch(e.Message); m != nil {
			n, err := strconv.Atoi(m[1])
			if m[1] == "" {
				n, err = 1, nil
			}
			if d := time.Duration(n) * units[strings.ToLower(m[2])]; err == nil && d > 0 && d <= time.Hour {
				e.RetryAfter = d
			}
		}
	}
}

// retryAfter reads the header, in seconds or as a date, which is compared with the
// response's own Date and not with the local clock.
func (r *reply) retryAfter() time.Duration {
	const most = time.Hour // a wrong value must not stop the collector for long
	v := r.header.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil && n > 0 {
		return min(time.Duration(min(n, 1e6))*time.Second, most)
	}
	if t, err := http.ParseTime(v); err == nil && !r.date.IsZero() && t.After(r.date) {
		return min(t.Sub(r.date), most)
	}
	return 0
}
