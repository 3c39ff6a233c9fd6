package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	adminv1 "github.com/weir-metrics/weir/proto/gen/weir/admin/v1"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector/collectortest"
)

// fewRows are so few in one answer that a backfill of some days needs a dozen of them.
const fewRows = 20

// slowly has Cloudflare take so long for each answer about minutes, so that a backfill can
// be met at work, until hurry is called.
func (c *chain) slowly(delay time.Duration) (hurry func()) {
	c.t.Helper()
	id, err := c.sim.Inject(cfsim.Fault{Kind: cfsim.FaultSlow, Dataset: "httpRequests1mGroups", Delay: delay})
	if err != nil {
		c.t.Fatal(err)
	}
	return func() { c.sim.Remove(id) }
}

// follows starts "weir backfill fetch …".
func (c *chain) follows(args ...string) *process {
	c.t.Helper()
	return launch(c.t, "weir backfill fetch", command(c.t, program(c.t, "weir"), c.environment(nil), append(args, "--output", "json")...))
}

// ended is the report of a fetch that has ended well.
func (c *chain) ended(f *process, within time.Duration) *adminv1.Backfill {
	c.t.Helper()
	if status := f.wait(within); status.ExitStatus() != 0 {
		c.t.Fatalf("fetch ended with %s: %s", f.cmd.ProcessState, f.log)
	}
	b := new(adminv1.Backfill)
	if err := protojson.Unmarshal([]byte(f.output.String()), b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

// works waits until the backfill has filled windows and lacks others, and returns it. Its
// counts are of before its present turn.
func (c *chain) works() (b *adminv1.Backfill) {
	c.t.Helper()
	testkit.Eventually(c.t, func() error {
		list := new(adminv1.ListBackfillsResponse)
		c.says(0, list, "backfill", "status")
		if len(list.GetBackfills()) != 1 {
			return fmt.Errorf("there are %d backfills", len(list.GetBackfills()))
		}
		b = list.GetBackfills()[0]
		if b.GetRequests() < 3 {
			return fmt.Errorf("the backfill has sent %d requests, want 3", b.GetRequests())
		}
		return nil
	})
	if b.GetWindows().GetMissing() == 0 {
		c.t.Fatalf("the backfill is done before anything could happen to it: %v", b)
	}
	return b
}

// role is that of a collector; it may be away.
func role(t *testing.T, c *service) (bucketv1.Role, error) {
	t.Helper()
	rpc, _ := api(t, c)
	status, err := rpc.GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
	return status.GetRole(), err
}

func leads(t *testing.T, c *service) {
	t.Helper()
	testkit.Eventually(t, func() error {
		is, err := role(t, c)
		if err == nil && is != bucketv1.Role_ROLE_LEADER {
			err = fmt.Errorf("%s is %s, want the leader", c.data, is)
		}
		return err
	})
}

// The leader ends in the middle of a fetch: it is stopped, killed, or frozen. The fetch, and
// every other command, finds the next one by itself, also where the first address that it
// knows is that of a standby, and ends with a report that is right (G11).
func TestBinaryFetchFollowsTheLeader(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		end  func(c *service)
		all  bool // left to make test-all: its lease expires, or its connection is found dead
	}{
		{"stopped", func(c *service) { c.stop() }, false},
		{"killed", func(c *service) { c.signal(syscall.SIGKILL); c.wait(testkit.Patience) }, true},
		{"frozen", func(c *service) { c.signal(syscall.SIGSTOP) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.all {
				testkit.InAll(t)
			}
			c := newChain(t, 4, fewRows, withPassword(t, pgtest.DSN(t)), enterprise("shop.example", "news.example", "docs.example")...)
			standby, leader := c.collector("collector-0"), c.collector("collector-1")
			leader.again()
			leader.ready()
			leads(t, leader)
			standby.again()
			standby.ready()
			c.planned(false)
			hurry := c.slowly(1500 * time.Millisecond)
			fetch := []*process{c.follows(c.fetch()...)}
			created := c.works()
			for range 4 { // each at a collector of its own choice
				fetch = append(fetch, c.follows("backfill", "fetch", "--resume", created.GetId()))
			}
			c.says(0, created, "backfill", "pause", created.GetId(), "--reason", "lunch", "--requester", "bob")
			c.says(0, created, "backfill", "resume", created.GetId(), "--reason", "lunch is over", "--requester", "bob")
			if created.GetWindows().GetMissing() == 0 {
				t.Fatalf("the backfill was done before its leader ended: %v", created)
			}
			tc.end(leader)
			hurry()
			leads(t, standby)
			for _, f := range fetch {
				done := c.ended(f, 3*time.Minute)
				if done.GetId() != created.GetId() {
					t.Errorf("backfill %s was followed, and %s ended", created.GetId(), done.GetId())
				}
				c.reported(done, 0, 0)
			}
			if tc.name == "frozen" {
				leader.signal(syscall.SIGCONT)
				testkit.Eventually(t, func() error {
					is, err := role(t, leader)
					if err == nil && is != bucketv1.Role_ROLE_STANDBY {
						err = fmt.Errorf("who was frozen is %s", is)
					}
					return err
				})
			}
			again := new(adminv1.RestateResponse)
			c.says(0, again, "restate", "--dataset", chainDataset, "--zone", c.zones[0], "--start", c.start.Format(time.RFC3339), "--end", c.start.Add(time.Hour).Format(time.RFC3339), "--reason", "to be sure", "--requester", "bob")
			if n := len(again.GetWindows()); n != 12 || slices.ContainsFunc(again.GetWindows(), func(w *adminv1.RestatedWindow) bool { return w.GetOutcome() != adminv1.RestatedWindow_OUTCOME_EQUAL }) {
				t.Errorf("restate read %v again, want 12 windows that are equal", again.GetWindows())
			}
			if got, want := c.events(), []string{"BACKFILL_CREATED ada", "BACKFILL_PAUSED bob", "BACKFILL_RESUMED bob", "BACKFILL_DONE", "RESTATED bob"}; !slices.Equal(got, want) {
				t.Errorf("audit events are %q, want %q", got, want)
			}
			if _, filled := c.stored(nil); filled != c.windows() {
				t.Errorf("a backfill stored %d windows; the report says %d", filled, c.windows())
			}
		})
	}
}

// The command, and the collector, are killed in the middle of a fetch at random moments. The
// same command ends it: each window is stored once, nothing that was final is another, and
// the report and the audit events are those of one backfill. The other steps are killed in
// TestBackfillIsContinuedAfterAKill.
func TestBinaryFetchIsContinuedAfterAKill(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	victims := []string{"command", "command"}
	if testkit.All() { // the lease of a collector that is killed lasts
		victims = slices.Repeat([]string{"command", "collector", "command"}, 4)
	}
	c := newChain(t, 4, fewRows, "", enterprise("shop.example", "news.example", "docs.example", "blog.example", "wiki.example")...)
	s := c.collector("collector-0")
	s.again()
	s.ready()
	c.planned(false)
	hurry := c.slowly(500 * time.Millisecond)
	var log []collectortest.Entry
	killed := map[string]int{}
	fetch := c.follows(c.fetch()...)
	for _, victim := range victims {
		leads(t, s)
		timer := time.NewTimer(time.Duration(r.Int64N(int64(1500 * time.Millisecond))))
		select {
		case <-timer.C:
		case <-fetch.exited: // it was done
			timer.Stop()
			c.ended(fetch, 0)
		}
		killed[victim]++
		switch victim {
		case "command":
			fetch.kill()
			fetch = c.follows(c.fetch()...)
		case "collector": // the command waits for the next one
			s.kill()
			log, _ = c.stored(log)
			s.again()
			s.ready()
		}
	}
	hurry()
	c.reported(c.ended(fetch, 2*time.Minute), 0, 0)
	if got, want := c.events(), []string{"BACKFILL_CREATED ada", "BACKFILL_DONE"}; !slices.Equal(got, want) {
		t.Errorf("audit events are %q, want %q", got, want)
	}
	s.stop()
	if _, filled := c.stored(log); filled != c.windows() {
		t.Errorf("a backfill stored %d windows; the report says %d", filled, c.windows())
	}
	t.Logf("killed: %v", killed)
}
