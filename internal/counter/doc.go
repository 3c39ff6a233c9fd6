// Package counter turns the buckets of a log into counters. It is pure: entries and the
// time are parameters.
//
// # What is counted
//
// A [Fold] adds up the additive values of buckets, entry by entry in the order of
// revisions, since the first entry that it was given: the beginning of an epoch. Buckets
// that are committed in time are summed to the live total of their series, those that are
// late to its late total. Of the origin only backfill counts: it enters neither. What was
// due before the first bucket with its family was committed for its zone or account enters
// neither as well: it is the history with which collecting begins, and a total that began
// with it would show the traffic of a day in one step. A family that is collected at another
// bucket size goes on, and so do its series.
//
// # Playout
//
// A total that grew by a whole bucket at once would make rate() a comb. So a live bucket is
// played out in its turn, which begins at the start of its window plus the delay of its
// dataset ([Delay]), and is as long as the window. It begins to count [Announced] after its
// commit if that is later than the beginning of its turn, and ends with it: the share
// (t - s) / (e - s) of it counts at time t, where s is when it begins and e the end of the
// turn. A bucket that would begin after a quarter of its turn is late. So the rate of a live
// total is at most a third above that of the window. A live total is then the traffic as it
// was a delay ago: continuous, never decreasing, and exactly the sum of the buckets once they
// are played out. Whole numbers stay whole numbers on the way. A late bucket counts as a
// whole, [Announced] after its commit.
//
// Nothing depends on when an entry arrived or when a value was asked for before: a value is
// a function of the entries and of t. Readers agree bit by bit, since every one adds the
// same numbers in the same order, that of the revisions. A reader must have all entries that
// were committed [Announced] before t; entries that follow change nothing at t.
//
// # Series
//
// A series is a family with the names and values of its labels and the names of the zone and
// the account, as the bucket has them. Where the names of labels change, other series begin
// beside those that were there. It is shown as 0 from the commit of its first bucket, so
// that a scrape has seen the 0 before the first amount. It is retired [Retire] after the
// last of its buckets has been played out; if it comes back it begins again at 0, with a
// start time of its own.
//
// The rules have a version ([Rules]). Totals of other rules cannot be continued.
package counter
