package plan_test

import (
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// Wants of two groups share no request, however their scopes follow one another; those
// of one still do.
func TestGroupsShareNoRequest(t *testing.T) {
	http, now := dataset("http_5m", 5*time.Minute, 1), noon.Add(5*time.Minute)
	var wants []plan.Want
	for i := range 12 {
		w := want(http, zone(i), now, 24*time.Hour, 0, 100)
		w.Group = i % 2
		wants = append(wants, w)
	}
	p := plan.Make(now, wants, state{}, plan.DefaultCeilings)
	check(t, p, `
fresh zones=6 http_5m/rollup[-5,5)
fresh zones=6 http_5m/rollup[-5,5)
repair zones=6 http_5m/rollup[-505,-500)
repair zones=6 http_5m/rollup[-505,-500)
`)
	group := map[string]int{}
	for i, w := range wants {
		group[w.Scope.ID] = i % 2
	}
	for _, r := range p.Requests {
		for _, sc := range r.Scopes {
			if group[sc.ID] != group[r.Scopes[0].ID] {
				t.Errorf("a request asks scopes of two groups: %v", r.Scopes)
			}
		}
	}
}
