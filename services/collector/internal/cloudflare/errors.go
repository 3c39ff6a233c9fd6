package cloudflare

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Class is the class of an error. It determines how to proceed.
type Class uint8

// The classes.
const (
	// Transient: the request is valid. Retry with backoff.
	Transient Class = iota + 1
	// Budget: the budget is used up. Send nothing for [Error.RetryAfter].
	Budget
	// Entitlement: the zone's plan does not include this node or field. Record it,
	// report it, retry after hours.
	Entitlement
	// Range: the window is too old or too wide, or the page too large. The known
	// limits of the zone are out of date.
	Range
	// TooBig: the request must be split.
	TooBig
	// Auth: the token is missing, wrong, expired or disabled.
	Auth
	// Denied: the token is valid, but has no access to this zone or account. It says
	// nothing about what their plan allows.
	Denied
	// Ours: the request is invalid. Do not retry.
	Ours
	// BadResponse: the response is not one of the API. Treated like Transient, but
	// counted separately.
	BadResponse
	// Unknown: refused with a message that is not recognised. It says nothing about
	// the zone, its plan, the token or the request.
	Unknown
)

var classNames = map[Class]string{
	Transient: "transient", Budget: "budget", Entitlement: "entitlement", Range: "range",
	TooBig: "too_big", Auth: "auth", Denied: "denied", Ours: "ours", BadResponse: "bad_answer", Unknown: "unknown",
}

// String is the class as a label value: "too_big".
func (c Class) String() string { return cmp.Or(classNames[c], fmt.Sprintf("class_%d", uint8(c))) }

// Error is a failed request. It contains no secrets.
type Error struct {
	Class   Class
	Message string // Cloudflare's message, or a description if there is none
	Code    string // Cloudflare's code: "authz", "quota", "budget", "10000"
	Status  int    // HTTP status; 0 if there was no response
	// RetryAfter is how long to send nothing: always positive for Budget, otherwise 0
	// unless a header has it.
	RetryAfter time.Duration
	Zone       string // tag of the zone that the error is about; empty: not about one
	// Zones are the tags of all zones that the message names, if it names several.
	// Zone is then empty.
	Zones   []string
	Account string // tag of the account that the error is about
	Alias   string // of the selection that was refused
	Node    string // of that selection
	Field   string // refused or unknown field, in lower case as Cloudflare writes it
	// Limit is the limit that the request exceeded, if the message has it: the maximum
	// age ("older than 1w1d") or the maximum width ("wider than 1d").
	Limit time.Duration
	// Age is whether Limit is the maximum age.
	Age bool
	Ray string
	// Body is the beginning of the body, for refusals that are not recognised and
	// bodies that are not the API's: at most [bodyShown] bytes, with the token
	// redacted. It is only for the log.
	Body string
	// Also are the further errors of the same response.
	Also []*Error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cloudflare (%s): %s", e.Class, cmp.Or(e.Message, "no message"))
	var about []string
	for _, p := range [...]struct{ name, value string }{
		{"zone", e.Zone}, {"account", e.Account}, {"node", e.Node}, {"code", e.Code}, {"ray", e.Ray},
	} {
		if p.value != "" {
			about = append(about, p.name+" "+p.value)
		}
	}
	if e.Status != 0 {
		about = append(about, fmt.Sprintf("status %d", e.Status))
	}
	if len(e.Also) > 0 {
		about = append(about, fmt.Sprintf("%d more", len(e.Also)))
	}
	if len(about) > 0 {
		b.WriteString(" [" + strings.Join(about, ", ") + "]")
	}
	return b.String()
}

// weight orders the errors of one response: errors that affect all further requests come
// first.
func (c Class) weight() int {
	switch c {
	case Budget:
		return 0
	case Auth:
		return 1
	case Denied:
		return 2
	case Entitlement:
		return 3
	case Range:
		return 4
	case TooBig:
		return 5
	case Ours:
		return 6
	case Unknown:
		return 7
	}
	return 8
}
