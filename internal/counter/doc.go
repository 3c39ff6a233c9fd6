// Package counter turns the buckets of a log into counters. It is pure: entries and the
// time are parameters.
//
// # What is counted
//
// A [Fold] adds up the additive values of buckets, entry by entry in the order of
// revisions, since the first entry that it was given: the beginning of an epoch. Buckets of
// origin live are summed to the live total of their series, those of origin repair to its
// late total; backfill enters neither. What was due before the first bucket of its dataset
// and its zone or account was committed enters neither as well: it is the history with which
// collecting begins, and a total that began with it would show the traffic of a day in one
// step.
//
// # Playout
//
// A total that grew by a whole bucket at once would make rate() a comb. So a live bucket is
// played out: at time t the share (t - s) / size of it counts, between 0 and 1, where s is
// the start of its window plus the delay of its dataset ([Delay]), and at least [Announced]
// after its commit. A live total is then the traffic as it was a delay ago: continuous,
// never decreasing, and exactly the sum of the buckets once they are played out. Whole
// numbers stay whole numbers on the way. A late bucket counts as a whole, [Announced] after
// its commit.
//
// Nothing depends on when an entry arrived or when a value was asked for before: a value is
// a function of the entries and of t. Readers agree bit by bit, since every one adds the
// same numbers in the same order, that of the revisions. A reader must have all entries that
// were committed [Announced] before t; entries that follow change nothing at t.
//
// # Series
//
// A series is a family with the label values of its rows and the names of the zone and the
// account, as the bucket has them. It is shown as 0 from the commit of its first bucket, so
// that a scrape has seen the 0 before the first amount. It is retired [Retire] after the
// last of its buckets has been played out; if it comes back it begins again at 0, with a
// start time of its own.
package counter
