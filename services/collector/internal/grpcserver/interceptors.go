package grpcserver

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/services/collector/internal/reason"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// interceptors builds both chains. Metrics and logging are outside the recovery, so
// that a panic is counted and logged as INTERNAL; the credential check is innermost, so
// that rejected calls are counted too.
func interceptors(c *Config, metrics *grpcprom.ServerMetrics) []grpc.ServerOption {
	var unary []grpc.UnaryServerInterceptor
	var stream []grpc.StreamServerInterceptor
	if metrics != nil {
		unary = append(unary, metrics.UnaryServerInterceptor())
		stream = append(stream, metrics.StreamServerInterceptor())
	}
	logger, logOptions := callLogger(c.Logger)
	panics := recovery.WithRecoveryHandlerContext(recoverer(quiet.New(c.Logger, time.Minute)))
	unary = append(unary, logging.UnaryServerInterceptor(logger, logOptions...), recovery.UnaryServerInterceptor(panics))
	stream = append(stream, logging.StreamServerInterceptor(logger, logOptions...), recovery.StreamServerInterceptor(panics))
	if c.Authorize != nil {
		check := func(ctx context.Context) (context.Context, error) {
			method, _ := grpc.Method(ctx)
			return c.Authorize(ctx, method)
		}
		guarded := selector.MatchFunc(func(_ context.Context, call middleware.CallMeta) bool {
			return call.Service != healthv1.Health_ServiceDesc.ServiceName // probes carry no credential
		})
		unary = append(unary, selector.UnaryServerInterceptor(auth.UnaryServerInterceptor(check), guarded))
		stream = append(stream, selector.StreamServerInterceptor(auth.StreamServerInterceptor(check), guarded),
			selector.StreamServerInterceptor(recheck(check), guarded))
	}
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(unary...), grpc.ChainStreamInterceptor(stream...)}
}

// recheckEvery is how often the credential of a running stream is checked.
const recheckEvery = time.Second

// recheck ends a stream whose credential was revoked, at its next message.
func recheck(check func(context.Context) (context.Context, error)) grpc.StreamServerInterceptor {
	return func(service any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		s := &rechecked{ServerStream: ss, check: check, checked: time.Now()}
		err := handler(service, s)
		if s.withdrawn.Load() {
			return reason.Withdrawn()
		}
		return err
	}
}

type rechecked struct {
	grpc.ServerStream
	check     func(context.Context) (context.Context, error)
	checked   time.Time   // owned by the sending goroutine
	withdrawn atomic.Bool // the handler may return while another goroutine sends
}

func (s *rechecked) SendMsg(m any) error {
	if now := time.Now(); now.Sub(s.checked) >= recheckEvery {
		s.checked = now
		if _, err := s.check(s.Context()); err != nil {
			s.withdrawn.Store(true)
			return err
		}
	}
	return s.ServerStream.SendMsg(m)
}

// callLogger logs the end of each call at debug. The services log what an operator
// should see; above debug are only rejected credentials and unexpected codes, and not
// every time: a client with a wrong credential calls repeatedly.
func callLogger(l *slog.Logger) (logging.Logger, []logging.Option) {
	often := quiet.New(l, time.Minute)
	logger := logging.LoggerFunc(func(ctx context.Context, level logging.Level, msg string, fields ...any) {
		method, _ := grpc.Method(ctx)
		often.Log(ctx, slog.Level(level), method+" "+codeOf(fields), msg, fields...)
	})
	return logger, []logging.Option{
		logging.WithLogOnEvents(logging.FinishCall),
		logging.WithLevels(func(code codes.Code) logging.Level {
			switch code {
			case codes.Unknown, codes.DataLoss:
				return logging.LevelError
			case codes.Unauthenticated, codes.PermissionDenied:
				return logging.LevelWarn
			}
			return logging.LevelDebug // INTERNAL too: the service has logged the cause
		}),
	}
}

// codeOf is the code among a call's fields, which alternate names and values.
func codeOf(fields []any) string {
	for i := 1; i < len(fields); i += 2 {
		if fields[i-1] == "grpc.code" {
			return fmt.Sprint(fields[i])
		}
	}
	return ""
}

// recoverer converts a panic to the same INTERNAL status as other failures.
func recoverer(l *quiet.Log) recovery.RecoveryHandlerFuncContext {
	return func(ctx context.Context, p any) error {
		method, _ := grpc.Method(ctx)
		what := fmt.Sprint(p)
		id, answer := reason.Internal(method, what)
		l.Log(ctx, slog.LevelError, id, "call panicked", "call", method, "error_id", id, "panic", what, "stack", string(debug.Stack()))
		return answer
	}
}
