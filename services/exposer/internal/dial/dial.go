// Package dial opens the connection to the collectors: which addresses, with
// which trust, with which credential.
package dial

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/tlsconf"
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
	// Token is sent with every call; read again from its file each time. Of
	// several lines the first is sent: collectors accept each line of theirs, so
	// that one file can serve both sides while tokens change.
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

func transport(c Config) (credentials.TransportCredentials, error) {
	if !c.TLS {
		return insecure.NewCredentials(), nil
	}
	files := tlsconf.Client{CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, ServerName: c.ServerName}
	trust, err := files.Credentials()
	if err != nil {
		return nil, fmt.Errorf("TLS for the collectors: %w", err)
	}
	return trust, nil
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
	first, _, _ := strings.Cut(strings.TrimSpace(token.Reveal()), "\n")
	return map[string]string{"authorization": "Bearer " + strings.TrimSpace(first)}, nil
}

// RequireTransportSecurity keeps gRPC from sending the token in the clear,
// except where the settings' check has allowed it: on loopback.
func (b bearer) RequireTransportSecurity() bool { return b.tls }
