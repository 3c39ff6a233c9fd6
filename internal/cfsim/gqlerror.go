package cfsim

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Codes of extensions.code. Errors outside of these carry none.
const (
	codeAuthz  = "authz"
	codeQuota  = "quota"
	codeBudget = "budget"
)

// The pages that messages refer to.
const (
	errorsPage = "https://developers.cloudflare.com/analytics/graphql-api/errors/"
	limitsPage = "https://developers.cloudflare.com/analytics/graphql-api/limits/"
)

// gqlError is one entry of "errors".
type gqlError struct {
	message string
	path    []string // nil for the whole request
	code    string   // "" for none
	status  int      // the documented HTTP status of its class
}

// at sets the path.
func (e *gqlError) at(path []string) *gqlError {
	c := *e
	c.path = path
	return &c
}

func badRequest(format string, args ...any) *gqlError {
	return &gqlError{message: fmt.Sprintf(format, args...), status: 400}
}

func unknownField(name string) *gqlError { return badRequest("unknown field %q", name) }

func noPath(scope, tag string) *gqlError {
	return &gqlError{
		message: fmt.Sprintf("%s '%s' does not have access to the path. "+
			"Refer to this page for more details about access controls: %s", scope, tag, errorsPage),
		code: codeAuthz, status: 403,
	}
}

func noField(scope, tag, field, suffix string) *gqlError {
	return &gqlError{
		message: fmt.Sprintf("%s '%s' does not have access to the field '%s' from the path%s", scope, tag, strings.ToLower(field), suffix),
		code:    codeAuthz, status: 403,
	}
}

func noPermission(token string, p Permission, tag string) *gqlError {
	return &gqlError{
		message: fmt.Sprintf("Actor 'com.cloudflare.api.token.%s' does not have permission '%s' for zone %s", token, p, tag),
		code:    codeAuthz, status: 403,
	}
}

func tooOld(scope, tag string, limit, age time.Duration) *gqlError {
	return &gqlError{
		message: fmt.Sprintf("%s %q cannot request data older than %s, but your query requests data from %s ago",
			scope, tag, duration(limit), duration(age)),
		code: codeQuota, status: 400,
	}
}

func tooWide(scope, tag string, limit, width time.Duration) *gqlError {
	return &gqlError{
		message: fmt.Sprintf("%s %q cannot request a time range wider than %s, but your query time range spans %s",
			scope, tag, duration(limit), duration(width)),
		code: codeQuota, status: 400,
	}
}

// Errors without parameters.
var (
	errUnauthorized = &gqlError{message: "Unauthorized", status: 401}
	errTooManyZones = &gqlError{message: "too many zones requested", code: codeQuota, status: 400}
	errTooManyNodes = &gqlError{message: "in combination, your request queries too many nodes, zones and accounts", status: 429}
	errAccount      = &gqlError{message: "not authorized for that account", code: codeAuthz, status: 403}
	errBudget       = &gqlError{message: "Rate limiter budget depleted. Please try again after 5 minutes.", code: codeBudget, status: 429}
	errUnable       = &gqlError{message: "unable to execute query, please try again later", status: 503}
	errBusy         = &gqlError{message: "too many queries in progress, please try again later", status: 503}
	errInternal     = &gqlError{message: "Internal server error", status: 500}
	errExcessive    = &gqlError{
		message: "query consumed excessive resources, please try running smaller queries which consume fewer resources", status: 429,
	}
)

// exceeded is the budget error of account-based mode; scope is capitalised.
func exceeded(scope, tag string) *gqlError {
	return &gqlError{
		message: fmt.Sprintf("%s %s has exceeded its rate limit. Please try again after 5 minutes. "+
			"Refer to this page for more details about rate limits: %s", scope, tag, limitsPage),
		code: codeBudget, status: 429,
	}
}

// duration writes d in Cloudflare's units: "1w1d", "1d1s620ms".
func duration(d time.Duration) string {
	if d < time.Millisecond {
		return "0s"
	}
	var b strings.Builder
	for _, u := range []struct {
		size time.Duration
		name string
	}{{7 * day, "w"}, {day, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if n := d / u.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d %= u.size
		}
	}
	return b.String()
}

// object is the error as an entry of "errors".
func (e *gqlError) object(now time.Time, numericPath bool) map[string]any {
	out := map[string]any{"message": e.message, "path": nil}
	if e.path != nil {
		path := make([]any, len(e.path))
		for i, p := range e.path {
			path[i] = p
			if n, err := strconv.Atoi(p); err == nil && numericPath {
				path[i] = n
			}
		}
		out["path"] = path
	}
	extensions := map[string]any{"timestamp": now.UTC().Format(time.RFC3339)}
	if e.code != "" {
		extensions["code"] = e.code
	}
	out["extensions"] = extensions
	return out
}

// errorBody is {"data": null, "errors": [e]}.
func errorBody(e *gqlError, now time.Time, numericPath bool) []byte {
	b, err := json.Marshal(map[string]any{"data": nil, "errors": []any{e.object(now, numericPath)}})
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}
