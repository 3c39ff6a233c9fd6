package collector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// announcement is a header of every response of a standalone simulator ("weir sim"), and
// of no response of Cloudflare.
const announcement = "Weir-Simulated"

// errSource: the response is simulated and the store's data is real, or the reverse.
var errSource = errors.New("simulated and real data never share a store: use another store, or restart the collector if its store is new")

// source returns the transport to WEIR_CLOUDFLARE_URL. It detects whether a simulator
// responds there and records it in the configuration, since a new store is marked
// accordingly. From then on the transport rejects responses of the other kind.
func (c *Collector) source(ctx context.Context) (http.RoundTripper, error) {
	base, err := c.config.transport(c.secrets)
	if err != nil {
		return nil, err
	}
	if c.config.Simulated { // the caller runs its own simulator
		return base, nil
	}
	if u, err := url.Parse(c.config.CloudflareURL); err == nil && u.Hostname() != "api.cloudflare.com" {
		// The root responds without a token.
		if c.config.Simulated, err = simulates(ctx, base, u.Scheme+"://"+u.Host+"/"); err != nil {
			c.config.anySource = true
			c.deps.Logger.Info("WEIR_CLOUDFLARE_URL does not respond, so it is not known whether it is a simulator; a new store is marked as one of real data",
				"WEIR_CLOUDFLARE_URL", c.config.CloudflareURL, "err", err)
		}
	}
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		answer, err := base.RoundTrip(r)
		if err == nil && announced(answer) != c.config.Simulated {
			_ = answer.Body.Close() // the body is not used
			return nil, fmt.Errorf("the response is simulated: %t, the store is for simulated data: %t; %w", announced(answer), c.config.Simulated, errSource)
		}
		return answer, err
	}), nil
}

func announced(answer *http.Response) bool { return answer.Header.Get(announcement) != "" }

// simulates reports whether a simulator responds at a URL. It sends no token.
func simulates(ctx context.Context, transport http.RoundTripper, at string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // the start waits for it
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
