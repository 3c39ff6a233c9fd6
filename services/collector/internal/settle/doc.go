// Package settle decides when a reading of a window may be stored as final.
//
// Cloudflare does not publish when a bucket is complete, does not mark it in the response,
// and returns young buckets partly filled, sometimes not even monotonically (recorded: a
// bucket almost five minutes old at 64 % while a younger one was complete). So the
// decision is based on the readings of a window:
//
//   - Freshness is inferred from the response: its lead over a window is how far its newest
//     non-empty window lies past this one. If that is the next window, the lead is as
//     large a share of it as its level is of this window's level. A reading counts if its
//     lead is two minutes: with less, the last rows of the window may still be missing,
//     while data is late, catches up, or is stalled.
//   - A window is first read when it is older than its delay. It is final when Confirm
//     consecutive readings, at least a minute apart, counted and were equal in every row.
//   - A reading can be final without an equal one only with a lead of five minutes. Then a
//     reading that Cloudflare sampled, which may never be equal to the next, is final, and
//     so is a reading of a window that was first read after its deadline. At its deadline a
//     window is stored with the last reading even if readings differ, and is marked so.
//   - A window without any lead is doubtful: it may still be filling. It needs two equal
//     readings ten minutes apart (if sampled: ten minutes of readings that count). If the
//     scope usually has so much traffic that ten or more should have followed, the last
//     reading must count as well.
//   - A reading that is empty, or far below the usual level of the scope, is suspect: data
//     that has not arrived looks like no traffic. A window that was ever suspect stays
//     doubtful, and its last reading must count (later data has arrived in the replica of
//     this response), or its age must exceed all delays ever observed. It needs the two equal
//     readings in either case. The deadline does not apply to it.
//   - A scope whose recent buckets are all empty is quiet, and its next empty bucket is
//     doubtful but not suspect.
//   - If the newest windows of a scope are suspect in any dataset that usually has rows, its
//     data is late. Every window that overlaps this hole, or ends shortly before it, may be
//     half filled although it looks ordinary: it is doubtful. A dataset that rarely has rows,
//     such as security events of a small zone, says nothing about the others.
//   - If more than a third of the scopes with traffic, not counting those that have ended,
//     are suspect in one window, the whole dataset is late: no window from there on becomes
//     final before it is a day old, unless the dataset recovers. Once ordinary windows
//     follow, only the suspect windows themselves wait.
//
// Readings are kept in memory. A change of leader loses them, except for the fact that a
// window was suspect: the gap ledger stores it, and [Dataset.Restore] restores it. A
// genuine zero is delayed by these rules but is stored correctly (G1, G3).
//
// The package is pure: no clock, no I/O, no goroutine. A [Dataset] belongs to
// one goroutine.
package settle

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// The constants of the rules above. They are not settings: a wrong value would trade
// correctness for freshness.
const (
	// Spacing is the minimum time between two readings that count.
	Spacing = time.Minute
	// AgreeApart is how far apart the two equal readings of a suspect or doubtful
	// window must be.
	AgreeApart = 10 * time.Minute
	// Enough is the lead with which a reading counts. Filling was observed to take under
	// four minutes, and the following data to arrive at most two minutes later. If no data
	// is late, the first reading of a window has this lead.
	Enough = 2 * time.Minute
	// Beyond is the lead with which a reading needs no equal one. Requests cover as much
	// after each window.
	Beyond = 5 * time.Minute
	// distinct is by how much the share of an hour's distinct counts that its first
	// minutes have can exceed their share of the time.
	distinct = 4
	// SuspectAge is the age at which an empty window is credible if two readings ten
	// minutes apart agree; for young scopes YoungAge, since Cloudflare delays new Free zones by up
	// to a day.
	SuspectAge = 6 * time.Hour
	YoungAge   = 24 * time.Hour
	// keepMargin is how long before Cloudflare drops a window it is credible.
	keepMargin = 2 * time.Hour
	// lastChance is how long before Cloudflare drops a window one reading is credible.
	lastChance = 2 * AgreeApart
	// DelayedAge is the age at which windows of a late dataset no longer wait.
	DelayedAge = 24 * time.Hour
	// historyLen is the number of buckets that define a scope's usual level.
	historyLen = 12
	// nearby is how many windows before a bucket its level is compared with: twice the
	// history, to allow for a few holes.
	nearby = 2 * historyLen
	// A bucket below lowShare of the median is suspect if the median is at least
	// lowMedian; below that, noise alone crosses the threshold.
	lowShare  = 0.2
	lowMedian = 10
	// doubt is how long before a hole at the end of a scope's data a bucket may be half
	// filled: filling was observed to take under four minutes.
	doubt = 10 * time.Minute
	// minScopes is how many scopes with traffic are needed to distinguish a late dataset
	// from a late zone.
	minScopes = 3
)

// Policy has the settling parameters of one dataset.
type Policy struct {
	Size     time.Duration
	Confirm  int           // equal readings that make a bucket final, at least 1
	Deadline time.Duration // age of the window's end
	Distinct bool          // levels are distinct counts, which do not add up
}

// Reading is one reading of one window.
type Reading struct {
	Start   bucket.Time
	Digest  uint64  // of all rows; equal readings have equal digests
	Empty   bool    // the response has the scope, with an empty list
	Level   float64 // the measure of the scope's traffic, for example requests
	Sampled bool    // Cloudflare sampled the data
	Closed  bool    // not due, not wanted, or final: it only serves to infer the lead of other windows
}

// Reason says why a window that was read is not final.
type Reason uint8

// The reasons, weakest first.
const (
	None     Reason = iota
	Settling        // too few readings, or readings differ
	Suspect         // was empty or far too low at some time, or ends shortly before such a hole
	Delayed         // the whole dataset is late
)

// Verdict is the decision on one reading.
type Verdict struct {
	Start bucket.Time
	// Final is not zero if the reading must be stored now.
	Final bucket.Finality
	// Reason is why it is not final, and Again when the next reading can count.
	Reason Reason
	Again  bucket.Time
	// First is the first reading of the window, Since the first of the current equal
	// readings, and Equal their number.
	First, Since bucket.Time
	Equal        int
}
