// Package backfill writes stored history as an exposition, for promtool, for
// importers and for the eye: what /backfill and /cloudflare/backfill serve.
//
// One sample per bucket, with the timestamp that a scrape would have shown,
// family by family: for each family the store is listed once, in order of
// window and scope, and each bucket is written as it comes. Memory does not
// depend on the length of the range, but for the coverage, which is asked once.
//
// With a step there are three kinds of output, told apart by the family's name
// ([Kind]): buckets as long as the step are as without one; longer ones are
// repeated, for the eye; shorter ones are added up. Repeated samples that were
// loaded under the real names would make every sum over time wrong by the number
// of repeats. Sums are of whole steps: of one step all scopes are held, and
// nothing of the steps before.
//
// The output begins with what it lacks, as the collector's coverage has it.
//
// Every sample's instant is checked before it is written (after 2001, before
// now). A file with one unit mistaken for the other is accepted by promtool,
// and loading it makes Prometheus delete everything else through retention.
package backfill
