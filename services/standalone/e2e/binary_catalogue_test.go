package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/traffic"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/promtest"
	"github.com/weir-metrics/weir/internal/testkit"
)

// story is the user's file: the requests of a zone by status, which are counted, and by status, country and
// method, which at this load are an estimate. Both are filled with zeros and have bounds.
const story = `
datasets:
  - name: story_statuses
    description: Requests of a zone by status
    scope: zone
    size: 5m
    zero_fill: 15m
    confidence: 0.95
    level: cloudflare_zone_story_statuses
    families:
      - {name: cloudflare_zone_story_statuses, help: Requests by status., labels: [status]}
    variants:
      - name: adaptive
        node: httpRequestsAdaptiveGroups
        filter: {requestSource: eyeball}
        dimensions: [edgeResponseStatus]
        rows: 50
        measures:
          - {family: cloudflare_zone_story_statuses, field: count, labels: {status: edgeResponseStatus}}
  - name: story_countries
    description: Requests of a zone by status, country and method
    scope: zone
    size: 5m
    zero_fill: 3
    confidence: 0.95
    level: cloudflare_zone_story_countries
    families:
      - {name: cloudflare_zone_story_countries, help: "Requests by status, country and method.", labels: [status, country, method]}
    variants:
      - name: adaptive
        node: httpRequestsAdaptiveGroups
        filter: {requestSource: eyeball}
        dimensions: [edgeResponseStatus, clientCountryName, clientRequestHTTPMethodName]
        rows: 1000
        measures:
          - {family: cloudflare_zone_story_countries, field: count, labels: {status: edgeResponseStatus, country: clientCountryName, method: clientRequestHTTPMethodName}}
`

const (
	storySize = 5 * time.Minute
	storyFill = 3 // windows
)

// figures are of one row: an amount and its bounds, which may be none.
type figures struct{ value, lower, upper float64 }

const none = -1

// told is what Cloudflare has said of windows, by their ends: each answer by the labels of its rows. Each
// question has a sample of its own.
type told struct {
	mu      sync.Mutex
	answers map[time.Time][]map[string]figures
}

// note takes the answers about countries from a body.
func (l *told) note(body []byte) error {
	var answer struct {
		Data struct {
			Viewer struct {
				Zones []map[string]json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, zone := range answer.Data.Viewer.Zones {
		for _, list := range zone {
			var groups []struct {
				Count      float64
				Confidence struct {
					Count struct {
						Lower, Upper float64
						IsValid      bool
					}
				}
				Dimensions struct {
					Datetime time.Time `json:"datetimeFiveMinutes"`
					Status   int       `json:"edgeResponseStatus"`
					Country  *string   `json:"clientCountryName"`
					Method   string    `json:"clientRequestHTTPMethodName"`
				}
			}
			if json.Unmarshal(list, &groups) != nil { // the zone's tag, or settings
				continue
			}
			windows := map[time.Time]map[string]figures{}
			for _, g := range groups {
				if g.Dimensions.Country == nil {
					continue
				}
				end := g.Dimensions.Datetime.Add(storySize).UTC()
				if windows[end] == nil {
					windows[end] = map[string]figures{}
				}
				row := figures{g.Count, none, none}
				if bounds := g.Confidence.Count; bounds.IsValid {
					row.lower, row.upper = bounds.Lower, bounds.Upper
				}
				windows[end][fmt.Sprint(g.Dimensions.Status, *g.Dimensions.Country, g.Dimensions.Method)] = row
			}
			for end, rows := range windows {
				l.answers[end] = append(l.answers[end], rows)
			}
		}
	}
	return nil
}

// listen stands between Weir and the simulated Cloudflare, and notes the answers.
func (s *simulated) listen(t *testing.T) *told {
	t.Helper()
	l := &told{answers: map[time.Time][]map[string]figures{}}
	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, target.Host
			r.Out.Header.Del("Accept-Encoding")
		},
		ModifyResponse: func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			if r.Request.Method == http.MethodPost {
				return l.note(body)
			}
			return nil
		},
	})
	t.Cleanup(server.Close)
	s.url = server.URL + target.Path
	return l
}

