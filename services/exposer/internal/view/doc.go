// Package view builds the response bodies of /metrics from the recent buckets and
// caches them for as long as they are valid.
//
// A [View] is the answer to one query at one point of the log: the choice of
// windows, and the body in each format and encoding, built at the first request
// and then cached. A scrape copies these bytes, so its cost does not depend on the
// number of series. A truncated response cannot look complete, because
// Content-Length precedes the first byte.
//
// A sink ([Board.Sink]) receives the stream: it holds the recent buckets and
// publishes a state for each confirmed point.
//
// A [Board] holds the current state and the views built from it. A view is
// replaced when the stream confirms a later point, or when its oldest window
// expires. Views are built lazily: a busy collector confirms a point every second,
// and Prometheus scrapes about once a minute.
package view
