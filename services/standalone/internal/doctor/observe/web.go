// Package observe asks: Cloudflare and the store through package collector, collectors by
// gRPC, exposers, operations ports and a Prometheus or VictoriaMetrics by HTTP. It judges
// nothing; what cannot be asked becomes an error that says who answered what.
package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// most is the longest body that is read: four times the largest /metrics.
	most = 256 << 20
	// shown is how much of a body an error repeats.
	shown = 200
	// patience is the time-out of one request.
	patience = 30 * time.Second
)

// site is an HTTP server that is asked.
type site struct {
	base   string // without a slash at its end
	client *http.Client
}

func newSite(base string, client *http.Client) site {
	return site{strings.TrimSuffix(base, "/"), client}
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// get reads a page, whatever its status is.
func (s site) get(ctx context.Context, path string, query url.Values, accept string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	target := s.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	response, err := s.client.Do(request)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // its text repeats the whole query
			err = u.Err
		}
		return nil, fmt.Errorf("%s%s: %w", s.base, path, brief(err))
	}
	defer func() { _ = response.Body.Close() }() // it was read to its end
	body, err := io.ReadAll(io.LimitReader(response.Body, most+1))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%s%s: %w", s.base, path, brief(err))
	case err != nil:
		return nil, fmt.Errorf("%s%s: the response broke off: %w", s.base, path, err)
	case len(body) > most:
		return nil, fmt.Errorf("%s%s: the response is longer than %d bytes", s.base, path, most)
	}
	return &answer{response.StatusCode, response.Header, string(body)}, nil
}

// brief is an error of a request as a report shows it: what does not speak HTTP is repeated by
// the error, whatever its length.
func brief(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no response within %s", patience)
	}
	if text := err.Error(); len(text) > 2*shown {
		return errors.New(clipAt(text, 2*shown))
	}
	return err
}

// page is get for what must answer 200.
func (s site) page(ctx context.Context, path string, query url.Values, accept string) (*answer, error) {
	a, err := s.get(ctx, path, query, accept)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("%s%s: %w", s.base, path, a.refusal())
	}
	return a, nil
}

func (a *answer) html() bool {
	return strings.Contains(a.header.Get("Content-Type"), "text/html") || strings.HasPrefix(strings.TrimSpace(a.body), "<")
}

// refusal explains a status other than 200.
func (a *answer) refusal() error {
	switch {
	case a.status == http.StatusUnauthorized:
		return errors.New("it answers 401: it asks for a credential, or refuses the one that was given")
	case a.status == http.StatusForbidden:
		return errors.New("it answers 403: the credential may not do this")
	case a.html():
		return fmt.Errorf("it answers %d with an HTML page", a.status)
	}
	return fmt.Errorf("it answers %d: %s", a.status, clip(a.body))
}

func clip(text string) string { return clipAt(text, shown) }

func clipAt(text string, most int) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
