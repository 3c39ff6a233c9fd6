package cloudflare

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/weir-metrics/weir/internal/bearer"
)

// Defaults of [Config].
const (
	DefaultBaseURL = "https://api.cloudflare.com/client/v4"
	// DefaultTimeout limits a request including its response. Other published clients
	// started with 10 s and had to double it.
	DefaultTimeout = 30 * time.Second
	// DefaultMaxReply is far above the largest regular response (10,000 groups of
	// some hundred bytes per selection).
	DefaultMaxReply = 64 << 20
)

// Config of a client.
type Config struct {
	// BaseURL without a trailing slash; empty: [DefaultBaseURL].
	BaseURL string
	// Token returns the API token; it is called for every request. Required.
	Token func() (string, error)
	// Transport sends the requests, usually from [Transport]; nil: one with
	// default [TransportOptions].
	Transport http.RoundTripper
	Timeout   time.Duration // of one request; 0: [DefaultTimeout]
	MaxReply  int64         // bytes after decompression; 0: [DefaultMaxReply]
	UserAgent string        // empty: "weir"
	// AccountLimits requests that Cloudflare counts queries per account and zone
	// instead of per user (X-Rate-Limit-Type). Zones must then be queried below
	// their account: set Query.AccountID.
	AccountLimits bool
	Logger        *slog.Logger // one debug line per request; nil: none
}

// Client is a client of Cloudflare's API. Safe for concurrent use.
type Client struct {
	base      *url.URL
	token     func() (string, error)
	http      *http.Client
	timeout   time.Duration
	maxReply  int64
	userAgent string
	accounts  bool
	log       *slog.Logger
	rulesets  rulesets
}

// New validates the configuration. It sends no request.
func New(c Config) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(cmp.Or(c.BaseURL, DefaultBaseURL), "/"))
	switch {
	case err != nil:
		return nil, errors.New("cloudflare base URL cannot be parsed; it must be like " + DefaultBaseURL)
	case base.Scheme != "https" && base.Scheme != "http" || base.Host == "":
		return nil, fmt.Errorf("cloudflare base URL is %q; it must begin with https:// or http:// and name a host", base.Redacted())
	case base.User != nil || base.RawQuery != "" || base.Fragment != "":
		// The value is not shown, since it may contain a secret.
		return nil, errors.New("cloudflare base URL must have no user, query or fragment")
	case c.Token == nil:
		return nil, errors.New("cloudflare client needs a token")
	case c.Timeout < 0 || c.MaxReply < 0:
		return nil, fmt.Errorf("cloudflare client: timeout %s and reply limit %d must not be negative", c.Timeout, c.MaxReply)
	}
	transport := c.Transport
	if transport == nil {
		if transport, err = Transport(TransportOptions{}); err != nil {
			return nil, err
		}
	}
	logger := c.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Client{
		base: base, token: c.Token, log: logger, accounts: c.AccountLimits,
		timeout:   cmp.Or(c.Timeout, DefaultTimeout),
		maxReply:  cmp.Or(c.MaxReply, int64(DefaultMaxReply)),
		userAgent: cmp.Or(c.UserAgent, "weir"),
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// reply is a complete HTTP response, not yet validated.
type reply struct {
	status int
	header http.Header
	body   []byte
	bounds bounds
	ray    string
	date   time.Time // of the Date header; zero if there was none
	token  string    // to be redacted from every message
}

// graphql sends one document.
func (c *Client) graphql(ctx context.Context, document string, b bounds) (*reply, error) {
	body, err := json.Marshal(struct {
		Query string `json:"query"`
	}{document})
	if err != nil {
		return nil, fmt.Errorf("encode query: %w", err)
	}
	return c.send(ctx, http.MethodPost, c.base.JoinPath("graphql"), body, b)
}

// send sends one request and reads the response to the end. Its errors are of type
// *Error, except those of ctx.
func (c *Client) send(ctx context.Context, method string, u *url.URL, body []byte, b bounds) (*reply, error) {
	token, err := c.token()
	if err != nil {
		return nil, &Error{Class: Auth, Message: "read API token: " + err.Error()}
	}
	if err := bearer.Check(token); err != nil {
		return nil, &Error{Class: Auth, Message: "no request was sent: " + err.Error()}
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, &Error{Class: Ours, Message: redact(err.Error(), token)}
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.accounts && method == http.MethodPost {
		req.Header.Set("X-Rate-Limit-Type", "account-based")
	}
	began := time.Now()
	// Without Accept-Encoding the transport requests gzip and decompresses it.
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.lost(outer, err, token, "")
	}
	defer func() { _ = resp.Body.Close() }() // nothing to do about an error
	r := &reply{status: resp.StatusCode, header: resp.Header, bounds: b, ray: ray(resp.Header), token: token}
	if t, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		r.date = t.UTC()
	}
	most := b.bytes
	if r.status != http.StatusOK {
		most = min(most, mostRefusal)
	}
	r.body, err = readBody(resp.Body, most, &r.bounds)
	c.log.DebugContext(ctx, "response from Cloudflare", "method", method, "path", u.Path, "status", r.status, "ray", r.ray,
		"bytes", len(r.body), "duration", time.Since(began))
	if err != nil {
		return nil, c.lost(outer, err, token, r.ray)
	}
	if int64(len(r.body)) > most {
		larger := fmt.Sprintf("response is larger than %d bytes", most)
		if r.status != http.StatusOK {
			return nil, r.unexplained(larger)
		}
		return nil, r.problem(TooBig, larger)
	}
	return r, nil
}

// lost is the error of a request without a complete response.
func (c *Client) lost(outer context.Context, err error, token, ray string) error {
	if outer.Err() != nil {
		return fmt.Errorf("query Cloudflare: %w", context.Cause(outer))
	}
	e := &Error{Class: Transient, Message: redact(err.Error(), token), Ray: ray}
	if errors.Is(err, context.DeadlineExceeded) {
		e.Message = fmt.Sprintf("no complete response within %s", c.timeout)
	}
	return e
}

// problem is an error that this client found in the response.
func (r *reply) problem(class Class, message string) *Error {
	return &Error{Class: class, Message: redact(message, r.token), Status: r.status, Ray: r.ray}
}

// rayPattern is strict, since the header is logged and an intermediary may send anything,
// including the token.
var rayPattern = regexp.MustCompile(`^[0-9a-f]{16}(-[A-Z]{3})?$`)

// ray is the request id that Cloudflare's support needs.
func ray(h http.Header) string {
	v := h.Get("CF-Ray")
	if !rayPattern.MatchString(v) {
		return ""
	}
	return v
}

// mostText is the maximum length of external text in a message.
const mostText = 600

// redact removes the token from an external text, and limits the text to one line.
func redact(text, token string) string {
	const head = 64 << 10 // the part that is searched: a message can be as long as a response
	long := len(text) > head
	if long {
		text = text[:head]
	}
	if token != "" {
		text = strings.ReplaceAll(text, token, "[redacted]")
	}
	if long {
		text = text[:max(0, len(text)-len(token))] // the cut may have gone through a token
	}
	text = strings.Join(strings.Fields(text), " ")
	if long || len(text) > mostText {
		text = strings.ToValidUTF8(text[:min(len(text), mostText)], "") + "…"
	}
	return text
}
