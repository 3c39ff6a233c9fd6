// Package dial opens the connection to the collectors: which addresses, with
// which trust, with which credential.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/weir-metrics/weir/internal/bearer"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/tlsconf"
)

// Config says how to reach the collectors. All of them serve the same, leader
// or standby, so that any will do.
type Config struct {
	// Addresses are host:port. A single one stands for every address that its
	// name resolves to; each of several stands for one collector, which is
	// reached at any of the addresses of its name.
	Addresses []string
	TLS       bool
	// CAFile is what to trust, PEM; empty: the system's roots.
	CAFile string
	// CertFile and KeyFile are shown to a collector that asks for a
	// certificate. Both files, and CAFile, are read for every new connection;
	// those that were good last are in force.
	CertFile, KeyFile string
	// ServerName replaces the host of the address in the check of the certificate.
	ServerName string
	// Token is sent with every call; read again from its file each time, with
	// the last that was good in force. Of several lines the first is sent:
	// collectors accept each line of theirs, so that one file can serve both
	// sides while tokens change.
	Token cli.Secret
}

// CheckToken reports what is wrong with the token, without showing it.
func (c Config) CheckToken() error {
	_, err := first(c.Token)
	return err
}

// balanced spreads calls over all addresses: after UNAVAILABLE the next try
// goes to another collector, which may be the one that is not behind.
const balanced = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// redial bounds the pauses between attempts to connect. gRPC's own grow to two
// minutes, and while one lasts every call fails at once: a follower that asks
// every 30 s would find a collector that is back long after it is.
var redial = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 10 * time.Second},
	MinConnectTimeout: 10 * time.Second, // for one address; others wait for it
}

// Open returns a connection, which uses no proxy. Nothing is sent before the first
// call, so a collector that is away is no error here. The watch is told of changes
// of the files; nil: nobody is.
func Open(c Config, watch *reload.Watch) (*grpc.ClientConn, error) {
	return open(c, watch)
}

func open(c Config, watch *reload.Watch, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	trust, err := transport(c, watch)
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(trust),
		// gRPC's own way depends on the scheme of the target, and so on how many
		// addresses there are: through HTTPS_PROXY to one, past it to several.
		grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(balanced),
		grpc.WithConnectParams(redial),
		// Finds a dead peer behind a proxy that keeps the connection open. The
		// collector allows a ping every 10 s; gRPC's own default, 5 min, would
		// end the connection.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 20 * time.Second}),
	}
	if !c.Token.IsZero() {
		token, err := newCredential(c, watch)
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.WithPerRPCCredentials(token))
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
	conn, err := grpc.NewClient(target, append(options, more...)...)
	if err != nil {
		return nil, fmt.Errorf("open a connection to the collectors %s: %w", strings.Join(c.Addresses, ", "), err)
	}
	return conn, nil
}

func transport(c Config, watch *reload.Watch) (credentials.TransportCredentials, error) {
	if !c.TLS {
		return insecure.NewCredentials(), nil
	}
	files := tlsconf.Client{CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, ServerName: c.ServerName}
	trust, err := files.Credentials(watch, "WEIR_COLLECTOR_TLS")
	if err != nil {
		return nil, fmt.Errorf("TLS for the collectors (WEIR_COLLECTOR_CA_FILE, WEIR_COLLECTOR_CERT_FILE, WEIR_COLLECTOR_KEY_FILE): %w", err)
	}
	return trust, nil
}

// credential sends a token with each call.
type credential struct {
	token *reload.Value[string, string]
	tls   bool
}

func newCredential(c Config, watch *reload.Watch) (credential, error) {
	if c.Token.File() == "" {
		watch = nil // it cannot change
	}
	token, err := reload.Keep(watch, "WEIR_COLLECTOR_TOKEN_FILE", func() (string, error) {
		now, err := c.Token.Reread()
		if err != nil {
			return "", err
		}
		return first(now)
	}, func(token string) (string, error) { return token, nil })
	if err != nil {
		return credential{}, fmt.Errorf("token for the collectors: %w", err)
	}
	return credential{token, c.TLS}, nil
}

// first is the first token of a list. Its errors do not show it.
func first(tokens cli.Secret) (string, error) {
	for line := range strings.Lines(tokens.Reveal()) {
		if token := strings.TrimSpace(line); token != "" {
			return token, tokens.Flaw(bearer.Check(token))
		}
	}
	return "", tokens.Flaw(errors.New("there is no token; one a line is wanted"))
}

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (b credential) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token.Get()}, nil
}

// RequireTransportSecurity keeps gRPC from sending the token in the clear,
// except where the settings' check has allowed it: on loopback.
func (b credential) RequireTransportSecurity() bool { return b.tls }
