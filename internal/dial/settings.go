package dial

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/loopback"
)

// Settings is the part of a program's table that says how to reach the collectors.
func (c *Config) Settings() []cli.Setting {
	return []cli.Setting{
		{Env: "WEIR_COLLECTOR_ADDRESS", Default: "127.0.0.1:9820", Value: cli.List(&c.Addresses), Help: "comma-separated host:port of the collectors; the exposer follows any one of them. A single entry means every address that its name resolves to; with several entries, each means one collector"},
		{Env: "WEIR_COLLECTOR_TLS", Default: "false", Value: cli.Bool(&c.TLS), Help: "connect to the collectors over TLS"},
		{Env: "WEIR_COLLECTOR_CA_FILE", Value: cli.Text(&c.CAFile), Help: "PEM file with the CA certificates that verify the collectors; empty: the system's root certificates"},
		{Env: "WEIR_COLLECTOR_CERT_FILE", Value: cli.Text(&c.CertFile), Help: "PEM file with the client certificate for the collectors; reloaded for each connection"},
		{Env: "WEIR_COLLECTOR_KEY_FILE", Value: cli.Text(&c.KeyFile), Help: "PEM file with the key of the client certificate"},
		{Env: "WEIR_COLLECTOR_SERVER_NAME", Value: cli.Text(&c.ServerName), Help: "server name to verify in the collectors' certificates; empty: the host of the address"},
		{Env: "WEIR_COLLECTOR_TOKEN", Value: cli.SecretText(&c.Token), Help: "bearer token for the collectors; the first line of the file is used, and the file is reloaded for each call"},
	}
}

// Validate checks rules that involve more than one setting. It returns every problem.
func (c *Config) Validate() error {
	var bad []error
	problem := func(setting, format string, args ...any) {
		bad = append(bad, cli.Problem{Setting: setting, Reason: fmt.Sprintf(format, args...)})
	}
	if len(c.Addresses) == 0 {
		problem("WEIR_COLLECTOR_ADDRESS", "must name at least one host:port")
	}
	for _, a := range c.Addresses {
		host, port, err := net.SplitHostPort(a)
		if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || n == 0 {
			problem("WEIR_COLLECTOR_ADDRESS", "%q must be host:port, with a port from 1 to 65535", a)
		}
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		problem("WEIR_COLLECTOR_CERT_FILE", "must be set together with WEIR_COLLECTOR_KEY_FILE")
	}
	if !c.Token.IsZero() {
		if err := c.CheckToken(); err != nil {
			problem("WEIR_COLLECTOR_TOKEN", "%v", err)
		}
	}
	if !c.TLS {
		if c.CAFile != "" || c.CertFile != "" || c.ServerName != "" {
			problem("WEIR_COLLECTOR_TLS", "must be true when a CA, a certificate or a server name is set: without TLS they have no effect")
		}
		if !c.Token.IsZero() && slices.ContainsFunc(c.Addresses, func(a string) bool { return !onLoopback(a) }) {
			problem("WEIR_COLLECTOR_TLS", "must be true when WEIR_COLLECTOR_TOKEN is set and a collector is not on loopback: the token would be sent in plain text")
		}
	}
	return errors.Join(bad...)
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && loopback.Host(host)
}
