package poll

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
)

// What panels and alerts show as an increase is there at 0 from the start: a counter that
// appears with its first value loses that value.
func TestCountersBeginAtZero(t *testing.T) {
	dataset := func(id string) (d catalogue.Dataset) {
		d.Definition.Dataset = id
		return d
	}
	reg := prometheus.NewRegistry()
	NewMetrics(reg).atZero([]catalogue.Dataset{dataset("a"), dataset("b")})
	for name, want := range map[string]int{
		"weir_collector_upstream_requests_total":   5, // lanes
		"weir_collector_gaps_filled_windows_total": 2,
		"weir_collector_lost_windows_total":        2,
		"weir_collector_backfill_jobs_ended_total": 2, // done, cancelled
		"weir_collector_invalid_buckets_total":     2,
		"weir_collector_labels_cut_total":          2,
	} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n != want {
			t.Errorf("%s has %d series, %v; want %d", name, n, err, want)
		}
	}
}
