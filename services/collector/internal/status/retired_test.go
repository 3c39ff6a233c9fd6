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

// A question about the last half hour reads no more than that of the store, but for other bucket sizes: where the
// last window of another size ends, this one begins.
func TestCoverageReadsWhatIsAsked(t *testing.T) {
	source := story(t)
	stored := source.Store.(*shelf)
	other := bucket.Window{Start: noon.Add(-3 * time.Hour), End: noon.Add(-time.Hour)}
	stored.runs = append(stored.runs, store.Run{Dataset: "http_1h", Scope: stored.runs[0].Scope, Window: other})
	whole, _, err := source.Coverage(t.Context(), store.Filter{Datasets: []string{http5}}, bucket.Window{})
	if err != nil {
		t.Fatal(err)
	}
	stored.read = nil
	asked := window(6, 0)
	part, _, err := source.Coverage(t.Context(), store.Filter{Datasets: []string{http5}}, asked)
	if err != nil {
		t.Fatal(err)
	}
	if since := stored.read[http5]; since != asked.Start {
		t.Errorf("coverage of %s was read since %s, want %s", http5, since, asked.Start)
	}
	if since, ok := stored.read["http_1h"]; !ok || since >= other.End {
		t.Errorf("coverage of another size was read since %s, which has none of it", since)
	}
	for i, c := range part {
		if got, want := c.HorizonUnixSeconds, whole[i].HorizonUnixSeconds; got != want {
			t.Errorf("the horizon of %s is %d, and %d where everything is asked for", c.Scope.Id, got, want)
		}
		for _, r := range c.Ranges {
			if bucket.Time(r.StartUnixSeconds) < asked.Start {
				t.Errorf("a range of %s begins before what was asked: %v", c.Scope.Id, r)
			}
		}
	}
	if first := bucket.Time(part[0].HorizonUnixSeconds); first != other.End {
		t.Errorf("the horizon is %s, want %s, where the other size ends", first, other.End)
	}
}
