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
// # What a receiver refuses
//
// A rejected request is divided, so that a sample takes no others along. What is refused for
// a reason that is about samples is written to the report as whole windows, which weir
// backfill import takes, and the push goes on. A receiver that refuses everything for
// another reason is asked again, with pauses, until it takes the batch.
//
// # When the cursor has no place in the log
//
// If the collector no longer has the entry behind the cursor, or the cursor is of another
// store or history, the push halts and says so. It asks again every minute, since another
// collector may know better, and never continues elsewhere by itself.
package push
