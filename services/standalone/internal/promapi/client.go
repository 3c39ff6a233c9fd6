package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/tlsconf"
)

const (
	// attempts at a request, so that a restart of Prometheus does not end a long comparison.
	attempts   = 5
	firstPause = 500 * time.Millisecond
	// timeout of one request: Prometheus itself gives up a query after two minutes.
	timeout = 3 * time.Minute
	// MaxBody is the maximum size of a response: far above a chunk, far below memory.
	MaxBody = 256 << 20
)

// Client asks one server. Safe for concurrent use.
type Client struct {
	base   string
	config Config
	header http.Header
	http   *http.Client
	pause  time.Duration // after the first failure
	// The secrets at this moment.
	token, password func() string
}

// Reloading returns a client as [New] does, for a process that runs for long: a token or
// password from a file is read again for each request, and a client certificate for each
// handshake, and the watch is told. Prefix is that of the settings.
func Reloading(c Config, prefix string, watch *reload.Watch) (*Client, error) {
	client, err := newClient(c, prefix, watch)
	if err != nil {
		return nil, err
	}
	for _, s := range []struct {
		name   string
		secret cli.Secret
		into   *func() string
	}{{"TOKEN", c.Token, &client.token}, {"PASSWORD", c.Password, &client.password}} {
		if s.secret.File() == "" {
			continue
		}
		kept, err := reload.NewValue(watch, prefix+s.name+"_FILE", func() (string, error) {
			now, err := s.secret.Reread()
			return strings.TrimSpace(now.Reveal()), err
		}, func(text string) (string, error) { return text, nil })
		if err != nil {
			return nil, fmt.Errorf("credential for %s: %w", c.URL, err)
		}
		*s.into = kept.Get
	}
	return client, nil
}

// New returns a client; it does not connect.
func New(c Config) (*Client, error) { return newClient(c, "", nil) }

func newClient(c Config, prefix string, watch *reload.Watch) (*Client, error) {
	if c.URL == "" {
		return nil, errors.New("a Prometheus URL is required: set --prometheus-url")
	}
	h, err := headers(c.Headers)
	if err != nil {
		return nil, fmt.Errorf("headers for %s: %w", c.URL, err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.CAFile != "" || c.CertFile != "" {
		if c.CertFile == "" {
			watch = nil // nothing is read again
		}
		files := tlsconf.Client{CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile}
		if transport.TLSClientConfig, err = files.HTTP(watch, prefix+"CERT_FILE"); err != nil {
			return nil, fmt.Errorf("TLS to %s: %w", c.URL, err)
		}
	}
	return &Client{
		base: strings.TrimSuffix(c.URL, "/"), config: c, header: h, http: &http.Client{Transport: transport, Timeout: timeout, CheckRedirect: Stay}, pause: firstPause,
		token: func() string { return strings.TrimSpace(c.Token.Reveal()) }, password: c.Password.Reveal,
	}, nil
}

// URL is the base URL.
func (c *Client) URL() string { return c.base }

// HTTP is the client with the configured credentials, for other APIs of the same server.
// They are sent to no other.
func (c *Client) HTTP() *http.Client {
	return &http.Client{Transport: credentials{c}, Timeout: timeout, CheckRedirect: Stay}
}

// Serves reports whether a URL is of the scheme and host that the credentials are for.
func (c *Client) Serves(target *url.URL) bool {
	own, err := url.Parse(c.base)
	return err == nil && origin(own) == origin(target)
}

// origin is scheme, host and port of a URL.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[strings.ToLower(u.Scheme)]
	}
	return strings.ToLower(u.Scheme + "://" + net.JoinHostPort(u.Hostname(), port))
}

// RedirectError means that a server answered with a redirect that is not followed: to
// another server, for which neither credentials nor samples are, or without the body.
type RedirectError struct {
	From, To string
	Body     bool // it is to the same server, and would lose the body
}

func (e *RedirectError) Error() string {
	if e.Body {
		return fmt.Sprintf("%s redirects to %s without what was sent: give the URL that answers", e.From, e.To)
	}
	return fmt.Sprintf("%s redirects to %s, to which neither credentials nor samples are sent: give the URL of the server that answers", e.From, e.To)
}

// Redirected is an error of a request without the URL that the server redirected to: that of a
// login may hold a secret.
func Redirected(err error) error {
	var redirect *RedirectError
	if errors.As(err, &redirect) {
		return redirect
	}
	return err
}

