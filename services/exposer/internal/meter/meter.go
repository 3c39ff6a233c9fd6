// Package meter has the exposer's metrics about itself, which the operations port
// serves. They tell a change of traffic from a change in the exposer: what it
// holds and serves of each dataset, what the limits removed, how old its view is,
// and the state of the stream from the collector.
package meter

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/expo"
)

// Meter counts events. It is safe for concurrent use.
type Meter struct {
	connected       prometheus.Gauge
	disconnects     *prometheus.CounterVec
	rejected        prometheus.Counter
	published       prometheus.Counter
	unserved        *prometheus.CounterVec
	pages           *prometheus.CounterVec
	rendered        prometheus.Counter
	renderSeconds   prometheus.Histogram
	bodyBytes       *prometheus.GaugeVec
	buildSeconds    *prometheus.HistogramVec
	scrapes         *prometheus.CounterVec
	scrapesFlying   prometheus.Gauge
	scrapesCut      prometheus.Counter
	counterPages    *prometheus.CounterVec
	counterRejected prometheus.Counter
	compatPages     *prometheus.CounterVec
	backfills       *prometheus.CounterVec
	backfillsFlying prometheus.Gauge
	denied          *prometheus.CounterVec
	unmatched       prometheus.Gauge
}

// New registers the event metrics with r.
func New(r prometheus.Registerer) *Meter {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_exposer_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_exposer_" + name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_exposer_" + name, Help: help}, labels)
	}
	m := &Meter{
		connected:   gauge("stream_connected", "1 while a stream from a collector is open and has delivered its first message."),
		disconnects: counters("stream_disconnects_total", "Streams that ended, by the error reason of the API or TRANSPORT, IDLE, CONTRACT, STEP_BACK, REFUSED_HERE.", "reason"),
		rejected:    counter("entries_rejected_total", "Buckets and definitions that could not be served; the log has the errors. Anything but 0 is a bug or a version mismatch."),
		published:   counter("views_published_total", "Views published, one per confirmed point of the log that changed something."),
		unserved:    counters("unserved_buckets_total", "Buckets with a value other than zero that were older than CF_METRICS_REPLAY_HOURS when they became final, so that /metrics never shows them: only a backfill has them.", "dataset"),
		pages:       counters("page_fetches_total", "Attempts to fetch a page of older windows from the collector, by outcome: whole, failed.", "outcome"),
		rendered:    counter("samples_rendered_total", "Samples rendered from buckets. Each is rendered once, in both formats."),
		renderSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "weir_exposer_bucket_render_seconds", Help: "Time to render one bucket and add it to memory.",
			Buckets: prometheus.ExponentialBuckets(10e-6, 4, 8),
		}),
		bodyBytes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_exposer_body_bytes", Help: "Length of the last response body of /metrics that was built, by format and encoding. Prometheus applies body_size_limit to the identity encoding.",
		}, []string{"format", "encoding"}),
		buildSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_exposer_body_build_seconds", Help: "Time to build a response body of /metrics, once per view, format and encoding.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 7),
		}, []string{"format", "encoding"}),
		scrapes:         counters("scrapes_total", "Completed requests for /metrics, by status code.", "code"),
		scrapesFlying:   gauge("scrapes_in_flight", "Requests for /metrics in progress, including those that wait because WEIR_EXPOSER_MAX_SCRAPES is reached."),
		scrapesCut:      counter("scrapes_cut_total", "Responses of /metrics that the client did not read to the end: it disconnected, took longer than 10 s for 64 KiB, or longer than a minute in total."),
		counterPages:    counters("counters_pages_total", "Completed requests for /counters, by outcome: served, cut (the client did not read to the end), overload, refused (404 or 400), failed, or why /counters answered 503: disconnected, catching_up, behind, unsupported, no_counters, history_changed, restored, clock.", "outcome"),
		compatPages:     counters("compat_pages_total", "Completed requests for /counters/compat/lablabs, by outcome, as for counters_pages_total.", "outcome"),
		counterRejected: counter("counters_entries_rejected_total", "Buckets, definitions and families of totals that could not be counted; the log has the errors. Anything but 0 is a bug or a version mismatch."),
		backfills:       counters("backfills_total", "Completed backfill requests, by outcome: whole, refused (before the first byte), broken (interrupted after the first byte).", "outcome"),
		backfillsFlying: gauge("backfills_in_flight", "Backfill requests in progress."),
		unmatched:       gauge("token_names_unmatched", "Zones and accounts that WEIR_EXPOSER_TOKENS_FILE names and the collector does not know; the log names them. Compared every five minutes."),
		denied:          counters("requests_denied_total", "Requests to the data port that a token of WEIR_EXPOSER_TOKENS_FILE was needed for, by reason: unauthenticated (no token, or an unknown one: 401), forbidden (what the token may not read: 403).", "reason"),
	}
	for _, reason := range []string{"unauthenticated", "forbidden"} {
		m.denied.WithLabelValues(reason)
	}
	for _, outcome := range []string{"whole", "refused", "broken"} {
		m.backfills.WithLabelValues(outcome) // exported from the start, so that the first one is an increase
	}
	m.scrapes.WithLabelValues("200")
	m.counterPages.WithLabelValues("served")
	m.pages.WithLabelValues("whole")
	m.pages.WithLabelValues("failed")
	r.MustRegister(m.connected, m.disconnects, m.rejected, m.published, m.unserved, m.pages, m.rendered, m.renderSeconds,
		m.bodyBytes, m.buildSeconds, m.scrapes, m.scrapesFlying, m.scrapesCut, m.counterPages, m.compatPages, m.counterRejected, m.backfills, m.backfillsFlying, m.denied, m.unmatched)
	return m
}

