package inquiry

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/exposer/internal/statuspage"
)

// oracle answers every question about coverage alike.
type oracle struct {
	Collector

	answer *bucketv1.GetCoverageResponse
	asked  int
}

func (o *oracle) GetCoverage(context.Context, *bucketv1.GetCoverageRequest, ...grpc.CallOption) (*bucketv1.GetCoverageResponse, error) {
	o.asked++
	return o.answer, nil
}

// However large the answers are, those that are kept are bounded, and the newest is kept.
func TestKeptAnswersAreBounded(t *testing.T) {
	for _, test := range []struct{ size, kept int }{{0, kept}, {keptBytes / 4, 4}, {keptBytes + 1, 1}} {
		synctest.Test(t, func(t *testing.T) {
			o := &oracle{answer: &bucketv1.GetCoverageResponse{Coverages: []*bucketv1.Coverage{{Dataset: string(make([]byte, max(0, test.size-32)))}}}}
			d := New(o, time.Now, slog.New(slog.DiscardHandler))
			ask := func(page int) {
				c := d.Coverage(t.Context(), []*bucketv1.ScopeInfo{{Scope: &bucketv1.Scope{Id: fmt.Sprint(page)}}}, "", statuspage.Range{}, time.Hour)
				if c.Err != nil || c.Response != o.answer {
					t.Errorf("page %d is answered with %v", page, c.Err)
				}
			}
			for page := range kept + 8 {
				ask(page)
			}
			if len(d.covered) != test.kept {
				t.Errorf("of answers of %d bytes %d are kept, want %d", proto.Size(o.answer), len(d.covered), test.kept)
			}
			before := o.asked
			ask(kept + 7)
			if o.asked != before {
				t.Errorf("the newest answer of %d bytes was not kept", proto.Size(o.answer))
			}
		})
	}
}
