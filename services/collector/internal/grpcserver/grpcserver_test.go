package grpcserver_test

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/tlsconf"
	"github.com/weir-metrics/weir/services/collector/internal/grpcserver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/emptypb"
)

// service is a hand-made service with one method and one stream, so that the
// door is tested without any of the real ones behind it.
type service struct {
	call   func(ctx context.Context) error
	stream func(grpc.ServerStream) error
}

const method, stream = "/test.Service/Call", "/test.Service/Stream"

func (s *service) register(r grpc.ServiceRegistrar) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Service", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Call", Handler: func(_ any, ctx context.Context, decode func(any) error, wrap grpc.UnaryServerInterceptor) (any, error) {
			if err := decode(&emptypb.Empty{}); err != nil {
				return nil, err
			}
			return wrap(ctx, &emptypb.Empty{}, &grpc.UnaryServerInfo{FullMethod: method}, func(ctx context.Context, _ any) (any, error) {
				if s.call == nil {
					return &emptypb.Empty{}, nil
				}
				return &emptypb.Empty{}, s.call(ctx)
			})
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Stream", ServerStreams: true, Handler: func(_ any, ss grpc.ServerStream) error { return s.stream(ss) }}},
	}, s)
}

// listen runs a server in memory for the test; the returned function stops it
// and waits.
func listen(t *testing.T, c grpcserver.Config, s *service) (*grpcserver.Server, *bufconn.Listener, func()) {
	t.Helper()
	c.Register = s.register
	if c.Logger == nil {
		c.Logger = testkit.Logger(t)
	}
	server, err := grpcserver.New(c)
	if err != nil {
		t.Fatal(err)
	}
	l := bufconn.Listen(1 << 16)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, l) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v; want nil", err)
		}
	})
	t.Cleanup(stop)
	return server, l, stop
}

// serve is listen with a connection to the server.
func serve(t *testing.T, c grpcserver.Config, s *service) (*grpcserver.Server, *grpc.ClientConn, func()) {
	t.Helper()
	server, l, stop := listen(t, c, s)
	return server, dial(t, func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }), stop
}

func dial(t *testing.T, to func(context.Context, string) (net.Conn, error)) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func call(ctx context.Context, conn *grpc.ClientConn) error {
	return conn.Invoke(ctx, method, &emptypb.Empty{}, &emptypb.Empty{})
}

func health(t *testing.T, conn *grpc.ClientConn, name string) healthv1.HealthCheckResponse_ServingStatus {
	t.Helper()
	r, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetStatus()
}

func TestHealthFollowsReadiness(t *testing.T) {
	server, conn, _ := serve(t, grpcserver.Config{}, &service{})
	for _, serving := range []bool{false, true, false} {
		server.SetServing(serving)
		want := map[bool]healthv1.HealthCheckResponse_ServingStatus{true: healthv1.HealthCheckResponse_SERVING, false: healthv1.HealthCheckResponse_NOT_SERVING}[serving]
		for _, name := range []string{"", "test.Service"} {
			if got := health(t, conn, name); got != want {
				t.Errorf("health of %q is %s; want %s", name, got, want)
			}
		}
	}
}

func TestPanicsBecomeInternal(t *testing.T) {
	logger, logs := testkit.RecordingLogger(t)
	_, conn, _ := serve(t, grpcserver.Config{Logger: logger}, &service{call: func(context.Context) error { panic("the secret") }})
	err := call(t.Context(), conn)
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "secret") {
		t.Errorf("the client was told %v; want INTERNAL without the cause", err)
	}
	if logs.Count("the secret") == 0 || logs.Count("grpcserver_test.go") == 0 {
		t.Errorf("the log has no cause or no stack:\n%s", logs)
	}
	id := regexp.MustCompile(`internal error ([0-9a-f]{12});`).FindStringSubmatch(err.Error())
	if client.Reason(err) != "INTERNAL" || id == nil || logs.Count("error_id="+id[1]) == 0 {
		t.Errorf("%v has reason %q; want INTERNAL, and an id that is in the log", err, client.Reason(err))
	}
}

