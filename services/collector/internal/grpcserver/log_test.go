package grpcserver_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/grpcserver"
)

// Clients that go on being refused, or that find a bug, do not fill the log: one
// line for the first call and one that counts the others.
func TestRefusedCallsDoNotFillTheLog(t *testing.T) {
	for name, c := range map[string]struct {
		config  grpcserver.Config
		service service
		code    codes.Code
		first   string
	}{
		"no token": {grpcserver.Config{Authorize: func(context.Context, string) (context.Context, error) {
			return nil, status.Error(codes.Unauthenticated, "a token is required")
		}}, service{}, codes.Unauthenticated, "level=WARN msg=\"finished call\""},
		"a panic": {grpcserver.Config{}, service{call: func(context.Context) error { panic("a bug") }}, codes.Internal, "level=ERROR msg=\"call panicked\""},
		"an error without a code": {
			grpcserver.Config{},
			service{call: func(context.Context) error { return errors.New("odd") }},
			codes.Unknown,
			"level=ERROR msg=\"finished call\"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const calls = 10_000
				logs := new(testkit.Logs)
				c.config.Logger = slog.New(slog.NewTextHandler(logs, nil))
				to, _ := crowded(t, c.config, &c.service)
				conn := dial(t, to)
				var first error
				for range calls {
					err := call(t.Context(), conn)
					if status.Code(err) != c.code {
						t.Fatalf("%v, want %s", err, c.code)
					}
					if first == nil {
						first = err
					}
					if err.Error() != first.Error() {
						t.Fatalf("the same failure is %q and %q", first, err) // so that its id is in the log
					}
				}
				time.Sleep(2 * time.Minute)
				if n := logs.Count(c.first); n != 2 {
					t.Errorf("%q is there %d times, want 2", c.first, n)
				}
				if logs.Count(" times=9999") != 1 {
					t.Error("no line says how many were left out")
				}
				if n := logs.Count(""); n > 5 {
					t.Errorf("%d lines in all:\n%s", n, logs)
				}
				if c.code == codes.Internal {
					id := strings.Fields(status.Convert(first).Message())[2]
					if logs.Count("error_id="+strings.TrimSuffix(id, ";")) == 0 {
						t.Errorf("the id of %v is not in the log", first)
					}
				}
				_, _ = io.WriteString(t.Output(), logs.String()[:min(len(logs.String()), 2000)])
			})
		})
	}
}
