package inquiry

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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

// full is a collector whose answers about more than some scopes do not fit into a message.
type full struct {
	Collector

	fits  int
	zones []*bucketv1.ScopeInfo
	asked []int // the number of scopes of each question
}

func (f *full) GetCoverage(_ context.Context, req *bucketv1.GetCoverageRequest, _ ...grpc.CallOption) (*bucketv1.GetCoverageResponse, error) {
	scopes := req.GetFilter().GetScopes()
	if req.GetFilter() == nil {
		for _, z := range f.zones {
			scopes = append(scopes, z.GetScope())
		}
	}
	f.asked = append(f.asked, len(scopes))
	if len(scopes) > f.fits {
		return nil, status.Error(codes.InvalidArgument, "filter: the response has 20000000 bytes")
	}
	m := &bucketv1.GetCoverageResponse{}
	for _, sc := range scopes {
		m.Coverages = append(m.Coverages, &bucketv1.Coverage{Dataset: "http_5m", Scope: sc, HorizonUnixSeconds: 1})
	}
	return m, nil
}

// A survey whose answer is too large for a message is made in parts, and none of it is lost.
func TestSurveyInParts(t *testing.T) {
	for _, test := range []struct {
		fits  int
		asked string
		known bool
	}{{100, "[100]", true}, {30, "[100 50 25 25 50 25 25]", true}, {0, "[100 50 25 12 6 3 1]", false}} {
		synctest.Test(t, func(t *testing.T) {
			f := &full{fits: test.fits}
			for i := range 100 {
				f.zones = append(f.zones, &bucketv1.ScopeInfo{
					Scope: &bucketv1.Scope{Id: fmt.Sprint(i)}, Entitlements: []*bucketv1.Entitlement{{Dataset: "http_5m", Variant: "full"}}, EndUnixSeconds: 600,
				})
			}
			a := statuspage.Answer{At: time.Now(), Scopes: f.zones, Datasets: []*bucketv1.DatasetVersion{{Dataset: "http_5m", SizeSeconds: 300}}}
			r := statuspage.NewRange("replay", time.Hour, time.Now())
			got := New(f, time.Now, slog.New(slog.DiscardHandler)).Survey(t.Context(), a, r, time.Hour, true)
			if asked := fmt.Sprint(f.asked); asked != test.asked || (got.Err == nil) != test.known || (got.Found != nil) != test.known {
				t.Errorf("if %d zones fit, %s are asked for (%v), want %s", test.fits, asked, got.Err, test.asked)
			}
		})
	}
}
