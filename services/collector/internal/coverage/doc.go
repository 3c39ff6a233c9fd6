// Package coverage has the state of every window: whether it is final, and if not, why.
// The loop, the BucketService and all other code read it here, so that they agree.
//
// A [Book] holds the stored facts by series: spans of final windows, spans of unreadable
// windows, decisions, and the gaps as the leader last wrote them. A [View] is the
// coverage of one claim: [View.Ranges] gives each window exactly one [State], and all
// other results are derived from the same facts.
//
// Only the loop creates gaps, since only the leader knows its requests and their
// responses. This package reads them.
//
// Everything but [Read] is pure. A Book belongs to one goroutine.
package coverage
