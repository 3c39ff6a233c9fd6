// Package backfill writes stored history as an exposition, for promtool, other
// importers and graphs. It serves /backfill and /cloudflare/backfill.
//
// The output has one sample per bucket, with the timestamp that a scrape would have
// shown, family by family, and inside a family in order of window and scope. The store has
// the families of a bucket together. So a dataset is listed once, for the first of its
// families: that one is written as it arrives, and the rows of the others wait in a spool
// for their turn, in a few bytes a row. The spool has a fixed size. What does not fit, the
// families that are needed last, is listed again when its turn comes, again with as many of
// the others as fit. Memory does not depend on the length of the range, except for the
// coverage, which is requested once.
//
// With a step there are three kinds of output, which differ in the family's name
// ([Kind]): a bucket as long as the step is unchanged, a longer one is repeated for
// display, shorter ones are summed. Repeated samples under the original names would
// multiply every sum over time. Sums cover whole steps: memory holds all scopes of
// one step.
//
// The output begins with notes on what it lacks, according to the collector's
// coverage.
//
// Every timestamp is checked before it is written (after 2001, before now). promtool
// accepts a file whose timestamps are in the wrong unit, and importing it makes
// Prometheus delete all other blocks through retention.
package backfill
