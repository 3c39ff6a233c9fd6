package meter

import (
	"encoding/binary"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/services/exposer/internal/recent"
	"github.com/weir-metrics/weir/services/exposer/internal/view"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("weir_exposer_"+name, help, labels, nil)
}

var (
	readyDesc     = desc("ready", "1 from the first complete view until shutdown begins. The age of the data does not affect it.")
	revisionDesc  = desc("revision", "Revision of the log that /metrics serves.")
	historyDesc   = desc("history_hash", "First 48 bits of the log's hash chain at the served revision, as a number. Exposers of one store that differ at the same revision serve different histories.")
	storeDesc     = desc("store_info", "Always 1. The labels name the store and its setting for sample timestamps.", "store_id", "sample_timestamp")
	simulatedDesc = prometheus.NewDesc("weir_simulated", "1 if the data comes from Weir's simulator (weir run --simulate, weir demo, weir sim) and describes no real zone.", nil, nil)
	progressDesc  = desc("progress_timestamp_seconds", "Stream time: the leader's clock at its last heartbeat. Everything stored up to then has arrived. It does not say whether windows are missing.")
	lagDesc       = desc("progress_lag_seconds", "Age of the stream time. It grows while no collector leads or while the stream is stalled.")
	heldDesc      = desc("samples_held", "Samples held in memory, whether served or not.")
	samplesDesc   = desc("replay_samples", "Samples in a response of /metrics.")
	seriesDesc    = desc("replay_series", "Distinct series in a response of /metrics.")
	refusedDesc   = desc("replay_refused", "1 while /metrics answers 503 because even the newest windows alone exceed the hard limit on samples.")
	expiresDesc   = desc("replay_expires_timestamp_seconds", "Time at which /metrics changes without a new bucket: the next turn begins, or a window becomes too old.")
	newestDesc    = desc("newest_bucket_end_timestamp_seconds", "End of the dataset's newest window in memory.", "dataset")
	oldestDesc    = desc("oldest_bucket_end_timestamp_seconds", "End of the dataset's oldest window on /metrics.", "dataset")
	windowsDesc   = desc("replay_windows", "Windows of the dataset on /metrics.", "dataset", "role")
	trimmedDesc   = desc("replay_trimmed_windows", "Windows of the dataset that the limits on samples removed from /metrics, first those of the page in turn.", "dataset", "role")
	missingDesc   = desc("replay_pages_missing", "Datasets whose page of older windows is in turn and not on /metrics, because it has not been fetched from the collector yet.")
	lateDesc      = desc("late_commit_timestamp_seconds", "When a bucket of the dataset last became final that was older than the newest windows on /metrics. Pages of older windows follow one another for two rounds after it.", "dataset")
	shortDesc     = desc("replay_short", "1 if samples of the dataset may be gone after one missed scrape, or a Prometheus that is down for an hour misses some until they are backfilled. The log and the landing page have the reason.", "dataset")
	spanDesc      = desc("replay_span_seconds", "How long a Prometheus may be down without missing samples of the dataset until they are backfilled: until then each is shown again before it is too old.", "dataset")
)

var roles = [recent.Roles]string{"total", "breakdown"}

// Watch returns a collector that reads the board at scrape time, so that its
// values are current.
func Watch(b *view.Board) prometheus.Collector { return watcher{b} }

type watcher struct{ board *view.Board }

func (w watcher) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		readyDesc, revisionDesc, historyDesc, storeDesc, simulatedDesc, progressDesc, lagDesc, heldDesc, samplesDesc, seriesDesc,
		refusedDesc, expiresDesc, missingDesc, newestDesc, oldestDesc, lateDesc, windowsDesc, trimmedDesc, shortDesc, spanDesc,
	} {
		ch <- d
	}
}

func (w watcher) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(readyDesc, truth(w.board.Ready() == nil))
	state := w.board.State()
	if state == nil {
		return
	}
	gauge(revisionDesc, float64(state.Position.Revision))
	gauge(historyDesc, float64(binary.BigEndian.Uint64(state.Position.Chain[:8])>>16))
	gauge(storeDesc, 1, state.Store.ID, state.Store.Stamp.String())
	gauge(simulatedDesc, truth(state.Store.Simulated))
	gauge(heldDesc, float64(state.Samples))
	if progress := w.board.Progress(); !progress.IsZero() {
		gauge(progressDesc, seconds(progress))
		gauge(lagDesc, w.board.Now().Sub(progress).Seconds())
	}
	for i := range state.Datasets {
		d := &state.Datasets[i]
		if _, newest := d.Ends(); newest > 0 {
			gauge(newestDesc, float64(newest), d.Dataset)
		}
		if !d.Late.IsZero() {
			gauge(lateDesc, seconds(d.Late), d.Dataset)
		}
	}
	stamp, maxAge := state.Store.Stamp, time.Duration(w.board.Hours())*time.Hour
	reach := func(d *recent.Held, span time.Duration) {
		gauge(spanDesc, span.Seconds(), d.Dataset)
		gauge(shortDesc, truth(recent.Check(d.Definition, stamp, maxAge) != nil || span < recent.Enough && d.Len() > 0), d.Dataset)
	}
	v, err := w.board.View(view.Default)
	gauge(refusedDesc, truth(err != nil))
	if err != nil {
		for i := range state.Datasets {
			d := &state.Datasets[i]
			reach(d, recent.Span(d.Definition, stamp, maxAge))
		}
		return
	}
	gauge(samplesDesc, float64(v.Choice.Samples))
	gauge(seriesDesc, float64(v.Series()))
	gauge(missingDesc, float64(v.Choice.Missing))
	if !v.Choice.Expires.IsZero() {
		gauge(expiresDesc, seconds(v.Choice.Expires))
	}
	for i := range v.Choice.Datasets {
		d := &v.Choice.Datasets[i]
		reach(d.Held, d.Span(stamp, maxAge))
		for role := range roles {
			gauge(windowsDesc, float64(d.Windows(role)), d.Dataset, roles[role])
			gauge(trimmedDesc, float64(d.Trimmed[role]), d.Dataset, roles[role])
		}
		if oldest, found := d.Oldest(); found {
			gauge(oldestDesc, float64(oldest.End), d.Dataset)
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
