// Package grpcserver is the door of every gRPC listener: what all services
// behind it share. Panics become INTERNAL answers, calls are logged and counted,
// the standard health service follows the process's readiness, dead peers are
// noticed, and stopping is orderly: say "not serving", let the services send
// their streams away, wait for the rest within a bound, then close.
//
// It knows no service; the caller registers them.
package grpcserver
