package reload

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	usable = prometheus.NewDesc("weir_secret_usable",
		"1 while what stands in the secret's files is in force; 0 while it cannot be used and what stood there before is.", []string{"secret"}, nil)
	failures = prometheus.NewDesc("weir_secret_reload_failures_total",
		"Times that what stood in the secret's files could not be used, each fault counted once however long it lasts.", []string{"secret"}, nil)
	changed = prometheus.NewDesc("weir_secret_changed_timestamp_seconds",
		"When this process first read what is in force: its start, or the last rotation that has reached it.", []string{"secret"}, nil)
	expires = prometheus.NewDesc("weir_secret_expires_timestamp_seconds",
		"When the certificate in force expires; the first to do so of a chain.", []string{"secret"}, nil)
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
