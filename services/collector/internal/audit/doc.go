// Package audit measures whether buckets were final too early: it reads a sample of final
// buckets again when they are an hour and a day old, reports how far Cloudflare's response
// has moved since, and recommends a delay.
//
// It never changes stored data (G1). It is the lane of lowest priority: it sends requests
// only when a pass has no other requests left and more than half of the budget's share is
// free.
//
// # The sample
//
// Ages are those of a window's end, like a delay. A window that was stored late, after an
// outage, is not audited at an age that its own reading had nearly reached. The sample has
// about one window per hour (every window of hourly and daily datasets), and of each window
// ten scopes, or all if there are fewer: as many as fit into one request. Both are chosen
// by a hash of dataset, window and scope, so every leader chooses the same, all scopes are
// covered over time, and no zone or hour of the day is preferred.
//
// Windows without information are left out: readings that Cloudflare sampled, buckets that
// were stored from another variant of the dataset, series that are currently unreadable,
// and windows that the plan no longer offers (a Pro zone's minutes are available for a day,
// so they have no second audit).
//
// At most [PerHour] requests are sent per clock hour. Requests are recorded before they are
// sent ([Lane]), fenced like an append: a crash loses a sample and never repeats one, and a
// crash loop stays within the hourly limit.
//
// # What is compared
//
// All rows of all families that the variant feeds are compared. A bucket is the same or has
// moved, up or down, by family; or its rows are gone. A response that came too early looks
// the same as gone rows, so these are counted separately and never as a movement.
//
// # The recommendation
//
// For every window of a live dataset that was first read when it fell due, the readings
// before it was final show at which age it had its final value. The recommended delay is
// the smallest at which 99.9 % of the windows had theirs, minus the share that an audit
// found moved later. Ages below the current delay are never observed, so no shorter delay
// is ever recommended: to measure a shorter one, configure it; readings that still differ
// are read again, not stored.
//
// Statistics are kept for four to eight weeks and restart with another delay. The package
// is pure: no clock, no I/O, no goroutine.
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
	// slack is how long after reaching an age a window may still be audited.
	slack = 30 * time.Minute
	// Enough is the minimum number of windows for a recommendation: with fewer, one in a
	// thousand cannot be distinguished from none.
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

// Worth reports whether reading a bucket again at now is useful: not if its stored reading was
// nearly as late.
func (a Age) Worth(now, readAt bucket.Time) bool { return now.Sub(readAt) >= a.Duration/2 }
