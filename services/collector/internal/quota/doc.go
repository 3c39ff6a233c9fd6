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
// counted, and lapses by itself. The price is a few permits that nobody uses.
//
// Without the store no block can be had: what is left of the present one may be
// used until its use-by time, then nothing is sent. That is meant.
//
// # Lanes
//
// Work in the background may reserve only while a part of the share is still
// free, so that a long backfill never makes a fresh window wait.
//
// # Budget errors
//
// The user's limit is shared with dashboards and other programs that Weir does
// not see. When Cloudflare refuses although Weir is within its share, somebody
// else uses the rest: the limiter pauses for as long as it is told and halves
// its share for an hour.
package quota
