package push

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
)

// Meter has the metrics of a push about itself. Safe for concurrent use.
type Meter struct {
	samples   prometheus.Counter
	refused   *prometheus.CounterVec
	hidden    prometheus.Counter
	empty     prometheus.Counter
	retries   *prometheus.CounterVec
	seconds   prometheus.Histogram
	revision  prometheus.Gauge
	remaining prometheus.Gauge
	until     prometheus.Gauge
	age       prometheus.Gauge
	blocked   prometheus.Gauge
	halted    *prometheus.GaugeVec
	lag       *lagGauge
}

// Halts are the reasons for which a push halts.
var Halts = []string{"COMPACTED", "OTHER_STORE", "HISTORY_CHANGED", "FUTURE_REVISION", "CONTRACT", unanswered}

// retryCauses are the values of the label cause.
var retryCauses = []string{"unreachable", "busy", "error", "everything"}

// NewMeter registers the metrics with r.
func NewMeter(r prometheus.Registerer) *Meter {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_push_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_push_" + name, Help: help})
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_push_" + name, Help: help}, []string{label})
	}
	m := &Meter{
		samples: counter("samples_total", "Samples that the destination acknowledged. A batch that is repeated counts again."),
		refused: counters("samples_refused_total", "Samples that the destination refused for good, by reason: too_old, out_of_order, duplicate, future, too_large, partial (OTLP: all of the request, of which the destination refused a part), other. The report has their windows.", "reason"),
		hidden:  counter("samples_hidden_total", "Samples that were not sent because another scope has the same series at the same time, such as a zone that was deleted and added again."),
		empty:   counter("entries_without_content_total", "Entries of the log that have no content to send: it could not be read, or retention dropped it before it was sent."),
		retries: counters("retries_total", "Failures after which the push tries again, by cause: unreachable (no response), busy (429 and 5xx), error (any other response, or the disk of the cursor), everything (the destination refuses all samples, also one that it has no reason to refuse).", "cause"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "weir_push_request_seconds", Help: "Time that the destination takes for a request, failures included.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}),
		revision:  gauge("acknowledged_revision", "Revision of the log up to which the destination has everything that it takes."),
		remaining: gauge("history_remaining_seconds", "Time between the day whose windows are sent and the start of the push, while it sends the windows of before with --from and an age; 0 otherwise."),
		until:     gauge("acknowledged_timestamp_seconds", "Time up to which the destination has everything that it takes, by the collector's clock."),
		age:       gauge("refusal_age_seconds", "Age from which on the destination refuses samples, as far as it has shown; 0 if it has refused none for its age."),
		blocked:   gauge("blocked", "1 while the destination takes nothing: it is unreachable, busy, rejects the credential, or refuses everything."),
		halted: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_push_halted", Help: "1 while the push is halted, by reason: COMPACTED, OTHER_STORE, HISTORY_CHANGED, FUTURE_REVISION, CONTRACT (the cursor has no place in the log), ANSWER (the destination may have taken a request of OTLP, and its answer does not say so).",
		}, []string{"reason"}),
		lag: &lagGauge{desc: prometheus.NewDesc("weir_push_lag_seconds", "How far the destination is behind the collector's log.", nil, nil)},
	}
	for _, reason := range deliver.Reasons {
		m.refused.WithLabelValues(string(reason))
	}
	for _, reason := range Halts {
		m.halted.WithLabelValues(reason)
	}
	for _, cause := range retryCauses {
		m.retries.WithLabelValues(cause)
	}
	r.MustRegister(m.samples, m.refused, m.hidden, m.empty, m.retries, m.seconds, m.revision, m.remaining, m.until, m.age, m.blocked, m.halted, m.lag)
	return m
}

// lagGauge is measured when it is asked for.
type lagGauge struct {
	desc *prometheus.Desc
	of   func() time.Duration
}

// Describe implements prometheus.Collector.
func (g *lagGauge) Describe(descs chan<- *prometheus.Desc) { descs <- g.desc }

// Collect implements prometheus.Collector.
func (g *lagGauge) Collect(metrics chan<- prometheus.Metric) {
	lag := time.Duration(0)
	if g.of != nil {
		lag = g.of()
	}
	metrics <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, lag.Seconds())
}

func (m *Meter) halt(reason string) {
	for _, r := range Halts {
		v := 0.0
		if r == reason {
			v = 1
		}
		m.halted.WithLabelValues(r).Set(v)
	}
}
