// Package counters serves /counters: the totals of package counter, kept up to date from
// a stream of their own, as counters of Prometheus.
//
// An [Ingest] reads the stream into a history: totals, and the entries after them. A
// [Board] has the history that is served, and renders a page of it at the time of the
// request. A page is a function of the log and of the time, so that the pages of all
// exposers are one: it is refused ([Unavailable]) unless every entry that was committed
// more than [counter.Announced] before has arrived, which the stream confirms.
//
// Two things would make a counter step back, and Prometheus add all of it again:
//
//   - A restored store has lost entries that were counted. When the stream says that the
//     history has changed, nothing is served until an epoch with another id begins. The
//     operator begins it, by a command.
//   - An exposer that was cut off may serve the epoch before for as long as it has
//     confirmation for. A new epoch is therefore shown when that is over.
//
// What a page shows of a series each time is rendered once, and shared by the series that show
// it ([counter.Owner], [counter.Own]).
package counters
