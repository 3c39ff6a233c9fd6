package collector

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"github.com/weir-metrics/weir/internal/bearer"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/loopback"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/smallfile"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
)

// upstream is the client of Cloudflare's API.
func (c *Config) upstream(deps Deps, secrets *reload.Watch) (*cloudflare.Client, error) {
	token, err := c.token(secrets)
	if err != nil {
		return nil, err
	}
	if base, err := url.Parse(c.CloudflareURL); err == nil && base.Scheme == "http" && !loopback.Host(base.Hostname()) {
		deps.Logger.Warn("the API token is sent in plain text beyond this machine; use https:// for anything but a simulator", "WEIR_CLOUDFLARE_URL", c.CloudflareURL)
	}
	return cloudflare.New(cloudflare.Config{
		BaseURL: c.CloudflareURL, Transport: deps.Transport, UserAgent: "weir/" + cli.BuildInfo().Version, Logger: deps.Logger,
		Token: func() (string, error) { return token.Get(), nil },
	})
}

// transport carries requests to Cloudflare; another one when the authorities to
// trust have changed, whose predecessor's connections end when they are idle.
func (c *Config) transport(secrets *reload.Watch) (http.RoundTripper, error) {
	if err := checkProxies(os.Getenv); err != nil {
		return nil, err
	}
	if c.CloudflareCA == "" {
		return cloudflare.Transport(cloudflare.TransportOptions{})
	}
	kept, err := reload.Keep(secrets, "WEIR_CLOUDFLARE_CA_FILE", func() (string, error) {
		content, err := smallfile.Read(c.CloudflareCA, smallfile.PEM)
		return string(content), err
	}, func(content string) (*cloudflare.Carrier, error) {
		if content == "" {
			return nil, errors.New("the file is empty")
		}
		return cloudflare.Transport(cloudflare.TransportOptions{CA: content})
	})
	if err != nil {
		return nil, fmt.Errorf("WEIR_CLOUDFLARE_CA_FILE is %s: %w", c.CloudflareCA, err)
	}
	return roundTripper(func(r *http.Request) (*http.Response, error) { return kept.Get().RoundTrip(r) }), nil
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// token is Cloudflare's, from its file at every request, so that a rotated one
// needs no restart. One that can never be right does not replace one that may
// be; whether Cloudflare takes it, only Cloudflare knows.
func (c *Config) token(secrets *reload.Watch) (*reload.Value[string, string], error) {
	if c.Token.File() == "" {
		secrets = nil // it cannot change
	}
	return reload.Keep(secrets, "CF_API_TOKEN_FILE", func() (string, error) {
		now, err := c.Token.Reread()
		return now.Reveal(), err
	}, func(token string) (string, error) { return token, c.Token.Flaw(bearer.Check(token)) })
}
