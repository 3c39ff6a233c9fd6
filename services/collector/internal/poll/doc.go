// Package poll is the collector's loop: it connects the pure packages (plan, settle,
// roster, ledger, catalogue) with Cloudflare, the budget and the store.
//
// The loop is level-triggered. A pass compares the windows that should be final with those
// that are, requests the difference, judges the responses and commits what is final. Then
// it waits until a window falls due, a reading or a retry may count, or the collection
// interval is over. A pass leaves nothing in memory that the next one needs, except
// readings, which may be lost: if the store fails, the pass ends with the error, the lease
// is released, and the next leader loads its state from the store and continues.
//
// The order inside a pass: a response is judged (settle) before it counts, a bucket is
// committed (store.Append) before it is remembered, and the ledger's records are in the
// same commit as the buckets that close them.
//
// Requests are sent by lines, one for each credential. A line has a client, a budget and
// failures of its own, and each scope belongs to one line; in a pass the lines take turns.
//
// A term ([state]) is composed of parts that belong to one goroutine. All of them embed
// [env]: clocks, catalogue, metrics, problems, log. Every other dependency is a field: another
// part, a function of one, or the methods of the store that the part uses. The parts that
// hold what is known:
//
//   - faults: what fails, and when it may be tried again
//   - books: zones and accounts, and which windows are final, decided or missing
//   - history: the newest stored buckets, for the settling rules
//   - drift: statistics of settling and audits
//
// The parts that work, in the order of a pass:
//
//   - discoverer lists zones and accounts
//   - settings reads what plans allow, in turns with asker
//   - retention drops old buckets
//   - asker requests data, and finds out which part of a request is refused
//   - judge decides which windows of a response are final
//   - auditor reads a sample again
//   - inspector reads the log for damage
//   - recorder writes the gaps and other records
//   - reporter sets problems and gauges
//
// Requests of operators (requests.go) are carried out by the same goroutine, between two
// requests to Cloudflare and while the loop waits for the next pass. What a request changes
// and its audit event are one append.
//
// They share sender (permits and requests) and writer (appends, with package journal).
package poll
