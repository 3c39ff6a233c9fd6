package settle_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

// Two quiet zones of six are not a third of those with traffic, and do not
// become one when the others' windows are final and only a straggler is left
// beside them: the dataset would be late, and wait for a day for zones that are
// not.
func TestZonesWhoseWindowIsFinalCountAgainstADelay(t *testing.T) {
	d := settle.New(policy)
	var zones []bucket.Scope
	for i := range 6 {
		zones = append(zones, bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i+1)})
		d.Restore(zones[i], settle.Past{FirstSeen: noon.Add(-72 * time.Hour), Recent: busy()})
	}
	see := func(now bucket.Time, straggler float64) {
		t.Helper()
		answer := map[bucket.Scope][]settle.Reading{}
		for i, z := range zones {
			if i > 2 && !d.Read(z, noon) && now != at(5*time.Minute) {
				continue // final
			}
			level := 100.0
			switch i {
			case 0, 1:
				level = 0
			case 2:
				level = straggler
			}
			answer[z] = []settle.Reading{reading(noon, level)}
		}
		for z, verdicts := range observe(d, now, answer) {
			if v := verdicts[0]; v.Final != 0 {
				d.Stored(z, settle.Final{Start: noon, Level: 100})
			}
		}
		if from, delayed := d.Delayed(); delayed {
			t.Fatalf("at %s the dataset is late from %s on, although four zones of six have their data", now, from)
		}
	}
	see(at(5*time.Minute), 90)
	see(at(6*time.Minute), 95) // the three that look well are final
	see(at(7*time.Minute), 100)
}

// Zones that were paused are silent from then on, whatever the dataset does: they
// are no evidence that it is late, and what they have to wait is their own matter.
func TestZonesThatHaveEndedMakeNoDelay(t *testing.T) {
	for name, ended := range map[string]bool{"all are collected": false, "two are paused": true} {
		t.Run(name, func(t *testing.T) {
			d := settle.New(policy)
			answer := map[bucket.Scope][]settle.Reading{}
			for i := range 5 {
				z := bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i+1)}
				d.Restore(z, settle.Past{FirstSeen: noon.Add(-72 * time.Hour), Recent: busy()})
				d.End(z, ended && i < 2)
				level := 100.0
				if i < 2 {
					level = 0
				}
				answer[z] = []settle.Reading{reading(noon, level)}
			}
			observe(d, at(5*time.Minute), answer)
			if _, delayed := d.Delayed(); delayed == ended {
				t.Errorf("late: %v", delayed)
			}
		})
	}
}
