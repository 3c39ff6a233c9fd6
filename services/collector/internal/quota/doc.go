// Package quota keeps Weir inside its share of a Cloudflare user's query limit
// (guarantee G7): in no five-minute span are more requests sent than the share,
// over restarts, failovers and command-line tools alike.
//
// Cloudflare counts per user, so a [Limiter] belongs to a user. Every request
// needs a permit. Permits are reserved in the store in small blocks, and each
// counts against the share until its use-by time plus five minutes: the latest
// moment at which a request sent with it could still lie in a span with others.
// Two processes therefore need not know of each other, and one that crashes
// with a block in hand cannot be forgotten: what it might have sent stays
// counted, and lapses by itself.
//
// Were that all, a share that is used up would give five sixths of what it could:
// permits that are used at once would count for six minutes. So with its next
// reservation a process settles the blocks of which nothing is in use any more:
// their permits count from when each request was over, since Cloudflare has counted
// it by then, and those that nobody used count no more. Only the process that
// holds a block can say so, and it says it as a length of time, which no clock that
// is set changes. One that says nothing loses nothing but speed.
//
// Without the store no block can be had: what is left of the present one may be
// used until its use-by time, then nothing is sent. That is meant.
//
// # Lanes
//
// Work in the background has what urgent work does not need, as the planner
// reckons it, so that a long backfill never makes a fresh window wait, and nothing
// of the share is left unused.
//
// # Budget errors
//
// The user's limit is shared with dashboards and other programs that Weir does
// not see. When Cloudflare refuses although Weir is within its share, somebody
// else uses the rest: the limiter pauses for as long as it is told and halves
// its share for an hour.
package quota
