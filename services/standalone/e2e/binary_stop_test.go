package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// A collector is stopped and killed at moments when it collects, and started
// again on the same store. One reader follows through all of it and gets every
// entry once; the exposer shows its view throughout; in the end what is shown
// is what happened (G2, G4).
func TestBinaryStopsLoseNothing(t *testing.T) {
	t.Parallel()
	for _, driver := range []struct {
		name  string
		seed  uint64
		store func(t *testing.T) []string
	}{
		{"SQLite", 1, func(*testing.T) []string { return nil }}, // a file is the default
		{"Postgres", 2, func(t *testing.T) []string {
			return []string{"WEIR_DATABASE_URL=" + withPassword(t, pgtest.DSN(t)), "WEIR_MIGRATE=true"}
		}},
	} {
		t.Run(driver.name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(driver.seed, 0))
			sim := simulate(t, nil)
			// Slow answers make the history last for seconds, so that the
			// signals come in its middle.
			if _, err := sim.Inject(cfsim.Fault{Kind: cfsim.FaultSlow, Path: "/graphql", Delay: 150 * time.Millisecond}); err != nil {
				t.Fatal(err)
			}
			c := sim.startCollector(t, append(driver.store(t), "WEIR_INITIAL_LOOKBACK=16h", "WEIR_BUDGET_SHARE=100%")...)
			x := startExposerBinary(t, nil, c)
			log := follow(t, c)

			shown := uint64(0)
			for _, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL, syscall.SIGTERM} {
				at := log.revision()
				testkit.Eventually(t, func() error {
					if log.revision() == at {
						return fmt.Errorf("no entry after revision %d", at)
					}
					_, err := x.shows() // a first view, with the first collector
					return err
				})
				moment := time.Duration(rng.Int64N(int64(300 * time.Millisecond)))
				time.Sleep(moment) // the moment is the test's input, not a wait for something
				t.Logf("%s at revision %d, %s later", how, log.revision(), moment.Round(time.Millisecond))
				if how == syscall.SIGKILL {
					c.signal(how)
					c.wait(testkit.Patience)
				} else {
					c.stop() // the drain time is 2 s
				}
				// The view of the exposer stays, and never goes back. It may
				// be old: after several cuts in a row an exposer waits for
				// some seconds before it looks for its collector again.
				now, err := x.shows()
				if err != nil || now < shown {
					t.Errorf("the exposer shows revision %d (%v) without its collector, and showed %d before", now, err, shown)
				}
				shown = now
				c.again()
				c.ready()
			}
			sim.ClearFaults()
			sim.showsTruth(t, c, x)
			log.whole(t, c)
			testkit.Eventually(t, func() error { // its longest pause is 30 s
				shown, err := x.shows()
				if err == nil && shown < log.revision() {
					err = fmt.Errorf("the exposer shows revision %d of %d", shown, log.revision())
				}
				return err
			})
			if n := x.metric("weir_exposer_stream_disconnects_total"); n < 2 {
				t.Errorf("the exposer counted %v disconnections, want 2 at least", n)
			}
			c.stop()
			if shown, err := x.shows(); err != nil || shown < log.revision() {
				t.Errorf("without its collector the exposer shows revision %d (%v), want %d at least", shown, err, log.revision())
			}
		})
	}
}

// shows is the revision of the exposer's view.
func (s *service) shows() (uint64, error) {
	response, err := http.Head("http://" + s.data + "/metrics")
	if err != nil {
		return 0, err
	}
	if err := response.Body.Close(); err != nil {
		return 0, err
	}
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("the exposer answers %s", response.Status)
	}
	return strconv.ParseUint(response.Header.Get("X-Weir-Revision"), 10, 64)
}

// recorder is a reader of the log from its first entry on.
type recorder struct{ diary }

// follow records what a collector streams, across its restarts.
func follow(t *testing.T, c *service) *recorder {
	t.Helper()
	_, conn := api(t, c)
	return record(t, conn)
}

