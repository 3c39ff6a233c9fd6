package poll_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// A dataset that is added when its zone has been known for days begins as the zone began, with the
// lookback: what Cloudflare had dropped by then is no loss, and there are no days to catch up. It
// stays so with the next leader: incident "A dataset that was added had lost months".
func TestADatasetThatIsAddedLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, zones("blog.example")) // Free: three days of the roll-ups by the hour
	all := w.catalogue
	w.only("countries_1h")
	w.run(5 * 24 * time.Hour)
	w.catalogue, w.config.Catalogue = all, all
	w.only("countries_1h", "uniques_1h")
	added := bucket.TimeOf(w.clock.Now())
	for range 2 {
		w.run(2 * time.Hour)
		if lost := w.entries(bucket.KindGapDecision); len(lost) > 0 {
			t.Fatalf("%s from %s to %s is recorded as lost", lost[0].Key.Dataset, lost[0].Key.Start, lost[0].End)
		}
		first, n := bucket.Time(0), 0
		for key := range w.stored() {
			if key.Dataset == "uniques_1h" {
				if n++; first == 0 || key.Start < first {
					first = key.Start
				}
			}
		}
		if want := added.Add(-w.config.Lookback).Floor(time.Hour); first != want || n < 3 {
			t.Errorf("%d buckets are stored from %s on, want those from %s on", n, first, want)
		}
	}
}
