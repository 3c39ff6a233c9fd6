package bucketsvc_test

import (
	"context"
	"testing"
	"time"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/internal/bucketsvc"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"google.golang.org/protobuf/types/known/durationpb"
)

// busy is a store in which somebody commits as soon as a snapshot has been read.
type busy struct {
	store.Store
	then func()
}

func (b *busy) Snapshot(ctx context.Context, q store.SnapshotQuery, emit func(store.Entry) error) (store.Head, error) {
	head, err := b.Store.Snapshot(ctx, q, emit)
	b.then()
	return head, err
}

// What is committed between the snapshot and the stream behind it is in the
// stream: there is no hole (G4).
func TestNothingFallsBetweenSnapshotAndStream(t *testing.T) {
	r := newRig(t, bucketsvc.Limits{})
	r.append(t, feedtest.T0, feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)})
	r.append(t, feedtest.T0, feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(0), 0)})
	r.progress(t, feedtest.T0)
	r.store.set(&busy{Store: r.store.get(), then: func() {
		r.append(t, feedtest.T0.Add(time.Minute), feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(0), 1)})
		// The feed has it before the stream begins.
		for r.feed.Stats().Head < 3 {
			time.Sleep(time.Millisecond)
		}
	}}, r.store.path())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stream, err := bucketv1.NewBucketServiceClient(r.conn).WatchBuckets(ctx, &bucketv1.WatchBucketsRequest{
		Start: &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(24 * time.Hour)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var ended bool
	for {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case m.GetSnapshotEnd() != nil:
			ended = true
			if at := m.GetSnapshotEnd().GetPoint().GetRevision(); at != 2 {
				t.Fatalf("the snapshot stands at revision %d, want 2", at)
			}
		case ended && m.GetEntry() != nil:
			if at := bucket.Revision(m.GetEntry().GetRevision()); at != 3 {
				t.Fatalf("revision %d came first after the snapshot, want 3", at)
			}
			return
		case ended && m.GetProgress().GetPoint().GetRevision() > 2:
			t.Fatal("progress covers an entry that never came")
		}
	}
}

// Window starts of which nothing can be read do not count among the newest so many:
// to whoever had the older ones from the stream they are still among them, and
// equal revisions give equal bytes (G5). It takes a second try where nobody knew.
func TestASnapshotReachesBackBeyondWhatCannotBeRead(t *testing.T) {
	r := newRig(t, bucketsvc.Limits{})
	r.append(t, feedtest.T0, feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)})
	for i := range 8 {
		r.append(t, feedtest.T0, feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(0), i)})
	}
	head, err := r.store.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spoilt := store.Batch{CommittedAt: feedtest.T0}
	for i := 8; i < 11; i++ {
		e := newEntry(feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(0), i)})
		e.Payload = []byte("no message at all")
		if i == 9 { // a message, and no bucket that a reader takes
			b := feedtest.Bucket("http_5m", feedtest.Zone(0), i)
			b.Zone = ""
			e.Payload = wire.EncodeBucket(b)
		}
		spoilt.Entries = append(spoilt.Entries, e)
	}
	if _, err := r.store.get().Append(t.Context(), r.term, head.Position, spoilt); err != nil {
		t.Fatal(err)
	}
	r.progress(t, feedtest.T0)
	snapshot := func() (readable int, err error) {
		stream, err := bucketv1.NewBucketServiceClient(r.conn).WatchBuckets(t.Context(), &bucketv1.WatchBucketsRequest{
			Start: &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(24 * time.Hour), MaxWindows: 5}},
		})
		if err != nil {
			return 0, err
		}
		for {
			m, err := stream.Recv()
			switch {
			case err != nil:
				return 0, err
			case m.GetSnapshotEnd() != nil:
				return readable, nil
			case m.GetEntry().GetBucket() != nil:
				if _, err := wire.Bucket(m.GetEntry().GetBucket()); err == nil {
					readable++
				}
			}
		}
	}
	if n, err := snapshot(); client.Reason(err) != client.ReasonBehind {
		t.Errorf("the first snapshot has %d buckets, %v; want reason %s", n, err, client.ReasonBehind)
	}
	if n, err := snapshot(); err != nil || n != 5 {
		t.Errorf("the second snapshot has %d buckets, %v; want the newest 5 that can be read", n, err)
	}
}