// Plain text is said once where other machines reach it, and nowhere else. It is
// the default, so it is no warning unless tokens can be read on the way.
func TestPlainTextIsSaid(t *testing.T) {
	ca, dir := testkit.NewCA(t, "ca"), t.TempDir()
	cert, key := ca.Server(t).Write(t, dir, "server")
	secure, err := tlsconf.Server{CertFile: cert, KeyFile: key}.Credentials(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		address string
		tls     credentials.TransportCredentials
		tokens  bool
		level   string // "": not said
	}{
		"loopback":                     {"127.0.0.1:0", nil, true, ""},
		"every interface":              {"0.0.0.0:0", nil, false, "INFO"},
		"every interface, with tokens": {"0.0.0.0:0", nil, true, "WARN"},
		"every interface, TLS":         {"0.0.0.0:0", secure, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			logger, logs := testkit.RecordingLogger(t)
			server, err := grpcserver.New(grpcserver.Config{Logger: logger, TLS: c.tls, Tokens: c.tokens, Register: (&service{}).register})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // at once: it is said before anything is served
			if err := server.Run(ctx, &addressed{Listener: testkit.Listen(t), says: c.address}); err != nil {
				t.Fatal(err)
			}
			said, warned := logs.Count("plain text"), logs.Count("level=WARN")
			if c.level == "" && said != 0 || c.level != "" && said != 1 || (c.level == "WARN") != (warned == 1) {
				t.Errorf("plain text was mentioned %d times with %d warnings, want it at %q", said, warned, c.level)
			}
		})
	}
}

func TestCallsAreCounted(t *testing.T) {
	reg := prometheus.NewRegistry()
	_, conn, _ := serve(t, grpcserver.Config{Registerer: reg}, &service{})
	for range 3 {
		if err := call(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	}
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var handled float64
	for _, f := range all {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "grpc_server_handled_total" && labels["grpc_method"] == "Call" && labels["grpc_code"] == "OK" {
				handled = m.GetCounter().GetValue()
			}
		}
	}
	if handled != 3 {
		t.Errorf("grpc_server_handled_total is %v after 3 calls", handled)
	}
	if _, err := grpcserver.New(grpcserver.Config{Registerer: reg, Register: (&service{}).register}); err == nil {
		t.Error("a second server on one registry was accepted")
	}
}

func TestAuthorize(t *testing.T) {
	type key struct{}
	var methods []string
	s := &service{}
	s.call = func(ctx context.Context) error {
		if ctx.Value(key{}) != "reader" {
			return status.Error(codes.Internal, "the context of the check did not arrive")
		}
		return nil
	}
	s.stream = func(grpc.ServerStream) error { return nil }
	allow := false
	_, conn, _ := serve(t, grpcserver.Config{Authorize: func(ctx context.Context, m string) (context.Context, error) {
		methods = append(methods, m)
		if !allow {
			return nil, status.Error(codes.Unauthenticated, "a token is required")
		}
		return context.WithValue(ctx, key{}, "reader"), nil
	}}, s)
	if err := call(t.Context(), conn); status.Code(err) != codes.Unauthenticated {
		t.Errorf("without a credential: %v", err)
	}
	ss, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, stream)
	if err == nil {
		err = ss.RecvMsg(&emptypb.Empty{})
	}
	if status.Code(err) != codes.Unauthenticated {
		t.Errorf("stream without a credential: %v", err)
	}
	allow = true
	if err := call(t.Context(), conn); err != nil {
		t.Errorf("with a credential: %v", err)
	}
	health(t, conn, "") // fatal if refused
	if got := strings.Join(methods, " "); got != method+" "+stream+" "+method {
		t.Errorf("checked %s", got)
	}
}

