package dial_test

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/dial"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// server answers GetStatus with the credential that it was shown.
type server struct {
	bucketv1.UnimplementedBucketServiceServer
}

func (server) GetStatus(ctx context.Context, _ *bucketv1.GetStatusRequest) (*bucketv1.GetStatusResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	return &bucketv1.GetStatusResponse{Leader: strings.Join(md.Get("authorization"), "|")}, nil
}

func serve(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	l := testkit.Listen(t)
	s := grpc.NewServer(options...)
	bucketv1.RegisterBucketServiceServer(s, server{})
	go func() { _ = s.Serve(l) }() // ends with Stop
	t.Cleanup(s.Stop)
	return l.Addr().String()
}

func ask(t *testing.T, c dial.Config) (string, error) {
	t.Helper()
	conn, err := dial.Open(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := bucketv1.NewBucketServiceClient(conn).GetStatus(ctx, &bucketv1.GetStatusRequest{})
	return got.GetLeader(), err
}

func TestTrust(t *testing.T) {
	ca, other := testkit.NewCA(t, "ca"), testkit.NewCA(t, "other")
	dir := t.TempDir()
	roots := filepath.Join(dir, "ca.crt")
	testkit.WriteFile(t, roots, ca.PEM)
	cert, key := ca.Client(t, "exposer").Write(t, dir, "client")
	token := filepath.Join(dir, "token")
	testkit.WriteFile(t, token, []byte("first\n"))
	secret, err := cli.ReadSecret(token)
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{ca.Server(t, "collector.test").TLS(t)},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	})))
	good := dial.Config{
		Addresses: []string{address}, TLS: true, CAFile: roots, CertFile: cert, KeyFile: key, ServerName: "collector.test", Token: secret,
	}
	if got, err := ask(t, good); err != nil || got != "Bearer first" {
		t.Errorf("mutual TLS: %q, %v", got, err)
	}
	testkit.WriteFile(t, token, []byte("second\nfirst\n")) // rotated under the running process; the old one still accepted
	if got, err := ask(t, good); err != nil || got != "Bearer second" {
		t.Errorf("rotated token: %q, %v", got, err)
	}
	renewed, key2 := ca.Client(t, "renewed").Write(t, dir, "client") // so with certificates
	if got, err := ask(t, good); err != nil || renewed != cert || key2 != key {
		t.Errorf("renewed certificate: %q, %v", got, err)
	}
	for name, spoil := range map[string]func(*dial.Config){
		"another name":        func(c *dial.Config) { c.ServerName = "impostor.test" },
		"the address's name":  func(c *dial.Config) { c.ServerName = "" },
		"no certificate":      func(c *dial.Config) { c.CertFile, c.KeyFile = "", "" },
		"an unknown issuer":   func(*dial.Config) { testkit.WriteFile(t, roots, other.PEM) },
		"the system's issuer": func(c *dial.Config) { c.CAFile = "" },
	} {
		c := good
		spoil(&c)
		if _, err := ask(t, c); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: error is %v, want a failed handshake", name, err)
		}
		testkit.WriteFile(t, roots, ca.PEM)
	}
}

func TestBadFiles(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	testkit.WriteFile(t, empty, nil)
	for _, c := range []dial.Config{
		{Addresses: []string{"127.0.0.1:1"}, TLS: true, CAFile: empty},
		{Addresses: []string{"127.0.0.1:1"}, TLS: true, CAFile: "absent.pem"},
		{Addresses: []string{"127.0.0.1:1"}, TLS: true, CertFile: empty, KeyFile: empty},
		{Addresses: []string{"no port", "127.0.0.1:1"}},
		{Addresses: []string{"127.0.0.1:1"}, Token: cli.NewSecret("two words")},
	} {
		if conn, err := dial.Open(c, nil); err == nil {
			t.Errorf("%+v was opened", c)
			_ = conn.Close()
		}
	}
}

// With several collectors, one that is down costs nothing.
func TestSeveral(t *testing.T) {
	gone := testkit.Listen(t)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := ask(t, dial.Config{Addresses: []string{gone.Addr().String(), serve(t)}})
	if err != nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
}

// A token file that cannot be used does not change what is sent, nor does it
// fail the call.
func TestTokenFileInTrouble(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	testkit.WriteFile(t, file, []byte("first\n"))
	secret, err := cli.ReadSecret(file)
	if err != nil {
		t.Fatal(err)
	}
	logger, logs := testkit.RecordingLogger(t)
	conn, err := dial.Open(dial.Config{Addresses: []string{serve(t)}, Token: secret}, reload.NewWatch(logger, time.Now))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api := bucketv1.NewBucketServiceClient(conn)
	for _, step := range []struct {
		name     string
		change   func()
		want     string
		warnings int // so far
	}{
		{"emptied", func() { testkit.WriteFile(t, file, nil) }, "Bearer first", 1},
		{"malformed", func() { testkit.WriteFile(t, file, []byte("<html>not found</html>\n")) }, "Bearer first", 2},
		{"deleted", func() { _ = os.Remove(file) }, "Bearer first", 3},
		{"replaced", func() { testkit.WriteFile(t, file, []byte("\n second\r\nfirst\n")) }, "Bearer second", 3},
	} {
		step.change()
		for range 2 {
			got, err := api.GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
			if err != nil || got.GetLeader() != step.want {
				t.Errorf("%s: %q, %v; want %q", step.name, got.GetLeader(), err, step.want)
			}
		}
		if got := logs.Count("level=WARN"); got != step.warnings {
			t.Errorf("%s: %d warnings so far, want %d", step.name, got, step.warnings)
		}
	}
	if n := logs.Count("first") + logs.Count("second") + logs.Count("html"); n > 0 {
		t.Errorf("%d lines of the log show what the file held", n)
	}
}
