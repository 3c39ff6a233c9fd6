package cfsim

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim/traffic"
)

// FaultKind says what goes wrong.
type FaultKind string

// Faults of the transport. They concern one whole request.
const (
	FaultSlow        FaultKind = "slow"         // answer after Delay
	FaultDrip        FaultKind = "drip"         // body spread over Delay
	FaultReset       FaultKind = "reset"        // connection closed before the headers
	FaultResetBody   FaultKind = "reset-body"   // closed within a chunked body
	FaultShortBody   FaultKind = "short-body"   // closed before Content-Length is reached
	FaultTruncated   FaultKind = "truncated"    // half the JSON with a Content-Length that fits it
	FaultRubbish     FaultKind = "rubbish"      // text after the JSON
	FaultHTML        FaultKind = "html"         // Status (502 when 0) with Cloudflare's HTML error page
	FaultChallenge   FaultKind = "challenge"    // 403 with an HTML challenge
	FaultEmptyBody   FaultKind = "empty-body"   // 200 without a body
	FaultEmptyObject FaultKind = "empty-object" // 200 with {}
	FaultNullData    FaultKind = "null-data"    // 200 with data and errors null
	FaultEmptyErrors FaultKind = "empty-errors" // a good answer with "errors": []
	FaultNoErrors    FaultKind = "no-errors"    // a good answer without the key
	FaultBusy        FaultKind = "busy"         // 503 with a GraphQL error
	FaultInternal    FaultKind = "internal"     // 500 with a GraphQL error
	FaultBudget      FaultKind = "budget"       // budget error whatever was spent
	FaultSkew        FaultKind = "skew"         // Date header off by Delay, which may be negative
)

// Refusals in words. They strike every request that the conditions let through, as
// a whole: with Zone or Zones each one that asks for such a zone. Status and
// Refusal change what each says.
const (
	FaultLocation        FaultKind = "location"          // 403, REST envelope: the token is not for this address; on GraphQL and REST
	FaultTokenInvalid    FaultKind = "token-invalid"     // 403, REST envelope, 9109: "Invalid access token"
	FaultTokenUnknown    FaultKind = "token-unknown"     // 401, REST envelope, 1000: "Invalid API Token"
	FaultAuthentication  FaultKind = "authentication"    // 401, REST envelope, 10000: "Authentication error", as for a token that has expired
	FaultUnauthorized    FaultKind = "unauthorized"      // 401: "Unauthorized"
	FaultAccountDenied   FaultKind = "account-denied"    // 200: "not authorized for that account"
	FaultPermission      FaultKind = "permission"        // 200: the token lacks the permission for the zones
	FaultAuthInternal    FaultKind = "auth-internal"     // 500: "Internal authentication error: internal server error"
	FaultRefusal         FaultKind = "refusal"           // 403 and words that are in no documentation
	FaultZonesDenied     FaultKind = "zones-denied"      // 200: "zones [X Y] are not authorized", naming those that the fault concerns
	FaultTooManyFields   FaultKind = "too-many-fields"   // 200: "number of fields can't be more than 30"
	FaultTooManyRequests FaultKind = "too-many-requests" // 200: "Too many requests"
)

// Odd values, drawn from Odd by seed and Probability: one value is replaced by the
// same for as long as the fault lasts. True values are told by [Server.True] and its
// like as before.
const (
	FaultZoneName    FaultKind = "zone-name"    // names of zones in REST
	FaultAccountName FaultKind = "account-name" // names of accounts in REST; Zone is the account's id
	FaultZoneCreated FaultKind = "zone-created" // created_on of zones in REST: text that is no time
	FaultZonePaused  FaultKind = "zone-paused"  // paused of zones in REST: text
	FaultDimension   FaultKind = "dimension"    // strings of dimensions and keys of maps
	FaultTime        FaultKind = "time"         // times among the dimensions
	FaultNumber      FaultKind = "number"       // counts, sums, uniques, averages, quantiles
)

// Faults of the data.
const (
	FaultZoneDelayed  FaultKind = "zone-delayed"  // nothing younger than Delay is shown
	FaultZoneFrozen   FaultKind = "zone-frozen"   // all is shown as it was at From
	FaultDatasetEmpty FaultKind = "dataset-empty" // no rows although there was traffic
	FaultDuplicate    FaultKind = "duplicate"     // the first row comes twice
	FaultHuge         FaultKind = "huge"          // numbers above 2^63
	FaultNegative     FaultKind = "negative"      // averages and quantiles of -1
	FaultPartial      FaultKind = "partial"       // null for the dataset, an error beside the data
)

