// Package totals keeps the totals of counters beside the log, so that a reader need not fold
// a whole epoch (package counter has the arithmetic).
//
// The totals are records: chunks with the messages of the contract, compressed, and a
// header that names the epoch, the position of the log that they belong to, and their
// chunks. Two sets of chunks take turns, and the header is written last, so that a leader
// that dies in between leaves the old totals. A release that does not know them may lead in
// between: the next one reads the log on from where the totals are.
//
// An [Advance] reads what is stored, adds what the log has since, and returns the records of
// the result. It remembers nothing between two calls.
package totals
