// Package tlsconf makes gRPC's TLS credentials from PEM files that may be replaced while
// the process runs. Each handshake uses the current content of the files, so that a
// renewed certificate or a new authority needs no restart; if it is invalid, it uses the
// last valid content (see [github.com/weir-metrics/weir/internal/reload]). Existing
// connections are not affected.
//
// Both sides require TLS 1.2 or later.
package tlsconf

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/weir-metrics/weir/internal/quiet"
	"github.com/weir-metrics/weir/internal/reload"
)

// Server names the files of a listener.
type Server struct {
	// CertFile has the certificate, followed by those of its intermediate issuers;
	// KeyFile has its key. Both are required.
	CertFile, KeyFile string
	// ClientCAFile has the CA certificates that verify client certificates (mutual
	// TLS). Empty: clients need no certificate.
	ClientCAFile string
}

// Credentials returns credentials for the server. Invalid files are an error now. Later the
// last valid content stays in use, and the watch reports the error under the given name of
// the setting. Failed handshakes of clients are logged there too.
func (s Server) Credentials(watch *reload.Watch, setting string) (credentials.TransportCredentials, error) {
	files := files{cert: s.CertFile, key: s.KeyFile, ca: s.ClientCAFile}
	kept, err := reload.NewValue(watch, setting, files.read, func(m material) (side, error) { return s.side(files, m) })
	if err != nil {
		return nil, err
	}
	return &serverSide{kept.Get().credentials(), kept, quiet.New(watch.Logger(), time.Minute)}, nil
}

func (s Server) side(files files, m material) (side, error) {
	pair, expires, err := m.pair(files)
	if err != nil {
		return side{}, err
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		// A resumed session would not be verified with the current CA certificates,
		// and connections are so long-lived that resuming saves nothing.
		SessionTicketsDisabled: true,
	}
	if files.ca != "" {
		if config.ClientCAs, err = m.pool(files); err != nil {
			return side{}, err
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return side{config, expires}, nil
}

// Client names the files of a connection. The zero value trusts the system's roots and
// sends no client certificate.
type Client struct {
	// CAFile has the CA certificates to trust; empty: the system's roots.
	CAFile string
	// CertFile and KeyFile are the client certificate and its key; both or neither.
	CertFile, KeyFile string
	// ServerName is verified in the server's certificate instead of the host of the
	// address.
	ServerName string
}

// Credentials returns credentials for the client. Invalid files are an error now. Later
// the last valid content stays in use, and the watch reports the error under the given
// name of the setting.
func (c Client) Credentials(watch *reload.Watch, setting string) (credentials.TransportCredentials, error) {
	files := files{cert: c.CertFile, key: c.KeyFile, ca: c.CAFile}
	if files.none() {
		watch = nil // there are no files that could change
	}
	kept, err := reload.NewValue(watch, setting, files.read, func(m material) (side, error) { return c.side(files, m) })
	if err != nil {
		return nil, err
	}
	return &clientSide{kept.Get().credentials(), kept}, nil
}

// HTTP returns a configuration for HTTP clients. The client certificate is that of the files at
// each handshake, the CA certificates are those of now. Errors are as of [Client.Credentials].
func (c Client) HTTP(watch *reload.Watch, setting string) (*tls.Config, error) {
	files := files{cert: c.CertFile, key: c.KeyFile, ca: c.CAFile}
	if files.none() {
		watch = nil
	}
	kept, err := reload.NewValue(watch, setting, files.read, func(m material) (side, error) { return c.side(files, m) })
	if err != nil {
		return nil, err
	}
	config := kept.Get().config.Clone()
	if files.cert != "" {
		config.Certificates = nil
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &kept.Get().config.Certificates[0], nil
		}
	}
	return config, nil
}

func (c Client) side(files files, m material) (s side, err error) {
	s.config = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if files.ca != "" {
		if s.config.RootCAs, err = m.pool(files); err != nil {
			return side{}, err
		}
	}
	if files.cert != "" {
		var pair tls.Certificate
		if pair, s.expires, err = m.pair(files); err != nil {
			return side{}, err
		}
		s.config.Certificates = []tls.Certificate{pair}
	}
	return s, nil
}

// side is the parsed files of one end of a connection.
type side struct {
	config  *tls.Config // not changed once it is made
	expires time.Time   // of its certificate; zero without one
}

// Expires implements [reload.Expiring].
func (s side) Expires() time.Time { return s.expires }

func (s side) credentials() credentials.TransportCredentials { return credentials.NewTLS(s.config) }

// clientSide and serverSide embed the credentials of the files at start, for everything
// except the handshake.
type clientSide struct {
	credentials.TransportCredentials
	kept *reload.Value[material, side]
}

// ClientHandshake implements [credentials.TransportCredentials].
func (c *clientSide) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return c.kept.Get().credentials().ClientHandshake(ctx, authority, conn)
}

// Clone implements [credentials.TransportCredentials].
func (c *clientSide) Clone() credentials.TransportCredentials {
	return &clientSide{c.TransportCredentials.Clone(), c.kept}
}

type serverSide struct {
	credentials.TransportCredentials
	kept *reload.Value[material, side]
	log  *quiet.Log
}

// ServerHandshake implements [credentials.TransportCredentials].
func (s *serverSide) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secured, info, err := s.kept.Get().credentials().ServerHandshake(conn)
	// gRPC does not log failed handshakes. A client that connects and closes without
	// sending anything is a probe.
	if err != nil && !errors.Is(err, io.EOF) {
		s.log.Warn(quiet.Cause(err), "TLS handshake failed", "client", conn.RemoteAddr().String(), "err", err)
	}
	return secured, info, err
}

// Clone implements [credentials.TransportCredentials].
func (s *serverSide) Clone() credentials.TransportCredentials {
	return &serverSide{s.TransportCredentials.Clone(), s.kept, s.log}
}
