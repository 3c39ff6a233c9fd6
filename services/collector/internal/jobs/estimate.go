package jobs

import (
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/ledger"
	"github.com/weir-metrics/weir/services/collector/internal/plan"
)

// untouched is the state of windows that were never requested.
type untouched struct{}

// Again implements [plan.State].
func (untouched) Again(string, bucket.Scope, bucket.Time) bucket.Time { return 0 }

// Read implements [plan.State].
func (untouched) Read(string, bucket.Scope, bucket.Time) bool { return false }

// Series implements [Ready].
func (untouched) Series(*Series) bool { return true }

// Window implements [Ready].
func (untouched) Window(*Series, bucket.Time) bool { return true }

// Requests is how many requests the job's windows need by group, if none fails. It makes the
// pages and plans that the loop would make, and uses up the work.
func (w *Work) Requests() map[int]int {
	of := map[int]int{}
	for {
		wants := w.Page(untouched{})
		if len(wants) == 0 {
			return of
		}
		p := plan.Make(w.now, wants, untouched{}, plan.DefaultCeilings)
		group := make(map[bucket.Scope]int, len(wants))
		for i := range wants {
			group[wants[i].Scope] = wants[i].Group
		}
		for _, r := range p.Requests {
			of[group[r.Scopes[0]]]++
		}
		done := make(map[ledger.Series]bucket.Window, len(wants))
		for i := range wants {
			done[ledger.Series{Dataset: wants[i].Dataset.Dataset, Scope: wants[i].Scope}] = wants[i].Window
		}
		for _, p := range w.series {
			if window, ok := done[p.Of()]; ok {
				p.Wanted = p.Wanted.Remove(window)
			}
		}
	}
}

// Rows is how many rows the missing windows will have, given the mean of a series.
func (w *Work) Rows(mean func(ledger.Series) float64) uint64 {
	var rows float64
	w.Missing(func(s *Series, wanted, regular bucket.Spans) {
		rows += mean(s.Of()) * float64(windows(wanted, s.Dataset.Size)+windows(regular, s.Dataset.Size))
	})
	return uint64(rows + .5)
}

// Duration is how long requests take if so many may be sent in a span, and one takes about
// a second.
func Duration(requests, most int, span time.Duration) time.Duration {
	if requests <= 0 {
		return 0
	}
	most = max(1, most)
	full := (requests - 1) / most
	return time.Duration(full)*span + time.Duration(requests-full*most)*time.Second
}
