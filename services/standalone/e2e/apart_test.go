package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// While time stands still, nothing that anybody asks of Weir makes it ask
// Cloudflare (G6).
func TestNothingThatIsAskedOfWeirAsksCloudflare(t *testing.T) {
	t.Parallel()
	still := clock.NewManual(time.Now().UTC())
	w := &world{t: t, began: still.Now(), clock: still}
	w.simulate(time.Hour, nil)
	served, data := address(t), address(t)
	w.startCollector("collector", "", served)
	w.startExposer("exposer", data, served)
	testkit.Eventually(t, func() error {
		status, _, body, err := fetch("http://" + data + "/metrics")
		if err != nil {
			return err
		}
		if status != 200 || len(body) < 10_000 {
			return fmt.Errorf("/metrics: %d, %d bytes", status, len(body))
		}
		return nil
	})
	// The loop now waits for a time that does not come: it has recorded that
	// it is up to date as of now, and does so only at the end of a pass.
	testkit.Eventually(t, func() error {
		_, header, _, err := fetch("http://" + data + "/metrics")
		if err != nil {
			return err
		}
		if age := header.Get("X-Weir-Age-Seconds"); age != "0" {
			return fmt.Errorf("the view is %s s old", age)
		}
		return nil
	})
	before := w.sim.Counters()
	asked := before.GraphQL + before.REST
	conn, err := grpc.NewClient(served, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	service := bucketv1.NewBucketServiceClient(conn)
	for range 5 {
		for _, path := range []string{"/", "/metrics", "/metrics?replay_hours=1", "/backfill?hours=2", "/cloudflare/backfill?hours=1", "/-/ready", "/-/healthy", "/nothing"} {
			get(t, "http://"+data+path)
		}
		for _, ops := range w.ops {
			for _, path := range []string{"/", "/metrics", "/-/ready", "/-/healthy"} {
				get(t, "http://"+ops+path)
			}
		}
		for name, call := range map[string]func() error{
			"ListDatasets": func() error { _, err := service.ListDatasets(t.Context(), &bucketv1.ListDatasetsRequest{}); return err },
			"ListScopes":   func() error { _, err := service.ListScopes(t.Context(), &bucketv1.ListScopesRequest{}); return err },
			"GetCoverage":  func() error { _, err := service.GetCoverage(t.Context(), &bucketv1.GetCoverageRequest{}); return err },
			"GetStatus":    func() error { _, err := service.GetStatus(t.Context(), &bucketv1.GetStatusRequest{}); return err },
			"WatchBuckets": func() error {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				stream, err := service.WatchBuckets(ctx, &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Snapshot{Snapshot: &bucketv1.SnapshotRequest{}}})
				if err == nil {
					_, err = stream.Recv()
				}
				return err
			},
		} {
			if err := call(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if c := w.sim.Counters(); c.GraphQL+c.REST != asked {
		t.Errorf("%d requests reached Cloudflare meanwhile", c.GraphQL+c.REST-asked)
	}
}