var kinds = []FaultKind{
	FaultSlow, FaultDrip, FaultReset, FaultResetBody, FaultShortBody, FaultTruncated, FaultRubbish, FaultHTML, FaultChallenge,
	FaultEmptyBody, FaultEmptyObject, FaultNullData, FaultEmptyErrors, FaultNoErrors, FaultBusy, FaultInternal, FaultBudget,
	FaultSkew, FaultTokenInvalid, FaultTokenUnknown, FaultAuthentication, FaultUnauthorized, FaultAccountDenied, FaultPermission, FaultAuthInternal,
	FaultLocation, FaultRefusal, FaultZonesDenied, FaultTooManyFields, FaultTooManyRequests,
	FaultZoneName, FaultAccountName, FaultZoneCreated, FaultZonePaused, FaultDimension, FaultTime, FaultNumber, FaultZoneDelayed, FaultZoneFrozen, FaultDatasetEmpty, FaultDuplicate, FaultHuge, FaultNegative, FaultPartial,
}

var dataKinds = append([]FaultKind{FaultZoneDelayed, FaultZoneFrozen, FaultDatasetEmpty, FaultDuplicate, FaultHuge, FaultNegative, FaultPartial}, oddKinds...)

// Fault is something that goes wrong. Its conditions are joined by and; empty
// ones always hold.
type Fault struct {
	Kind FaultKind `json:"kind"`
	// From and To bound the span [From, To) of the simulator's clock.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Count is how often it happens at most; 0 is without bound. It has no
	// meaning for zone-delayed, zone-frozen and dataset-empty, which are states.
	Count int `json:"count,omitempty"`
	// Probability is the chance of each occasion, 0 to 1; 0 means always.
	Probability float64 `json:"probability,omitempty"`
	// Token, Zone and Dataset restrict it to requests with that token (id),
	// that zone (id) and that dataset (name).
	Token   string `json:"token,omitempty"`
	Zone    string `json:"zone,omitempty"`
	Dataset string `json:"dataset,omitempty"`
	// Zones restricts it like Zone, to any of several.
	Zones []string `json:"zones,omitempty"`
	// Path restricts transport faults to URL paths that contain it, for
	// example "/graphql" or "/zones".
	Path string `json:"path,omitempty"`
	// Delay belongs to slow and drip (time of this machine), skew and
	// zone-delayed (time of the clock). In JSON it is in nanoseconds.
	Delay time.Duration `json:"delay,omitempty"`
	// Status belongs to html and to refusals.
	Status int `json:"status,omitempty"`
	// Refusal belongs to refusals: what is empty is as the kind says.
	Refusal Refusal `json:"refusal,omitzero"`
	// Odd belongs to odd values: names out of [OddStrings] or [OddNumbers]. Empty
	// means all but the strings of megabytes.
	Odd []string `json:"odd,omitempty"`
}

// aboutZone reports whether the fault concerns a zone.
func (f *Fault) aboutZone(zone string) bool {
	return (f.Zone == "" || f.Zone == zone) && (len(f.Zones) == 0 || slices.Contains(f.Zones, zone))
}

func (f Fault) check() error {
	switch {
	case !slices.Contains(kinds, f.Kind):
		return fmt.Errorf("cfsim: fault kind %q is unknown; kinds are %v", f.Kind, kinds)
	case f.Probability < 0 || f.Probability > 1:
		return fmt.Errorf("cfsim: fault %s: probability %g must be from 0 to 1", f.Kind, f.Probability)
	case f.Count < 0:
		return fmt.Errorf("cfsim: fault %s: count %d must not be negative", f.Kind, f.Count)
	case f.Kind == FaultZoneFrozen && f.From.IsZero():
		return fmt.Errorf("cfsim: fault %s: from is missing; it is when the data stops", f.Kind)
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("cfsim: fault %s: status %d must be from 200 to 599", f.Kind, f.Status)
	case !slices.Contains(envelopes, f.Refusal.Envelope):
		return fmt.Errorf("cfsim: fault %s: envelope %q must be one of %q", f.Kind, f.Refusal.Envelope, envelopes[1:])
	case f.Refusal != Refusal{} && refusals[f.Kind].status == 0:
		return fmt.Errorf("cfsim: fault %s is no refusal", f.Kind)
	}
	return f.checkOdd()
}

