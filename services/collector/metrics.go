package collector

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/feed"
	"github.com/weir-metrics/weir/services/collector/internal/quota"
)

// registerQuota exposes the budget of a Cloudflare user.
func registerQuota(reg prometheus.Registerer, user string, l *quota.Limiter) {
	reg = prometheus.WrapRegistererWith(prometheus.Labels{"user": strings.ToValidUTF8(user, "\uFFFD")}, reg)
	gauge(reg, "budget_limit", "Requests that may be sent in five minutes: the configured share of Cloudflare's limit, or half of the share while weir_collector_budget_shared is 1.", func() float64 { return float64(l.State().Limit) })
	gauge(reg, "budget_share_requests", "Requests that may be sent in five minutes according to the configured share; compare with weir_collector_budget_needed_requests.", func() float64 { share, _ := l.Share(); return float64(share) })
	gauge(reg, "budget_left", "Requests that this process could send now, as far as it knows.", func() float64 { return float64(l.State().Left) })
	gauge(reg, "budget_shared", "1 while another client seems to use up the Cloudflare user's budget.", func() float64 {
		if l.State().Shared {
			return 1
		}
		return 0
	})
	counter(reg, "budget_refused_total", "Requests that Cloudflare refused because the budget was used up.", func() float64 { return float64(l.State().Refused) })
	counter(reg, "budget_lapsed_permits_total", "Permits that were reserved and not used in time.", func() float64 { return float64(l.State().Lapsed) })
}

// registerFeed exposes the log as this process serves it.
func registerFeed(reg prometheus.Registerer, f *feed.Feed, s *bucketsvc.Server) {
	gauge(reg, "feed_revision", "Newest revision that streams of this process can send.", func() float64 { return float64(f.Stats().Head) })
	gauge(reg, "feed_progress_timestamp_seconds", "The leader's stream time, as this process streams it; 0 before the first.", func() float64 {
		if t := f.Stats().Progress; !t.IsZero() {
			return float64(t.Unix())
		}
		return 0
	})
	gauge(reg, "feed_bytes", "Encoded entries held in memory for streams.", func() float64 { return float64(f.Stats().Bytes) })
	gauge(reg, "streams", "WatchBuckets and ListBuckets calls being served.", func() float64 { return float64(s.Streams()) })
}

// registerStore exposes whether there is a store, from the start on.
func registerStore(reg prometheus.Registerer, c *Collector) {
	gauge(reg, "store_up", "1 while this process can reach the store.", func() float64 {
		if c.away.Load() != nil || c.feed.Stats().Err != nil {
			return 0
		}
		return 1
	})
}

func gauge(reg prometheus.Registerer, name, help string, value func() float64) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_collector_" + name, Help: help}, value))
}

func counter(reg prometheus.Registerer, name, help string, value func() float64) {
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "weir_collector_" + name, Help: help}, value))
}
