// Package recent holds the recent final buckets of one history, rendered, and
// decides which of them a scrape shows. It is pure: entries and the time are
// parameters.
//
// # What is held
//
// [Buckets] belongs to the one goroutine that reads the stream. It takes
// definitions and buckets, and returns a [State] whenever the stream confirms a
// point: an immutable value that any number of scrapes read while Buckets changes.
// States share unchanged data: a bucket is rendered once, and a slot (all buckets of a
// dataset in one window) is written anew only if buckets have arrived in it since the
// state before. A slot has a [Column] for each family, which is what bodies are made of.
//
// Windows beyond the dataset's depth, and windows whose samples have passed the
// maximum age, are dropped. Both rules depend only on the entries and the time, so
// an exposer that has followed for weeks and one that has just taken a snapshot
// hold the same buckets (G5).
//
// # What is shown
//
// A scrape repeats recent buckets, so that a Prometheus that was down, partitioned
// or slow gets the samples it missed with its next scrape. Three limits make the
// [Choice]:
//
//   - Age. Prometheus fails a whole scrape over one sample that is older than
//     its out-of-order window, so no sample older than the maximum age is ever
//     shown. Age is measured against the clock at the time of the scrape.
//   - Depth. From 33 samples per series on, Prometheus stores each repeated
//     sample again at every scrape, because it detects repeats only inside one
//     out-of-order chunk of 32. [MaxDepth] is below that, for each series,
//     however many datasets have samples of it; a dataset's definition may set
//     less.
//   - Size. A body costs Prometheus about 7 kB of memory per sample. Above the
//     soft limit the oldest windows are left out, first those of breakdowns,
//     then those of totals, always for all series at once, so that all graphs
//     end at the same time. [Floor] windows of every dataset always stay. If
//     that still exceeds the hard limit, the result is an error.
//
// Every decision applies to a (dataset, role, window). A window that expires only
// shortens the choice at its old end, so a choice is valid until its expiry: equal
// windows and settings, at any two times before the same expiry, give equal choices
// (G5).
package recent
