package deliver

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer is how much of a response is read.
const maxAnswer = 1 << 20

// longestAfter bounds what a receiver may ask for in Retry-After.
const longestAfter = time.Hour

// judge returns what a response means. Every 5xx and 429 may go away by itself. 400, 409,
// 413 and 422 are about the content; all others about the credential, the path or the
// protocol.
func judge(status int, header http.Header, text string, now time.Time) error {
	text = cmp.Or(clip(strings.TrimSpace(said(text))), "(no text)")
	switch {
	case status/100 == 2:
		return nil
	case status/100 == 5, status == http.StatusTooManyRequests:
		return &BusyError{Status: status, After: retryAfter(header.Get("Retry-After"), now), Err: &StatusError{status, text}}
	case status == http.StatusBadRequest, status == http.StatusConflict, status == http.StatusRequestEntityTooLarge, status == http.StatusUnprocessableEntity:
		return &RejectedError{status, text}
	}
	return &StatusError{status, text}
}

// retryAfter reads the header, which has seconds or a date.
func retryAfter(text string, now time.Time) time.Duration {
	after := time.Duration(0)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		after = at.Sub(now)
	}
	return min(max(after, 0), longestAfter)
}

// answer is the last response to a request that goes through a [recorder].
type answer struct {
	status int
	header http.Header
	text   string
}

type answerKey struct{}

// recorder notes responses in the [answer] of the request's context. It sends each request to
// the target, which a library may have altered; a redirect is followed where it leads.
type recorder struct {
	next   http.RoundTripper
	target *url.URL
}

// RoundTrip implements http.RoundTripper.
func (r recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Response == nil { // no redirect
		request = request.WithContext(request.Context()) // a copy
		request.URL = r.target
	}
	response, err := r.next.RoundTrip(request)
	a, ok := request.Context().Value(answerKey{}).(*answer)
	if err != nil || !ok {
		return response, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	_ = response.Body.Close() // it was read
	if err != nil {
		return nil, err
	}
	*a = answer{response.StatusCode, response.Header, string(body)}
	response.Body = io.NopCloser(strings.NewReader(a.text))
	return response, nil
}

func withAnswer(ctx context.Context) (context.Context, *answer) {
	a := &answer{}
	return context.WithValue(ctx, answerKey{}, a), a
}

// targetURL reads the URL of a receiver. Without a path it is an error that says which would be
// right.
func targetURL(target, path string) (*url.URL, error) {
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	if u.Path == "" {
		return nil, fmt.Errorf("%s has no path; it must have that of the receiver, such as %s", u.Redacted(), path)
	}
	return u, nil
}

// Paths of receivers, for messages.
const (
	remoteWritePaths = "/api/v1/write of Prometheus, /api/v1/push of Mimir or /api/v1/receive of Thanos Receive"
	otlpPaths        = "/v1/metrics of an OpenTelemetry collector"
)

// CheckTarget returns an error for a URL that no receiver of remote write, or of OTLP, has.
func CheckTarget(target string, otlp bool) error {
	path := remoteWritePaths
	if otlp {
		path = otlpPaths
	}
	_, err := targetURL(target, path)
	return err
}

// own returns a copy of a client that records responses and sends to the target.
func own(client *http.Client, target *url.URL, redirect func(*http.Request, []*http.Request) error) *http.Client {
	c := *client
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	c.Transport = recorder{c.Transport, target}
	c.CheckRedirect = redirect
	return &c
}
