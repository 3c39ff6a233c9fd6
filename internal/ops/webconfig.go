package ops

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/time/rate"

	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/smallfile"
	"github.com/weir-metrics/weir/internal/tlsconf"
)

// front wraps a listener's handler and applies its web configuration: TLS, basic
// authentication, headers, a rate limit.
//
// The format and validation of the file are the exporter toolkit's, but its handler is
// not used: it reads the file for each request and handshake, and rejects all clients
// while the file or a certificate is being replaced. A scrape must not fail because of
// that, so here the last valid configuration stays in use. And a truncated or empty file
// must not remove the protection.
type front struct {
	kept    *reload.Value[webContent, webConfig]
	limiter *rate.Limiter
	known   passwords
}

// webContent is the content of a web configuration and of the files that it names; "" for
// files that it does not name.
type webContent struct{ config, cert, key, ca string }

// webConfig is a web configuration, ready for use.
type webConfig struct {
	web.Config
	tls     *tls.Config // nil: plain HTTP
	expires time.Time   // of the certificate
}

// Expires implements [reload.Expiring].
func (c webConfig) Expires() time.Time { return c.expires }

// newFront reads a web configuration. Its files are then reloaded for each request and
// each handshake.
func newFront(path string, watch *reload.Watch, setting string) (*front, error) {
	f := &front{}
	started := false
	var first webConfig
	kept, err := reload.NewValue(watch, setting, func() (webContent, error) { return readWeb(path) }, func(content webContent) (webConfig, error) {
		now, err := parseWeb(path, content)
		switch {
		case err != nil:
		case !started:
			started, first = true, now
		case (now.tls == nil) != (first.tls == nil):
			err = fmt.Errorf("%s turns TLS on or off, which takes a restart", path)
		case now.tls != nil && now.tls.ClientAuth < first.tls.ClientAuth:
			err = fmt.Errorf("%s asks less of clients' certificates than before (client_auth_type), which takes a restart", path)
		case len(now.TLSConfig.ClientAllowedSans) == 0 && len(first.TLSConfig.ClientAllowedSans) > 0:
			err = fmt.Errorf("%s has no client_allowed_sans any more; to let other clients in takes a restart", path)
		case len(now.Users) == 0 && len(first.Users) > 0:
			err = fmt.Errorf("%s has no users any more; to do without passwords takes a restart", path)
		}
		return now, err
	})
	if err != nil {
		return nil, err
	}
	f.kept = kept
	if limit := first.RateLimiterConfig; limit.Interval != 0 {
		f.limiter = rate.NewLimiter(rate.Every(limit.Interval), limit.Burst)
	}
	return f, nil
}

// readWeb reads a web configuration and the files that it names.
func readWeb(path string) (content webContent, err error) {
	text, err := smallfile.Read(path, smallfile.YAML)
	if err != nil {
		return webContent{}, err
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return webContent{}, fmt.Errorf("%s is empty", path)
	}
	content.config = string(text)
	c, err := decodeWeb(path, content.config)
	if err != nil {
		return webContent{}, err
	}
	for _, file := range []struct {
		name string
		into *string
	}{{c.TLSConfig.TLSCertPath, &content.cert}, {c.TLSConfig.TLSKeyPath, &content.key}, {c.TLSConfig.ClientCAs, &content.ca}} {
		if file.name == "" {
			continue
		}
		text, err := smallfile.Read(file.name, smallfile.PEM)
		if err != nil {
			return webContent{}, err
		}
		*file.into = string(text)
	}
	return content, nil
}

// shown matches a value that a YAML error quotes, which may be a misplaced password.
var shown = regexp.MustCompile("`[^`]*`")

func decodeWeb(path, text string) (*web.Config, error) {
	// The toolkit's defaults.
	c := &web.Config{
		TLSConfig:  web.TLSConfig{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13},
		HTTPConfig: web.HTTPConfig{HTTP2: true},
	}
	if err := yaml.UnmarshalStrict([]byte(text), c); err != nil {
		return nil, errors.New(shown.ReplaceAllString(err.Error(), "(not shown)"))
	}
	// The toolkit reads the first document, and would not say that users or a certificate are in
	// another one.
	documents := yaml.NewDecoder(strings.NewReader(text))
	var content any
	if first := documents.Decode(&content); first == nil && !errors.Is(documents.Decode(&content), io.EOF) {
		return nil, errors.New("there is a second document, after ---; a file has one")
	}
	c.TLSConfig.SetDirectory(filepath.Dir(path))
	return c, nil
}

