// Package expo writes final buckets in the two exposition formats that
// Prometheus scrapes: text 0.0.4 and OpenMetrics 1.0. It is pure: bytes out of
// values, no clock, no network.
//
// The unit of output is the [Segment]: the samples of one family in one
// bucket, rendered once when the bucket arrives and copied into every body
// from then on. A body is, for each family in order of name, its header
// ([AppendHeader]) and its segments in order of window and scope, and at the
// end [AppendEnd]. Since each segment holds one instant, samples ascend in
// time inside each series, which Prometheus needs to store them.
//
// The two formats differ in the unit of timestamps, and getting it wrong is
// not noticed at once: text with seconds is dropped as out of bounds,
// OpenMetrics with milliseconds makes blocks dated in the year 58,000 whose
// loading deletes all others through retention. An instant therefore has one
// type, [sample.Millis], and one function for each spelling.
package expo
