package poll_test

import (
	"slices"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/services/collector/internal/cloudflare"
)

// One field of one zone of ten voids every answer that it is part of, and the error names
// neither: it costs that dataset of that zone alone, and everything else is there in time.
func TestAPoisonedFieldOfOneZoneCostsThatDatasetOfItAlone(t *testing.T) {
	w := newWorld(t, many(10, cfsim.Pro))
	w.only("http_5m", "uniques_1h", "countries_1h")
	poisoned, voided := bucket.Scope{Kind: bucket.Zone, ID: cfsim.Tag("zone:zone-3.example")}, 0
	from := began.Add(time.Hour)
	w.stand(&between{query: func(q cloudflare.Query) error {
		if w.clock.Now().Before(from) || !slices.Contains(q.Zones, poisoned.ID) {
			return nil
		}
		for _, s := range q.Selections {
			if slices.Contains(s.Fields, "uniq.uniques") {
				voided++
				return &cloudflare.Error{Class: cloudflare.Unknown, Message: "something in it is wrong"}
			}
		}
		return nil
	}})
	w.run(6 * time.Hour)
	w.checkTruth()
	stored := w.stored()
	for _, z := range w.sim.Zones() {
		for _, d := range w.catalogue.Datasets {
			sc := bucket.Scope{Kind: bucket.Zone, ID: z.ID}
			for start := bucket.TimeOf(from).Ceil(d.Size); start.Add(d.Size) < bucket.TimeOf(w.clock.Now()).Add(-time.Hour); start = start.Add(d.Size) {
				b := stored[bucket.Key{Dataset: d.Dataset, Scope: sc, Start: start}]
				switch costs := sc == poisoned && d.Dataset == "uniques_1h"; {
				case costs && b != nil:
					t.Fatalf("%s of the poisoned zone is stored: the story has lost its subject", d.Dataset)
				case !costs && b == nil:
					t.Errorf("%s of %s at %s is missing", d.Dataset, z.Name, start)
				case !costs && b.ReadAt.Sub(b.Window().End) > 40*time.Minute:
					t.Errorf("%s of %s at %s came %s after its end", d.Dataset, z.Name, start, b.ReadAt.Sub(b.Window().End))
				}
			}
		}
	}
	if voided == 0 || voided > 60 {
		t.Errorf("%d requests were voided in five hours", voided)
	}
	t.Logf("%d requests were voided in five hours", voided)
}
