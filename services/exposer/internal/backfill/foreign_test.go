package backfill

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// generous answers with more than was asked for.
type generous struct{ *store }

func (g *generous) ListBuckets(ctx context.Context, req *bucketv1.ListBucketsRequest, o ...grpc.CallOption) (grpc.ServerStreamingClient[bucketv1.ListBucketsResponse], error) {
	wider := &bucketv1.ListBucketsRequest{
		Filter: req.GetFilter(), Families: req.GetFamilies(), PageToken: req.GetPageToken(),
		StartUnixSeconds: 0, EndUnixSeconds: 1 << 40,
	}
	return g.store.ListBuckets(ctx, wider, o...)
}

// A bucket outside the range is an error, at either end: written, it would
// overwrite history that nobody meant.
func TestWhatWasNotAskedForIsNotWritten(t *testing.T) {
	for name, cut := range map[string]func(*Request){
		"before the start": func(r *Request) { r.Range.Start += 300 },
		"after the end":    func(r *Request) { r.Range.End = r.Range.Start + 300 },
	} {
		t.Run(name, func(t *testing.T) {
			s, st := resized(t)
			r := request(t, st, "dataset=http_5m")
			r.Range.Start = s.buckets[4].Start // window 0
			cut(r)
			var out bytes.Buffer
			err := Write(t.Context(), &out, &generous{s}, st, r, clockAt, nil)
			if err == nil || !strings.Contains(err.Error(), "was not requested") || strings.Contains(out.String(), "# EOF") {
				t.Errorf("error is %v after\n%s", err, out.String())
			}
		})
	}
}
