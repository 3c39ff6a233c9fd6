package history

import (
	"context"
	"fmt"
	"iter"
	"time"

	"google.golang.org/grpc"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/sample"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// Query selects stored buckets: the windows of the datasets that lie entirely inside the
// range. No scopes: all.
type Query struct {
	Datasets []string
	Scopes   []bucket.Scope
	Range    bucket.Window
	Restated bool // the newest restatement instead of a bucket that has one
}

// Bucket is a stored bucket with its samples.
type Bucket struct {
	*bucket.Bucket
	Definition  *bucket.Definition
	CommittedAt time.Time
	Restated    bool
	// Second: another scope has a bucket of the same window under the same labels, and
	// came before this one. Of one series only one sample can have the time, so only the
	// first has samples.
	Second bool
	// Sets are the samples. Valid until the next bucket.
	Sets []sample.Set
}

// Buckets yields buckets in ascending order of dataset, window start and scope. Stored
// buckets that cannot be read are passed to unreadable, with the reason, and are not
// yielded. An error is the last pair.
func (s *Store) Buckets(ctx context.Context, q Query, unreadable func(error)) iter.Seq2[*Bucket, error] {
	request := &bucketv1.ListBucketsRequest{
		Filter:           &bucketv1.Filter{Datasets: q.Datasets},
		StartUnixSeconds: max(1, int64(q.Range.Start)), EndUnixSeconds: int64(q.Range.End), AsRestated: q.Restated,
	}
	for _, scope := range q.Scopes {
		request.Filter.Scopes = append(request.Filter.Scopes, wire.ProtoScope(scope))
	}
	return func(yield func(*Bucket, error) bool) {
		if q.Range.Empty() {
			return
		}
		var (
			out     Bucket
			seen    = map[labels]bool{}
			dataset string
			start   bucket.Time
		)
		for m, err := range client.List(ctx, listConn{s.conn}, request, client.ListOptions{}) {
			if err != nil {
				yield(nil, err)
				return
			}
			e, err := wire.Entry(m)
			if err == nil && e.Bucket == nil {
				err = fmt.Errorf("the collector cannot read the stored content of revision %d", m.GetRevision())
			}
			if err != nil {
				unreadable(err)
				continue
			}
			b := e.Bucket
			if b.Dataset != dataset || b.Start != start {
				dataset, start = b.Dataset, b.Start
				clear(seen)
			}
			out = Bucket{Bucket: b, Definition: s.Definition(b.Dataset, b.Version), CommittedAt: e.CommittedAt, Restated: e.Kind == bucket.KindRestatement, Sets: out.Sets[:0]}
			if out.Definition == nil {
				yield(nil, fmt.Errorf("bucket %s was stored under version %d of the dataset after this command began: run it again", b.Key, b.Version))
				return
			}
			own := labels{b.Zone, b.Account}
			if out.Second = seen[own]; !out.Second {
				seen[own] = true
				if out.Sets, err = sample.Append(out.Sets, b, out.Definition, s.Info.Stamp); err != nil {
					unreadable(err)
					continue
				}
			}
			if !yield(&out, nil) {
				return
			}
		}
	}
}

type labels struct{ zone, account string }

// listConn decodes lists with [wire.UnmarshalList], which takes a fraction of the time.
type listConn struct{ grpc.ClientConnInterface }

func (c listConn) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.ClientConnInterface.NewStream(ctx, d, method, append(opts, grpc.ForceCodecV2(listCodec{}))...)
}
