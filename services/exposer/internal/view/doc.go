// Package view builds the response bodies of /metrics from the recent buckets and
// caches them for as long as they are valid.
//
// A [View] is the answer to one query at one point of the log: the choice of
// windows, and the body in each format and encoding, listed at the first request
// and then cached. A [Body] is a list of parts. Those of a window and family are made
// once, compressed ones too, and shared by all bodies that show them, so the first
// scrape after a commit pays for what the commit has changed. A truncated response
// cannot look complete, because Content-Length precedes the first byte.
//
// A sink ([Board.Sink]) receives the stream: it holds the recent buckets and
// publishes a state for each confirmed point.
//
// A [Board] holds the current state and the views built from it. A view is
// replaced when the stream confirms a later point, when its oldest window expires, or
// when another turn begins. Views are built lazily: a busy collector confirms a point
// every second, and Prometheus scrapes about once a minute.
package view
