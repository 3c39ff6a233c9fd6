package bucketsvc_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"google.golang.org/grpc"
)

// BenchmarkFanOut appends one window of 20 zones and waits until each of 100
// streams has it: store, feed, server, 100 HTTP/2 streams and 100 readers, in
// one process. ns/op is per window; the metric beside it per delivered entry.
func BenchmarkFanOut(b *testing.B) {
	const streams, zones = 100, 20
	r := newRig(b, bucketsvc.Limits{})
	rpc := bucketv1.NewBucketServiceClient(r.conn)
	head, err := r.store.Head(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var arrived sync.WaitGroup // of one window on all streams
	for range streams {
		s, err := rpc.WatchBuckets(b.Context(), &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Resume{
			Resume: wire.ResumePoint(head.StoreID, head.Position),
		}})
		if err != nil {
			b.Fatal(err)
		}
		go read(s, zones, arrived.Done)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		arrived.Add(streams)
		entries := make([]feedtest.Entry, zones)
		for z := range entries {
			entries[z] = feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(z), n)}
		}
		r.append(b, feedtest.T0.Add(time.Duration(n)*time.Second), entries...)
		arrived.Wait()
		n++
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*zones*streams), "ns/delivery")
	if encoded := r.feed.Stats().Encoded; encoded != uint64(n*zones) {
		b.Errorf("%d entries were encoded %d times", n*zones, encoded)
	}
}

// read calls done after every n entries until the stream ends.
func read(s grpc.ServerStreamingClient[bucketv1.WatchBucketsResponse], n int, done func()) {
	for got := 0; ; {
		m, err := s.Recv()
		if err != nil {
			return // the end of the benchmark
		}
		if m.GetEntry() == nil {
			continue
		}
		if got++; got%n == 0 {
			done()
		}
	}
}

// BenchmarkBytesPerSample says what a sample costs on the wire, before TLS and
// HTTP/2, for the shapes that the default datasets have. The time is that of
// making the frame around the stored payload.
func BenchmarkBytesPerSample(b *testing.B) {
	shapes := map[string]func() []bucket.Rows{
		"one total": func() []bucket.Rows {
			return []bucket.Rows{{Family: "cloudflare_zone_unique_visitors", Values: []float64{1234}}}
		},
		"six totals and ten status codes": func() []bucket.Rows {
			var rows []bucket.Rows
			for _, f := range []string{"requests", "bytes", "cached_requests", "encrypted_requests", "page_views", "threats"} {
				rows = append(rows, bucket.Rows{Family: "cloudflare_zone_" + f, Values: []float64{123456}})
			}
			by := bucket.Rows{Family: "cloudflare_zone_requests_by_status"}
			for i := range 10 {
				by.Labels, by.Values = append(by.Labels, fmt.Sprint(200+i)), append(by.Values, 1000)
			}
			return append(rows, by)
		},
		"two breakdowns of 21 countries": func() []bucket.Rows {
			var rows []bucket.Rows
			for _, f := range []string{"requests", "bytes"} {
				by := bucket.Rows{Family: "cloudflare_zone_" + f + "_by_country"}
				for i := range 21 {
					by.Labels, by.Values = append(by.Labels, fmt.Sprintf("%c%c", 'A'+i, 'A'+i)), append(by.Values, 1000)
				}
				rows = append(rows, by)
			}
			return rows
		},
	}
	for name, shape := range shapes {
		b.Run(name, func(b *testing.B) {
			x := feedtest.Bucket("http_5m", feedtest.Zone(1), 100)
			x.Families = shape()
			payload := wire.EncodeBucket(x)
			p := bucket.Position{Revision: 1_000_000}
			b.ReportAllocs()
			var frame []byte
			for b.Loop() {
				frame = wire.Frame(p, feedtest.T0, bucket.KindBucket, payload)
			}
			b.ReportMetric(float64(len(frame))/float64(x.Len()), "bytes/sample")
		})
	}
}
