// Package tlsconf makes gRPC's TLS credentials from PEM files that may be
// replaced while the process runs: each handshake uses the files as they are at
// that moment, so that a renewed certificate or a new authority needs no
// restart. Connections that stand are left alone.
//
// Both sides speak TLS 1.2 or later.
package tlsconf

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"

	"google.golang.org/grpc/credentials"
)

// Server names the files behind a listener.
type Server struct {
	// CertFile holds the certificate, followed by those of its intermediate
	// issuers; KeyFile holds its key. Both are required.
	CertFile, KeyFile string
	// ClientCAFile holds the authorities one of which must have issued the
	// certificate that a client shows (mutual TLS). Empty: clients show none.
	ClientCAFile string
}

// Credentials are for the server's side. Files that cannot be used are an error
// now; later, when they are found half replaced, say, the server goes on with
// what it had and warns once, since refusing every client would be worse.
// Clients that fail the handshake are logged too. log must not be nil.
func (s Server) Credentials(log *slog.Logger) (credentials.TransportCredentials, error) {
	k := &keeper{files: s, log: log}
	if err := k.renew(); err != nil {
		return nil, err
	}
	return &serverSide{credentials.NewTLS(k.config), k}, nil
}

func (s Server) config(m material) (*tls.Config, error) {
	pair, err := m.pair()
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", s.CertFile, s.KeyFile, err)
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		// A resumed session would skip the check against today's authorities,
		// and connections live so long that resuming saves nothing.
		SessionTicketsDisabled: true,
	}
	if s.ClientCAFile != "" {
		if config.ClientCAs, err = m.pool(); err != nil {
			return nil, fmt.Errorf("CA certificates %s: %w", s.ClientCAFile, err)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// Client names the files behind a connection. The zero value trusts the
// system's roots and shows no certificate.
type Client struct {
	// CAFile is what to trust; empty: the system's roots.
	CAFile string
	// CertFile and KeyFile are shown to a server that asks for a certificate;
	// both or neither.
	CertFile, KeyFile string
	// ServerName replaces the host of the address in the check of the server's
	// certificate.
	ServerName string
}

// Credentials are for the client's side. Files that cannot be used are an error
// now; later they fail the handshake, which gRPC tries again by itself and
// tells its callers about.
func (c Client) Credentials() (credentials.TransportCredentials, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	return &clientSide{credentials.NewTLS(config), c}, nil
}

func (c Client) config() (*tls.Config, error) {
	m, err := read(c.CertFile, c.KeyFile, c.CAFile)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		if config.RootCAs, err = m.pool(); err != nil {
			return nil, fmt.Errorf("CA certificates %s: %w", c.CAFile, err)
		}
	}
	if c.CertFile != "" {
		pair, err := m.pair()
		if err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w", c.CertFile, c.KeyFile, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// clientSide and serverSide embed the credentials of the files as they were at
// the start, for everything but the handshake.
type clientSide struct {
	credentials.TransportCredentials
	files Client
}

// ClientHandshake implements [credentials.TransportCredentials].
func (c *clientSide) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := c.files.config()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// Clone implements [credentials.TransportCredentials].
func (c *clientSide) Clone() credentials.TransportCredentials {
	return &clientSide{c.TransportCredentials.Clone(), c.files}
}

type serverSide struct {
	credentials.TransportCredentials
	keeper *keeper
}

// ServerHandshake implements [credentials.TransportCredentials].
func (s *serverSide) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := credentials.NewTLS(s.keeper.current()).ServerHandshake(conn)
	// gRPC itself keeps silent about it. Whoever connects and leaves without a
	// word is a probe.
	if err != nil && !errors.Is(err, io.EOF) {
		s.keeper.log.Warn("TLS handshake failed", "client", conn.RemoteAddr().String(), "err", err)
	}
	return secured, info, err
}

// Clone implements [credentials.TransportCredentials].
func (s *serverSide) Clone() credentials.TransportCredentials {
	return &serverSide{s.TransportCredentials.Clone(), s.keeper}
}

// keeper holds the configuration of the last files that could be used.
type keeper struct {
	files Server
	log   *slog.Logger

	mu     sync.Mutex // guards the rest
	from   material   // of config
	config *tls.Config
	fault  string // why newer files are not in use, as it was logged; "" when they are
}

// current is the configuration for a handshake that begins now. The caller must
// not change it.
func (k *keeper) current() *tls.Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.renew()
	switch {
	case err == nil:
		k.fault = ""
	case err.Error() != k.fault:
		k.fault = err.Error()
		k.log.Warn("TLS files cannot be used, going on with those before", "err", err)
	}
	return k.config
}

// renew takes the files into use if they have changed. It compares what is in
// them, since times and inodes tell little about mounted secrets.
func (k *keeper) renew() error {
	m, err := read(k.files.CertFile, k.files.KeyFile, k.files.ClientCAFile)
	if err != nil || m == k.from {
		return err
	}
	config, err := k.files.config(m)
	if err != nil {
		return err
	}
	k.from, k.config = m, config
	k.log.Info("TLS files are in use", "certificate", k.files.CertFile, "not_after", config.Certificates[0].Leaf.NotAfter, "client_certificates", k.files.ClientCAFile != "")
	return nil
}

// material is what stands in a set of files, in PEM; "" for a file that is not
// given.
type material struct{ cert, key, ca string }

func read(certFile, keyFile, caFile string) (m material, err error) {
	for _, f := range []struct {
		name string
		into *string
	}{{certFile, &m.cert}, {keyFile, &m.key}, {caFile, &m.ca}} {
		if f.name == "" {
			continue
		}
		content, err := os.ReadFile(f.name)
		if err != nil {
			return material{}, fmt.Errorf("read TLS files: %w", err)
		}
		*f.into = string(content)
	}
	return m, nil
}

func (m material) pair() (tls.Certificate, error) {
	return tls.X509KeyPair([]byte(m.cert), []byte(m.key))
}

func (m material) pool() (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM([]byte(m.ca)) {
		return nil, errors.New("the file holds none in PEM")
	}
	return p, nil
}
