// Package quota keeps Weir inside its share of a Cloudflare user's query limit
// (guarantee G7): in no five-minute span are more requests sent than the share,
// over restarts, failovers and command-line tools alike.
//
// Cloudflare counts per user, so a [Limiter] belongs to a user. Every request
// needs a permit. Permits are reserved in the store in small blocks, and each
// counts against the share until its use-by time plus five minutes: the latest time at
// which a request with it could be in the same span as others. Processes therefore need
// not know of each other, and if one crashes, the requests that it may have sent still
// count until they expire.
//
// With this alone, only five sixths of the share could be used, since a permit that is used
// at once would count for six minutes. So with its next reservation a process settles the
// blocks that are no longer in use: used permits count from the end of their request, since
// Cloudflare has counted it by then, and unused permits no longer count. Only the process
// that holds a block can settle it, and it reports durations, which do not change when a
// clock is set. A process that does not settle its blocks only loses throughput.
//
// Without the store no block can be reserved: the rest of the current block may be used
// until its use-by time, then no request is sent. This is intended.
//
// # Lanes
//
// Background work gets what urgent work does not need, according to the planner's estimate.
// So a long backfill never delays a fresh window, and the whole share is usable. A backfill
// gets three quarters of that, so that a repair need not wait until its permits count no more.
//
// # Budget errors
//
// The user's limit is shared with dashboards and other programs. If Cloudflare rejects a
// request although Weir is within its share, another program uses the rest: the limiter
// pauses for the requested time and halves its share for an hour.
package quota