// Stay is a CheckRedirect of a client that follows redirects on one server only.
func Stay(r *http.Request, via []*http.Request) error {
	switch from := via[0].URL; {
	case origin(from) != origin(r.URL):
		return &RedirectError{From: from.Scheme + "://" + from.Host, To: r.URL.Scheme + "://" + r.URL.Host}
	case r.Method != via[0].Method:
		return &RedirectError{From: from.Redacted(), To: r.URL.Scheme + "://" + r.URL.Host + r.URL.EscapedPath(), Body: true}
	case len(via) >= 10:
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

type credentials struct{ c *Client }

// RoundTrip implements http.RoundTripper.
func (t credentials) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	t.c.authorize(r)
	return t.c.http.Transport.RoundTrip(r)
}

func (c *Client) authorize(r *http.Request) {
	if !c.Serves(r.URL) {
		return
	}
	for name, values := range c.header {
		r.Header[name] = values
	}
	switch {
	case !c.config.Token.IsZero():
		r.Header.Set("Authorization", "Bearer "+c.token())
	case c.config.User != "":
		r.SetBasicAuth(c.config.User, c.password())
	}
}

// Error is a response of the API that reports an error.
type Error struct {
	Path   string
	Status int
	Text   string
}

func (e *Error) Error() string {
	return fmt.Sprintf("Prometheus answered %s with %d: %s", e.Path, e.Status, e.Text)
}

// Unsupported reports whether the server does not have what was asked for.
func Unsupported(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented ||
		e.Status == http.StatusBadRequest && strings.Contains(e.Text, "unsupported path"))
}

// transient reports whether an error may go away by itself.
func transient(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Status == http.StatusTooManyRequests || e.Status >= 500 && e.Status != http.StatusNotImplemented && e.Status != http.StatusInternalServerError
	}
	var other *RedirectError
	return !errors.As(err, &other) && !errors.Is(err, errTooLarge) && !errors.Is(err, errMalformed)
}

var (
	errTooLarge = fmt.Errorf("the response is larger than %d MiB", MaxBody>>20)
	// errMalformed: the response is not in the form of the API.
	errMalformed = errors.New("the response is not in the form of Prometheus's API")
)

// do sends a request, again after a transient error, and decodes the member data of the
// response.
func (c *Client) do(ctx context.Context, method, path string, args url.Values, data any) error {
	return c.ask(ctx, method, path, args, func(body []byte) error { return decode(path, body, data) })
}

// ask sends a request and passes on the response, both again after a transient error.
func (c *Client) ask(ctx context.Context, method, path string, args url.Values, take func(body []byte) error) error {
	for failed := 1; ; failed++ {
		body, err := c.once(ctx, method, path, args)
		if err == nil {
			err = take(body)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if failed == attempts || !transient(err) {
			return err
		}
		if err := sleep(ctx, c.pause<<(failed-1)); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// once reads a whole response.
func (c *Client) once(ctx context.Context, method, path string, args url.Values) ([]byte, error) {
	target, body := c.base+path, io.Reader(nil)
	switch {
	case method == http.MethodPost:
		body = strings.NewReader(args.Encode())
	case len(args) > 0:
		target += "?" + args.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	c.authorize(r)
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus: %w", Redirected(err))
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("ask Prometheus %s: %w", path, err)
	case len(all) > MaxBody:
		return nil, fmt.Errorf("ask Prometheus %s: %w", path, errTooLarge)
	case resp.StatusCode/100 != 2:
		return nil, &Error{Path: path, Status: resp.StatusCode, Text: clip(message(all))}
	}
	return all, nil
}

// message is the error of a response in the form of the API, or its text.
func message(body []byte) string {
	var m struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &m) == nil && m.Error != "" {
		return m.Error
	}
	return strings.TrimSpace(string(body))
}

func clip(s string) string {
	const most = 300
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "\uFFFD") + "…"
	}
	return s
}

func decode(path string, body []byte, data any) error {
	reply := struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   any    `json:"data"`
		lacking
	}{Data: data}
	if err := json.Unmarshal(body, &reply); err != nil {
		return fmt.Errorf("response of Prometheus to %s: %w: %w", path, errMalformed, err)
	}
	if reply.Status != "success" {
		return &Error{Path: path, Status: http.StatusOK, Text: clip(fmt.Sprintf("status %q: %s", reply.Status, reply.Error))}
	}
	return reply.err()
}

// lacking is how a response says that it may be a part of what there is.
type lacking struct {
	Warnings []string `json:"warnings"`
	Partial  bool     `json:"isPartial"`
}

func (l lacking) err() error {
	// Releases before 3.0 note here, too, what they find odd in an expression.
	missing := slices.DeleteFunc(l.Warnings, func(w string) bool { return strings.HasPrefix(w, "PromQL ") })
	if l.Partial || len(missing) > 0 {
		return &PartialError{missing}
	}
	return nil
}
