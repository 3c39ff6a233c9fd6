package view_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// BenchmarkIngest takes a snapshot of 100 zones and 12 windows, then one window
// more whose buckets are confirmed one by one: from messages to published states.
func BenchmarkIngest(b *testing.B) {
	var snapshot, live []*bucketv1.Entry
	for n := range 13 {
		for zone := range 100 {
			entry := &bucketv1.Entry{Revision: uint64(2 + len(snapshot) + len(live)), Chain: make([]byte, 16), Kind: &bucketv1.Entry_Bucket{
				Bucket: wire.ProtoBucket(feedtest.Bucket("http_5m", feedtest.Zone(zone), n)),
			}}
			if n < 12 {
				snapshot = append(snapshot, entry)
			} else {
				live = append(live, entry)
			}
		}
	}
	point := func(revision uint64) *bucketv1.ResumePoint {
		return wire.ResumePoint("test", bucket.Position{Revision: bucket.Revision(revision)})
	}
	b.ReportAllocs()
	for b.Loop() {
		f := feed(slog.New(slog.DiscardHandler), 24*time.Hour)
		f.clock.Set(at(14))
		f.SnapshotBegin(info(end))
		if err := f.Ingest.Entry(&bucketv1.Entry{Revision: 1, Kind: &bucketv1.Entry_DatasetVersion{DatasetVersion: wire.ProtoDefinition(feedtest.Definition("http_5m", 1))}}); err != nil {
			b.Fatal(err)
		}
		for _, e := range snapshot {
			if err := f.Ingest.Entry(e); err != nil {
				b.Fatal(err)
			}
		}
		f.SnapshotEnd(point(uint64(1+len(snapshot))), at(14))
		for _, e := range live {
			if err := f.Ingest.Entry(e); err != nil {
				b.Fatal(err)
			}
			f.Ingest.Progress(point(e.GetRevision()), at(14))
		}
		if f.published != 1+len(live) || f.State().Samples != 13*100*3 || f.rejected > 0 {
			b.Fatalf("%d states, %d samples, %d rejected", f.published, f.State().Samples, f.rejected)
		}
	}
}
