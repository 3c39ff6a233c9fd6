// Package replay decides which of the recent final buckets a scrape repeats.
// It is pure: windows and a time in, a choice out.
//
// Why anything is repeated: a Prometheus that was down, cut off or slow finds
// the buckets that it missed in its next scrape. Why not everything:
//
//   - Age. Prometheus fails a whole scrape over one sample that is older than
//     its out-of-order window, so no sample older than the bound is ever
//     served, measured against the clock at the moment of serving.
//   - Depth. From 33 samples per series on, Prometheus stores each repeat
//     again, at every scrape and for ever, because it recognises repeats only
//     inside one out-of-order chunk of 32. [MaxDepth] is below that, and a
//     dataset's definition may say less.
//   - Size. A body costs its reader about 7 kB of memory a sample. Above the
//     soft limit the oldest windows are left out, first of the breakdowns,
//     then of the totals, always for all series at once, so that a graph ends
//     for everybody at the same place. [Floor] windows of everything stay. If
//     that is still more than the hard limit, there is an error, not a body.
//
// The unit of every decision is (dataset, role, window). A window that
// expires only shortens the choice at its old end, so a choice holds until
// the instant that it names: equal windows, settings and time on the same
// side of that instant give equal choices (G5).
package replay
