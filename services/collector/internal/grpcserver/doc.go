// Package grpcserver is the gRPC server that all services share. Panics become
// INTERNAL, calls are logged and counted, the standard health service reports the
// process's readiness, and keepalive detects dead peers. Shutdown reports "not
// serving", lets the services end their streams, waits for the remaining calls up to
// the drain time, and closes.
//
// The caller registers the services.
package grpcserver