// storyOf is what Prometheus holds of a family of the story and its bounds, by the ends of windows and the values
// of the labels.
func storyOf(t *testing.T, p *promtest.Server, family string, labels ...string) map[time.Time]map[string]*figures {
	t.Helper()
	out := map[time.Time]map[string]*figures{}
	for _, s := range p.Samples(`{__name__=~"`+family+`(_estimate_(lower|upper))?"}`, time.Now().Add(-4*time.Hour), time.Now()) {
		var row []any
		for _, l := range labels {
			row = append(row, s.Labels[l])
		}
		for _, sample := range s.Samples {
			end := sample.Time.Add(time.Millisecond).UTC()
			if out[end] == nil {
				out[end] = map[string]*figures{}
			}
			f := out[end][fmt.Sprint(row...)]
			if f == nil {
				f = &figures{none, none, none}
				out[end][fmt.Sprint(row...)] = f
			}
			switch s.Labels["__name__"] {
			case family:
				f.value = sample.Value
			case family + "_estimate_lower":
				f.lower = sample.Value
			case family + "_estimate_upper":
				f.upper = sample.Value
			}
			if bound := s.Labels["__name__"] != family; bound != (s.Labels["confidence"] == "0.95") {
				t.Errorf("%s has the level %q", s.Name(), s.Labels["confidence"])
			}
		}
	}
	return out
}

