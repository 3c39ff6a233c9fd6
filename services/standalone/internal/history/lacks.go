package history

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Lacking is how many windows the store itself lacks.
type Lacking struct {
	Missing int64 // may still be collected
	Decided int64 // lost, or accepted as missing
}

// young is how long after its end a window may still be on its way into the store.
const young = time.Hour

// Lacks counts the windows of a selection that should be in the store and are not. Windows
// that wait for confirmation, and those of the last hour, are on their way.
func (s *Store) Lacks(ctx context.Context, sel Selection) (Lacking, error) {
	var n Lacking
	groups, err := s.Groups(sel.Datasets)
	if err != nil {
		return n, err
	}
	for _, g := range groups {
		f := &bucketv1.Filter{Datasets: slices.DeleteFunc(slices.Clone(g.Datasets), func(id string) bool {
			return len(sel.Datasets) > 0 && !slices.Contains(sel.Datasets, id)
		})}
		if len(sel.Zones) > 0 {
			for _, sc := range s.ScopesOf(g.Kind, sel.Zones) {
				f.Scopes = append(f.Scopes, wire.ProtoScope(sc.Scope))
			}
			if len(f.Scopes) == 0 {
				continue
			}
		}
		r, err := client.Coverage(ctx, s.conn, f, sel.Range.Start.Std(), sel.Range.End.Std())
		if err != nil {
			return n, err
		}
		for _, span := range r.Lacking {
			d := s.Newest(span.Dataset)
			if d == nil {
				return n, fmt.Errorf("coverage of dataset %s, which the store does not define", span.Dataset)
			}
			end := span.End
			switch span.State {
			case bucketv1.CoverageState_COVERAGE_STATE_LOST, bucketv1.CoverageState_COVERAGE_STATE_ACCEPTED:
				n.Decided += windows(span.Start, end, d.Size)
			case bucketv1.CoverageState_COVERAGE_STATE_MISSING:
				if last := bucket.TimeOf(r.AsOf.Add(-young)).Floor(d.Size).Std(); end.After(last) {
					end = last
				}
				n.Missing += windows(span.Start, end, d.Size)
			}
		}
	}
	return n, nil
}

func windows(start, end time.Time, size time.Duration) int64 {
	return max(0, int64(end.Sub(start)/size))
}
