// Package plan compares what ought to be final with what is, and packs the
// difference into as few questions to Cloudflare as its limits allow.
//
// There is no timer that asks for "the last hour" and no separate code for
// start-up, catch-up and repair: missing a tick, restarting and being down for
// a day are the same case, the difference is only larger. [Make] is a pure
// function of its input: same input, same plan, down to the order.
//
// Windows go in lanes. The trailing lane holds what fell due recently, unread
// (fresh) or waiting for another reading (confirm); it is asked as one range
// per dataset that covers every waiting window of up to ten zones, because a
// longer range costs Cloudflare's budget nothing, while one more request does.
// Short buckets come first, since they show whether longer ones are whole.
// The repair lane holds the rest, in chunks whose borders lie on the calendar,
// so that zones that miss the same hours share requests. Within it the windows
// that Cloudflare will soon drop come first, then those that Prometheus can
// still take from the replay, newest first, then the rest, oldest first.
//
// Each young window is asked together with what came after it, in the same
// request, since package settle believes it only where its own answer shows that.
//
// What plans allow is asked for in documents of their own, under the same ceilings;
// see [Settings].
//
// The audit lane asks for what is final already. Which windows that are is not
// decided here; [Looks] packs them.
package plan

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
)

// Lane says why a request is made.
type Lane uint8

// The lanes, most urgent first.
const (
	Fresh   Lane = iota + 1 // a window that was never read fell due
	Confirm                 // another reading of windows that settle
	Repair                  // windows that should long be final
	Audit                   // final windows, to see whether they moved
)

func (l Lane) String() string {
	switch l {
	case Fresh:
		return "fresh"
	case Confirm:
		return "confirm"
	case Repair:
		return "repair"
	case Audit:
		return "audit"
	}
	return "unknown"
}

// Want is what ought to be final for one dataset and scope.
type Want struct {
	Dataset *catalogue.Dataset
	Variant *catalogue.Variant
	Scope   bucket.Scope
	// Group is whom the scope is asked through: wants of two groups never share a
	// request. A scope has one group.
	Group int
	// Window is [horizon, due), aligned to the bucket size.
	Window bucket.Window
	// Have is what is final, or decided never to be.
	Have bucket.Spans
	// Limits of this scope's plan for the variant's node.
	Limits Limits
}

// Limits of one node for one scope, from Cloudflare's settings node. Zero means
// not known and is treated as no limit but the caller's.
type Limits struct {
	MaxDuration  time.Duration // widest range of one query
	MaxPageSize  int           // most rows of one selection
	NotOlderThan time.Duration // how far back a range may begin
}

// State is what is known of windows beyond their being final.
type State interface {
	// Again is the earliest time at which asking for the window makes sense;
	// zero: at once.
	Again(dataset string, s bucket.Scope, start bucket.Time) bucket.Time
	// Read reports whether the window was read and not found final.
	Read(dataset string, s bucket.Scope, start bucket.Time) bool
}

// Ceilings of one request, whatever the plan.
type Ceilings struct {
	Zones      int           // zones of one request: 10 (Cloudflare's limits page)
	Selections int           // scopes × aliased selections: 50 (not published; what clients have long sent)
	Range      time.Duration // widest range of one selection
	Rows       int           // most rows of one selection
}

// DefaultCeilings are those that every plan is known to accept.
var DefaultCeilings = Ceilings{Zones: 10, Selections: 50, Range: 24 * time.Hour, Rows: 5000}

// Selection is one dataset asked over one range.
type Selection struct {
	Dataset *catalogue.Dataset
	Variant *catalogue.Variant
	Window  bucket.Window // aligned; holds a wanted window of some scope, or what came after one
	Limit   int           // rows to ask for
}

// Request is one document for Cloudflare: every selection is asked of every scope.
type Request struct {
	Lane       Lane
	Scopes     []bucket.Scope // of one kind, ascending; accounts come one at a time
	Selections []Selection
}

// Look is one window of one want that is to be asked whatever is stored of it.
type Look struct {
	Want   Want
	Window bucket.Window // aligned
}

// Plan is what to ask now, most urgent first, and when to plan again even if
// nothing else happens.
type Plan struct {
	Requests []Request
	// Next is the earliest time at which a window falls due or may be read
	// again; zero if there is nothing to wait for.
	Next bucket.Time
}
