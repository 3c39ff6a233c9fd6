package meter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/services/exposer/internal/compat"
)

var lackingDesc = desc("compat_missing_families", "Families that /counters/compat/lablabs lacks because no final bucket of their dataset is known. The page and the landing page name them. Exists while WEIR_EXPOSER_COMPAT is not none.")

// WatchCompat returns a collector that reads the compatibility page at scrape time.
func WatchCompat(v *compat.View, now func() time.Time) prometheus.Collector {
	return compatWatcher{v, now}
}

type compatWatcher struct {
	view *compat.View
	now  func() time.Time
}

func (w compatWatcher) Describe(ch chan<- *prometheus.Desc) { ch <- lackingDesc }

func (w compatWatcher) Collect(ch chan<- prometheus.Metric) {
	missing := len(w.view.Missing(sample.MillisOf(w.now())))
	ch <- prometheus.MustNewConstMetric(lackingDesc, prometheus.GaugeValue, float64(missing))
}
