package collector

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"sync"

	"github.com/weir-metrics/weir/internal/bearer"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/loopback"
	"github.com/weir-metrics/weir/internal/reload"
	"github.com/weir-metrics/weir/internal/smallfile"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
	"github.com/weir-metrics/weir/services/collector/internal/upstream"
)

// clients returns an API client for each credential.
func (c *Config) clients(deps Deps, secrets *reload.Watch, all []credential) ([]*cloudflare.Client, error) {
	if base, err := url.Parse(c.CloudflareURL); err == nil && base.Scheme == "http" && !loopback.Host(base.Hostname()) {
		deps.Logger.Warn("the API token is sent in plain text over the network; use https:// for anything but a simulator", "WEIR_CLOUDFLARE_URL", c.CloudflareURL)
	}
	clients := make([]*cloudflare.Client, len(all))
	inUse := &tokens{of: map[string]string{}}
	for i := range all {
		token, err := all[i].keep(secrets, inUse)
		if err != nil {
			return nil, err
		}
		clients[i], err = cloudflare.New(cloudflare.Config{
			BaseURL: c.CloudflareURL, Transport: deps.Transport, UserAgent: "weir/" + cli.BuildInfo().Version, Logger: deps.Logger,
			Token: func() (string, error) { return token.Get(), nil },
		})
		if err != nil {
			return nil, err
		}
	}
	return clients, nil
}

// upstream returns the credentials as the loop uses them. Those of one Cloudflare user
// share a limiter.
func (c *Collector) upstream(all []credential, clients []*cloudflare.Client, ownTime bool) (out []upstream.Credential, err error) {
	limiters := map[string]*quota.Limiter{}
	for i, one := range all {
		l := limiters[one.user]
		if l == nil {
			if l, err = quota.New(quota.Config{
				User: one.user, Reserver: c.store, Clock: c.deps.BudgetClock, Share: one.share,
				Holder: c.config.Holder, OwnTime: ownTime, Logger: c.deps.Logger,
			}); err != nil {
				return nil, err
			}
			limiters[one.user] = l
			registerQuota(c.deps.Registry, one.user, l)
		}
		out = append(out, upstream.Credential{Name: one.name, Client: clients[i], User: one.user, Budget: l, Select: one.choice})
	}
	return out, nil
}

// transport returns the transport to Cloudflare. When the CA file changes, a new transport
// replaces it, and idle connections of the old one close.
func (c *Config) transport(secrets *reload.Watch) (http.RoundTripper, error) {
	if err := checkProxies(os.Getenv); err != nil {
		return nil, err
	}
	if c.CloudflareCA == "" {
		return cloudflare.Transport(cloudflare.TransportOptions{})
	}
	kept, err := reload.NewValue(secrets, "WEIR_CLOUDFLARE_CA_FILE", func() (string, error) {
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

// keep returns the token, which is reloaded from its file for each request, so that a
// rotation needs no restart. A malformed token does not replace a well-formed one, nor
// does that of another credential; whether Cloudflare accepts it is not checked here.
func (c *credential) keep(secrets *reload.Watch, inUse *tokens) (*reload.Value[string, string], error) {
	if c.token.File() == "" {
		secrets = nil // it cannot change
	}
	kept := c.token
	return reload.NewValue(secrets, c.setting, func() (string, error) {
		now, err := kept.Reread()
		return now.Reveal(), err
	}, func(token string) (string, error) {
		if err := kept.Flaw(bearer.Check(token)); err != nil {
			return "", err
		}
		return token, inUse.take(c.name, token)
	})
}

// tokens are those in use, by credential: two with one token would count its budget and
// its zones twice. Safe for concurrent use.
type tokens struct {
	mu sync.Mutex
	of map[string]string
}

// take notes the token of a credential, unless another uses it.
func (t *tokens) take(credential, token string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for other, held := range t.of {
		if other != credential && held == token {
			return reload.Conflicts(fmt.Errorf("it is the token of credential %s; each credential needs its own token", other))
		}
	}
	t.of[credential] = token
	return nil
}
