package status_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// Coverage begins where the loop's wanting does: what an earlier, shorter
// retention may have dropped is not called missing.
func TestCoverageBeginsAboveWhatRetentionDropped(t *testing.T) {
	source := story(t)
	border := noon.Add(-30 * time.Minute)
	source.Store.(*shelf).records[ledger.KindRetired] = []store.Record{ledger.RetiredRecord(border)}
	all, _, err := source.Coverage(t.Context(), store.Filter{Datasets: []string{http5}}, bucket.Window{})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no coverage")
	}
	for _, c := range all {
		if got := bucket.Time(c.HorizonUnixSeconds); got != border {
			t.Errorf("the horizon of %s is %s, want %s", c.Scope.Id, got, border)
		}
	}
}
