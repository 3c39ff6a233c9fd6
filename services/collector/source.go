package collector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// announcement is the header of every answer of a simulator that stands for itself
// ("weir sim"), and of none of Cloudflare's.
const announcement = "Weir-Simulated"

// errSource: the answer is not from where the store's data is.
var errSource = errors.New("simulated and real data never share a store: use another store, or restart the collector if its store is new")

// source is the transport to what stands at WEIR_CLOUDFLARE_URL. It finds out, and
// notes in the configuration, whether that is a simulator, since a new store is
// marked by it; and from then on it fails what the other kind answers.
func (c *Collector) source(ctx context.Context) (http.RoundTripper, error) {
	base, err := c.config.transport(c.secrets)
	if err != nil {
		return nil, err
	}
	if c.config.Simulated { // the caller has brought its own
		return base, nil
	}
	if u, err := url.Parse(c.config.CloudflareURL); err == nil && u.Hostname() != "api.cloudflare.com" {
		// At the root, which answers without a token.
		if c.config.Simulated, err = simulates(ctx, base, u.Scheme+"://"+u.Host+"/"); err != nil {
			c.config.anySource = true
			c.deps.Logger.Info("WEIR_CLOUDFLARE_URL does not answer, so whether it is a simulator is not known; a new store counts as one of real data",
				"WEIR_CLOUDFLARE_URL", c.config.CloudflareURL, "err", err)
		}
	}
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		answer, err := base.RoundTrip(r)
		if err == nil && announced(answer) != c.config.Simulated {
			_ = answer.Body.Close() // nothing of it is wanted
			return nil, fmt.Errorf("the answer is a simulator's: %t, the store is for simulated data: %t; %w", announced(answer), c.config.Simulated, errSource)
		}
		return answer, err
	}), nil
}

func announced(answer *http.Response) bool { return answer.Header.Get(announcement) != "" }

// simulates asks what stands at a URL, without a token, whether it is a simulator.
func simulates(ctx context.Context, transport http.RoundTripper, at string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // a start waits for it
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return false, err
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return false, err
	}
	return announced(answer), answer.Body.Close()
}
