// Package verify compares what a Prometheus holds with what the store holds, sample by
// sample, in bounded memory: a chunk of package history at a time.
//
// A sample is missing if the store has it and Prometheus does not, extra if only
// Prometheus has it, and different if the values differ in any bit. A sample that a scrape
// need not have shown yet is pending, and no difference: [Schedule] says until when.
//
// Prometheus is read before the store. A bucket that is committed in between is then
// pending; the other way round its samples would be extra.
package verify
