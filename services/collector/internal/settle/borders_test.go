package settle_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

// A fifth of the median is not below it, and a median of ten is enough to
// judge by.
func TestWhereLowBegins(t *testing.T) {
	for _, c := range []struct {
		usual, level float64
		suspect      bool
	}{
		{100, 20, false},
		{100, 19, true},
		{10, 1, true},
		{9, 1, false}, // noise alone crosses the line
	} {
		recent := busy()
		for i := range recent {
			recent[i].Level = c.usual
		}
		d := newDataset(recent)
		v := lookBefore(t, d, at(5*time.Minute), noon, c.level)
		if got := v.Reason == settle.Suspect; got != c.suspect {
			t.Errorf("%v after a median of %v: suspect %t, want %t", c.level, c.usual, got, c.suspect)
		}
	}
}

// A window that looked ordinary and then lost its rows is no proof that what
// came after it has arrived.
func TestAWindowIsNoWitnessForItself(t *testing.T) {
	d := newDataset(busy())
	look(t, d, at(5*time.Minute), noon, 100)
	look(t, d, at(5*time.Minute+30*time.Second), noon, 0)
	if v := look(t, d, at(16*time.Minute), noon, 0); v.Final != 0 || v.Reason != settle.Suspect {
		t.Fatalf("rows that went away: final %d reason %d, want to wait for a later window", v.Final, v.Reason)
	}
	wantFinal(t, lookBefore(t, d, at(27*time.Minute), noon, 0), bucket.SuspectConfirmed)
}

// Zones that are read no more (they were paused, say) do not keep a dataset
// late for ever.
func TestOldReadingsDoNotProlongADelay(t *testing.T) {
	d := settle.New(policy)
	zones := make([]bucket.Scope, 4)
	see := func(now, start bucket.Time, levels map[int]float64) {
		answer := map[bucket.Scope][]settle.Reading{}
		for i, l := range levels {
			answer[zones[i]] = []settle.Reading{reading(start, l)}
		}
		observe(d, now, answer)
	}
	for i := range zones {
		zones[i] = bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i+1)}
		d.Restore(zones[i], settle.Past{FirstSeen: noon.Add(-72 * time.Hour), Recent: busy()})
	}
	see(at(5*time.Minute), noon, map[int]float64{0: 0, 1: 0, 2: 100, 3: 100})
	if _, delayed := d.Delayed(); !delayed {
		t.Fatal("two silent zones of four are no delay")
	}
	see(at(15*time.Minute), noon.Add(size), map[int]float64{2: 100, 3: 100})
	if _, delayed := d.Delayed(); !delayed {
		t.Fatal("the delay ended while its readings were ten minutes old")
	}
	see(at(30*time.Minute), noon.Add(2*size), map[int]float64{2: 100, 3: 100})
	if from, delayed := d.Delayed(); delayed {
		t.Fatalf("still delayed from %s by readings that are 25 minutes old", from)
	}
}
