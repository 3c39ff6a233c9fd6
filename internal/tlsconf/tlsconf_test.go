package tlsconf_test

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/internal/tlsconf"
)

// serve runs a gRPC server with the standard health service and returns its
// address and what was logged.
func serve(t *testing.T, files tlsconf.Server) (string, *testkit.Logs) {
	t.Helper()
	logger, logs := testkit.RecordingLogger(t)
	secure, err := files.Credentials(reload.NewWatch(logger, time.Now), "WEIR_GRPC_CERT_FILE")
	if err != nil {
		t.Fatal(err)
	}
	l := testkit.Listen(t)
	s := grpc.NewServer(grpc.Creds(secure))
	healthv1.RegisterHealthServer(s, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), logs
}

func open(t *testing.T, address string, c credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("dns:///"+address, grpc.WithTransportCredentials(c))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// ask makes one call and returns the name in the server's certificate.
func ask(t *testing.T, conn *grpc.ClientConn) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var from peer.Peer
	_, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.Peer(&from))
	if info, ok := from.AuthInfo.(credentials.TLSInfo); ok {
		return info.State.PeerCertificates[0].Subject.CommonName, err
	}
	return "", err
}

// connect asks over a connection of its own.
func connect(t *testing.T, address string, files tlsconf.Client) (string, error) {
	t.Helper()
	secure, err := files.Credentials(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	conn := open(t, address, secure)
	defer conn.Close()
	return ask(t, conn)
}

// says waits for a line of the server's log: it may be written after the client
// has learnt of its refusal.
func says(t *testing.T, logs *testkit.Logs, text string) {
	t.Helper()
	testkit.Eventually(t, func() error {
		if logs.Count(text) == 0 {
			return errors.New("the server's log has no " + text)
		}
		return nil
	})
}

func TestMutual(t *testing.T) {
	dir := t.TempDir()
	servers, clients, other := testkit.NewCA(t, "servers"), testkit.NewCA(t, "clients"), testkit.NewCA(t, "other")
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		testkit.WriteFile(t, path, content)
		return path
	}
	cert, key := servers.Server(t, "weir.test").Write(t, dir, "server")
	address, logs := serve(t, tlsconf.Server{CertFile: cert, KeyFile: key, ClientCAFile: file("clients.crt", clients.PEM)})

	mine, mineKey := clients.Client(t, "exposer").Write(t, dir, "client")
	stranger := other.Client(t, "exposer")
	theirs, theirsKey := stranger.Write(t, dir, "stranger")
	asServer, asServerKey := clients.Server(t, "weir.test").Write(t, dir, "as-server")
	roots, wrong := file("servers.crt", servers.PEM), file("other.crt", other.PEM)
	good := tlsconf.Client{CAFile: roots, CertFile: mine, KeyFile: mineKey, ServerName: "weir.test"}
	for _, c := range []struct {
		name  string
		files tlsconf.Client
		ok    bool
		log   string // of the server
	}{
		{"as it should be", good, true, ""},
		{"no certificate", tlsconf.Client{CAFile: roots, ServerName: "weir.test"}, false, "client didn't provide a certificate"},
		// Go's client does not even show one that the server would not take.
		{"a certificate of another authority", tlsconf.Client{CAFile: roots, CertFile: theirs, KeyFile: theirsKey, ServerName: "weir.test"}, false, "client didn't provide a certificate"},
		{"a certificate for servers", tlsconf.Client{CAFile: roots, CertFile: asServer, KeyFile: asServerKey, ServerName: "weir.test"}, false, "incompatible key usage"},
		{"trust in another authority", tlsconf.Client{CAFile: wrong, CertFile: mine, KeyFile: mineKey, ServerName: "weir.test"}, false, "bad certificate"},
		{"trust in the system's", tlsconf.Client{CertFile: mine, KeyFile: mineKey, ServerName: "weir.test"}, false, "bad certificate"},
		{"another name", tlsconf.Client{CAFile: roots, CertFile: mine, KeyFile: mineKey}, false, "bad certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := connect(t, address, c.files)
			if want := map[bool]codes.Code{true: codes.OK, false: codes.Unavailable}[c.ok]; status.Code(err) != want {
				t.Errorf("answer is %v, want %s", err, want)
			}
			if c.ok && logs.Count("level=WARN") > 0 {
				t.Error("the server warned")
			}
			if !c.ok {
				says(t, logs, c.log)
			}
		})
	}
	if _, err := ask(t, open(t, address, insecure.NewCredentials())); status.Code(err) != codes.Unavailable {
		t.Errorf("plain text: %v", err)
	}
	pushy := &tls.Config{RootCAs: servers.Pool(), ServerName: "weir.test", NextProtos: []string{"h2"}}
	pushy.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair := stranger.TLS(t)
		return &pair, nil
	}
	if conn, err := tls.Dial("tcp", address, pushy); err == nil { // TLS 1.3 learns of it with the first answer
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("a certificate of another authority got an answer")
		}
		_ = conn.Close()
	}
	says(t, logs, "unknown authority")
	old := &tls.Config{RootCAs: servers.Pool(), ServerName: "weir.test", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	if _, err := tls.Dial("tcp", address, old); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
}

