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

// Config shapes a [Server]. Zero numbers mean the default.
type Config struct {
	Logger *slog.Logger // nil: no logs
	// Registerer takes the call metrics (grpc_server_…); nil: none.
	Registerer prometheus.Registerer
	// TLS secures the listener; nil: plain text, for loopback and meshes. Run says
	// so where other machines reach the listener.
	TLS credentials.TransportCredentials
	// Tokens says that clients show bearer tokens. In plain text they can be read
	// on the way, and Run warns of that.
	Tokens bool
	// Authorize looks at a call before the service does, and may add to its
	// context. Its error goes to the client as it is, so it should be a status
	// with code UNAUTHENTICATED or PERMISSION_DENIED. It is asked again, with the
	// same context, while a stream runs, about once a second: when it refuses then,
	// the stream ends with UNAVAILABLE. Health checks pass without it. nil:
	// everybody may call.
	Authorize func(ctx context.Context, method string) (context.Context, error)
	// Reflection offers the services' descriptors on listeners that other
	// machines reach. On loopback and in memory they are always offered.
	Reflection bool
	// Drain is how long calls may take to end once stopping has begun.
	// Default 10 s.
	Drain time.Duration
	// OnDrain is called when stopping begins, once, and returns at once: the
	// services end their streams. nil: none does.
	OnDrain func()
	// Request is the largest request in bytes. Default 256 KiB: a filter with
	// 1,000 datasets and 1,000 scopes has 110 kB.
	Request int
	// Connections is how many there may be at once; another is closed as soon as
	// it is made. Default 2,048.
	Connections int
	// Calls is how many calls of all connections there may be at once, streams
	// included; another is refused with TOO_MANY_STREAMS before its request is
	// read. The services' own limits lie below it; this one bounds what requests
	// can take (Calls × Request). Health checks are answered beyond it.
	// Default 4,096.
	Calls int
	// ConnectionAge is after how long a client is asked to make another
	// connection, so that load spreads over collectors that were added and a
	// certificate that has ended does not live on in an old stream. Calls get
	// connectionGrace to end, and what is left breaks off. Default 1 h, give or
	// take a tenth.
	ConnectionAge time.Duration
	// Register registers the services. Required.
	Register func(grpc.ServiceRegistrar)
}

const (
	// A peer that does not answer a ping within pingTimeout after pingAfter of
	// silence is gone, whatever TCP believes.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second
	// Clients that ping more often are disconnected.
	minPing = 10 * time.Second
	// Time for TLS and HTTP/2 to be set up, so that half-open connections do
	// not pile up.
	handshake = 20 * time.Second
	// Calls at once on one connection; an exposer needs a handful. A client that
	// wants more waits: HTTP/2 tells it.
	callsPerConn = 256
	// A connection without calls is closed after this.
	idleConn = 15 * time.Minute
	// A snapshot may take as long (bucketsvc.Limits.Snapshot).
	connectionGrace = 5 * time.Minute
	// Bytes of a call's metadata; a token and a trace have less than a tenth.
	maxHeaders = 16 << 10
	// What is read from a connection at once: requests are small, and there may
	// be thousands of connections.
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
		return nil, fmt.Errorf("grpc server: drain time %s, connection age %s, request size %d, connections %d, calls %d: none may be negative",
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

// Run serves on l until ctx ends, stops in order and returns nil; or it returns
// what went wrong with the listener. It closes l.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	if s.used.Swap(true) {
		return errors.New("grpc server: it runs once; make another")
	}
	if s.c.Reflection || loopback.Addr(l.Addr()) {
		reflection.Register(s.grpc)
	}
	if s.c.TLS == nil {
		tellPlain(s.log, l.Addr(), s.c.Tokens)
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

// stop says goodbye, waits for calls to end, and after the drain time does not
// wait any more.
func (s *Server) stop() {
	s.health.Shutdown() // before anything closes, so that balancers look elsewhere
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
		s.log.Warn("calls did not end in time, closing their connections", "drain", s.c.Drain)
		s.grpc.Stop() // makes the graceful stop return too
		<-graceful
	}
}

// tellPlain says that what other machines send and get is in plain text. That is the
// default, and right behind a proxy or in a mesh; but tokens were not set to be read
// on the way.
func tellPlain(log *slog.Logger, a net.Addr, tokens bool) {
	switch {
	case loopback.Addr(a):
	case tokens:
		log.Warn("bearer tokens are asked for in plain text beyond this machine; unless something in front of it adds TLS, set WEIR_GRPC_CERT_FILE and WEIR_GRPC_KEY_FILE",
			"listener", "gRPC", "address", a.String())
	default:
		log.Info("serving gRPC in plain text beyond this machine; unless something in front of it adds TLS, set WEIR_GRPC_CERT_FILE and WEIR_GRPC_KEY_FILE",
			"listener", "gRPC", "address", a.String())
	}
}