// A user's file with zero fill and confidence intervals, from Cloudflare's answers through the programs to a real
// Prometheus. What was counted is there as it happened, with bounds that equal it; a status that falls silent is 0
// for as long as the file says, and neither later nor before it was first seen. What is an estimate is there as
// Cloudflare estimated it, between the bounds that it gave, and nothing is filled.
func TestZerosAndBoundsOfAFileReachPrometheus(t *testing.T) {
	t.Parallel()
	conf := cfsim.Demo(clock.System(), 12)
	conf.Tokens = append(conf.Tokens, cfsim.GoodToken(apiToken))
	conf.Zones = conf.Zones[:1]
	conf.Zones[0].Traffic = traffic.Profile{RequestsPerMinute: 300, DailySwing: .1}
	conf.Sampling = cfsim.Sampling{Enabled: true, Load: 10}
	cf := simulateAs(t, nil, conf)
	zone := cf.zones[0].ID
	heard := cf.listen(t)
	file := filepath.Join(t.TempDir(), "catalogue.yaml")
	if err := os.WriteFile(file, []byte(story), 0o600); err != nil {
		t.Fatal(err)
	}
	weir := cf.startCollector(t, "WEIR_CATALOGUE_FILE="+file, "WEIR_DISABLE_DATASETS=http,countries,content_types,uniques_1h,uniques_1d")
	shows := startExposerBinary(t, nil, weir)
	prometheus := startPrometheusAs(t, promtest.Find(t), `
storage: {tsdb: {out_of_order_time_window: 30h}}
scrape_configs:
  - {job_name: weir, scrape_interval: 500ms, scrape_timeout: 500ms, metrics_path: /backfill, params: {hours: ["24"]}, static_configs: [{targets: ["`+shows.data+`"]}]}
  - {job_name: self, scrape_interval: 1s, static_configs: [{targets: [PROMETHEUS]}]}
`, 1)

	// The windows that must be final: those of the lookback up to the longest deadline.
	first, last := cf.began.UTC().Add(-2*time.Hour).Truncate(storySize).Add(2*storySize), cf.began.UTC().Add(-35*time.Minute).Truncate(storySize)
	const statuses, countries = "cloudflare_zone_story_statuses", "cloudflare_zone_story_countries"
	testkit.Eventually(t, func() error {
		counted, estimated := storyOf(t, prometheus, statuses, "status"), storyOf(t, prometheus, countries, "status", "country", "method")
		for end := first; !end.After(last); end = end.Add(storySize) {
			if counted[end] == nil || estimated[end] == nil {
				return fmt.Errorf("Prometheus lacks the window that ended at %s: it has %d that were counted and %d that were estimated", end, len(counted), len(estimated))
			}
		}
		return nil
	})
	counted, estimated := storyOf(t, prometheus, statuses, "status"), storyOf(t, prometheus, countries, "status", "country", "method")
	maps.DeleteFunc(counted, func(end time.Time, _ map[string]*figures) bool { return end.After(last) })
	maps.DeleteFunc(estimated, func(end time.Time, _ map[string]*figures) bool { return end.After(last) })

	// In which order they were stored, on which the zeros depend.
	entries, _ := snapshot(t, weir, 6*time.Hour, "story_statuses_5m")
	stored := map[time.Time]uint64{}
	for _, e := range entries {
		if b := e.GetBucket(); b != nil {
			stored[time.Unix(b.GetStartUnixSeconds(), 0).UTC().Add(storySize)] = e.GetRevision()
		}
	}
	truth := map[time.Time]map[string]float64{}
	for end := range stored {
		groups, err := cf.TrueGroups(zone, "httpRequestsAdaptiveGroups", end.Add(-storySize), end, map[string]any{"requestSource": "eyeball"}, "edgeResponseStatus")
		if err != nil {
			t.Fatal(err)
		}
		truth[end] = map[string]float64{}
		for _, g := range groups {
			truth[end][fmt.Sprint(g.Key[0])] = float64(g.Count)
		}
	}
	zeros := 0
	for end, rows := range counted {
		want := map[string]figures{}
		for i := 1; i <= storyFill; i++ {
			before := end.Add(-time.Duration(i) * storySize)
			if stored[before] != 0 && stored[before] < stored[end] {
				for status := range truth[before] {
					want[status] = figures{0, none, none} // what is filled has no bounds
				}
			}
		}
		for status, n := range truth[end] {
			want[status] = figures{n, n, n}
		}
		for status, f := range rows {
			if w, is := want[status]; !is || w != *f {
				t.Errorf("window that ended at %s: status %s is %v, want %v (there: %t)", end, status, *f, w, is)
			}
			if f.value == 0 {
				zeros++
			}
			delete(want, status)
		}
		if len(want) > 0 {
			t.Errorf("window that ended at %s lacks %v", end, want)
		}
	}
	wide := 0
	for end, rows := range estimated {
		same := false
		for _, answer := range heard.at(end) {
			same = same || maps.EqualFunc(rows, answer, func(a *figures, b figures) bool { return *a == b })
		}
		if !same {
			t.Errorf("window that ended at %s: Cloudflare has not said %d estimates like these", end, len(rows))
		}
		for row, f := range rows {
			if f.value <= 0 || f.lower > f.value || f.upper < f.value && f.upper != none {
				t.Errorf("window that ended at %s: %s is estimated as %v", end, row, *f)
			}
			if f.lower < f.upper {
				wide++
			}
		}
	}
	for _, series := range prometheus.Samples("cloudflare_sample_interval", time.Now().Add(-4*time.Hour), time.Now()) {
		for _, sample := range series.Samples {
			if series.Labels["dataset"] != "story_countries_5m" || sample.Value != 10 {
				t.Errorf("%s is %v; the countries alone are of a tenth of the requests", series.Name(), sample.Value)
			}
		}
	}
	t.Logf("%d counted windows with %d zeros, %d estimated ones with %d intervals", len(counted), zeros, len(estimated), wide)
	if zeros == 0 || wide == 0 {
		t.Error("nothing fell silent, or nothing was an estimate: the story has lost its subject")
	}
	for _, complaint := range complaints(prometheus) {
		t.Error(complaint)
	}
}

func (l *told) at(end time.Time) []map[string]figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers[end]
}
