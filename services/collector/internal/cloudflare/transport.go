package cloudflare

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/weir-metrics/weir/internal/tlsconf"
)

// TransportOptions are what an operator may need to reach Cloudflare.
type TransportOptions struct {
	// CA holds certificates in PEM to trust besides the system's, for proxies
	// that inspect TLS; empty: none.
	CA string
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
	if o.CA != "" {
		trusted, err := tlsconf.Certificates(o.CA)
		if err != nil {
			return nil, fmt.Errorf("CA certificates: %w", err)
		}
		roots, err := x509.SystemCertPool()
		if err != nil { // no system pool is no reason to distrust the file
			roots = x509.NewCertPool()
		}
		for _, c := range trusted {
			roots.AddCert(c)
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
		// Cloudflare's are a few kilobytes; Go's default is ten megabytes.
		MaxResponseHeaderBytes: 256 << 10,
	}, nil
}
