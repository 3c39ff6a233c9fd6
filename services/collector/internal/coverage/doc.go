// Package coverage is the one picture of what is known of every window: whether it
// is final, and if not, why. The loop, the BucketService and whatever else asks
// "what is missing?" read it here, so that they cannot disagree.
//
// A [Book] holds the facts by series, as they are stored: spans of final windows,
// spans of those whose entry cannot be read, decisions, and the gaps as the leader
// last wrote them. A [View] is the picture of one claim: [View.Ranges] gives each
// window exactly one [State], and every other answer is derived from the same
// facts.
//
// Which gaps there are is the loop's to say, since only the leader knows what it
// asked and what came back. The package reads them; it never makes them.
//
// Everything but [Read] is pure. A Book belongs to one goroutine.
package coverage
