package cloudflare

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/weir-metrics/weir/internal/tlsconf"
)

// TransportOptions are options of the connection to Cloudflare.
type TransportOptions struct {
	// CA holds certificates in PEM to trust besides the system's, for proxies
	// that inspect TLS; empty: none.
	CA string
	// ConnectTimeout limits the connection and, separately, the TLS handshake; 0: 10 s.
	ConnectTimeout time.Duration
}

// Transport returns a transport with TLS 1.2 or newer, HTTP/2, and the proxy of the
// environment (HTTPS_PROXY, HTTP_PROXY, else ALL_PROXY; NO_PROXY), which its errors name.
// Clients of one process may share it.
func Transport(o TransportOptions) (*Carrier, error) {
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
		if err != nil { // the file is used without a system pool
			roots = x509.NewCertPool()
		}
		for _, c := range trusted {
			roots.AddCert(c)
		}
		conf.RootCAs = roots
	}
	dialer := &net.Dialer{Timeout: o.ConnectTimeout, KeepAlive: 30 * time.Second}
	proxy := proxies()
	return &Carrier{&http.Transport{
		Proxy:                 func(r *http.Request) (*url.URL, error) { return proxy(r.URL) },
		DialContext:           dialer.DialContext,
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   o.ConnectTimeout,
		ForceAttemptHTTP2:     true, // a custom TLS configuration would disable it
		MaxIdleConns:          16,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       90 * time.Second,
		ExpectContinueTimeout: time.Second,
		// Cloudflare's headers have a few kilobytes; Go's default is ten megabytes.
		MaxResponseHeaderBytes: 256 << 10,
	}}, nil
}

// proxies returns the proxy for a URL as Go does, with ALL_PROXY as the fallback, like
// curl.
func proxies() func(*url.URL) (*url.URL, error) {
	conf := httpproxy.FromEnvironment()
	all := cmp.Or(os.Getenv("ALL_PROXY"), os.Getenv("all_proxy"))
	conf.HTTPProxy, conf.HTTPSProxy = cmp.Or(conf.HTTPProxy, all), cmp.Or(conf.HTTPSProxy, all)
	return conf.ProxyFunc()
}

// Carrier is a transport whose errors name the proxy. Go's own error for a proxy that
// refuses is only "Forbidden".
type Carrier struct{ *http.Transport }

// RoundTrip implements [http.RoundTripper].
func (c *Carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := c.Transport.RoundTrip(r)
	if err != nil {
		if proxy, _ := c.Proxy(r); proxy != nil { // without its password
			err = fmt.Errorf("through the proxy %s://%s: %w", proxy.Scheme, proxy.Host, err)
		}
	}
	return answer, err
}
