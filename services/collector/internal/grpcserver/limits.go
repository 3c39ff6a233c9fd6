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

// retryCall is when a call that was refused may try again; see
// [reason.Later].
const retryCall = 5 * time.Second

// tap looks at a call when its headers have come and before anything is read or
// started for it, and counts it until it ends.
func (s *Server) tap(ctx context.Context, call *tap.Info) (context.Context, error) {
	if call.FullMethodName == healthv1.Health_Check_FullMethodName {
		return ctx, nil // so that a probe tells a busy collector from a dead one
	}
	if s.calls.Add(1) > int64(s.c.Calls) {
		s.calls.Add(-1)
		return nil, reason.Later(codes.ResourceExhausted, "TOO_MANY_STREAMS", "the limit of calls of this collector is reached; back off, or try another one", retryCall)
	}
	context.AfterFunc(ctx, func() { s.calls.Add(-1) })
	return ctx, nil
}

// crowd is a listener with a limit of connections. One too many is closed at
// once, before any of its bytes is looked at: its client learns that it should
// go elsewhere, which it would not in a backlog.
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
	// Whoever opens connections in a loop shall not write our log.
	c.log.Warn("", "limit of gRPC connections is reached, closing new ones", "limit", c.limit)
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
