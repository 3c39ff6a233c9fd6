package statuspage

import (
	"slices"
	"strings"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// State is the state of a window, or the worst state of the windows of a cell. The values
// are those of /status.json.
type State string

// The states.
const (
	Unknown    State = "unknown"    // the collector did not say, or this release does not understand it
	Missing    State = "missing"    // due and not stored, for a reason
	Lost       State = "lost"       // missing, and Cloudflare no longer has it
	Unreadable State = "unreadable" // stored, and cannot be read
	Unserved   State = "unserved"   // stored when it was too old for /metrics
	Accepted   State = "accepted"   // missing, and accepted by an operator
	Refused    State = "refused"    // the plan or the token does not allow it, or the scope was not active
	Waiting    State = "waiting"    // read, and its emptiness is not believed yet
	Due        State = "due"        // due since a short time, and being read
	Late       State = "late"       // stored more than LateAfter after its end
	Final      State = "final"      // stored
	NotDue     State = "not_due"    // younger than the delay
	NotWanted  State = "not_wanted" // before the first or after the last window that is wanted
)

// worst has all states, the worst first.
var worst = []State{Unknown, Missing, Lost, Unreadable, Unserved, Accepted, Refused, Waiting, Due, Late, Final, NotDue, NotWanted}

// worse reports whether a is worse than b.
func worse(a, b State) bool { return slices.Index(worst, a) < slices.Index(worst, b) }

// Attention reports whether a window in this state is one that somebody should look at.
func (s State) Attention() bool {
	switch s {
	case Unknown, Missing, Lost, Unreadable, Unserved:
		return true
	}
	return false
}

// Word is the state for people.
func (s State) Word() string {
	switch s {
	case Late:
		return "stored late"
	case Waiting:
		return "waiting to be believed"
	case Due:
		return "being read"
	}
	return strings.ReplaceAll(string(s), "_", " ")
}

// Meaning is one line of the legend.
type Meaning struct {
	State  State
	Means  string
	Anchor string // in the documents
}

// Legend explains all states, the best first.
func Legend() []Meaning {
	return []Meaning{
		{Final, "stored, and never changed", "status-page"},
		{Late, "stored more than an hour after its end: a repair, or a catch-up", "status-page"},
		{Due, "due since a few minutes, and being read", "freshness"},
		{Waiting, "read, and empty or far too low: it becomes final by itself", "suspect-windows-and-why-the-zeros-of-a-quiet-zone-are-late"},
		{Refused, "the plan or the token does not allow it, or the zone was not active", "what-is-missing-and-why"},
		{Accepted, "missing, and given up by an operator", "changes-on-request"},
		{Unserved, "stored when it was too old for /metrics: only a backfill brings it to Prometheus", "weirunserved"},
		{Missing, "due and not stored; the reason is beside it", "what-is-missing-and-why"},
		{Unreadable, "stored, and cannot be read", "store_unreadable"},
		{Lost, "missing, and Cloudflare no longer has it", "weirwindowslost"},
		{Unknown, "the collector did not say, so it may be anything", "status-page"},
		{NotDue, "younger than the delay", "freshness"},
		{NotWanted, "before the first window that is wanted, or after the last", "status-page"},
	}
}

var coverageStates = map[bucketv1.CoverageState]State{
	bucketv1.CoverageState_COVERAGE_STATE_FINAL:      Final,
	bucketv1.CoverageState_COVERAGE_STATE_MISSING:    Missing,
	bucketv1.CoverageState_COVERAGE_STATE_REFUSED:    Refused,
	bucketv1.CoverageState_COVERAGE_STATE_LOST:       Lost,
	bucketv1.CoverageState_COVERAGE_STATE_ACCEPTED:   Accepted,
	bucketv1.CoverageState_COVERAGE_STATE_UNREADABLE: Unreadable,
	bucketv1.CoverageState_COVERAGE_STATE_WAITING:    Waiting,
}

func stateOf(s bucketv1.CoverageState) State {
	if known, found := coverageStates[s]; found {
		return known
	}
	return Unknown
}

// reasonOf is the name of a reason as metrics have it; empty if there is none.
func reasonOf(r bucketv1.GapReason) string {
	if r == bucketv1.GapReason_GAP_REASON_UNSPECIFIED {
		return ""
	}
	return strings.ToLower(strings.TrimPrefix(r.String(), "GAP_REASON_"))
}

// reasons says what helps, by reason.
var reasons = map[string]string{
	"pending":        "it has not been queried yet, or is still settling. If it lasts, check the budget",
	"upstream_error": "Cloudflare failed, or its budget is exhausted. It is retried by itself",
	"suspect":        "the reading is empty or far too low, and is read again",
	"delayed":        "the whole dataset is late at Cloudflare",
	"not_visible":    "it is not in Cloudflare's responses: check that the token has Zone Analytics Read (Account Analytics Read for an account)",
	"too_big":        "even one window fills a page of Cloudflare's response",
	"bad_answer":     "Cloudflare's response cannot be right; the collector's log has it",
	"unauthorized":   "the token is refused, or has no access: replace the token, or give it the permission",
	"unknown":        "Cloudflare refuses with a message that this release does not recognise; the collector's log has it",
	"invalid":        "the response was read, and cannot be stored as it is",
}

// Help says what a reason means and what helps; empty for one that this release does not know.
func Help(reason string) string { return reasons[reason] }

// scopeStates are the states of zones and accounts with what they mean for collecting.
var scopeStates = map[bucketv1.ScopeState]struct{ name, means string }{
	bucketv1.ScopeState_SCOPE_STATE_ACTIVE:   {"active", ""},
	bucketv1.ScopeState_SCOPE_STATE_PAUSED:   {"paused", "it is paused at Cloudflare, and is collected again once it is resumed there"},
	bucketv1.ScopeState_SCOPE_STATE_GONE:     {"gone", "it is no longer in the list that Cloudflare gives to the token: it was deleted, moved to another account, or the token was restricted"},
	bucketv1.ScopeState_SCOPE_STATE_EXCLUDED: {"excluded", "it is excluded by the collector's settings: see CF_ZONES, CF_EXCLUDE_ZONES and CF_ACCOUNTS"},
	bucketv1.ScopeState_SCOPE_STATE_PENDING:  {"pending", "it was added to Cloudflare and is not activated yet: change its name servers"},
	bucketv1.ScopeState_SCOPE_STATE_INACTIVE: {"inactive", "Cloudflare reports it as moved, deactivated, or in another state that is not active"},
}

func scopeState(s bucketv1.ScopeState) (name, means string) {
	if known, found := scopeStates[s]; found {
		return known.name, known.means
	}
	return string(Unknown), "the collector reports a state that this release does not know: upgrade the exposer"
}
