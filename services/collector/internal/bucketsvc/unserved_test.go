package bucketsvc_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/store"
)

// twoZones is a status source that knows two zones.
type twoZones struct{ noStatus }

func (twoZones) Coverage(context.Context, store.Filter, bucket.Window) (all []*bucketv1.Coverage, _ time.Time, _ error) {
	for n := range 2 {
		all = append(all, &bucketv1.Coverage{Dataset: "http_5m", Scope: wire.ProtoScope(feedtest.Zone(n))})
	}
	return all, feedtest.T0, nil
}

// Coverage names what became final too late for an age, of each series and inside the
// range that is asked for, and only where it is asked for.
func TestCoverageNamesWhatWasNeverServed(t *testing.T) {
	span := func(from, to int) bucket.Window {
		start := bucket.TimeOf(feedtest.T0)
		return bucket.Window{Start: start.Add(time.Duration(from) * 5 * time.Minute), End: start.Add(time.Duration(to) * 5 * time.Minute)}
	}
	st := &stub{unserved: []store.Run{
		{Dataset: "http_5m", Scope: feedtest.Zone(0), Window: span(0, 3)},
		{Dataset: "http_5m", Scope: feedtest.Zone(0), Window: span(6, 12)},
		{Dataset: "http_5m", Scope: feedtest.Zone(7), Window: span(0, 3)}, // nobody's
		{Dataset: "dns_5m", Scope: feedtest.Zone(1), Window: span(0, 3)},
	}}
	inBubble(t, st, twoZones{}, bucketsvc.Limits{}, func(b *bench) {
		ranges := func(within time.Duration, asked bucket.Window) (out []string) {
			req := &bucketv1.GetCoverageRequest{StartUnixSeconds: int64(asked.Start), EndUnixSeconds: int64(asked.End)}
			if within != 0 {
				req.ServedWithin = durationpb.New(within)
			}
			answer, err := b.rpc.GetCoverage(b.Context(), req)
			if err != nil {
				b.Fatal(err)
			}
			for n, c := range answer.GetCoverages() {
				for _, r := range c.GetUnserved() {
					first := span(0, 0).Start
					out = append(out, fmt.Sprint(n, " ", bucket.Time(r.GetStartUnixSeconds()).Sub(first), " ", bucket.Time(r.GetEndUnixSeconds()).Sub(first)))
				}
			}
			return out
		}
		for _, tc := range []struct {
			within time.Duration
			asked  bucket.Window
			want   []string
		}{
			{0, bucket.Window{}, nil},
			{24 * time.Hour, bucket.Window{}, []string{"0 0s 15m0s", "0 30m0s 1h0m0s"}},
			{24 * time.Hour, span(1, 8), []string{"0 5m0s 15m0s", "0 30m0s 40m0s"}},
		} {
			if diff := cmp.Diff(tc.want, ranges(tc.within, tc.asked)); diff != "" {
				b.Errorf("within %s of %s (-want +got):\n%s", tc.within, tc.asked, diff)
			}
		}
		_, err := b.rpc.GetCoverage(b.Context(), &bucketv1.GetCoverageRequest{ServedWithin: durationpb.New(-time.Second)})
		b.wantError(err, codes.InvalidArgument, "BAD_REQUEST")
	})
}
