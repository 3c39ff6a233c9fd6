package cloudflare

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Class says what to do about an error.
type Class uint8

// The classes.
const (
	// Transient: nothing is wrong with the question; back off and ask again.
	Transient Class = iota + 1
	// Budget: stop asking for [Error.RetryAfter].
	Budget
	// Entitlement: this zone may not ask for this node or field; remember,
	// report, look again in hours.
	Entitlement
	// Range: the question reaches too far back, is too wide or its page too
	// large: what is believed about the zone's limits is out of date.
	Range
	// TooBig: split the question.
	TooBig
	// Auth: the token is missing, wrong, expired or disabled.
	Auth
	// Denied: the token is good, but not for this zone or account. It says nothing
	// about what their plan allows.
	Denied
	// Ours: the question is not valid and will not become so.
	Ours
	// BadResponse: the reply is not what the API would say. Treat as Transient,
	// but it deserves its own count.
	BadResponse
	// Unknown: refused, in words that are not recognised. It is evidence about
	// nothing: not about a zone, its plan, the token or the question.
	Unknown
)

var classNames = map[Class]string{
	Transient: "transient", Budget: "budget", Entitlement: "entitlement", Range: "range",
	TooBig: "too_big", Auth: "auth", Denied: "denied", Ours: "ours", BadResponse: "bad_answer", Unknown: "unknown",
}

// String is the class as a label value: "too_big".
func (c Class) String() string { return cmp.Or(classNames[c], fmt.Sprintf("class_%d", uint8(c))) }

// Error is a question without an answer. No secret is in it.
type Error struct {
	Class   Class
	Message string // Cloudflare's words, or ours where it said nothing useful
	Code    string // Cloudflare's code: "authz", "quota", "budget", "10000"
	Status  int    // HTTP status; 0 when no reply came
	// RetryAfter is how long Cloudflare wants to be left alone: always above 0
	// for Budget, else 0 unless a header said so.
	RetryAfter time.Duration
	Zone       string // tag of the zone that the error is about; empty: not about one
	// Zones are the tags of all zones that the message names, where it names
	// several. Zone is then empty.
	Zones   []string
	Account string // tag of the account that the error is about
	Alias   string // of the selection that was refused
	Node    string // of that selection
	Field   string // refused or unknown field, in lower case as Cloudflare writes it
	// Limit is what the question exceeded, where the message says it: the most
	// age ("older than 1w1d") or the most width ("wider than 1d").
	Limit time.Duration
	// Age tells which of the two Limit is.
	Age bool
	Ray string
	// Body is the beginning of the reply, of refusals that are not recognised
	// and of bodies that are not the API's: at most [bodyShown] bytes, the token
	// struck out. It is for the log alone.
	Body string
	// Also are the further errors of the same reply.
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

// weight orders the errors of one reply: what concerns every further question
// comes first.
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
