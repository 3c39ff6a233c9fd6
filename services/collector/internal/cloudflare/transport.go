package cloudflare

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// TransportOptions are what an operator may need to reach Cloudflare.
type TransportOptions struct {
	// CAFile has PEM certificates to trust besides the system's, for proxies
	// that inspect TLS; empty: none.
	CAFile string
	// ConnectTimeout bounds the connection and, apart, the TLS handshake; 0: 10 s.
	ConnectTimeout time.Duration
}

// Transport returns a transport with TLS 1.2 or newer, HTTP/2, and the proxy of
// the environment (HTTPS_PROXY, HTTP_PROXY, NO_PROXY). Clients of one process
// may share it.
func Transport(o TransportOptions) (*http.Transport, error) {
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
		roots, err := x509.SystemCertPool()
		if err != nil { // no system pool is no reason to distrust the file
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %s has no PEM certificate", o.CAFile)
		}
		conf.RootCAs = roots
	}
	dialer := &net.Dialer{Timeout: o.ConnectTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   o.ConnectTimeout,
		ForceAttemptHTTP2:     true, // a TLS configuration of one's own turns it off otherwise
		MaxIdleConns:          16,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
	}, nil
}
