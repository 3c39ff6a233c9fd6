package grpcserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/weir-metrics/weir/internal/loopback"
	"github.com/weir-metrics/weir/services/collector/internal/rawcodec"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
)

// Config configures a [Server]. Zero numbers mean the default.
type Config struct {
	Logger *slog.Logger // nil: no logs
	// Registerer registers the call metrics (grpc_server_…); nil: none.
	Registerer prometheus.Registerer
	// TLS secures the listener; nil: plain text, for loopback and service meshes. Run
	// logs it if other machines can reach the listener.
	TLS credentials.TransportCredentials
	// Tokens: clients send bearer tokens. Run warns if they do so in plain text.
	Tokens bool
	// Authorize checks a call before the service runs, and may extend its context.
	// Its error is sent to the client, so it should be a status with code
	// UNAUTHENTICATED or PERMISSION_DENIED. While a stream runs it is called again
	// with the same context, about once a second; if it then fails, the stream ends
	// with UNAVAILABLE. Health checks do not need it. nil: every call is allowed.
	Authorize func(ctx context.Context, method string) (context.Context, error)
	// Reflection enables server reflection on listeners that other machines can
	// reach. On loopback and in memory it is always enabled.
	Reflection bool
	// Drain is how long shutdown waits for calls to end. Default 10 s.
	Drain time.Duration
	// OnDrain is called once when shutdown begins, for the services to end their
	// streams, and must return at once. May be nil.
	OnDrain func()
	// Request is the maximum request size in bytes. Default 256 KiB: a filter with
	// 1,000 datasets and 1,000 scopes has 110 kB.
	Request int
	// Connections is the maximum number of connections; further ones are closed
	// at once. Default 2,048.
	Connections int
	// Calls is the maximum number of concurrent calls of all connections, streams
	// included; further ones are rejected with TOO_MANY_STREAMS before the request is
	// read. The services have lower limits; this one bounds the memory of requests
	// (Calls × Request). It does not apply to health checks. Default 4,096.
	Calls int
	// ConnectionAge is the age at which a client is asked to reconnect, so that load
	// spreads to added collectors, and an expired certificate is not used in an old
	// stream. Calls then have connectionGrace to end before they are aborted. Default
	// 1 h, plus or minus a tenth.
	ConnectionAge time.Duration
	// Register registers the services. Required.
	Register func(grpc.ServiceRegistrar)
}

const (
	// A peer is considered dead if it does not answer a ping within pingTimeout, sent
	// after pingAfter without data.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
	// Clients that ping more often are disconnected.
	minPing = 10 * time.Second
	// Timeout of the TLS and HTTP/2 handshakes, so that half-open connections do not
	// accumulate.
	handshake = 20 * time.Second
	// Concurrent calls per connection; an exposer needs a few. HTTP/2 makes a client
	// wait for more.
	callsPerConn = 256
	// A connection without calls is closed after this.
	idleConn = 15 * time.Minute
	// A snapshot may take as long (bucketsvc.Limits.Snapshot).
	connectionGrace = 5 * time.Minute
	// Bytes of a call's metadata; a token and a trace context need less than a tenth.
	maxHeaders = 16 << 10
	// Size of the read buffer: requests are small, and there may be thousands of
	// connections.
	readBuffer = 8 << 10
)

// Server is one gRPC server. Use [New]; run it once.
type Server struct {
	c      Config
	log    *slog.Logger
	grpc   *grpc.Server
	health *health.Server
	names  []string // of registered services, for the health service
	calls  atomic.Int64
	used   atomic.Bool
}

