// Package view turns what is held into finished bodies and keeps them until
// they may no longer be served.
//
// A [View] is what one query gets at one point of the log: the choice of
// windows, and the body in each format and encoding, made when it is first
// asked for and then kept. A scrape writes finished bytes; its cost does not
// depend on the number of series, and an interrupted one cannot leave a body
// that looks whole, because the length was announced before the first byte.
//
// The stream comes in through a sink ([Board.Sink]), which holds the recent
// buckets and publishes a state of them for each point that is confirmed.
//
// A [Board] holds the present state and the views made of it. A view is
// replaced when the stream confirms a later point, or at the instant at which
// its oldest window expires. Building lazily is deliberate: a busy collector
// confirms a point every second, a Prometheus asks once a minute.
package view
