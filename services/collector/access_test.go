package collector_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/tlsconf"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
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

// connection opens one that has nothing to do with others.
func connection(t *testing.T, address string, files tlsconf.Client) *grpc.ClientConn {
	t.Helper()
	secure, err := files.Credentials(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("dns:///"+address, grpc.WithTransportCredentials(secure))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func with(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func getStatus(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := bucketv1.NewBucketServiceClient(conn).GetStatus(ctx, &bucketv1.GetStatusRequest{})
	return err
}

// Certificate, authority and token are replaced while exposers watch: streams go
// on, but for those that began with a token that is withdrawn, new connections meet
// what is new, and what was withdrawn is refused. No token is in the log at any time.
func TestAccessChangesUnderAWatch(t *testing.T) {
	dir := t.TempDir()
	ca, next := testkit.NewCA(t, "ca"), testkit.NewCA(t, "next")
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		testkit.WriteFile(t, path, content)
		return path
	}
	cert, key := ca.Server(t).Write(t, dir, "server")
	clients, tokens := file("clients.crt", ca.PEM), file("tokens", []byte("tok-first\n"))
	mine, mineKey := ca.Client(t, "exposer").Write(t, dir, "client")
	good := tlsconf.Client{CAFile: file("ca.crt", ca.PEM), CertFile: mine, KeyFile: mineKey}

	logger, logs := testkit.RecordingLogger(t)
	address := start(t, logger,
		"WEIR_GRPC_CERT_FILE="+cert, "WEIR_GRPC_KEY_FILE="+key, "WEIR_GRPC_CLIENT_CA_FILE="+clients, "WEIR_GRPC_TOKEN_FILE="+tokens)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	conn := connection(t, address, good)
	begin := func(token string) grpc.ServerStreamingClient[bucketv1.WatchBucketsResponse] {
		t.Helper()
		watch, err := bucketv1.NewBucketServiceClient(conn).WatchBuckets(with(ctx, token),
			&bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: &bucketv1.SnapshotRequest{}}})
		if err != nil {
			t.Fatal(err)
		}
		for ended := false; !ended; {
			event, err := watch.Recv()
			if err != nil {
				t.Fatal(err)
			}
			ended = event.GetSnapshotEnd() != nil
		}
		return watch
	}
	old := begin("tok-first")

	if _, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("health without a token: %v", err)
	}
	for name, token := range map[string]string{"no token": "", "a wrong token": "tok-wrong"} {
		ctx := ctx
		if token != "" {
			ctx = with(ctx, token)
		}
		if err := getStatus(ctx, conn); status.Code(err) != codes.Unauthenticated || client.Reason(err) != "UNAUTHENTICATED" {
			t.Errorf("%s: %v", name, err)
		}
		stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unauthenticated {
			t.Errorf("reflection with %s: %v", name, err)
		}
	}
	if err := getStatus(ctx, connection(t, address, tlsconf.Client{CAFile: good.CAFile})); status.Code(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v", err)
	}

	testkit.WriteFile(t, tokens, []byte("tok-first\ntok-second\n"))
	for _, token := range []string{"tok-first", "tok-second"} {
		if err := getStatus(with(ctx, token), conn); err != nil {
			t.Errorf("%s, while both hold: %v", token, err)
		}
	}
	watch := begin("tok-second")
	testkit.WriteFile(t, tokens, []byte("tok-second\n"))
	testkit.WriteFile(t, clients, next.PEM)
	next.Server(t).Write(t, dir, "server")
	renewed, renewedKey := next.Client(t, "exposer").Write(t, dir, "renewed")
	fresh := connection(t, address, tlsconf.Client{CAFile: file("next.crt", next.PEM), CertFile: renewed, KeyFile: renewedKey})
	if err := getStatus(with(ctx, "tok-second"), fresh); err != nil {
		t.Errorf("new certificates and token: %v", err)
	}
	if err := getStatus(with(ctx, "tok-first"), fresh); status.Code(err) != codes.Unauthenticated {
		t.Errorf("the withdrawn token: %v", err)
	}
	if err := getStatus(with(ctx, "tok-second"), connection(t, address, good)); status.Code(err) != codes.Unavailable {
		t.Errorf("certificates of the withdrawn authority: %v", err)
	}

	// The streams of before, over the connection of before. That of the withdrawn
	// token has ended; the other has whatever entries the new leader wrote meanwhile,
	// then progress.
	var err error
	for err == nil {
		_, err = old.Recv()
	}
	if client.Reason(err) != client.ReasonCredentialWithdrawn {
		t.Errorf("the stream of the withdrawn token: %v", err)
	}
	for progress := 0; progress < 2; {
		event, err := watch.Recv()
		if err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
		if event.GetProgress() != nil {
			progress++
		}
	}
	if n := logs.Count("tok-"); n > 0 {
		t.Errorf("%d lines of the log show a token", n)
	}
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