// ActiveFault is an injected fault with its history.
type ActiveFault struct {
	ID    int `json:"id"`
	Fault `json:"fault"`
	Fired int       `json:"fired"`          // how often it happened
	First time.Time `json:"first,omitzero"` // when it happened first, of the simulator's clock
}

// fire notes that the fault happens. Callers hold the set's mu.
func (f *ActiveFault) fire(now time.Time) {
	if f.Fired++; f.Fired == 1 {
		f.First = now
	}
}

// faultSet holds the injected faults.
type faultSet struct {
	mu     sync.Mutex
	seed   uint64
	next   int
	asked  uint64
	active []*ActiveFault
}

func (s *faultSet) add(f Fault) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	s.active = append(s.active, &ActiveFault{ID: s.next, Fault: f})
	return s.next
}

func (s *faultSet) remove(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.active)
	s.active = slices.DeleteFunc(s.active, func(f *ActiveFault) bool { return f.ID == id })
	return len(s.active) < before
}

func (s *faultSet) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active = nil
}

func (s *faultSet) list() []ActiveFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]ActiveFault, len(s.active))
	for i, f := range s.active {
		out[i] = *f
	}
	return out
}

// fires decides whether a fault whose conditions hold happens this time.
// Callers hold mu.
func (s *faultSet) fires(f *ActiveFault, now time.Time) bool {
	if !f.lasts(now) {
		return false
	}
	s.asked++
	if f.Probability > 0 && traffic.Unit(traffic.Hash(s.seed, 41, s.asked)) >= f.Probability {
		return false
	}
	f.fire(now)
	return true
}

// occasion is what transport faults are matched with.
type occasion struct {
	token, path     string
	zones, datasets []string
}

// transport is the first transport fault that happens to this request, or nil.
func (s *faultSet) transport(o occasion, now time.Time) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.active {
		if slices.Contains(dataKinds, f.Kind) ||
			f.Token != "" && f.Token != o.token || !strings.Contains(o.path, f.Path) ||
			(f.Zone != "" || len(f.Zones) > 0) && !slices.ContainsFunc(o.zones, f.aboutZone) || f.Dataset != "" && !slices.Contains(o.datasets, f.Dataset) {
			continue
		}
		if s.fires(f, now) {
			c := f.Fault
			return &c
		}
	}
	return nil
}

func (f *ActiveFault) concerns(dataset, zone string) bool {
	return f.aboutZone(zone) && (f.Dataset == "" || f.Dataset == dataset)
}

// view applies delays and emptiness: the instant as of which a reader sees
// the zone, and whether it sees nothing at all.
func (s *faultSet) view(dataset, zone string, now time.Time) (seen time.Time, empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen = now
	for _, f := range s.active {
		asOf := now
		switch f.Kind {
		case FaultDatasetEmpty:
		case FaultZoneDelayed:
			asOf = now.Add(-f.Delay)
		case FaultZoneFrozen:
			asOf = f.From
		default:
			continue
		}
		if !f.concerns(dataset, zone) || !s.fires(f, now) {
			continue
		}
		if empty = empty || f.Kind == FaultDatasetEmpty; asOf.Before(seen) {
			seen = asOf
		}
	}
	return seen, empty
}

// oddities are the faults in the values of one answer; partial is whether it
// is null with an error.
func (s *faultSet) oddities(dataset, zone string, now time.Time) (o oddities, partial bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.active {
		if !slices.Contains([]FaultKind{FaultDuplicate, FaultHuge, FaultNegative, FaultPartial}, f.Kind) ||
			!f.concerns(dataset, zone) || !s.fires(f, now) {
			continue
		}
		switch f.Kind {
		case FaultDuplicate:
			o.duplicate = true
		case FaultHuge:
			o.huge = true
		case FaultNegative:
			o.negative = true
		case FaultPartial:
			partial = true
		}
	}
	return o, partial
}

// Inject adds a fault and returns its number, for [Server.Remove].
func (s *Server) Inject(f Fault) (int, error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	return s.faults.add(f), nil
}

// Remove ends a fault and reports whether there was one.
func (s *Server) Remove(id int) bool { return s.faults.remove(id) }

// ClearFaults ends all faults.
func (s *Server) ClearFaults() { s.faults.clear() }

// Faults lists the injected faults and how often they happened.
func (s *Server) Faults() []ActiveFault { return s.faults.list() }
