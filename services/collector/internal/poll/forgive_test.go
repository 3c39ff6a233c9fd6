package poll

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/services/collector/internal/backoff"
	"github.com/weir-metrics/weir/services/collector/internal/catalogue"
	"github.com/weir-metrics/weir/services/collector/internal/coverage"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/roster"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/trusted"
)

// A series that lacks nothing may be asked along with others, and fail. It would not be asked
// again before its next window is due, so its failure ends with its pause: incident "A zone that
// lacked nothing failed for a day".
func TestFailuresOfWhatLacksNothingAreForgotten(t *testing.T) {
	all, err := catalogue.Load(nil, catalogue.Options{})
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 6, 20, 12, 0, 0, 0, time.UTC)
	now, d := bucket.TimeOf(noon), all.Find("uniques_1d")
	today := now.Floor(d.Size)
	zone := func(id string) bucket.Scope { return bucket.Scope{Kind: bucket.Zone, ID: id} }
	b := &books{
		env:      &env{catalogue: all, trusted: trusted.New(clock.NewManual(noon), nil, nil)},
		faults:   &faults{tries: map[ledger.Series]*try{}},
		roster:   roster.Roster{},
		coverage: coverage.New([]store.Run{{Dataset: d.Dataset, Scope: zone("whole"), Window: bucket.Window{Start: today.Add(-d.Size), End: today}}, {Dataset: d.Dataset, Scope: zone("waits"), Window: bucket.Window{Start: today.Add(-d.Size), End: today}}}, all.Datasets),
	}
	for id, next := range map[string]time.Duration{"whole": -time.Second, "waits": time.Minute, "lacks": -time.Second} {
		b.roster[zone(id)] = &roster.Scope{Scope: zone(id), State: roster.Active, Start: today.Add(-d.Size), FirstSeen: today.Add(-d.Size)}
		b.faults.tries[ledger.Series{Dataset: d.Dataset, Scope: zone(id)}] = &try{
			Backoff: backoff.Backoff{Next: now.Add(next), Failures: 3}, reason: ledger.BadAnswer, maxRange: d.Size,
		}
	}
	b.forgive()
	for id, want := range map[string]ledger.Reason{"whole": "", "waits": ledger.BadAnswer, "lacks": ledger.BadAnswer} {
		got := b.faults.tries[ledger.Series{Dataset: d.Dataset, Scope: zone(id)}]
		if got.reason != want || (got.Failures == 0) != (want == "") || got.maxRange != d.Size {
			t.Errorf("%s: %+v, want the reason %q", id, got, want)
		}
		if lacks := b.lacks(ledger.Series{Dataset: d.Dataset, Scope: zone(id)}); lacks != (id == "lacks") {
			t.Errorf("%s lacks something: %t", id, lacks)
		}
	}
}
