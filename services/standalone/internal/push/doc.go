// Package push sends the samples of the log to a receiver, each at least once, in the order
// of the log.
//
// # Batches and the cursor
//
// A [batch] is consecutive entries of the log with at most one window of each dataset and
// scope. So a series has one sample in it, samples of a series ascend from batch to batch as
// they do in the log, and a batch that is sent again repeats the newest sample of each
// series with an equal value, which every receiver takes without an out-of-order window.
//
// The cursor is a place in one history of one store. It is written, and is on the disk,
// after the receiver has acknowledged the batch or its refusals are in the report. Whatever
// ends the process, what follows the cursor is sent again, and nothing else.
//
// # What is sent
//
// Buckets of every origin: also those that a backfill brought into the store. Restatements
// are not sent, since receivers keep the first value of a sample. Samples are those that
// /metrics of an exposer shows.
//
// # History
//
// A push that begins with an age has a cursor with a [History] before it sends anything: the
// head of the log, and a place in the lists of the buckets of single days. A page of a list is
// read whole and then sent, so no stream waits for the receiver. What is newer than the head is
// left out of the lists, and follows in the log.
//
// # What a receiver refuses
//
// A rejected request is divided, so that a sample takes no others along. What is refused while
// the receiver takes something else is written to the report as whole windows, which weir
// backfill import takes, and the push goes on. A receiver that refuses everything is asked
// again, with pauses, until it takes the batch. One of OTLP that answers neither yes nor no is
// not asked again.
//
// # When the cursor has no place in the log
//
// If the collector no longer has the entry behind the cursor, or the cursor is of another
// store or history, the push halts and says so. It asks again every minute, since another
// collector may know better, and never continues elsewhere by itself.
package push
