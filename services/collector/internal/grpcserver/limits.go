package grpcserver

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/tap"
)

// retryCall is when a rejected call may be retried; see [reason.Later].
const retryCall = 5 * time.Second

// tap checks a call when its headers have arrived, before anything else is read or
// allocated, and counts it until it ends.
func (s *Server) tap(ctx context.Context, call *tap.Info) (context.Context, error) {
	if call.FullMethodName == healthv1.Health_Check_FullMethodName {
		return ctx, nil // so that a probe tells a busy collector from a dead one
	}
	if s.calls.Add(1) > int64(s.c.Calls) {
		s.calls.Add(-1)
		return nil, reason.Later(codes.ResourceExhausted, "TOO_MANY_STREAMS", "call limit reached; back off, or try another collector", retryCall)
	}
	context.AfterFunc(ctx, func() { s.calls.Add(-1) })
	return ctx, nil
}

// crowd is a listener with a connection limit. A connection beyond the limit is closed
// at once, before it is read: its client can try another collector, which it would not
// while it waits in the backlog.
type crowd struct {
	net.Listener
	limit int
	log   *quiet.Log

	mu sync.Mutex
	n  int
}

func newCrowd(l net.Listener, limit int, log *slog.Logger) *crowd {
	return &crowd{Listener: l, limit: limit, log: quiet.New(log, time.Minute)}
}

// Accept implements net.Listener.
func (c *crowd) Accept() (net.Conn, error) {
	for {
		conn, err := c.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c.enter() {
			return &member{Conn: conn, leave: sync.OnceFunc(c.leave)}, nil
		}
		_ = conn.Close()
	}
}

func (c *crowd) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n < c.limit {
		c.n++
		return true
	}
	// A client that opens connections in a loop must not fill the log.
	c.log.Warn("", "gRPC connection limit reached, closing new connections", "limit", c.limit)
	return false
}

func (c *crowd) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n--
}

// member is a connection of a crowd.
type member struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (m *member) Close() error {
	m.leave()
	return m.Conn.Close()
}
