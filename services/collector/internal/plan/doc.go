// Package plan compares the windows that should be final with those that are, and packs
// the difference into as few requests to Cloudflare as its limits allow.
//
// There is no timer that requests "the last hour" and no separate code for start-up,
// catch-up and repair: after a missed tick, a restart or a day of downtime the difference
// is larger, and the code is the same. [Make] is a pure function: the same input gives the
// same plan, in the same order.
//
// Windows are assigned to lanes. The trailing lanes hold windows that fell due recently,
// unread (fresh) or waiting for another reading (confirm). They are requested as one range
// per dataset that covers every waiting window of some zones, because a longer range
// does not cost more of Cloudflare's budget, but another request does. Which zones share
// requests is chosen anew for each plan, by what they lack (crew.go). Short buckets come
// first, since they show whether longer ones are complete. The repair lane holds the other
// windows, in chunks with borders on the calendar, so that zones that lack the same hours
// share requests: scopes that lack the same, as many at a time as take the fewest requests
// (pack.go). Within it, windows that Cloudflare will soon drop come first, then those
// that are still within the replay, newest first, then the rest, oldest first. Of a catch-up only as
// much is planned as is sent before the next plan ([Ceilings.Ahead]).
//
// Each young window is requested together with later windows, in the same request, since
// package settle infers from its own response how fresh it is.
//
// A state (catalogue.Dataset.State) has one window that can be read, the newest that has ended.
// It is in the fresh lane and a request of its own, which may take several calls
// ([Request.Cost]).
//
// Entitlements are requested in separate documents, with the same ceilings; see
// [Settings].
//
// The backfill lane holds the windows that only an operator's request wants ([Want.History]),
// in chunks like repairs, newest first
// except what Cloudflare will soon drop. Package jobs chooses them, a page at a time. No other
// lane shares a request with it: what fails in it must not delay regular work.
//
// The audit lane requests final windows again. Package audit selects them; [Rechecks] packs
// them.
package plan

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
)

// Lane is the purpose of a request.
type Lane uint8

// The lanes, most urgent first.
const (
	Fresh    Lane = iota + 1 // windows that fell due and were never read
	Confirm                  // another reading of windows that are settling
	Repair                   // windows that should have been final long ago
	Backfill                 // windows that only an operator's request wants
	Audit                    // final windows, to measure whether they moved
)

func (l Lane) String() string {
	switch l {
	case Fresh:
		return "fresh"
	case Confirm:
		return "confirm"
	case Repair:
		return "repair"
	case Backfill:
		return "backfill"
	case Audit:
		return "audit"
	}
	return "unknown"
}

// Want is the range of windows that should be final for one dataset and scope.
type Want struct {
	Dataset *catalogue.Dataset
	Variant *catalogue.Variant
	Scope   bucket.Scope
	// Group is the credential of the scope: wants of two groups never share a request.
	Group int
	// Window is [horizon, due), aligned to the bucket size.
	Window bucket.Window
	// Have are the windows that are final, or decided never to be.
	Have bucket.Spans
	// Limits of this scope's plan for the variant's node.
	Limits Limits
	// History: only an operator's request wants the windows. They are in the backfill lane.
	History bool
}

// Limits of one node for one scope, from Cloudflare's settings node. Zero means unknown;
// then only the ceilings apply.
type Limits struct {
	MaxDuration  time.Duration // widest range of one query
	MaxPageSize  int           // most rows of one selection
	NotOlderThan time.Duration // how far back a range may begin
}

// State is the state of windows that are not final.
type State interface {
	// Again is the earliest time at which a request for the window is useful; zero: at
	// once.
	Again(dataset string, s bucket.Scope, start bucket.Time) bucket.Time
	// Read reports whether the window was read and not found final.
	Read(dataset string, s bucket.Scope, start bucket.Time) bool
}

// Ceilings are limits of one request that apply to every plan.
type Ceilings struct {
	Zones      int           // zones of one request: 10 (Cloudflare's limits page)
	Selections int           // scopes × aliased selections: 50 (not published; what clients have long sent)
	Range      time.Duration // widest range of one selection
	Rows       int           // most rows of one selection
	// Ahead is about how many requests from the repair lane on are planned for each group, the
	// most urgent ones; 0: all. More can be planned when these were sent: a day of a thousand
	// zones is thirty thousand requests, and takes seconds to pack.
	Ahead int
}

// DefaultCeilings are those that every plan is known to accept.
var DefaultCeilings = Ceilings{Zones: 10, Selections: 50, Range: 24 * time.Hour, Rows: 5000}

// Selection is a query for one dataset over one range.
type Selection struct {
	Dataset *catalogue.Dataset
	Variant *catalogue.Variant
	Window  bucket.Window // aligned; contains a wanted window of some scope, or the windows after one
	Limit   int           // maximum number of rows
}

// Request is one document for Cloudflare: every selection for every scope.
type Request struct {
	Lane       Lane
	Scopes     []bucket.Scope // of one kind, ascending; accounts come one at a time, and the scopes of states
	Selections []Selection
}

// State reports whether the request is for a state: it is read from the REST API, alone.
func (r *Request) State() bool { return len(r.Selections) > 0 && r.Selections[0].Dataset.State }

// Cost is the number of requests that are expected to be sent.
func (r *Request) Cost() int {
	if r.State() {
		return max(1, r.Selections[0].Variant.Calls)
	}
	return 1
}

// Recheck is one window of one want that is requested again although it is final.
type Recheck struct {
	Want   Want
	Window bucket.Window // aligned
}

// Plan is the requests to send now, most urgent first, and when to plan again even if
// nothing else happens.
type Plan struct {
	Requests []Request
	// Next is the earliest time at which a window falls due or may be read
	// again; zero if there is nothing to wait for.
	Next bucket.Time
}
