// Package dial opens the connection to the collectors: which addresses, with
// which trust, with which credential.
package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/weir-metrics/weir/internal/cli"
)

// Config says how to reach the collectors. All of them serve the same, leader
// or standby, so that any will do.
type Config struct {
	// Addresses are host:port; a name with several addresses means all of them.
	Addresses []string
	TLS       bool
	// CAFile is what to trust, PEM; empty: the system's roots.
	CAFile string
	// CertFile and KeyFile are shown to a collector that asks for a
	// certificate. Both files, and CAFile, are read for every new connection.
	CertFile, KeyFile string
	// ServerName replaces the host of the address in the check of the certificate.
	ServerName string
	// Token is sent with every call; read again from its file each time.
	Token cli.Secret
}

// balanced spreads calls over all addresses: after UNAVAILABLE the next try
// goes to another collector, which may be the one that is not behind.
const balanced = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// Open returns a connection. Nothing is sent before the first call, so a
// collector that is away is no error here.
func Open(c Config) (*grpc.ClientConn, error) {
	trust, err := transport(c)
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(trust),
		grpc.WithDefaultServiceConfig(balanced),
		// Finds a dead peer behind a proxy that keeps the connection open. The
		// collector allows a ping every 10 s; gRPC's own default, 5 min, would
		// end the connection.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 20 * time.Second}),
	}
	if !c.Token.IsZero() {
		options = append(options, grpc.WithPerRPCCredentials(bearer{c.Token, c.TLS}))
	}
	target := "dns:///" + c.Addresses[0]
	if len(c.Addresses) > 1 {
		list := manual.NewBuilderWithScheme("weir")
		var addresses []resolver.Address
		for _, a := range c.Addresses {
			host, _, err := net.SplitHostPort(a)
			if err != nil {
				return nil, fmt.Errorf("collector address %q: %w", a, err)
			}
			addresses = append(addresses, resolver.Address{Addr: a, ServerName: host})
		}
		list.InitialState(resolver.State{Addresses: addresses})
		options = append(options, grpc.WithResolvers(list))
		target = "weir:///collectors"
	}
	conn, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("open a connection to the collectors %s: %w", strings.Join(c.Addresses, ", "), err)
	}
	return conn, nil
}

// reloading are TLS credentials that read their files for every handshake, so
// that certificates can be replaced under a running exposer. The check itself
// is the standard one, with the roots of that moment.
type reloading struct {
	credentials.TransportCredentials // of the files as they were at the start
	config                           Config
}

// transport reads all files once, for an early error.
func transport(c Config) (credentials.TransportCredentials, error) {
	if !c.TLS {
		return insecure.NewCredentials(), nil
	}
	config, err := c.tls()
	if err != nil {
		return nil, err
	}
	return &reloading{credentials.NewTLS(config), c}, nil
}

// ClientHandshake implements [credentials.TransportCredentials].
func (r *reloading) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := r.config.tls()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// Clone implements [credentials.TransportCredentials].
func (r *reloading) Clone() credentials.TransportCredentials {
	return &reloading{r.TransportCredentials.Clone(), r.config}
}

func (c *Config) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		var err error
		if config.RootCAs, err = pool(c.CAFile); err != nil {
			return nil, err
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func pool(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the CA certificates: %w", err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the CA certificates: %s holds none in PEM", file)
	}
	return p, nil
}

// bearer sends a token with each call.
type bearer struct {
	token cli.Secret
	tls   bool
}

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := b.token.Reread()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token.Reveal()}, nil
}

// RequireTransportSecurity keeps gRPC from sending the token in the clear,
// except where the settings' check has allowed it: on loopback.
func (b bearer) RequireTransportSecurity() bool { return b.tls }
