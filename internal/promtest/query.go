package promtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Sample is one value of a series. Timestamps have milliseconds, as in the
// database.
type Sample struct {
	Time  time.Time
	Value float64
}

// Series is a labelled sequence of samples, ascending in time. The metric's
// name is the label __name__.
type Series struct {
	Labels  map[string]string
	Samples []Sample
}

// At is a Prometheus that somebody else runs, by its host:port, for the methods that ask it.
func At(t testing.TB, addr string) *Server {
	return &Server{t: t, name: "Prometheus", addr: addr, client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// Name returns the series in the text format, name{label="value"}, labels in
// alphabetical order: a key for maps and messages.
func (s Series) Name() string {
	var labels []string
	for name, value := range s.Labels {
		if name != "__name__" {
			labels = append(labels, name+"="+strconv.Quote(value))
		}
	}
	slices.Sort(labels)
	return s.Labels["__name__"] + "{" + strings.Join(labels, ",") + "}"
}

// Query evaluates an expression at a time, and returns one sample a series for
// a vector, or a single series without labels for a scalar. Series are in the
// order of their names.
func (s *Server) Query(expr string, at time.Time) []Series {
	s.t.Helper()
	return s.query("/api/v1/query", url.Values{"query": {expr}, "time": {seconds(at)}})
}

// Range evaluates an expression from start to end in steps, as a graph does.
func (s *Server) Range(expr string, start, end time.Time, step time.Duration) []Series {
	s.t.Helper()
	return s.query("/api/v1/query_range", url.Values{"query": {expr}, "start": {seconds(start)}, "end": {seconds(end)}, "step": {seconds(time.UnixMilli(step.Milliseconds()))}})
}

// Value evaluates an expression that must give exactly one sample.
func (s *Server) Value(expr string, at time.Time) float64 {
	s.t.Helper()
	series := s.Query(expr, at)
	if len(series) != 1 || len(series[0].Samples) != 1 {
		s.t.Fatalf("query %s: got %d series, want one with one sample: %v", expr, len(series), series)
	}
	return series[0].Samples[0].Value
}

// Samples returns every stored sample of the series that match the selector,
// such as {__name__=~"cloudflare_.*"}, with its own timestamp, in the window
// (start, end]: what the database holds, not what it would evaluate.
func (s *Server) Samples(selector string, start, end time.Time) []Series {
	s.t.Helper()
	length := end.Sub(start).Milliseconds()
	if length <= 0 {
		s.t.Fatalf("samples of %s: the end %v is not after the start %v", selector, end, start)
	}
	return s.query("/api/v1/query", url.Values{"query": {fmt.Sprintf("%s[%dms]", selector, length)}, "time": {seconds(end)}})
}

// Target is one thing that Prometheus scrapes.
type Target struct {
	Labels     map[string]string `json:"labels"`
	ScrapePool string            `json:"scrapePool"`
	ScrapeURL  string            `json:"scrapeUrl"`
	LastError  string            `json:"lastError"`
	LastScrape time.Time         `json:"lastScrape"`
	// Health is up, down, or unknown before the first scrape.
	Health string `json:"health"`
}

// Targets returns the active targets.
func (s *Server) Targets() []Target {
	s.t.Helper()
	var data struct {
		ActiveTargets []Target `json:"activeTargets"`
	}
	s.api("/api/v1/targets", url.Values{"state": {"active"}}, &data)
	return data.ActiveTargets
}

// Own returns a metric of Prometheus itself, summed over its label sets that
// contain every given label (written name="value"), for instance
// Own("prometheus_target_scrapes_sample_duplicate_timestamp_total"). Zero when
// there is none. It is read from /metrics now, not from the database.
func (s *Server) Own(name string, labels ...string) float64 {
	s.t.Helper()
	body, err := s.get("/metrics", nil)
	if err != nil {
		s.t.Fatalf("read Prometheus's own metrics: %v", err)
	}
	sum := 0.0
	for lines := bufio.NewScanner(strings.NewReader(string(body))); lines.Scan(); {
		line := lines.Text()
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		if slices.ContainsFunc(labels, func(label string) bool { return !strings.Contains(rest, label) }) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			s.t.Fatalf("read Prometheus's own metrics: %q: %v", line, err)
		}
		sum += value
	}
	return sum
}

func (s *Server) query(path string, args url.Values) []Series {
	s.t.Helper()
	var data struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	}
	s.api(path, args, &data)
	series, err := decode(data.ResultType, data.Result)
	if err != nil {
		s.t.Fatalf("query %s: %v", args.Get("query"), err)
	}
	return series
}

func decode(kind string, result json.RawMessage) ([]Series, error) {
	if kind == "scalar" {
		var p point
		if err := json.Unmarshal(result, &p); err != nil {
			return nil, err
		}
		return []Series{{Samples: []Sample{Sample(p)}}}, nil
	}
	var elements []struct {
		Metric map[string]string `json:"metric"`
		Value  *point            `json:"value"`  // of a vector
		Values []point           `json:"values"` // of a matrix
	}
	if err := json.Unmarshal(result, &elements); err != nil {
		return nil, err
	}
	series := make([]Series, len(elements))
	for i, e := range elements {
		if e.Value != nil {
			e.Values = []point{*e.Value}
		}
		if len(e.Values) == 0 {
			return nil, fmt.Errorf("a %s element without values (native histograms are not read here)", kind)
		}
		series[i] = Series{Labels: e.Metric, Samples: make([]Sample, len(e.Values))}
		for j, p := range e.Values {
			series[i].Samples[j] = Sample(p)
		}
	}
	slices.SortFunc(series, func(a, b Series) int { return strings.Compare(a.Name(), b.Name()) })
	return series, nil
}

// point is Prometheus's [seconds, "value"].
type point Sample

func (p *point) UnmarshalJSON(data []byte) error {
	var at float64
	var value string
	if err := json.Unmarshal(data, &[]any{&at, &value}); err != nil {
		return fmt.Errorf("sample %s: %w", data, err)
	}
	number, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return fmt.Errorf("sample %s: %w", data, err)
	}
	*p = point{Time: time.UnixMilli(int64(math.Round(at * 1000))).UTC(), Value: number}
	return nil
}

func (s *Server) api(path string, args url.Values, data any) {
	s.t.Helper()
	body, err := s.get(path, args)
	if err != nil {
		s.t.Fatalf("ask Prometheus %s?%s: %v", path, args.Encode(), err)
	}
	var reply struct {
		Status string          `json:"status"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		s.t.Fatalf("ask Prometheus %s: %v", path, err)
	}
	if reply.Status != "success" {
		s.t.Fatalf("ask Prometheus %s?%s: %s", path, args.Encode(), body)
	}
	if err := json.Unmarshal(reply.Data, data); err != nil {
		s.t.Fatalf("ask Prometheus %s: %v", path, err)
	}
}

func (s *Server) get(path string, args url.Values) ([]byte, error) {
	return s.fetch(s.URL() + path + "?" + args.Encode())
}

func (s *Server) fetch(url string) ([]byte, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header = s.header.Clone()
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, body)
	}
	return body, nil
}

func seconds(t time.Time) string {
	return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64)
}
