// Package backfill writes stored history as an exposition, for promtool, for
// importers and for the eye: what /backfill and /cloudflare/backfill serve.
//
// One sample per bucket, with the timestamp that a scrape would have shown,
// family by family: for each family the store is listed once, in order of
// window and scope, and each bucket is written as it comes. Memory does not
// depend on the length of the range.
//
// Output with a step, or extended to now, repeats values so that a graph shows
// steps. It is for the eye: its families are named <family>_stepped, because
// once such samples were loaded under the real names, every sum over time
// would be wrong by the number of repeats.
//
// Every sample's instant is checked before it is written (after 2001, before
// now). A file with one unit mistaken for the other is accepted by promtool,
// and loading it makes Prometheus delete everything else through retention.
package backfill
