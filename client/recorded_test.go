package client_test

import (
	"time"

	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// recorded plays one stream.
type recorded struct {
	bucketv1.UnimplementedBucketServiceServer
}

func (*recorded) WatchBuckets(_ *bucketv1.WatchBucketsRequest, ss grpc.ServerStreamingServer[bucketv1.WatchBucketsResponse]) error {
	midnight := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	at := func(d time.Duration) *timestamppb.Timestamp { return timestamppb.New(midnight.Add(d)) }
	point := func(revision uint64) *bucketv1.ResumePoint {
		return &bucketv1.ResumePoint{StoreId: "recorded", Revision: revision, Chain: []byte{byte(revision)}}
	}
	requests := func(revision uint64, window time.Duration, n float64) *bucketv1.Entry {
		return &bucketv1.Entry{
			Revision: revision, Chain: point(revision).GetChain(), CommittedAt: at(window + 10*time.Minute),
			Kind: &bucketv1.Entry_Bucket{Bucket: &bucketv1.Bucket{
				Dataset: "http_5m", DatasetVersion: 1, Zone: "example.com", Account: "Example",
				Scope:            &bucketv1.Scope{Kind: bucketv1.ScopeKind_SCOPE_KIND_ZONE, Id: "0123456789abcdef0123456789abcdef"},
				StartUnixSeconds: midnight.Add(window).Unix(), SizeSeconds: 300,
				Families: []*bucketv1.FamilyRows{{Family: "cloudflare_zone_requests", Values: []float64{n}}},
			}},
		}
	}
	definition := &bucketv1.Entry{
		Revision: 1, Chain: point(1).GetChain(), CommittedAt: at(0),
		Kind: &bucketv1.Entry_DatasetVersion{DatasetVersion: &bucketv1.DatasetVersion{Dataset: "http_5m", Version: 1}},
	}
	for _, m := range []*bucketv1.WatchBucketsResponse{
		{Event: &bucketv1.WatchBucketsResponse_Info{Info: &bucketv1.StoreInfo{StoreId: "recorded"}}},
		{Event: &bucketv1.WatchBucketsResponse_Entry{Entry: definition}},
		{Event: &bucketv1.WatchBucketsResponse_Entry{Entry: requests(2, 0, 100)}},
		{Event: &bucketv1.WatchBucketsResponse_SnapshotEnd{SnapshotEnd: &bucketv1.SnapshotEnd{Point: point(2), ProgressTime: at(10 * time.Minute), Buckets: 1}}},
		{Event: &bucketv1.WatchBucketsResponse_Entry{Entry: requests(3, 5*time.Minute, 120)}},
		{Event: &bucketv1.WatchBucketsResponse_Progress{Progress: &bucketv1.Progress{Point: point(3), ProgressTime: at(15 * time.Minute)}}},
	} {
		if err := ss.Send(m); err != nil {
			return err
		}
	}
	<-ss.Context().Done()
	return ss.Context().Err()
}
