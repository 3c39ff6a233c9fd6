package client_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"time"

	"github.com/weir-metrics/weir/client"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/durationpb"
)

// totals keeps the newest requests of each zone. It is all that a consumer
// has to write: no cursor file, no duplicate check, no reconnecting.
type totals struct {
	next, shown map[string]float64 // next is under construction inside a snapshot
	stop        context.CancelFunc
}

func (t *totals) SnapshotBegin(*bucketv1.StoreInfo) { t.next = map[string]float64{} }
func (t *totals) Info(*bucketv1.StoreInfo)          {}

func (t *totals) Entry(e *bucketv1.Entry) error {
	b := e.GetBucket()
	if b == nil {
		return nil // a definition, or something that this consumer does not use
	}
	for _, f := range b.GetFamilies() {
		if f.GetFamily() == "cloudflare_zone_requests" {
			t.next[b.GetZone()] = f.GetValues()[0]
		}
	}
	return nil
}

func (t *totals) SnapshotEnd(p *bucketv1.ResumePoint, _ time.Time) {
	t.shown = t.next // whole, at once
	fmt.Println("snapshot at revision", p.GetRevision(), t.shown)
}

func (t *totals) Progress(p *bucketv1.ResumePoint, upTo time.Time) {
	fmt.Println("revision", p.GetRevision(), "complete up to", upTo.Format(time.TimeOnly), t.shown)
	if p.GetRevision() == 3 {
		t.stop() // a service would go on for ever
	}
}

func (t *totals) Disconnected(err error, retryIn time.Duration) {
	log.Printf("stream lost (%s), again in %s: %v", client.Reason(err), retryIn, err)
}

func ExampleFollower() {
	// grpc.NewClient("dns:///collector:9820", grpc.WithConnectParams(…), …): the
	// package's comment says why.
	conn, closeAll := collector()
	defer closeAll()

	follower, err := client.New(conn, client.Options{
		Filter:   &bucketv1.Filter{Datasets: []string{"http_5m"}},
		Snapshot: &bucketv1.SnapshotRequest{MaxAge: durationpb.New(time.Hour), MaxWindows: 1},
	})
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	if err := follower.Run(ctx, &totals{stop: stop}); err != nil {
		log.Fatal(err)
	}
	// Output:
	// snapshot at revision 2 map[example.com:100]
	// revision 3 complete up to 00:15:00 map[example.com:120]
}

// collector stands for a real one: two windows of one zone, the second of which
// becomes final after the snapshot.
func collector() (conn *grpc.ClientConn, closeAll func()) {
	l := bufconn.Listen(1 << 16)
	s := grpc.NewServer()
	bucketv1.RegisterBucketServiceServer(s, &recorded{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); err != nil {
			log.Print(err)
		}
	}()
	conn, err := grpc.NewClient("passthrough:///collector",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		log.Fatal(err)
	}
	return conn, func() {
		_ = conn.Close()
		s.Stop()
		<-done
	}
}
