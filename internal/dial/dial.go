// Package dial opens the connection to the collectors: addresses, TLS and
// credential.
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

// Config says how to reach the collectors. Leader and standbys serve the same
// entries, so the exposer may follow any of them.
type Config struct {
	// Addresses are host:port. A single entry means every address that its name
	// resolves to. With several entries, each means one collector, which may be
	// reached at any of the addresses of its name.
	Addresses []string
	TLS       bool
	// CAFile holds the trusted CA certificates, PEM; empty: the system's roots.
	CAFile string
	// CertFile and KeyFile are the client certificate. Both files, and CAFile,
	// are reloaded for every new connection; if that fails, the last valid
	// content stays in use.
	CertFile, KeyFile string
	// ServerName replaces the host of the address when the certificate is verified.
	ServerName string
	// Token is sent with every call. It is reloaded from its file for each call;
	// if that fails, the last valid token stays in use. Of several lines the
	// first is sent: collectors accept every line of their file, so that one file
	// can serve both sides during a rotation.
	Token cli.Secret
}

// CheckToken reports what is wrong with the token, without showing it.
func (c Config) CheckToken() error {
	_, err := first(c.Token)
	return err
}

// balanced spreads calls over all addresses: after UNAVAILABLE the next attempt
// goes to another collector, which may not be behind.
const balanced = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// redial bounds the backoff between connection attempts. gRPC's default grows to
// two minutes, and during the backoff every call fails at once, so a follower
// would notice a restarted collector minutes late.
var redial = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
	MinConnectTimeout: 10 * time.Second, // per address; the next address waits for it
}

// Open returns a connection, which uses no proxy. It connects at the first call,
// so an unreachable collector is not an error here. The watch, if not nil, is told
// when files are reloaded.
func Open(c Config, watch *reload.Watch) (*grpc.ClientConn, error) {
	return open(c, watch, net.DefaultResolver.LookupHost)
}

func open(c Config, watch *reload.Watch, find lookup, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	trust, err := transport(c, watch)
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(trust),
		// gRPC uses HTTPS_PROXY depending on the target's scheme, which here depends
		// on the number of addresses. Never using it is the same for all.
		grpc.WithNoProxy(),
		grpc.WithDefaultServiceConfig(balanced),
		grpc.WithConnectParams(redial),
		// Detects a dead peer behind a proxy that keeps the connection open. The
		// collector allows a ping every 10 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute, Timeout: 20 * time.Second}),
	}
	if !c.Token.IsZero() {
		token, err := newCredential(c, watch)
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.WithPerRPCCredentials(token))
	}
	var target string
	switch len(c.Addresses) {
	case 1:
		host, port, err := net.SplitHostPort(c.Addresses[0])
		if err != nil {
			return nil, fmt.Errorf("collector address %q: %w", c.Addresses[0], err)
		}
		name := &names{host: host, port: port, lookup: find}
		options = append(options, grpc.WithResolvers(name))
		target = name.Scheme() + ":///" + c.Addresses[0]
	default:
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
	token, err := reload.NewValue(watch, "WEIR_COLLECTOR_TOKEN_FILE", func() (string, error) {
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

// first returns the first token of a list. Its errors do not contain the token.
func first(tokens cli.Secret) (string, error) {
	for line := range strings.Lines(tokens.Reveal()) {
		if token := strings.TrimSpace(line); token != "" {
			return token, tokens.Flaw(bearer.Check(token))
		}
	}
	return "", tokens.Flaw(errors.New("no token found: want one token per line"))
}

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (b credential) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + b.token.Get()}, nil
}

// RequireTransportSecurity keeps gRPC from sending the token in plain text,
// except on loopback, where the validation of the settings allows it.
func (b credential) RequireTransportSecurity() bool { return b.tls }
