package poll_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cfsim"
)

// What only a leader knows is not told by one that was: alerts on it would never
// end.
func TestAFormerLeaderTellsNothingOfTheMoment(t *testing.T) {
	w := newWorld(t, func(c *cfsim.Config) {
		c.Faults = []cfsim.Fault{{Kind: cfsim.FaultHTML, Status: 503, Path: "/graphql", From: began.Add(10 * time.Minute)}}
	})
	seen := 0
	w.run(30 * time.Minute)
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		name := strings.TrimPrefix(f.GetName(), "weir_collector_")
		switch name {
		case "leader":
			seen++
			if v := f.GetMetric()[0].GetGauge().GetValue(); v != 0 {
				t.Errorf("%s is %v", name, v)
			}
		case "gap_windows", "repair_deadline_timestamp_seconds", "suspect_windows", "upstream_delayed", "scopes", "refused_scopes", "complete_until_timestamp_seconds":
			t.Errorf("%s has %d series", name, len(f.GetMetric()))
		}
	}
	if seen == 0 {
		t.Error("no weir_collector_leader")
	}
}