// parseWeb parses the content, which the toolkit must accept.
func parseWeb(path string, content webContent) (webConfig, error) {
	c, err := decodeWeb(path, content.config)
	if err != nil {
		return webConfig{}, err
	}
	if err := web.Validate(path); err != nil {
		return webConfig{}, errors.New(shown.ReplaceAllString(err.Error(), "(not shown)"))
	}
	out := webConfig{Config: *c}
	if !c.TLSConfig.IsEnabled() {
		return out, nil
	}
	// The content replaces the names, since otherwise each handshake would read the
	// files again.
	inline := c.TLSConfig
	pin(&inline.TLSCertPath, &inline.TLSCert, content.cert)
	pin(&inline.TLSKeyPath, &inline.TLSKey, content.key)
	pin(&inline.ClientCAs, &inline.ClientCAsText, content.ca)
	if out.tls, err = web.ConfigToTLSConfig(&inline); err != nil {
		return webConfig{}, err
	}
	if c.TLSConfig.ClientCAs != "" || inline.ClientCAsText != "" {
		if out.tls.ClientCAs, err = authorities(inline.ClientCAsText); err != nil {
			return webConfig{}, fmt.Errorf("client_ca_file %s: %w", c.TLSConfig.ClientCAs, err)
		}
	} else if out.tls.ClientAuth >= tls.VerifyClientCertIfGiven {
		// Go would trust all of the system's authorities.
		return webConfig{}, fmt.Errorf("client_auth_type is %s, which needs a client_ca_file", c.TLSConfig.ClientAuth)
	}
	pair, err := out.tls.GetCertificate(nil)
	if err != nil {
		return webConfig{}, err
	}
	out.tls.Certificates, out.tls.GetCertificate = []tls.Certificate{*pair}, nil
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return webConfig{}, fmt.Errorf("a certificate of the chain: %w", err)
		}
		if out.expires.IsZero() || c.NotAfter.Before(out.expires) {
			out.expires = c.NotAfter
		}
	}
	out.tls.NextProtos = []string{"http/1.1"}
	if c.HTTPConfig.HTTP2 {
		out.tls.NextProtos = []string{"h2", "http/1.1"}
	}
	return out, nil
}

func authorities(text string) (*x509.CertPool, error) {
	all, err := tlsconf.Certificates(text)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, c := range all {
		pool.AddCert(c)
	}
	return pool, nil
}

// pin replaces the name of a file by its content, if there is one.
func pin[T ~string](name *string, text *T, content string) {
	if *name != "" {
		*name, *text = "", T(content)
	}
}

// configure sets a server's TLS; false if none is configured.
func (f *front) configure(server *http.Server) bool {
	first := f.kept.Get()
	if first.tls == nil {
		return false
	}
	if !first.HTTPConfig.HTTP2 {
		server.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
	}
	server.TLSConfig = first.tls.Clone()
	server.TLSConfig.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.kept.Get().tls, nil }
	return true
}

// before returns a handler that passes permitted requests to next.
func (f *front) before(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := f.kept.Get()
		if f.limiter != nil && !f.limiter.Allow() {
			http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
			return
		}
		for name, value := range c.HTTPConfig.Header {
			w.Header().Set(name, value)
		}
		if len(c.Users) > 0 && !f.known.right(c, r) {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// passwords caches valid passwords, since each scrape sends one and bcrypt takes a tenth
// of a second of processor time by design. Invalid ones are not cached, so that guesses
// cannot displace valid ones.
type passwords struct {
	slow sync.Mutex // one bcrypt at a time, so that guessing cannot use all processors

	mu    sync.Mutex // guards known
	known map[[sha256.Size]byte]bool
}

// mostPasswords limits the cache: users times the hashes that they had.
const mostPasswords = 100

func (p *passwords) right(c webConfig, r *http.Request) bool {
	user, password, given := r.BasicAuth()
	if !given {
		return false
	}
	hash, exists := c.Users[user]
	if !exists {
		// As slow as for an existing user, so that timing reveals nothing.
		hash = c.Users[slices.Min(slices.Collect(maps.Keys(c.Users)))]
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s %s %s", hex.EncodeToString([]byte(user)), string(hash), password))
	p.mu.Lock()
	known := p.known[key]
	p.mu.Unlock()
	if known && exists {
		return true
	}
	p.slow.Lock()
	err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
	p.slow.Unlock()
	if err != nil || !exists {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= mostPasswords {
		p.known = nil
	}
	if p.known == nil {
		p.known = map[[sha256.Size]byte]bool{}
	}
	p.known[key] = true
	return true
}
