// Package settle decides when a reading of a window may be stored for ever.
//
// Cloudflare publishes no moment at which a bucket is complete, gives no mark
// in the answer, and shows young buckets partly filled, sometimes not even
// monotonically (recorded: a bucket almost five minutes old at 64 % while a
// younger one was full). So a window is trusted for what its readings do:
//
//   - An answer tells by its rows how far the data had come past a window: to
//     the newest window with any, or, where that is the next one, as far into it
//     as its level is a share of the window's own. A reading counts when that is
//     two minutes: less may be there before the last rows of the window, while
//     data is late, catches up, or stands still.
//   - A window is first read when it is older than its delay. It is final when
//     Confirm readings in a row, each at least a minute after the one before,
//     counted and were equal in every row.
//   - Where no equal reading is waited for, the data must have come five minutes
//     past the window. Then a reading that Cloudflare sampled, which can differ
//     from the next for ever, is final by itself, and so is one of a window that
//     was first read after its deadline; and at its deadline a window is stored
//     with the last reading though readings differ, and marked so.
//   - A window after which its answer has nothing is doubtful: it may be filling.
//     It needs two equal readings ten minutes apart (one that is sampled: ten
//     minutes of readings that count). Where the scope usually has so much that
//     ten more should have come since, the last must count as well.
//   - A reading that is empty, or far below what the scope usually has, is
//     suspect: "not arrived yet" looks just like "no traffic". A window that
//     was ever suspect is doubtful for good, and the last of its readings must
//     count (what came after has arrived, where this answer came from), or it
//     must have an age that no delay was ever seen to reach. The deadline does
//     not apply to it.
//   - A scope whose recent buckets are all empty is quiet, and its next empty
//     bucket is doubtful and not suspect.
//   - When the newest windows of a scope look suspect in any dataset, its data
//     is late, and every window that reaches into that hole, or stands just
//     before it, may be half filled though it looks ordinary: it is doubtful,
//     and needs the ten minutes too.
//   - When more than a third of the scopes with traffic, those that have ended
//     aside, look suspect in one window, the dataset itself is late: nothing from that window on becomes
//     final before it is a day old, unless the dataset recovers. When ordinary
//     windows have come after it, what still looks suspect in it waits alone.
//
// Readings live in memory. What must survive a change of leader is only that a
// window was suspect; the gap ledger keeps that, and [Dataset.Restore] brings it
// back. A genuine zero costs latency, never truth (G1, G3).
//
// The package is pure: no clock, no I/O, no goroutine. A [Dataset] belongs to
// one goroutine.
package settle

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// The constants of the rules above. They are not settings: a wrong guess here
// would trade truth for freshness.
const (
	// Spacing is the least time between two readings that count as two.
	Spacing = time.Minute
	// AgreeApart is how far apart the two equal readings of a window must be
	// that was suspect or doubtful.
	AgreeApart = 10 * time.Minute
	// Enough is how far past a window the data of an answer must have come, by its
	// rows, for the reading to count: filling was seen to take under four minutes,
	// and as much of what came after is there two minutes later at the latest. Where
	// nothing is late it is there when a window is first read.
	Enough = 2 * time.Minute
	// Beyond is how far it must have come where no other reading is waited for.
	// Questions are made to reach as far.
	Beyond = 5 * time.Minute
	// distinct counts of an hour's first minutes are so much larger a share of the
	// hour's than their time is, at most.
	distinct = 4
	// SuspectAge makes an empty answer credible by itself; for young scopes
	// YoungAge does, since Cloudflare delays new Free zones by up to a day.
	SuspectAge = 6 * time.Hour
	YoungAge   = 24 * time.Hour
	// keepMargin before Cloudflare drops a window, its silence is believed.
	keepMargin = 2 * time.Hour
	// DelayedAge ends the wait for a dataset that is late as a whole.
	DelayedAge = 24 * time.Hour
	// historyLen buckets tell a scope's level.
	historyLen = 12
	// nearby windows before a bucket may say whether its level is low: twice
	// the history, so that a few holes in it do no harm.
	nearby = 2 * historyLen
	// A bucket below lowShare of the median is suspect where the median is at
	// least lowMedian; under that, noise alone crosses the line.
	lowShare  = 0.2
	lowMedian = 10
	// doubt is how long before a hole at the end of a scope's data a bucket may
	// be half filled: filling was seen to take under four minutes.
	doubt = 10 * time.Minute
	// minScopes with traffic are needed to tell a late dataset from a late zone.
	minScopes = 3
)

// Policy is how one dataset settles.
type Policy struct {
	Size     time.Duration
	Confirm  int           // equal readings that make a bucket final, at least 1
	Deadline time.Duration // age of the window's end
	Distinct bool          // levels are distinct counts, which do not add up
}

// Reading is one look at one window.
type Reading struct {
	Start   bucket.Time
	Digest  uint64  // of all rows; equal readings have equal digests
	Empty   bool    // the scope's object was there, with an empty list
	Level   float64 // what the scope is measured by, for example requests
	Sampled bool    // Cloudflare answered from a sample
	Closed  bool    // not due, not wanted, or final: only shows, by its level too, how far the data has come
}

// Reason says why a window that was read is not final.
type Reason uint8

// The reasons, weakest first.
const (
	None     Reason = iota
	Settling        // readings are few, or differ
	Suspect         // was empty or far too low at some time, or stands before such a hole
	Delayed         // the whole dataset is late
)

// Verdict is the decision on one reading.
type Verdict struct {
	Start bucket.Time
	// Final is not zero when the reading is to be stored now.
	Final bucket.Finality
	// Reason and Again say why not, and when the next reading may count.
	Reason Reason
	Again  bucket.Time
	// First is when the window was first read, Since when it first read as it
	// does now, and Equal how often in a row it did.
	First, Since bucket.Time
	Equal        int
}
