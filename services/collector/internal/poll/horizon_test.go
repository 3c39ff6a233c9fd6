package poll_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/status"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Coverage and the loop mean the same horizon: what the loop will never want is
// not shown as missing.
func TestCoverageBeginsWhereTheLoopDoes(t *testing.T) {
	w := newWorld(t, nil)
	w.config.Lookback, w.config.Retention = 24*time.Hour, 10*time.Hour
	w.run(2 * time.Hour)
	source := status.Source{Store: w.store, Catalogue: w.catalogue, Clock: w.clock, Retention: w.config.Retention, Leading: func() bool { return false }}
	coverages, asOf, err := source.Coverage(t.Context(), store.Filter{Datasets: []string{"http_5m"}}, bucket.Window{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range coverages {
		for _, r := range c.Ranges {
			if r.State == bucketv1.CoverageState_COVERAGE_STATE_MISSING && r.EndUnixSeconds < asOf.Add(-8*time.Hour).Unix() {
				t.Errorf("%s: [%s, %s) is shown as missing (%s); it is beyond the horizon", c.Scope.Id, bucket.Time(r.StartUnixSeconds), bucket.Time(r.EndUnixSeconds), r.Reason)
			}
		}
	}
}