// New builds the server and registers the services.
func New(c Config) (*Server, error) {
	if c.Register == nil {
		return nil, errors.New("grpc server: a service to register is required")
	}
	if min(c.Drain, c.ConnectionAge) < 0 || min(c.Request, c.Connections, c.Calls) < 0 {
		return nil, fmt.Errorf("grpc server: drain time %s, connection age %s, request size %d, connections %d, calls %d: must not be negative",
			c.Drain, c.ConnectionAge, c.Request, c.Connections, c.Calls)
	}
	c.Drain = cmp.Or(c.Drain, 10*time.Second)
	c.ConnectionAge = cmp.Or(c.ConnectionAge, time.Hour)
	c.Request = cmp.Or(c.Request, 256<<10)
	c.Connections = cmp.Or(c.Connections, 2048)
	c.Calls = cmp.Or(c.Calls, 4096)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var metrics *grpcprom.ServerMetrics
	if c.Registerer != nil {
		metrics = grpcprom.NewServerMetrics()
		if err := c.Registerer.Register(metrics); err != nil {
			return nil, fmt.Errorf("grpc server: register metrics: %w", err)
		}
	}
	s := &Server{c: c, log: c.Logger, health: health.NewServer()}
	options := append(interceptors(&c, metrics),
		rawcodec.ServerOption(),
		grpc.MaxRecvMsgSize(c.Request),
		grpc.MaxConcurrentStreams(callsPerConn),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.InTapHandle(s.tap),
		grpc.ConnectionTimeout(handshake),
		grpc.ReadBufferSize(readBuffer),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: pingAfter, Timeout: pingTimeout,
			MaxConnectionIdle: idleConn, MaxConnectionAge: c.ConnectionAge, MaxConnectionAgeGrace: connectionGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		// Run must not return while a handler still uses the store.
		grpc.WaitForHandlers(true),
	)
	if c.TLS != nil {
		options = append(options, grpc.Creds(c.TLS))
	}
	s.grpc = grpc.NewServer(options...)
	c.Register(s.grpc)
	for name := range s.grpc.GetServiceInfo() {
		s.names = append(s.names, name)
	}
	healthv1.RegisterHealthServer(s.grpc, s.health)
	if metrics != nil {
		metrics.InitializeMetrics(s.grpc) // so that every series exists from the start
	}
	s.SetServing(false)
	return s, nil
}

// SetServing makes the health service answer SERVING or NOT_SERVING, for the
// server as a whole and for each service. A new server is not serving. After
// stopping has begun it has no effect. Safe for concurrent use.
func (s *Server) SetServing(serving bool) {
	st := healthv1.HealthCheckResponse_NOT_SERVING
	if serving {
		st = healthv1.HealthCheckResponse_SERVING
	}
	s.health.SetServingStatus("", st)
	for _, name := range s.names {
		s.health.SetServingStatus(name, st)
	}
}

// Run serves on l until ctx ends, then shuts down and returns nil. It returns an error
// if the listener fails. It closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if s.used.Swap(true) {
		return errors.New("grpc server: can run only once: create another")
	}
	if s.c.Reflection || loopback.Addr(l.Addr()) {
		reflection.Register(s.grpc)
	}
	if s.c.TLS == nil {
		logPlain(s.log, l.Addr(), s.c.Tokens)
	}
	served := make(chan error, 1)
	go func() { served <- s.grpc.Serve(newCrowd(l, s.c.Connections, s.log)) }()
	s.log.Info("serving gRPC", "address", l.Addr().String(), "tls", s.c.TLS != nil)
	select {
	case err := <-served:
		s.grpc.Stop()
		return fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.stop()
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
	}
	return nil
}

// stop reports "not serving", and waits for calls to end, up to the drain time.
func (s *Server) stop() {
	s.health.Shutdown() // before anything closes, so that load balancers use others
	if s.c.OnDrain != nil {
		s.c.OnDrain()
	}
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		s.grpc.GracefulStop()
	}()
	timer := time.NewTimer(s.c.Drain)
	defer timer.Stop()
	select {
	case <-graceful:
	case <-timer.C:
		s.log.Warn("calls did not end within the drain time, closing their connections", "drain", s.c.Drain)
		s.grpc.Stop() // makes the graceful stop return too
		<-graceful
	}
}

// logPlain logs that the listener serves other machines in plain text. That is the
// default, and right behind a proxy or in a service mesh; with tokens it is a warning.
func logPlain(log *slog.Logger, a net.Addr, tokens bool) {
	switch {
	case loopback.Addr(a):
	case tokens:
		log.Warn("bearer tokens are sent in plain text over the network; unless a proxy in front adds TLS, set WEIR_GRPC_CERT_FILE and WEIR_GRPC_KEY_FILE",
			"listener", "gRPC", "address", a.String())
	default:
		log.Info("serving gRPC in plain text over the network; unless a proxy in front adds TLS, set WEIR_GRPC_CERT_FILE and WEIR_GRPC_KEY_FILE",
			"listener", "gRPC", "address", a.String())
	}
}
