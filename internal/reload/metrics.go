package reload

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	usable = prometheus.NewDesc("weir_secret_usable",
		"1 while the content of the secret's files is in use; 0 while it is invalid and the last valid content is used instead.", []string{"secret"}, nil)
	failures = prometheus.NewDesc("weir_secret_reload_failures_total",
		"Reloads of the secret that failed. A fault that lasts is counted once.", []string{"secret"}, nil)
	changed = prometheus.NewDesc("weir_secret_changed_timestamp_seconds",
		"Time at which this process loaded the secret in use: at its start, or at the last rotation.", []string{"secret"}, nil)
	expires = prometheus.NewDesc("weir_secret_expires_timestamp_seconds",
		"Time at which the certificate in use expires; of a chain, the earliest.", []string{"secret"}, nil)
)

// Describe implements [prometheus.Collector].
func (w *Watch) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{usable, failures, changed, expires} {
		descs <- d
	}
}

// Collect implements [prometheus.Collector]. It looks at the files.
func (w *Watch) Collect(metrics chan<- prometheus.Metric) {
	if w == nil {
		return
	}
	w.mu.Lock()
	values := slices.Clone(w.values)
	w.mu.Unlock()
	for _, v := range values {
		s := v.state()
		in := 0.0
		if s.usable {
			in = 1
		}
		metrics <- prometheus.MustNewConstMetric(usable, prometheus.GaugeValue, in, s.name)
		metrics <- prometheus.MustNewConstMetric(failures, prometheus.CounterValue, float64(s.faults), s.name)
		metrics <- prometheus.MustNewConstMetric(changed, prometheus.GaugeValue, seconds(s.changed), s.name)
		if !s.expires.IsZero() {
			metrics <- prometheus.MustNewConstMetric(expires, prometheus.GaugeValue, seconds(s.expires), s.name)
		}
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }
