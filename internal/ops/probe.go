package ops

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
)

// Probe asks a health or readiness address once and returns nil for 200, or an
// error with the reason that the service gave. The time limit is ctx's. Client
// may be nil for [http.DefaultClient].
func Probe(ctx context.Context, client *http.Client, url string) error {
	if client == nil {
		client = http.DefaultClient
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	// The reason is a line; more is not ours.
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("probe %s: %s: %w", url, resp.Status, err)
	}
	return fmt.Errorf("probe %s: %s: %s", url, resp.Status, bytes.TrimSpace(body))
}
