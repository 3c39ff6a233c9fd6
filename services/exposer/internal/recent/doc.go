// Package recent holds the recent final buckets of one history, rendered, and
// decides which of them a scrape shows. It is pure: it is told what arrived and
// what time it is.
//
// # What is held
//
// [Buckets] belongs to the one goroutine that reads the stream. It is fed with
// definitions and buckets and gives out a [State] whenever the stream has
// confirmed a point: an immutable value that any number of scrapes read while
// the Buckets go on. States share what did not change between them: a bucket is
// rendered once and copied never, and a slot (all buckets of a dataset in one
// window) is copied only if it grows after it was given out.
//
// What no scrape can want is dropped: windows beyond the dataset's depth, and
// windows whose samples have passed the age bound. Both drops are functions of
// what was fed and of the time, so that an exposer that has followed for weeks
// and one that took a snapshot a moment ago hold the same (G5).
//
// # What is shown
//
// A scrape repeats recent buckets, so that a Prometheus that was down, cut off or
// slow finds what it missed in its next one. A [Choice] says which:
//
//   - Age. Prometheus fails a whole scrape over one sample that is older than
//     its out-of-order window, so no sample older than the bound is ever
//     shown, measured against the clock at the moment of serving.
//   - Depth. From 33 samples per series on, Prometheus stores each repeat
//     again, at every scrape and for ever, because it recognises repeats only
//     inside one out-of-order chunk of 32. [MaxDepth] is below that, for each
//     series, however many datasets have samples of it; a dataset's definition
//     may say less.
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
package recent
