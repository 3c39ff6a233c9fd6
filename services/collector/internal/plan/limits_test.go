package plan_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// The plan's widest range binds where the page would allow more, also when
// scopes with wider ranges are asked along.
func TestARangeStaysUnderThePlansDuration(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	narrow, wide := want(http, zone(0), now, 24*time.Hour), want(http, zone(1), now, 24*time.Hour)
	narrow.Have, wide.Have = nil, nil
	narrow.Limits = plan.Limits{MaxDuration: 90 * time.Minute}
	asked := map[bucket.Scope]bucket.Spans{}
	for _, r := range plan.Make(now, []plan.Want{narrow, wide}, state{}, plan.DefaultCeilings).Requests {
		for _, s := range r.Selections {
			for _, z := range r.Scopes {
				if z == zone(0) && s.Window.Len() > 90*time.Minute {
					t.Errorf("%s asks %s of a zone that answers ranges up to 90 minutes", r.Lane, s.Window)
				}
				asked[z] = asked[z].Add(s.Window)
			}
		}
	}
	for _, w := range []plan.Want{narrow, wide} {
		if !asked[w.Scope].Contains(w.Window) {
			t.Errorf("of %s %v is asked, want the whole of %s", w.Scope.ID, asked[w.Scope], w.Window)
		}
	}
}
