package web_test

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/expo"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
	"github.com/weir-metrics/weir/services/exposer/internal/web"
)

var million = flag.Bool("million", false, "also run the scrape benchmarks with 960,000 samples")

// depth is the number of samples of each series, as for hourly buckets.
const depth = 24

// store is a state with 40 series a zone in a breakdown, 24 windows each.
func store(tb testing.TB, zones int) (*recent.State, time.Time) {
	tb.Helper()
	const labels = 40
	d := feedtest.Definition("countries_1h", 1)
	d.Size, d.Depth = time.Hour, depth
	r := recent.New(sample.Store{ID: "bench", Stamp: sample.End}, 48*time.Hour)
	if err := r.Define(d); err != nil {
		tb.Fatal(err)
	}
	now := feedtest.T0.Add((depth + 1) * time.Hour)
	for w := range depth {
		for z := range zones {
			b := feedtest.Bucket("countries_1h", bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", z)}, 0)
			b.Start, b.Size, b.Zone = bucket.TimeOf(feedtest.T0).Add(time.Duration(w)*time.Hour), time.Hour, fmt.Sprintf("zone-%05d.example", z)
			rows := bucket.Rows{Family: feedtest.Breakdown("countries_1h")}
			for i := range labels {
				rows.Labels = append(rows.Labels, fmt.Sprintf("C%02d", i))
				rows.Values = append(rows.Values, float64(w*100_000+z*17+i))
			}
			b.Families = []bucket.Rows{rows}
			if _, err := r.Add(b, d, now); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return r.State(bucket.Position{Revision: 1}), now
}

func exposition(state *recent.State, now time.Time) http.Handler {
	board := view.NewBoard(clock.NewManual(now), recent.Limits{MaxAge: 48 * time.Hour, Soft: 10_000_000, Hard: 10_000_000}, nil)
	board.Publish(state)
	return web.New(web.Config{Board: board, Meter: &events{}, MaxScrapes: 10, MaxBackfills: 1, MaxBackfillHours: 1, Logger: slog.New(slog.DiscardHandler)})
}

// registry shows the same samples as an ordinary exporter would: constant
// metrics with timestamps, gathered and encoded at each scrape.
type registry struct{ metrics []prometheus.Metric }

func (r *registry) Describe(chan<- *prometheus.Desc) {}
func (r *registry) Collect(ch chan<- prometheus.Metric) {
	for _, m := range r.metrics {
		ch <- m
	}
}

// ordinary makes that exporter. A registry refuses two samples of one series,
// so each window is a label value more: the same number of lines of about the
// same length.
func ordinary(tb testing.TB, zones int) http.Handler {
	tb.Helper()
	desc := prometheus.NewDesc(feedtest.Breakdown("countries_1h"), "Requests in the window, by status class.", []string{"zone", "account", "status"}, nil)
	r := &registry{}
	for w := range depth {
		at := feedtest.T0.Add(time.Duration(w+1)*time.Hour - time.Millisecond)
		for z := range zones {
			for i := range 40 {
				m := prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(w*100_000+z*17+i), fmt.Sprintf("zone-%05d.example", z), "Example", fmt.Sprintf("C%02d-%d", i, w))
				r.metrics = append(r.metrics, prometheus.NewMetricWithTimestamp(at, m))
			}
		}
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(r)
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
}

// scrape asks once, as Prometheus 3 does, and reads to the end.
func scrape(tb testing.TB, h http.Handler, encoding string) int {
	req := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	req.Header.Set("Accept-Encoding", encoding)
	w := &sink{header: http.Header{}}
	h.ServeHTTP(w, req)
	if w.code != http.StatusOK {
		tb.Fatalf("scrape is %d", w.code)
	}
	return w.bytes
}

// sink counts what is written: the network's part is the same for all sides.
type sink struct {
	header http.Header
	code   int
	bytes  int
}

func (s *sink) Header() http.Header  { return s.header }
func (s *sink) WriteHeader(code int) { s.code = code }
func (s *sink) Write(p []byte) (int, error) {
	if s.code == 0 {
		s.code = http.StatusOK
	}
	s.bytes += len(p)
	return len(p), nil
}

var _ io.Writer = (*sink)(nil)

// fetch scrapes over loopback, as Prometheus does, and reads to the end.
func fetch(tb testing.TB, server *httptest.Server, encoding string) int64 {
	req, err := http.NewRequest(http.MethodGet, server.URL+"/metrics", nil)
	if err != nil {
		tb.Fatal(err)
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	req.Header.Set("Accept-Encoding", encoding)
	resp, err := server.Client().Do(req)
	if err != nil {
		tb.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		tb.Fatalf("scrape is %d: %v", resp.StatusCode, err)
	}
	return n
}

// BenchmarkScrape sets side by side, over loopback with both ends counted:
// Weir's exposer, client_golang showing the same samples, and the same bytes
// served from memory without any logic, which is the floor.
func BenchmarkScrape(b *testing.B) {
	sizes := []int{100} // zones; times 40 series, times 24 windows: 96,000 samples
	if *million {
		sizes = append(sizes, 1000)
	}
	for _, zones := range sizes {
		for _, encoding := range []string{"identity", "gzip"} {
			state, now := store(b, zones)
			v, err := view.Build(state, false, now, recent.Limits{MaxAge: 48 * time.Hour, Soft: 1 << 30, Hard: 1 << 30}, nil)
			if err != nil {
				b.Fatal(err)
			}
			body := v.Body(expo.Text, expo.NegotiateEncoding(encoding))
			static := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", expo.Text.ContentType())
				w.Header().Set("Content-Length", strconv.Itoa(len(body)))
				if encoding == "gzip" {
					w.Header().Set("Content-Encoding", "gzip")
				}
				_, _ = w.Write(body)
			})
			for _, side := range []struct {
				name string
				make func() http.Handler
			}{
				{"weir", func() http.Handler { return exposition(state, now) }},
				{"static", func() http.Handler { return static }},
				{"client_golang", func() http.Handler { return ordinary(b, zones) }},
			} {
				b.Run(fmt.Sprintf("samples=%d/%s/%s", v.Choice.Samples, encoding, side.name), func(b *testing.B) {
					server := httptest.NewServer(side.make())
					defer server.Close()
					fetch(b, server, encoding) // Weir builds a body once per revision; see BenchmarkBuild
					b.ReportAllocs()
					var n int64
					for b.Loop() {
						n = fetch(b, server, encoding)
					}
					b.ReportMetric(float64(n), "body-bytes")
				})
			}
		}
	}
}

// BenchmarkBuild is what the first scrape after a new revision pays.
func BenchmarkBuild(b *testing.B) {
	state, now := store(b, 100)
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run("samples=96000/"+encoding, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				scrape(b, exposition(state, now), encoding)
			}
		})
	}
}

// A scrape costs the same for ten times the series.
func TestScrapeAllocations(t *testing.T) {
	for _, encoding := range []string{"identity", "gzip"} {
		allocations := func(zones int) float64 {
			h := exposition(store(t, zones))
			scrape(t, h, encoding)
			return testing.AllocsPerRun(20, func() { scrape(t, h, encoding) })
		}
		few, many := allocations(1), allocations(10)
		if many > few+2 { // the spelling of a longer Content-Length, the race detector
			t.Errorf("%s: %g allocations a scrape of 960 samples, %g of 9,600", encoding, few, many)
		}
		if few > 60 {
			t.Errorf("%s: %g allocations a scrape; it is a lookup and a write", encoding, few)
		}
	}
}
