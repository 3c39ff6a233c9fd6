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
// The newest windows of each dataset are held, counted back from the newest one that is
// stored, and the pages of older windows that are in turn now or in the next turn
// ([Buckets.Turn], [Buckets.Fill]; package carousel has the rule). All others, and windows
// whose samples have passed the maximum age, are dropped. This depends only on the
// entries, the time and the rounds that scrapes ask for, so an exposer that has followed
// for weeks and one that has just taken a snapshot hold the same buckets once their pages
// are complete (G5).
//
// # What is shown
//
// A scrape shows the newest windows and, while a round is due, the page in turn, so that a
// Prometheus that was down, partitioned or slow gets the samples it missed. A page that is
// not complete is not shown. Four limits make the [Choice]:
//
//   - Age. Prometheus fails a whole scrape over one sample that is older than
//     its out-of-order window, so no sample older than the maximum age is ever
//     shown. Age is measured against the clock at the time of the scrape.
//   - Youth. A window of an hour or more is among the newest only while Prometheus
//     takes its sample in order (carousel.Young).
//   - Depth. From 33 samples per series on, Prometheus stores each repeated
//     sample again at every scrape, because it detects repeats only inside one
//     out-of-order chunk of 32. [MaxDepth] is below that, for each series,
//     however many datasets have samples of it; a dataset's definition may set
//     less.
//   - Size. A body costs Prometheus about 0.7 kB of memory per sample. Above the
//     soft limit the oldest windows are left out, those of pages before the newest
//     windows, breakdowns before totals, always for all series at once, so that all
//     graphs end at the same time. [Floor] newest windows of every dataset always stay.
//     If that still exceeds the hard limit, the result is an error.
//
// Every decision applies to a (dataset, role, window). A choice is valid until its expiry:
// the next turn, or the first change of its windows by age. Equal windows, settings and
// rounds, at any two times before the same expiry, give equal choices (G5).
package recent
