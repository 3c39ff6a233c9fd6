package collector_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
)

// load fills a configuration from an environment, as the binary does.
func load(environ ...string) (collector.Config, error) {
	var c collector.Config
	_, err := cli.Load(c.Settings(), cli.Sources{Environ: append(environ, "CF_API_TOKEN=cloudflare")}, c.Validate)
	return c, err
}

// start runs a collector whose Cloudflare is away and returns its gRPC address.
func start(t *testing.T, log *slog.Logger, environ ...string) string {
	t.Helper()
	config, err := load(append(environ, "WEIR_SQLITE_FILE="+filepath.Join(t.TempDir(), "weir.db"),
		"WEIR_CLOUDFLARE_URL=http://127.0.0.1:1", "WEIR_DRAIN=100ms")...)
	if err != nil {
		t.Fatal(err)
	}
	l := testkit.Listen(t)
	c, err := collector.New(t.Context(), config, collector.Deps{Logger: log, GRPC: l, Ops: testkit.Listen(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestAccessSettings(t *testing.T) {
	for name, c := range map[string]struct {
		environ []string
		want    []string // in the error
	}{
		"nothing":         {nil, nil},
		"TLS":             {[]string{"WEIR_GRPC_CERT_FILE=a.crt", "WEIR_GRPC_KEY_FILE=a.key"}, nil},
		"TLS and clients": {[]string{"WEIR_GRPC_CERT_FILE=a.crt", "WEIR_GRPC_KEY_FILE=a.key", "WEIR_GRPC_CLIENT_CA_FILE=b.crt"}, nil},
		"only a token":    {[]string{"WEIR_GRPC_TOKEN=tok-alone"}, nil},
		"no key":          {[]string{"WEIR_GRPC_CERT_FILE=a.crt"}, []string{`WEIR_GRPC_CERT_FILE="a.crt"`, "WEIR_GRPC_KEY_FILE"}},
		"no certificate":  {[]string{"WEIR_GRPC_KEY_FILE=a.key"}, []string{"WEIR_GRPC_CERT_FILE", "WEIR_GRPC_KEY_FILE"}},
		"clients without TLS, and a bad token": {
			[]string{"WEIR_GRPC_CLIENT_CA_FILE=b.crt", "WEIR_GRPC_TOKEN=tok two"},
			[]string{"2 problems", `WEIR_GRPC_CLIENT_CA_FILE="b.crt"`, "requires WEIR_GRPC_CERT_FILE", "WEIR_GRPC_TOKEN (environment): line 1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(c.environ...)
			if (err == nil) != (len(c.want) == 0) {
				t.Fatalf("error is %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %v, want %q in it", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "tok ") {
				t.Errorf("the error shows the token: %v", err)
			}
		})
	}
}

// Files that cannot be used end the start before the store is touched.
func TestAccessNeedsItsFiles(t *testing.T) {
	config, err := load("WEIR_GRPC_CERT_FILE=absent.crt", "WEIR_GRPC_KEY_FILE=absent.key", "WEIR_SQLITE_FILE=absent/weir.db")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := collector.New(t.Context(), config, collector.Deps{}); err == nil || !strings.Contains(err.Error(), "absent.crt") {
		t.Errorf("error is %v, want one about absent.crt", err)
	}
}
