// Package poll is the collector's loop: it brings the pure parts (plan, settle,
// roster, ledger, catalogue) together with Cloudflare, the budget and the store.
//
// The loop is level-triggered. A pass compares what ought to be final with
// what is, asks for the difference, judges the answers and commits what is
// final; then it waits until a window falls due, a reading or a retry may
// count, or the collection interval is over. A pass remembers nothing that the
// next one needs, except readings, which are allowed to be lost: when the
// store fails, the pass ends with the error, the lease is given up, and whoever
// wins it next loads its state from the store and goes on with the difference.
//
// Order of trust inside a pass: what Cloudflare says is judged before it is
// believed (settle), what is believed is committed before it is remembered
// (store.Append), and the ledger's records travel in the same commit as the
// buckets that close them.
//
// Cloudflare is asked by lines, one for each credential. A line has a client, a
// budget and failures of its own, and each scope belongs to one; a pass asks them by
// turns.
//
// A term is composed of parts that belong to one goroutine. What is known: faults
// (what fails, and when it may be tried again) and books (who there is, what is
// stored, decided and missing). Who works: discoverer (lists zones), asker (sends
// questions, and finds out who is to blame when one is refused), settings (reads what
// plans allow, in turns with asker), judge (decides what is final), auditor (reads a
// sample again), writer (appends through package journal), and reporter (problems and
// gauges). Each embeds the parts that it uses. A pass calls them in turn.
package poll
