package plan_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// A zone that was paused two hours ago, everything of it final: its next window
// would have fallen due long ago and never will. Waiting for it would make the
// loop go round without a pause.
func TestNothingFallsDueOfAScopeThatHasEnded(t *testing.T) {
	five := dataset("http_5m", 5*time.Minute, 10)
	ended := want(five, zone(1), noon.Add(-2*time.Hour), time.Hour)
	if p := plan.Make(noon, []plan.Want{ended}, state{}, plan.DefaultCeilings); p.Next != 0 || len(p.Requests) != 0 {
		t.Errorf("next at %s with %d requests, want never and none", p.Next, len(p.Requests))
	}
	living := want(five, zone(2), noon, time.Hour)
	if p := plan.Make(noon, []plan.Want{ended, living}, state{}, plan.DefaultCeilings); p.Next != noon.Add(5*time.Minute) {
		t.Errorf("next at %s, want when the living zone's next window falls due", p.Next)
	}
}
