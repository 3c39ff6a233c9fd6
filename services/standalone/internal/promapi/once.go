package promapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Over returns a client for the server at a base URL that sends its requests with an HTTP
// client, whose credentials it uses. It follows no redirect to another server.
func Over(base string, h *http.Client) *Client {
	c := *h
	if c.Transport == nil {
		c.Transport = http.DefaultTransport
	}
	if c.Timeout == 0 {
		c.Timeout = timeout
	}
	c.CheckRedirect = Stay
	return &Client{base: strings.TrimSuffix(base, "/"), http: &c, pause: firstPause}
}

// Data asks once and decodes the member data of the response. An [Error] with status 200
// means that the response is not one of the API, a
// [PartialError] that it may lack something.
func (c *Client) Data(ctx context.Context, path string, args url.Values, data any) error {
	body, err := c.once(ctx, http.MethodGet, path, args)
	if err != nil {
		return err
	}
	var reply struct {
		Status string          `json:"status"`
		Data   json.RawMessage `json:"data"`
		lacking
	}
	if err := json.Unmarshal(body, &reply); err != nil || reply.Status != "success" {
		return &Error{Path: path, Status: http.StatusOK, Text: clip(strings.TrimSpace(string(body)))}
	}
	if err := json.Unmarshal(reply.Data, data); err != nil {
		return fmt.Errorf("the data of %s is not of the expected form: %w", path, err)
	}
	return reply.err()
}

// Page asks once for a page that is not of the API, such as /metrics.
func (c *Client) Page(ctx context.Context, path string) (string, error) {
	body, err := c.once(ctx, http.MethodGet, path, nil)
	return string(body), err
}
