package importer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// Victoria sends to /api/v1/import of VictoriaMetrics: JSON lines with times in
// milliseconds.
type Victoria struct {
	base   string
	client *http.Client
}

// NewVictoria returns a sender to the base URL of a VictoriaMetrics.
func NewVictoria(base string, client *http.Client) *Victoria {
	return &Victoria{strings.TrimSuffix(base, "/"), client}
}

// Flush implements [Sender]: it makes visible what was sent, also before, by an import that was
// killed. A server that has no such path shows it after seconds.
func (v *Victoria) Flush(ctx context.Context) error {
	_, err := v.do(ctx, http.MethodGet, "/internal/force_flush", nil)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, answered := err.(*promapi.Error); answered {
		return nil
	}
	return err
}

// Limits implements [Sender]. VictoriaMetrics takes any age inside its retention.
func (*Victoria) Limits(ctx context.Context, prom *promapi.Client) (l Limits, err error) {
	flags, err := prom.Flags(ctx)
	switch {
	case promapi.IsUnknown(err):
		l.Notes = []string{"the server does not tell its flags: is -dedup.minScrapeInterval set? Without it a repeated scrape counts twice"}
	case err != nil:
		return l, fmt.Errorf("ask for the flags of VictoriaMetrics: %w", err)
	default:
		if d := flags["dedup.minScrapeInterval"]; d == "" || d == "0s" || d == "0" {
			l.Notes = []string{"-dedup.minScrapeInterval of VictoriaMetrics is not set: samples that a scrape repeats are stored again; set it to 1ms"}
		}
	}
	return l, nil
}

// Send implements [Sender]. The server answers with 204 whatever it does with the samples.
func (v *Victoria) Send(ctx context.Context, series []deliver.Series) ([]Refusal, error) {
	var body bytes.Buffer
	out := json.NewEncoder(&body)
	out.SetEscapeHTML(false)
	for _, s := range series {
		line := struct {
			Metric     map[string]string `json:"metric"`
			Values     []float64         `json:"values"`
			Timestamps []int64           `json:"timestamps"`
		}{Metric: map[string]string{}}
		for _, l := range s.Labels {
			line.Metric[l.Name] = l.Value
		}
		for _, x := range s.Samples {
			line.Values, line.Timestamps = append(line.Values, x.Value), append(line.Timestamps, int64(x.At))
		}
		if err := out.Encode(line); err != nil {
			return nil, err
		}
	}
	for failed := 1; ; failed++ {
		_, err := v.do(ctx, http.MethodPost, "/api/v1/import", bytes.NewReader(body.Bytes()))
		if err == nil {
			return nil, nil
		}
		var other *promapi.RedirectError
		if e, answered := err.(*promapi.Error); answered && e.Status < 500 && e.Status != http.StatusTooManyRequests || errors.As(err, &other) || failed == 5 || ctx.Err() != nil {
			return nil, err
		}
		timer := time.NewTimer(500 * time.Millisecond << failed)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, context.Cause(ctx)
		}
	}
}

func (v *Victoria) do(ctx context.Context, method, path string, body io.Reader) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, v.base+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := v.client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask VictoriaMetrics: %w", promapi.Redirected(err))
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("ask VictoriaMetrics: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, &promapi.Error{Path: path, Status: resp.StatusCode, Text: clip(string(text))}
	}
	return text, nil
}