// Connected: a stream has begun.
func (m *Meter) Connected() { m.connected.Set(1) }

// Disconnected: the stream has ended.
func (m *Meter) Disconnected(reason string) {
	m.connected.Set(0)
	m.disconnects.WithLabelValues(reason).Inc()
}

// Rejected: an entry could not be shown.
func (m *Meter) Rejected() { m.rejected.Inc() }

// Published: a point of the log is served.
func (m *Meter) Published() { m.published.Inc() }

// Unserved: a bucket of a dataset became final when it was too old for the replay.
func (m *Meter) Unserved(dataset string) { m.unserved.WithLabelValues(dataset).Inc() }

// PageFetched: a page of older windows was fetched, or the attempt failed.
func (m *Meter) PageFetched(whole bool) {
	outcome := "whole"
	if !whole {
		outcome = "failed"
	}
	m.pages.WithLabelValues(outcome).Inc()
}

// Rendered: a bucket was rendered.
func (m *Meter) Rendered(samples int, took time.Duration) {
	m.rendered.Add(float64(samples))
	m.renderSeconds.Observe(took.Seconds())
}

// Built: a body was put together.
func (m *Meter) Built(f expo.Format, e expo.Encoding, bytes int, took time.Duration) {
	m.bodyBytes.WithLabelValues(f.String(), e.String()).Set(float64(bytes))
	m.buildSeconds.WithLabelValues(f.String(), e.String()).Observe(took.Seconds())
}

// ScrapeBegan: a request for /metrics arrived.
func (m *Meter) ScrapeBegan() { m.scrapesFlying.Inc() }

// Scraped: it was answered.
func (m *Meter) Scraped(code int) {
	m.scrapesFlying.Dec()
	m.scrapes.WithLabelValues(strconv.Itoa(code)).Inc()
}

// ScrapeCut: its client did not take the whole body.
func (m *Meter) ScrapeCut() { m.scrapesCut.Inc() }

// CountersScraped: a request for /counters was answered.
func (m *Meter) CountersScraped(outcome string) { m.counterPages.WithLabelValues(outcome).Inc() }

// CompatScraped: a request for the compatibility page was answered.
func (m *Meter) CompatScraped(outcome string) { m.compatPages.WithLabelValues(outcome).Inc() }

// CounterRejected: an entry could not be counted.
func (m *Meter) CounterRejected() { m.counterRejected.Inc() }

// BackfillBegan: a backfill request arrived.
func (m *Meter) BackfillBegan() { m.backfillsFlying.Inc() }

// BackfillEnded: it was answered.
func (m *Meter) BackfillEnded(outcome string) {
	m.backfillsFlying.Dec()
	m.backfills.WithLabelValues(outcome).Inc()
}

// Denied: a request was refused for its token.
func (m *Meter) Denied(reason string) { m.denied.WithLabelValues(reason).Inc() }

// TokenNamesUnmatched notes how many names in the file of tokens match nothing.
func (m *Meter) TokenNamesUnmatched(n int) { m.unmatched.Set(float64(n)) }
