package cfsim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Envelope is the form of an injected refusal.
type Envelope string

// The envelopes.
const (
	EnvelopeGraphQL Envelope = "graphql" // data null and a list of errors
	EnvelopeREST    Envelope = "rest"    // success false and a list of errors
	EnvelopeEmpty   Envelope = "empty"   // no body
	EnvelopeHTML    Envelope = "html"    // a page of the edge
)

var envelopes = []Envelope{"", EnvelopeGraphQL, EnvelopeREST, EnvelopeEmpty, EnvelopeHTML}

// Refusal says how an injected refusal looks. It voids the whole request.
type Refusal struct {
	Envelope Envelope `json:"envelope,omitempty"` // empty: graphql for GraphQL, rest for REST
	// Message may have %s for the zones of the request that the fault concerns, and %t
	// for the id of its token.
	Message string `json:"message,omitempty"`
	// Code is extensions.code in the GraphQL envelope, a number in the REST one.
	Code string `json:"code,omitempty"`
	// Names puts the place into a GraphQL error's path: the first zone and, where
	// the fault has one, the dataset that the fault concerns. Without it the path is
	// null.
	Names bool `json:"names,omitempty"`
}

// The refusals that have a kind of their own, with Fault.Status and Fault.Refusal
// as what is not said differs from these.
var refusals = map[FaultKind]struct {
	status int
	Refusal
}{
	FaultTokenInvalid:    {http.StatusForbidden, Refusal{Envelope: EnvelopeREST, Code: "9109", Message: "Invalid access token"}},
	FaultTokenUnknown:    {http.StatusUnauthorized, Refusal{Envelope: EnvelopeREST, Code: "1000", Message: "Invalid API Token"}},
	FaultAuthentication:  {http.StatusUnauthorized, Refusal{Envelope: EnvelopeREST, Code: "10000", Message: "Authentication error"}},
	FaultUnauthorized:    {http.StatusUnauthorized, Refusal{Envelope: EnvelopeGraphQL, Message: "Unauthorized"}},
	FaultAccountDenied:   {http.StatusOK, Refusal{Envelope: EnvelopeGraphQL, Code: codeAuthz, Message: "not authorized for that account"}},
	FaultPermission:      {http.StatusOK, Refusal{Envelope: EnvelopeGraphQL, Code: codeAuthz, Message: "Actor 'com.cloudflare.api.token.%t' does not have permission '" + string(ZoneAnalytics) + "' for zone %s"}},
	FaultAuthInternal:    {http.StatusInternalServerError, Refusal{Envelope: EnvelopeGraphQL, Message: "Internal authentication error: internal server error"}},
	FaultLocation:        {http.StatusForbidden, Refusal{Envelope: EnvelopeREST, Code: "9109", Message: "Cannot use the access token from location: 203.0.113.9"}},
	FaultRefusal:         {http.StatusForbidden, Refusal{Message: "the request was not accepted"}},
	FaultZonesDenied:     {http.StatusOK, Refusal{Envelope: EnvelopeGraphQL, Message: "zones [%s] are not authorized"}},
	FaultTooManyFields:   {http.StatusOK, Refusal{Envelope: EnvelopeGraphQL, Message: "number of fields can't be more than 30"}},
	FaultTooManyRequests: {http.StatusOK, Refusal{Envelope: EnvelopeGraphQL, Message: "Too many requests"}},
}

// refusalOf is the fault's refusal with what it leaves open filled in.
func refusalOf(f *Fault, kind string) (int, Refusal) {
	known := refusals[f.Kind]
	status, r := known.status, known.Refusal
	if f.Status != 0 {
		status = f.Status
	}
	if f.Refusal.Envelope != "" {
		r.Envelope = f.Refusal.Envelope
	}
	if f.Refusal.Message != "" {
		r.Message = f.Refusal.Message
	}
	if f.Refusal.Code != "" {
		r.Code = f.Refusal.Code
	}
	r.Names = f.Refusal.Names
	if r.Envelope == "" {
		r.Envelope = EnvelopeREST
		if kind == "graphql" {
			r.Envelope = EnvelopeGraphQL
		}
	}
	return status, r
}

// refuseBy replaces an answer by the refusal of a fault.
func (s *Server) refuseBy(out *reply, f *Fault, now time.Time, entry *Request) {
	status, r := refusalOf(f, entry.Kind)
	r.Message = strings.NewReplacer("%s", strings.Join(concerned(f, entry), " "), "%t", entry.Token).Replace(r.Message)
	entry.Outcome, entry.Message = "refused", r.Message
	out.status = status
	out.header.Set("Content-Type", jsonHeader().Get("Content-Type"))
	switch r.Envelope {
	case EnvelopeEmpty:
		out.body = nil
	case EnvelopeHTML:
		title := r.Message
		if f.Refusal.Message == "" {
			title = fmt.Sprintf("api.cloudflare.com | %d: %s", status, edgeReason(status))
		}
		htmlPage(out, status, title)
	case EnvelopeREST:
		one := map[string]any{"message": r.Message}
		if n, err := strconv.Atoi(r.Code); err == nil {
			one["code"] = n
		}
		out.body = wrap(status, envelope(false, nil, []any{one}, []any{})).body
	default:
		e := &gqlError{message: r.Message, code: r.Code}
		if r.Names {
			e.path = s.pathOf(f, entry)
		}
		out.body = errorBody(e, now, s.config.Switches.NumericPath)
	}
}

// concerned are the zones of the request that the fault is about, ascending.
func concerned(f *Fault, entry *Request) []string {
	var out []string
	for _, z := range slices.Sorted(slices.Values(entry.Zones)) {
		if f.aboutZone(z) {
			out = append(out, z)
		}
	}
	return out
}

// pathOf is where in the answer the fault strikes.
func (s *Server) pathOf(f *Fault, entry *Request) []string {
	zones := slices.Sorted(slices.Values(entry.Zones))
	for i, z := range zones {
		if !f.aboutZone(z) {
			continue
		}
		path := []string{"viewer", "zones", strconv.Itoa(i)}
		for _, q := range entry.Queries {
			if f.Dataset != "" && q.Dataset == f.Dataset && q.Tag == z {
				return append(path, q.Alias)
			}
		}
		return path
	}
	return []string{"viewer"}
}

// literal is a JSON value that is written as it is.
func literal(text string) json.RawMessage { return json.RawMessage(text) }
