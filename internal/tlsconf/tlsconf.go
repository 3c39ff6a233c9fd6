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
// now; later the server goes on with what it had, and the watch tells, by the
// name of the setting that is given. Clients that fail the handshake are logged
// there too.
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
		// A resumed session would skip the check against today's authorities,
		// and connections live so long that resuming saves nothing.
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
// now; later the client goes on with what it had, and the watch tells, by the
// name of the setting that is given.
func (c Client) Credentials(watch *reload.Watch, setting string) (credentials.TransportCredentials, error) {
	files := files{cert: c.CertFile, key: c.KeyFile, ca: c.CAFile}
	if files.none() {
		watch = nil // there is nothing that could change
	}
	kept, err := reload.NewValue(watch, setting, files.read, func(m material) (side, error) { return c.side(files, m) })
	if err != nil {
		return nil, err
	}
	return &clientSide{kept.Get().credentials(), kept}, nil
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

// side is what one end of a connection makes of its files.
type side struct {
	config  *tls.Config // not changed once it is made
	expires time.Time   // of its certificate; zero without one
}

// Expires implements [reload.Expiring].
func (s side) Expires() time.Time { return s.expires }

func (s side) credentials() credentials.TransportCredentials { return credentials.NewTLS(s.config) }

// clientSide and serverSide embed the credentials of the files as they were at
// the start, for everything but the handshake.
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
	// gRPC itself keeps silent about it. Whoever connects and leaves without a
	// word is a probe.
	if err != nil && !errors.Is(err, io.EOF) {
		s.log.Warn(quiet.Cause(err), "TLS handshake failed", "client", conn.RemoteAddr().String(), "err", err)
	}
	return secured, info, err
}

// Clone implements [credentials.TransportCredentials].
func (s *serverSide) Clone() credentials.TransportCredentials {
	return &serverSide{s.TransportCredentials.Clone(), s.kept, s.log}
}
