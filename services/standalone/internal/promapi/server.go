package promapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/weir-metrics/weir/internal/sample"
)

// Name is a series in the text format, labels in alphabetical order.
func Name(labels map[string]string) string {
	var b strings.Builder
	b.WriteString(labels["__name__"])
	b.WriteByte('{')
	n := 0
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if name == "__name__" {
			continue
		}
		if n++; n > 1 {
			b.WriteByte(',')
		}
		b.WriteString(name + "=" + strconv.Quote(labels[name]))
	}
	b.WriteByte('}')
	return b.String()
}

// Head is the part of Prometheus's database that is in memory.
type Head struct{ Min, Max sample.Millis }

// ErrEmpty means that Prometheus has no sample in memory: it has not scraped anything yet.
var ErrEmpty = errors.New("no sample is in the memory of Prometheus yet: wait until it has scraped a target")

// Head returns the times of the head block. IsUnknown: the server has none. [ErrEmpty]: it
// is empty.
func (c *Client) Head(ctx context.Context) (Head, error) {
	var data struct {
		HeadStats *struct {
			MinTime int64 `json:"minTime"`
			MaxTime int64 `json:"maxTime"`
		} `json:"headStats"`
	}
	if err := c.do(ctx, http.MethodGet, "/api/v1/status/tsdb", nil, &data); err != nil {
		return Head{}, fmt.Errorf("ask for the head block: %w", err)
	}
	if data.HeadStats == nil || data.HeadStats.MaxTime == 0 {
		return Head{}, fmt.Errorf("ask for the head block: %w", errUnknown)
	}
	if data.HeadStats.MinTime > data.HeadStats.MaxTime { // as of an empty one
		return Head{}, ErrEmpty
	}
	return Head{Min: sample.Millis(data.HeadStats.MinTime), Max: sample.Millis(data.HeadStats.MaxTime)}, nil
}

// OutOfOrder returns storage.tsdb.out_of_order_time_window of the configuration in force.
func (c *Client) OutOfOrder(ctx context.Context) (time.Duration, error) {
	var data struct {
		YAML string `json:"yaml"`
	}
	if err := c.do(ctx, http.MethodGet, "/api/v1/status/config", nil, &data); err != nil {
		return 0, fmt.Errorf("ask for the configuration: %w", err)
	}
	if data.YAML == "" {
		return 0, fmt.Errorf("ask for the configuration: %w", errUnknown)
	}
	var config struct {
		Storage struct {
			TSDB struct {
				Window string `yaml:"out_of_order_time_window"`
			} `yaml:"tsdb"`
		} `yaml:"storage"`
	}
	if err := yaml.Unmarshal([]byte(data.YAML), &config); err != nil {
		return 0, fmt.Errorf("read out_of_order_time_window in the configuration of Prometheus: %w", err)
	}
	if config.Storage.TSDB.Window == "" {
		return 0, nil
	}
	window, err := Duration(config.Storage.TSDB.Window)
	if err != nil {
		return 0, fmt.Errorf("out_of_order_time_window of Prometheus: %w", err)
	}
	return window, nil
}

// Retention returns how long the server keeps samples, by time.
func (c *Client) Retention(ctx context.Context) (time.Duration, error) {
	var data struct {
		Retention string `json:"storageRetention"`
	}
	err := c.do(ctx, http.MethodGet, "/api/v1/status/runtimeinfo", nil, &data)
	if err == nil && data.Retention != "" {
		// "15d", "15d or 10GiB", or the size alone.
		for _, part := range strings.Split(data.Retention, " or ") {
			if d, err := Duration(part); err == nil {
				return d, nil
			}
		}
		return 0, fmt.Errorf("ask for the retention: %w", errUnknown)
	}
	if err != nil && !Unsupported(err) {
		return 0, fmt.Errorf("ask for the retention: %w", err)
	}
	// VictoriaMetrics shows its flags as text.
	flags, err := c.Flags(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask for the retention: %w", err)
	}
	text, ok := flags["retentionPeriod"]
	if !ok {
		return 0, fmt.Errorf("ask for the retention: %w", errUnknown)
	}
	if months, err := strconv.ParseFloat(text, 64); err == nil {
		return time.Duration(months * 31 * 24 * float64(time.Hour)), nil
	}
	return Duration(text)
}

// DataFolder returns --storage.tsdb.path of Prometheus, as it is on its own machine.
// IsUnknown: the server has none, or does not tell.
func (c *Client) DataFolder(ctx context.Context) (string, error) {
	flags := map[string]any{}
	if err := c.do(ctx, http.MethodGet, "/api/v1/status/flags", nil, &flags); err != nil {
		return "", fmt.Errorf("ask for the data folder: %w", err)
	}
	folder, _ := flags["storage.tsdb.path"].(string)
	if folder == "" {
		return "", fmt.Errorf("ask for the data folder: %w", errUnknown)
	}
	if filepath.IsAbs(folder) {
		return folder, nil
	}
	var data struct {
		CWD string `json:"CWD"`
	}
	if err := c.do(ctx, http.MethodGet, "/api/v1/status/runtimeinfo", nil, &data); err != nil {
		return "", fmt.Errorf("ask for the data folder: %w", err)
	}
	if !filepath.IsAbs(data.CWD) {
		return "", fmt.Errorf("ask for the data folder: %w", errUnknown)
	}
	return filepath.Join(data.CWD, folder), nil
}

// Blocks returns the names of the blocks that Prometheus has loaded. IsUnknown: it does not
// tell, as before 3.6.
func (c *Client) Blocks(ctx context.Context) (names []string, err error) {
	var data struct {
		Blocks []struct {
			ULID string `json:"ulid"`
		} `json:"blocks"`
	}
	if err := c.do(ctx, http.MethodGet, "/api/v1/status/tsdb/blocks", nil, &data); err != nil {
		return nil, fmt.Errorf("ask for the blocks: %w", err)
	}
	for _, b := range data.Blocks {
		names = append(names, b.ULID)
	}
	return names, nil
}

// Flags returns the flags of a VictoriaMetrics.
func (c *Client) Flags(ctx context.Context) (map[string]string, error) {
	body, err := c.once(ctx, http.MethodGet, "/flags", url.Values{})
	if err != nil {
		return nil, err
	}
	flags := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^-([\w.]+)="?([^"\n]*?)"?$`).FindAllStringSubmatch(string(body), -1) {
		flags[m[1]] = m[2]
	}
	if len(flags) == 0 {
		return nil, errUnknown
	}
	return flags, nil
}

var durationPart = regexp.MustCompile(`^(\d+)(ms|[smhdwy])`)

// Duration parses a duration as Prometheus writes it: 15d, 1h30m.
func Duration(text string) (d time.Duration, err error) {
	rest := text
	for rest != "" {
		m := durationPart.FindStringSubmatch(rest)
		if m == nil {
			return 0, fmt.Errorf("%q is not a duration such as 15d or 1h30m", text)
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("duration %q: %w", text, err)
		}
		unit := map[string]time.Duration{
			"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour,
			"d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour,
		}[m[2]]
		d += time.Duration(n) * unit
		rest = rest[len(m[0]):]
	}
	if text == "" {
		return 0, fmt.Errorf("an empty text is not a duration")
	}
	return d, nil
}
