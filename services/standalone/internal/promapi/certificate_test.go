package promapi_test

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// A server that requires a client certificate gets the one of the files at the time of the
// handshake, and turns those away that have none or another authority's.
func TestClientCertificate(t *testing.T) {
	ca, other, dir := testkit.NewCA(t, "ca"), testkit.NewCA(t, "other"), t.TempDir()
	var named string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		named = r.TLS.PeerCertificates[0].Subject.CommonName
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{ca.Server(t).TLS(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(), MinVersion: tls.VersionTLS12,
	}
	server.StartTLS()
	defer server.Close()
	trust := filepath.Join(dir, "ca.pem")
	testkit.WriteFile(t, trust, ca.PEM)
	cert, key := ca.Client(t, "first").Write(t, dir, "client")
	ask := func(c *promapi.Client) error {
		client := c.HTTP()
		response, err := client.Get(server.URL)
		if err != nil {
			return err
		}
		client.CloseIdleConnections()
		return response.Body.Close()
	}
	watch := reload.NewWatch(slog.New(slog.DiscardHandler), time.Now)
	open := func(cert, key string) *promapi.Client {
		t.Helper()
		c, err := promapi.Reloading(promapi.Config{URL: server.URL, Access: promapi.Access{CAFile: trust, CertFile: cert, KeyFile: key}}, promapi.Destination, watch)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	c := open(cert, key)
	if err := ask(c); err != nil || named != "first" {
		t.Errorf("with a certificate: %v, as %q", err, named)
	}
	c.Close() // the next request makes a handshake
	ca.Client(t, "second").Write(t, dir, "client")
	if err := ask(c); err != nil || named != "second" {
		t.Errorf("with another certificate in the same files: %v, as %q", err, named)
	}
	if err := ask(open("", "")); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without a certificate: %v", err)
	}
	strange, itsKey := other.Client(t, "stranger").Write(t, dir, "stranger")
	if err := ask(open(strange, itsKey)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with a certificate of another authority: %v", err)
	}
	if _, err := promapi.New(promapi.Config{URL: server.URL, Access: promapi.Access{CertFile: cert, KeyFile: itsKey}}); err == nil || !strings.Contains(err.Error(), cert) {
		t.Errorf("a key of another certificate: %v", err)
	}
}
