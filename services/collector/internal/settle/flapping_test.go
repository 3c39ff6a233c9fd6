package settle_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

// A dataset that comes and goes: windows are empty, are there for a few minutes,
// and are empty again. That a later window was seen while it was there does not
// make the second emptiness of an earlier one the truth.
func TestWhatWasSeenBeforeAnEmptinessIsNoWitnessOfIt(t *testing.T) {
	d := newDataset(busy())
	look(t, d, at(5*time.Minute), noon, 0)
	both := map[bucket.Scope][]settle.Reading{zone: {reading(noon, 100), reading(noon.Add(size), 100)}}
	observe(d, at(11*time.Minute), both)
	look(t, d, at(13*time.Minute), noon, 0)
	if v := look(t, d, at(24*time.Minute), noon, 0); v.Final != 0 {
		t.Fatalf("an emptiness was believed on the word of a window that was read before it began")
	}
	look(t, d, at(25*time.Minute), noon.Add(3*size), 100)
	wantFinal(t, look(t, d, at(26*time.Minute), noon, 0), bucket.SuspectConfirmed)
}
