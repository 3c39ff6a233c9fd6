package meter

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/services/exposer/internal/counters"
)

var (
	availableDesc     = desc("counters_available", "1 while /counters can be served. The log and the page have the reason why not.")
	counterSeriesDesc = desc("counters_series", "Series of counters in memory.")
	counterLagDesc    = desc("counters_lag_seconds", "Time since the last confirmation that all entries of the log have been counted. /counters is served while it is at most 90 s.")
	counterAheadDesc  = desc("counters_clock_ahead_seconds", "How far this process's clock is ahead of the leader's, and the way of a confirmation: the least of the last five to ten minutes. Exposers behind one address between which it differs by more than 5 s show counters that step back.")
)

// WatchCounters returns a collector that reads the board of counters at scrape time.
func WatchCounters(b *counters.Board) prometheus.Collector { return counterWatcher{b} }

type counterWatcher struct{ board *counters.Board }

func (w counterWatcher) Describe(ch chan<- *prometheus.Desc) {
	ch <- availableDesc
	ch <- counterSeriesDesc
	ch <- counterLagDesc
	ch <- counterAheadDesc
}

func (w counterWatcher) Collect(ch chan<- prometheus.Metric) {
	state := w.board.State()
	gauge := func(d *prometheus.Desc, v float64) { ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v) }
	gauge(availableDesc, truth(state.Err == nil))
	if state.Known {
		gauge(counterSeriesDesc, float64(state.Series))
		gauge(counterLagDesc, state.Lag.Seconds())
	}
	if state.Ahead != nil {
		gauge(counterAheadDesc, state.Ahead.Seconds())
	}
}
