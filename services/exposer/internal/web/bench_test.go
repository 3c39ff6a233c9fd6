package web_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/carousel"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/expo"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
	"github.com/weir-metrics/weir/services/exposer/internal/web"
)

var million = flag.Bool("million", false, "also run the scrape benchmarks with 960,000 samples")

// depth is the number of samples of each series, as for hourly buckets when a page of them
// is shown.
const depth = 24

// plan is the carousel of the store, and origin the beginning of one of its pages: the
// windows are those of the page, and the newest ones after it.
var (
	plan   = carousel.New(time.Hour, 48*time.Hour, depth)
	origin = plan.Windows(plan.PageOf(bucket.TimeOf(feedtest.T0)) + 1).Start
)

// store is a state with 40 series a zone in a breakdown, 24 windows each.
func store(tb testing.TB, zones int) (*recent.State, time.Time) {
	tb.Helper()
	r, now := filled(tb, zones)
	return r.State(bucket.Position{Revision: 1}), now
}

// labels is the number of series of a zone.
const labels = 40

// countries is the bucket of a zone in a window of the store.
func countries(window, zone int) *bucket.Bucket {
	b := feedtest.Bucket("countries_1h", bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", zone)}, 0)
	b.Start, b.Size, b.Zone = origin.Add(time.Duration(window)*time.Hour), time.Hour, fmt.Sprintf("zone-%05d.example", zone)
	rows := bucket.Rows{Family: feedtest.Breakdown("countries_1h")}
	for i := range labels {
		rows.Labels = append(rows.Labels, fmt.Sprintf("C%02d", i))
		rows.Values = append(rows.Values, float64(window*100_000+zone*17+i))
	}
	b.Families = []bucket.Rows{rows}
	return b
}

// definition is that of the store's dataset.
func definition() *bucket.Definition {
	d := feedtest.Definition("countries_1h", 1)
	d.Size, d.Depth = time.Hour, depth
	return d
}

// filled holds the buckets of the store.
func filled(tb testing.TB, zones int) (*recent.Buckets, time.Time) {
	tb.Helper()
	d := definition()
	r := recent.New(sample.Store{ID: "bench", Stamp: sample.End}, 48*time.Hour)
	if err := r.Define(d); err != nil {
		tb.Fatal(err)
	}
	now := origin.Std().Add(depth*time.Hour + time.Minute)
	for plan.InTurn(carousel.TurnOf(now)) != plan.PageOf(origin) {
		now = now.Add(carousel.Turn)
	}
	r.NoteLate(d.Dataset, now)
	missing, _ := r.Turn(now, nil)
	for w := range depth {
		for z := range zones {
			if _, err := r.Add(countries(w, z), d, now); err != nil {
				tb.Fatal(err)
			}
		}
	}
	for _, p := range missing {
		if err := r.Fill(&recent.Fetched{Page: p}, 1, now); err != nil {
			tb.Fatal(err)
		}
	}
	return r, now
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

// ordinary makes that exporter, with the same series and timestamps.
func ordinary(tb testing.TB, zones int) http.Handler {
	tb.Helper()
	desc := prometheus.NewDesc(feedtest.Breakdown("countries_1h"), "Requests in the window, by status class.", []string{"zone", "account", "status"}, nil)
	r := &registry{}
	for w := range depth {
		at := origin.Std().Add(time.Duration(w+1)*time.Hour - time.Millisecond)
		for z := range zones {
			for i := range labels {
				m := prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(w*100_000+z*17+i), fmt.Sprintf("zone-%05d.example", z), "Example", fmt.Sprintf("C%02d", i))
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
			var body []byte
			if err := v.Body(expo.Text, expo.NegotiateEncoding(encoding)).WriteTo(func(p []byte) error { body = append(body, p...); return nil }); err != nil {
				b.Fatal(err)
			}
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
				for _, clients := range []int{1, 8} {
					if clients > 1 && side.name == "client_golang" {
						continue
					}
					b.Run(fmt.Sprintf("samples=%d/%s/clients=%d/%s", v.Choice.Samples, encoding, clients, side.name), func(b *testing.B) {
						server := httptest.NewServer(side.make())
						defer server.Close()
						fetch(b, server, encoding) // the first scrape after a commit pays more; see BenchmarkCommit
						b.ReportAllocs()
						var n int64
						for b.Loop() {
							together(clients, func() { atomic.StoreInt64(&n, fetch(b, server, encoding)) })
						}
						b.ReportMetric(float64(n), "body-bytes")
					})
				}
			}
		}
	}
}

// BenchmarkCommit is what an exposer pays for a commit and the scrape after it: the
// buckets of a twentieth of the zones arrive in a new window, and Prometheus fetches the
// body as it does, OpenMetrics and compressed. Beside it, the same body compressed as a
// whole.
func BenchmarkCommit(b *testing.B) {
	sizes := []int{100}
	if *million {
		sizes = append(sizes, 1000)
	}
	for _, zones := range sizes {
		r, now := filled(b, zones)
		d, limits := definition(), recent.Limits{MaxAge: 48 * time.Hour, Soft: 1 << 30, Hard: 1 << 30}
		body := func(state *recent.State, e expo.Encoding) *view.Body {
			v, err := view.Build(state, false, now, limits, nil)
			if err != nil {
				b.Fatal(err)
			}
			return v.Body(expo.OpenMetrics, e)
		}
		var identity []byte
		_ = body(r.State(bucket.Position{Revision: 1}), expo.Identity).WriteTo(func(p []byte) error { identity = append(identity, p...); return nil })
		name := fmt.Sprintf("samples=%d/", zones*labels*depth)
		b.Run(name+"parts", func(b *testing.B) {
			b.ReportAllocs()
			window, zone, n := depth, 0, body(r.State(bucket.Position{Revision: 1}), expo.Gzip).Len
			for b.Loop() {
				for range zones / 20 {
					if _, err := r.Add(countries(window, zone), d, now); err != nil {
						b.Fatal(err)
					}
					if zone++; zone == zones {
						window, zone = window+1, 0
						now = now.Add(time.Hour) // after which it is the same page's turn
						r.NoteLate(d.Dataset, now)
						r.Turn(now, nil)
					}
				}
				r.Expire(now)
				n = body(r.State(bucket.Position{Revision: 1}), expo.Gzip).Len
			}
			b.ReportMetric(float64(n), "body-bytes")
		})
		b.Run(name+"whole", func(b *testing.B) {
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				var buf bytes.Buffer
				zip, err := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = zip.Write(identity)
				_ = zip.Close()
				n = buf.Len()
			}
			b.ReportMetric(float64(n), "body-bytes")
		})
	}
}

// BenchmarkHeld is the memory of an exposer that Prometheus scrapes with gzip and
// somebody reads as text, as a multiple of the text body.
func BenchmarkHeld(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		state, now := store(b, 250)
		v, err := view.Build(state, false, now, recent.Limits{MaxAge: 48 * time.Hour, Soft: 1 << 30, Hard: 1 << 30}, nil)
		if err != nil {
			b.Fatal(err)
		}
		text := v.Body(expo.Text, expo.Identity).Len
		v.Body(expo.OpenMetrics, expo.Gzip)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(text), "heap/text")
		runtime.KeepAlive(v)
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
