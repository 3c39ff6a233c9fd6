package settle_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/settle"
)

// Half of the zones really were without traffic for five minutes. What came
// after has arrived, so nothing is late: the empty windows wait for a day, the
// others do not.
func TestAHoleWithOrdinaryWindowsBehindItIsNoRunningDelay(t *testing.T) {
	d := settle.New(policy)
	var zones []bucket.Scope
	for i := range 4 {
		zones = append(zones, bucket.Scope{Kind: bucket.Zone, ID: fmt.Sprintf("%032x", i+1)})
		d.Restore(zones[i], settle.Past{FirstSeen: noon.Add(-72 * time.Hour), Recent: busy()})
	}
	final := map[bucket.Time]int{}
	for minute := 5; minute <= 60; minute++ {
		now := at(time.Duration(minute) * time.Minute)
		answer := map[bucket.Scope][]settle.Reading{}
		for i, z := range zones {
			for start := noon; start < noon.Add(35*time.Minute); start = start.Add(size) {
				level := 100.0
				if start == noon && i < 2 {
					level = 0
				}
				if now >= start.Add(2*size) && (d.Read(z, start) || now < start.Add(2*size+time.Minute)) {
					answer[z] = append(answer[z], reading(start, level))
				}
			}
		}
		for z, verdicts := range observe(d, now, answer) {
			for i, v := range verdicts {
				if v.Final != 0 {
					d.Stored(z, settle.Final{Start: v.Start, Level: answer[z][i].Level, Empty: answer[z][i].Empty})
					final[v.Start]++
				}
			}
		}
	}
	for start := noon; start < noon.Add(30*time.Minute); start = start.Add(size) {
		want := 4
		if start == noon {
			want = 2 // half of all at once may still be Cloudflare's doing
		}
		if final[start] != want {
			t.Errorf("an hour later the window of %s is final for %d zones of 4, want %d", start, final[start], want)
		}
	}
	// What is behind the hole after a day is believed.
	now := noon.Add(25 * time.Hour)
	if v := observe(d, now, map[bucket.Scope][]settle.Reading{zones[0]: {reading(noon, 0)}})[zones[0]][0]; v.Final != bucket.SuspectConfirmed {
		t.Errorf("a day later the empty window is not final: reason %d", v.Reason)
	}
}