// A stream whose credential is withdrawn while it runs ends with its next message,
// and its client is told to come back.
func TestAWithdrawnCredentialEndsItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		s.stream = func(ss grpc.ServerStream) error {
			for {
				if err := ss.SendMsg(&emptypb.Empty{}); err != nil {
					return status.Error(codes.Canceled, "the client went away") // as services do
				}
				time.Sleep(300 * time.Millisecond)
			}
		}
		var allow atomic.Bool
		allow.Store(true)
		asked := 0
		_, conn, _ := serve(t, grpcserver.Config{Authorize: func(ctx context.Context, _ string) (context.Context, error) {
			asked++
			if !allow.Load() {
				return nil, status.Error(codes.Unauthenticated, "a token is required")
			}
			return ctx, nil
		}}, s)
		began := time.Now()
		ss, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, stream)
		for n := 0; err == nil; n++ {
			if n == 100 { // half a minute
				allow.Store(false)
			}
			err = ss.RecvMsg(&emptypb.Empty{})
		}
		if took := time.Since(began); status.Code(err) != codes.Unavailable || client.Reason(err) != client.ReasonCredentialWithdrawn || took < 30*time.Second || took > 32*time.Second {
			t.Errorf("after %s: %v; want UNAVAILABLE within two seconds of the withdrawal", took, err)
		}
		if asked > 33 {
			t.Errorf("asked %d times in half a minute, want once a second", asked)
		}
	})
}

// Reflection tells whoever reaches the port what is there: on this machine
// always, beyond it only when asked for.
func TestReflection(t *testing.T) {
	for name, c := range map[string]struct {
		address string
		flag    bool
		want    codes.Code
	}{
		"loopback":              {"127.0.0.1:0", false, codes.OK},
		"every interface":       {"0.0.0.0:0", false, codes.Unimplemented},
		"every interface, flag": {"0.0.0.0:0", true, codes.OK},
	} {
		t.Run(name, func(t *testing.T) {
			l := &addressed{Listener: testkit.Listen(t), says: c.address}
			server, err := grpcserver.New(grpcserver.Config{Logger: testkit.Logger(t), Reflection: c.flag, Register: (&service{}).register})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- server.Run(ctx, l) }()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}()
			conn := dial(t, func(ctx context.Context, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", l.Listener.Addr().String())
			})
			s, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err) // io.EOF: refused already, Recv says why
			}
			if _, err = s.Recv(); status.Code(err) != c.want {
				t.Errorf("reflection answers %v; want %s", err, c.want)
			}
			_ = s.CloseSend()
		})
	}
}

// addressed is a loopback listener that claims another address.
type addressed struct {
	net.Listener
	says string
}

func (a *addressed) Addr() net.Addr {
	addr, err := net.ResolveTCPAddr("tcp", a.says)
	if err != nil {
		panic(err)
	}
	return addr
}

// Stopping says so first, lets calls end, and does not wait for ever.
func TestStopDrains(t *testing.T) {
	for name, c := range map[string]struct {
		obedient bool
		code     codes.Code
		took     time.Duration
	}{
		"a stream that ends when told":           {true, codes.Aborted, 2 * time.Second},
		"a stream that ends with its connection": {false, codes.Unavailable, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				drain := make(chan struct{})
				s := &service{stream: func(ss grpc.ServerStream) error {
					if err := ss.SendMsg(&emptypb.Empty{}); err != nil {
						return err
					}
					if !c.obedient {
						<-ss.Context().Done()
						return ss.Context().Err()
					}
					<-drain
					time.Sleep(2 * time.Second) // saying goodbye takes its time
					return status.Error(codes.Aborted, "drained")
				}}
				_, conn, stop := serve(t, grpcserver.Config{Drain: 10 * time.Second, OnDrain: func() { close(drain) }}, s)
				ss, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, stream)
				if err != nil {
					t.Fatal(err)
				}
				if err := ss.CloseSend(); err != nil {
					t.Fatal(err)
				}
				if err := ss.RecvMsg(&emptypb.Empty{}); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				stop()
				if took := time.Since(began); took != c.took {
					t.Errorf("stopping took %s; want %s", took, c.took)
				}
				if err := ss.RecvMsg(&emptypb.Empty{}); status.Code(err) != c.code {
					t.Errorf("the stream ended with %v; want %s", err, c.code)
				}
				_ = conn.Close()
			})
		})
	}
}

func TestMisuse(t *testing.T) {
	if _, err := grpcserver.New(grpcserver.Config{}); err == nil {
		t.Error("a server without services was built")
	}
	if _, err := grpcserver.New(grpcserver.Config{Drain: -1, Register: (&service{}).register}); err == nil {
		t.Error("a negative drain time was accepted")
	}
	server, _, stop := serve(t, grpcserver.Config{}, &service{})
	stop()
	if err := server.Run(t.Context(), testkit.Listen(t)); err == nil {
		t.Error("a server ran twice")
	}
}
