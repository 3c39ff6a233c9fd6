package plan

import (
	"slices"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// Hour simulates the hour of which [Need] counts the requests. It calls pass for each plan, with the
// requests that each want would need alone.
func Hour(wants []Want, c Ceilings, pass func(p Plan, alone [][]Request)) {
	short := slices.DeleteFunc(slices.Clone(wants), func(w Want) bool { return w.Dataset.Size > time.Hour })
	hour(short, time.Minute, c, func(now bucket.Time, s *steady, p Plan) {
		var alone [][]Request
		for i := range s.wants {
			if r := Make(now, s.wants[i:i+1], s, c).Requests; len(r) > 0 {
				alone = append(alone, r)
			}
		}
		pass(p, alone)
	})
}
