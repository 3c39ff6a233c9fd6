// Package audit measures whether what is final was right to be: it reads a
// sample of final buckets again when they are an hour and a day old, says how
// far Cloudflare's answer has moved since, and recommends a delay.
//
// Nothing that is stored ever changes because of it (G1). It is the last of the
// lanes: it asks only when a pass has nothing else left to ask and more than
// half of the budget's share is free.
//
// # The sample
//
// Ages are those of a window's end, because that is what a delay is about; a
// window that was stored late, after an outage, is not audited at an age that
// its own reading had nearly reached. One window in so many that an hour has
// about one belongs to the sample (every window of datasets by the hour and by
// the day), and of such a window ten scopes, or all if there are fewer: as many
// as one request can ask. Both choices follow from a hash of the dataset, the
// window and the scope, so every leader makes the same ones, in time they come
// round to every scope, and neither zones nor hours of the day are preferred.
//
// Left out are windows that say nothing: readings that Cloudflare sampled,
// buckets that another variant of the dataset was stored from, series that
// cannot be read at present, and windows that the plan no longer shows (a Pro
// zone's minutes are kept for a day, so they have no second audit).
//
// At most [PerHour] requests are sent in an hour of the clock. What was asked is
// recorded before it is asked ([Lane]), fenced like an append: a crash loses a
// sample and never repeats one, and a crash loop stays within the hour's number.
//
// # What is compared
//
// All rows of all families that the variant feeds. A bucket is the same or has
// moved, up or down, by family; or its rows are gone, which an answer that came
// too soon looks like as well, so that those are counted apart and never as a
// movement.
//
// # The recommendation
//
// Every window of a live dataset that was first read when it fell due tells, by
// the readings before it was final, at which age it had its final value. The
// recommended delay is the smallest at which 99.9 % of the windows had theirs,
// less the share that an audit found moved later. Ages below the present delay
// are never looked at, so no shorter delay is ever recommended: to learn about
// one, set it; readings that still differ are read again, not believed.
//
// Figures are kept for four to eight weeks and begin anew with another delay.
// The package is pure: no clock, no I/O, no goroutine.
package audit

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// The constants of the rules above.
const (
	// PerHour is how many requests the lane may send in an hour of the clock:
	// 0.3 % of the default share.
	PerHour = 6
	// perWindow is how many scopes of one window are read again: the zones of
	// one request (Cloudflare's limits page).
	perWindow = 10
	// slack is how long after its age a window may still be audited at it.
	slack = 30 * time.Minute
	// Enough is the least number of windows that a recommendation may rest on:
	// with fewer, one in a thousand cannot be told from none.
	Enough = 1000
	// Share is the part of the windows that must have had their final value.
	Share = .999
	// keepWorst movements are kept by name.
	keepWorst = 10
	// period is the least time for which figures are kept.
	period = 28 * 24 * time.Hour
)

// Age is how old a window's end is at an audit.
type Age struct {
	time.Duration
	Name string // as metrics and reports spell it
}

// Ages are those at which final buckets are read again.
var Ages = []Age{{time.Hour, "1h"}, {24 * time.Hour, "24h"}}

// Kinds of record in the store.
const (
	KindLane  = "audit" // one record
	KindDrift = "drift" // one for each dataset
)

// Worth reports whether reading a bucket again at now can tell anything: not
// when its stored reading was nearly as late.
func (a Age) Worth(now, readAt bucket.Time) bool { return now.Sub(readAt) >= a.Duration/2 }
