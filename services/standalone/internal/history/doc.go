// Package history reads stored buckets from a collector and returns their samples, in
// order and in bounded memory. It is the common source of exports, imports and
// comparisons, so that all three agree on what the store holds.
//
// Work is divided into chunks: a [Group] of datasets that share metric families, one UTC
// day, and a batch of scopes. No window crosses midnight UTC, so every window lies in one
// chunk. A series that two datasets have had one after another, such as http_5m and
// http_1h after a change of bucket size, lies in one group.
package history