// record records what comes over a connection, and over those that follow it.
func record(t *testing.T, conn *grpc.ClientConn) *recorder {
	t.Helper()
	rpc := bucketv1.NewBucketServiceClient(conn)
	r := &recorder{}
	var info *bucketv1.StoreInfo
	testkit.Eventually(t, func() error {
		answer, err := rpc.GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
		info = answer.GetInfo()
		return err
	})
	follower, err := client.New(conn, client.Options{
		Resume:  &bucketv1.ResumePoint{StoreId: info.GetStoreId()}, // before the first entry
		Backoff: client.Backoff{Min: 10 * time.Millisecond, Max: 100 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- follower.Run(ctx, r) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, w := range r.wrong {
			t.Error(w)
		}
	})
	return r
}

func (r *recorder) revision() uint64 {
	entries, _, _ := r.sofar()
	return uint64(len(entries))
}

func key(b *bucketv1.Bucket) string {
	return fmt.Sprintf("%s %s %d", b.GetDataset(), b.GetScope().GetId(), b.GetStartUnixSeconds())
}

func (r *recorder) Disconnected(err error, _ time.Duration) {
	switch reason := client.Reason(err); {
	case reason == client.ReasonDraining, status.Code(err) == codes.Unavailable: // told so, or cut off
	default:
		r.mu.Lock()
		defer r.mu.Unlock()
		r.accuse("the stream ended with %v", err)
	}
}

// whole compares what was streamed with what the store has: the same entries,
// at the same revisions, no window twice.
func (r *recorder) whole(t *testing.T, c *service) {
	t.Helper()
	rpc, _ := api(t, c)
	answer, err := rpc.GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	head := answer.GetHead().GetRevision()
	testkit.Eventually(t, func() error {
		if at := r.revision(); at < head {
			return fmt.Errorf("the reader is at revision %d of %d", at, head)
		}
		return nil
	})
	stored := list(t, rpc, &bucketv1.ListBucketsRequest{StartUnixSeconds: 1, EndUnixSeconds: time.Now().Unix()})
	entries, _, _ := r.sofar()
	keys, buckets := map[string]uint64{}, 0
	for _, e := range entries {
		if e.GetBucket() == nil {
			continue
		}
		k := key(e.GetBucket())
		if other, twice := keys[k]; twice {
			t.Errorf("window %s is in the log twice, at revisions %d and %d", k, other, e.GetRevision())
		}
		keys[k] = e.GetRevision()
		buckets++
	}
	for _, e := range stored {
		if e.GetRevision() <= head && keys[key(e.GetBucket())] != e.GetRevision() {
			t.Errorf("%s is stored at revision %d and was streamed at %d", key(e.GetBucket()), e.GetRevision(), keys[key(e.GetBucket())])
		}
	}
	if len(stored) < buckets {
		t.Errorf("%d buckets are stored, %d were streamed", len(stored), buckets)
	}
	t.Logf("%d entries streamed once each, %d of them buckets", len(entries), buckets)
}

// list reads a whole ListBuckets.
func list(t *testing.T, rpc bucketv1.BucketServiceClient, request *bucketv1.ListBucketsRequest) []*bucketv1.Entry {
	t.Helper()
	stream, err := rpc.ListBuckets(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	var out []*bucketv1.Entry
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, m.GetEntry())
	}
}

// SIGHUP, which operators send for a reload, ends no service: each says that there
// is nothing to do, also while it drains.
func TestBinariesGoOnAfterAHangup(t *testing.T) {
	t.Parallel()
	sim := simulate(t, nil)
	c := sim.startCollector(t)
	x := startExposerBinary(t, []string{"WEIR_DRAIN=2s"}, c)
	x.ready()
	data, ops := address(t), address(t)
	w := launch(t, "weir", command(t, program(t, "weir"), nil, "run", "--simulate",
		"--exposer-listen", data, "--exposer-ops-listen", ops, "--collector-ops-listen", address(t)))
	testkit.Eventually(t, func() error { _, err := page("http://" + data + "/-/ready"); return err })
	for _, p := range []*process{c.process, x.process, w} {
		p.signal(syscall.SIGHUP)
		p.says("level=INFO", "SIGHUP has no effect")
	}
	c.ready()
	x.ready()
	x.signal(syscall.SIGTERM)
	testkit.Eventually(t, func() error {
		if code, _, body := get(t, "http://"+x.data+"/-/ready"); code != http.StatusServiceUnavailable {
			return fmt.Errorf("readiness says %d %s after SIGTERM", code, body)
		}
		return nil
	})
	x.signal(syscall.SIGHUP)
	if end := x.wait(testkit.Patience); !end.Exited() || end.ExitStatus() != 0 {
		t.Errorf("the exposer ended with %s after SIGTERM and SIGHUP, want exit status 0", x.cmd.ProcessState)
	}
	w.stop()
	c.stop()
}