// Files change under connections that stand: those go on, and new ones meet the
// new files. Files that cannot be used change nothing.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	before, after := testkit.NewCA(t, "before"), testkit.NewCA(t, "after")
	cert, key := before.Server(t, "one", "weir.test").Write(t, dir, "server")
	roots, clients := filepath.Join(dir, "roots.crt"), filepath.Join(dir, "clients.crt")
	testkit.WriteFile(t, roots, before.PEM)
	testkit.WriteFile(t, clients, before.PEM)
	mine, mineKey := before.Client(t, "exposer").Write(t, dir, "client")
	address, logs := serve(t, tlsconf.Server{CertFile: cert, KeyFile: key, ClientCAFile: clients})
	files := tlsconf.Client{CAFile: roots, CertFile: mine, KeyFile: mineKey, ServerName: "weir.test"}
	secure, err := files.Credentials(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	standing := open(t, address, secure)
	expect := func(when, stands, fresh string) {
		t.Helper()
		if got, err := ask(t, standing); err != nil || got != stands {
			t.Errorf("%s: the standing connection is to %q, %v; want %q", when, got, err, stands)
		}
		if got, err := connect(t, address, files); err != nil || got != fresh {
			t.Errorf("%s: a new connection is to %q, %v; want %q", when, got, err, fresh)
		}
	}
	expect("at first", "one", "one")

	before.Server(t, "two", "weir.test").Write(t, dir, "server")
	expect("with a renewed certificate", "one", "two")

	// To another authority, with an overlap on both sides.
	both := append(append([]byte{}, before.PEM...), after.PEM...)
	testkit.WriteFile(t, roots, both)
	testkit.WriteFile(t, clients, both)
	after.Server(t, "three", "weir.test").Write(t, dir, "server")
	expect("with a new authority", "one", "three")
	after.Client(t, "exposer").Write(t, dir, "client")
	testkit.WriteFile(t, roots, after.PEM)
	testkit.WriteFile(t, clients, after.PEM)
	expect("without the old authority", "one", "three")

	// A key that is not the certificate's: between two writes, or for good.
	if logs.Count("level=WARN") > 0 {
		t.Error("the server warned while all was well")
	}
	next := after.Server(t, "four", "weir.test")
	testkit.WriteFile(t, key, next.KeyPEM)
	expect("half replaced", "one", "three")
	expect("half replaced, again", "one", "three")
	if got := logs.Count("level=WARN"); got != 1 {
		t.Errorf("one fault was said %d times, want once", got)
	}
	testkit.WriteFile(t, cert, next.PEM)
	expect("wholly replaced", "one", "four")
	testkit.WriteFile(t, clients, nil)
	expect("without client authorities", "one", "four")
	if got := logs.Count("level=WARN"); got != 2 {
		t.Errorf("two faults were said %d times, want once each", got)
	}
}

