// Package expo writes final buckets in the two exposition formats that Prometheus
// scrapes: text 0.0.4 and OpenMetrics 1.0. It is pure: no clock, no network.
//
// The unit of output is the [Segment]: the samples of one family in one bucket,
// rendered once when the bucket arrives. A body has for each family, in order of name,
// its header ([AppendHeader]) and its segments in order of window and scope, and ends
// with [AppendEnd]. A segment has one timestamp, so samples ascend in time inside each
// series, as Prometheus requires. Segments are held as text; OpenMetrics is made of
// them when it is sent ([AppendLines]).
//
// The two formats differ in the unit of timestamps, and a mistake is not noticed at
// once: text with seconds is dropped as out of bounds; OpenMetrics with milliseconds
// makes blocks dated in the year 58,000, whose import deletes all others through
// retention. A timestamp therefore has one type, [sample.Millis], and one function
// per format.
package expo
