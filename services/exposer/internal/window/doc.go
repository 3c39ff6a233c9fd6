// Package window holds the recent final buckets that a scrape may repeat,
// rendered. It is pure: it is told what arrived and what time it is.
//
// A [Recent] belongs to the one goroutine that reads the stream. It is fed with
// definitions and buckets and gives out a [State] whenever the stream has
// confirmed a point: an immutable value that any number of scrapes read while
// the Recent goes on. States share what did not change between them: a bucket
// is rendered once and copied never, and a slot (all buckets of a dataset in one
// window) is copied only if it grows after it was given out.
//
// A new snapshot is built in a new Recent beside the old one, whose last State
// is served until the new one is complete.
//
// What no replay can want is dropped: windows beyond the dataset's depth, and
// windows whose samples have passed the age bound. Both drops are functions of
// what was fed and of the time, so that an exposer that has followed for weeks
// and one that took a snapshot a moment ago hold the same (G5).
package window