// The client's files change, and cannot be used for a while.
func TestClientReload(t *testing.T) {
	dir := t.TempDir()
	ca, other := testkit.NewCA(t, "ca"), testkit.NewCA(t, "other")
	cert, key := ca.Server(t, "weir.test").Write(t, dir, "server")
	roots, clients := filepath.Join(dir, "roots.crt"), filepath.Join(dir, "clients.crt")
	testkit.WriteFile(t, clients, ca.PEM)
	address, _ := serve(t, tlsconf.Server{CertFile: cert, KeyFile: key, ClientCAFile: clients})
	mine, mineKey := ca.Client(t, "exposer").Write(t, dir, "client")
	both := append(append([]byte{}, other.PEM...), ca.PEM...)
	testkit.WriteFile(t, roots, both)
	logger, logs := testkit.RecordingLogger(t)
	watch := reload.NewWatch(logger, time.Now)
	secure, err := tlsconf.Client{CAFile: roots, CertFile: mine, KeyFile: mineKey, ServerName: "weir.test"}.Credentials(watch, "WEIR_COLLECTOR_TLS")
	if err != nil {
		t.Fatal(err)
	}
	renewed := ca.Client(t, "exposer")
	for _, step := range []struct {
		name     string
		change   func()
		warnings int // so far
	}{
		{"at first", func() {}, 0},
		{"without authorities", func() { testkit.WriteFile(t, roots, nil) }, 1},
		{"with half of the authorities", func() { testkit.WriteFile(t, roots, both[:len(both)-40]) }, 2},
		{"without the file", func() { _ = os.Remove(roots) }, 3},
		{"with authorities again", func() { testkit.WriteFile(t, roots, ca.PEM) }, 3},
		{"with a key that is not the certificate's", func() { testkit.WriteFile(t, mineKey, renewed.KeyPEM) }, 4},
		{"with its certificate", func() { testkit.WriteFile(t, mine, renewed.PEM) }, 4},
	} {
		step.change()
		for range 2 {
			if _, err := ask(t, open(t, address, secure)); err != nil {
				t.Errorf("%s: %v", step.name, err)
			}
		}
		if got := logs.Count("level=WARN"); got != step.warnings {
			t.Errorf("%s: %d warnings so far, want %d", step.name, got, step.warnings)
		}
	}
	// Trust that was withdrawn is withdrawn.
	testkit.WriteFile(t, roots, other.PEM)
	if _, err := ask(t, open(t, address, secure)); status.Code(err) != codes.Unavailable {
		t.Errorf("with another authority: %v", err)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(watch)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	expires := false
	for _, f := range families {
		expires = expires || f.GetName() == "weir_secret_expires_timestamp_seconds"
	}
	if !expires {
		t.Error("no metric says when the certificate expires")
	}
}

// At the start, what cannot be used is an error that names the file.
func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	ca := testkit.NewCA(t, "ca")
	cert, key := ca.Server(t).Write(t, dir, "server")
	_, otherKey := ca.Server(t).Write(t, dir, "other")
	empty := filepath.Join(dir, "empty.pem")
	testkit.WriteFile(t, empty, nil)
	absent := filepath.Join(dir, "absent.pem")
	for name, s := range map[string]tlsconf.Server{
		empty:    {CertFile: empty, KeyFile: key},
		otherKey: {CertFile: cert, KeyFile: otherKey},
		absent:   {CertFile: cert, KeyFile: key, ClientCAFile: absent},
		key:      {CertFile: cert, KeyFile: key, ClientCAFile: key},
	} {
		if _, err := s.Credentials(nil, ""); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: error is %v, want one about %s", s, err, name)
		}
	}
	for name, c := range map[string]tlsconf.Client{
		empty:    {CAFile: empty},
		absent:   {CAFile: absent},
		otherKey: {CertFile: cert, KeyFile: otherKey},
	} {
		if _, err := c.Credentials(nil, ""); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: error is %v, want one about %s", c, err, name)
		}
	}
}
