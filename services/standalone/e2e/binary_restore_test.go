package e2e

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-metrics/weir/client"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
)

// A store comes back from an older backup and goes on with other entries under
// revisions that were used before. An exposer that followed the lost history
// notices, says so, and ends with the new one alone; nobody can resume behind
// the point where the two part (G4).
func TestBinaryFollowsARestoredStore(t *testing.T) {
	t.Parallel()
	for _, driver := range []struct {
		name string
		// open returns the settings of a new store, and what saves it and
		// brings back what was saved while no collector runs.
		open func(t *testing.T) (settings []string, save, restore func())
	}{
		{"SQLite", copiedFile},
		{"Postgres", dumpedDatabase},
	} {
		t.Run(driver.name, func(t *testing.T) {
			t.Parallel()
			sim := simulate(t, nil)
			settings, save, restore := driver.open(t)
			c := sim.startCollector(t, settings...)
			x := startExposerBinary(t, nil, c)
			sim.showsTruth(t, c, x, true)
			c.stop(5 * time.Second)
			save()

			// What will be lost: one more dataset.
			c.again("WEIR_DATASETS=methods_1h")
			c.ready()
			common := oldest(t, c)
			headAfter(t, c, "methods_1h")
			lost := newestOf(t, c, "methods_1h")
			shows(t, x, "cloudflare_zone_requests_by_method", "")
			c.stop(5 * time.Second)
			restore()

			// What comes instead: two others, so that the old head is passed.
			c.again("WEIR_DATASETS=hosts_1h,colos_1h")
			c.ready()
			testkit.Eventually(t, 20*time.Second, func() error {
				head := headAfter(t, c, "hosts_1h", "colos_1h")
				if head.GetRevision() <= lost.GetRevision() || head.GetStoreId() != lost.GetStoreId() {
					return fmt.Errorf("the restored store is at revision %d of %s, and %d of %s was lost: the test has no subject yet",
						head.GetRevision(), head.GetStoreId(), lost.GetRevision(), lost.GetStoreId())
				}
				return nil
			})
			shows(t, x, "cloudflare_zone_requests_by_colo", "cloudflare_zone_requests_by_method")
			if n := x.log.Count("view replaced by a snapshot"); n < 2 {
				t.Errorf("the exposer's log has %d replacements of its view, want the first and one for the new history", n)
			}
			if n := x.log.Count("history of the store changed"); n < 1 {
				t.Error("the exposer's log does not say that the history changed")
			}
			if n := x.metric(`weir_exposer_stream_disconnects_total{reason="HISTORY_CHANGED"}`) +
				x.metric(`weir_exposer_stream_disconnects_total{reason="FUTURE_REVISION"}`); n < 1 {
				t.Errorf("weir_exposer_stream_disconnects_total counts %v changes of history, want at least 1", n)
			}
			fresh := startExposerBinary(t, nil, c)
			fresh.ready()
			sameBytes(t, x.data, fresh.data)

			// A reader of the lost entries is told; one of the common ones goes on.
			if err := resumed(t, c, lost); status.Code(err) != codes.FailedPrecondition || client.Reason(err) != client.ReasonHistoryChanged {
				t.Errorf("resuming at lost revision %d: %v, want FAILED_PRECONDITION with reason %s", lost.GetRevision(), err, client.ReasonHistoryChanged)
			}
			if err := resumed(t, c, common); err != nil {
				t.Errorf("resuming at common revision %d: %v", common.GetRevision(), err)
			}
		})
	}
}

// copiedFile is a SQLite store that is saved by copying its file.
func copiedFile(t *testing.T) (settings []string, save, restore func()) {
	file := filepath.Join(t.TempDir(), "weir.db")
	transfer := func(from, to string) {
		t.Helper()
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		// A stopped collector has put everything into the file.
		if left, err := filepath.Glob(file + "-*"); err != nil || len(left) != 0 {
			t.Fatalf("beside the file of a stopped collector there is %q (%v)", left, err)
		}
		testkit.WriteFile(t, to, content)
	}
	return []string{"WEIR_SQLITE_FILE=" + file},
		func() { t.Helper(); transfer(file, file+".backup") },
		func() { t.Helper(); transfer(file+".backup", file) }
}

// dumpedDatabase is a Postgres store that is saved with pg_dump and brought
// back with psql.
func dumpedDatabase(t *testing.T) (settings []string, save, restore func()) {
	t.Helper()
	dsn := pgtest.DSN(t)
	program, err := exec.LookPath("pg_dump")
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump") // the pattern is well-formed
		if len(found) == 0 {
			t.Fatal("no pg_dump on this machine: install Postgres's client (Debian: apt-get install postgresql-client)")
		}
		program = found[len(found)-1]
	}
	var backup string
	return []string{"WEIR_DATABASE_URL=" + withPassword(t, dsn), "WEIR_MIGRATE=true"},
		func() {
			t.Helper()
			o := complete(t, command(t, program, nil, "--no-password", "--dbname="+dsn))
			if o.code != 0 || len(o.stdout) == 0 {
				t.Fatalf("pg_dump: exit code %d: %s", o.code, o.stderr)
			}
			backup = o.stdout
		},
		func() {
			t.Helper()
			// Into an empty schema: what pg_dump --clean would drop, it cannot
			// drop one by one from partitions.
			pgtest.Exec(t, dsn, "DROP SCHEMA public CASCADE; CREATE SCHEMA public;\n"+backup)
		}
}

// oldest is the position of the first entry in the collector's snapshot, a
// dataset version: those come before everything else.
func oldest(t *testing.T, c *service) *bucketv1.ResumePoint {
	t.Helper()
	entries, at := snapshot(t, c, 0)
	return positionOf(entries[0], at)
}

// newestOf is the place of the newest stored bucket of a dataset.
func newestOf(t *testing.T, c *service, dataset string) *bucketv1.ResumePoint {
	t.Helper()
	entries, at := snapshot(t, c, 48*time.Hour, dataset)
	newest := slices.MaxFunc(entries, func(a, b *bucketv1.Entry) int { return cmp.Compare(a.GetRevision(), b.GetRevision()) })
	if newest.GetBucket() == nil {
		t.Fatalf("the newest entry of %s is no bucket", dataset)
	}
	return positionOf(newest, at)
}

// headAfter waits until the datasets are collected, and returns the head.
func headAfter(t *testing.T, c *service, datasets ...string) *bucketv1.ResumePoint {
	t.Helper()
	rpc, _ := api(t, c)
	var head *bucketv1.ResumePoint
	testkit.Eventually(t, 20*time.Second, func() error {
		answer, err := rpc.GetStatus(t.Context(), &bucketv1.GetStatusRequest{})
		if err != nil {
			return err
		}
		head = answer.GetHead()
		for _, id := range datasets {
			collected := false
			for _, d := range answer.GetDatasets() {
				collected = collected || d.GetDataset() == id && d.GetNewestEndUnixSeconds() > 0
			}
			if !collected {
				return fmt.Errorf("nothing of %s is final", id)
			}
		}
		return nil
	})
	return head
}

// shows waits until the exposer shows one family, and not another. After
// several cuts in a row it may be half a minute late.
func shows(t *testing.T, x *service, family, gone string) {
	t.Helper()
	testkit.Eventually(t, 40*time.Second, func() error {
		body, err := page("http://" + x.data + "/metrics")
		if err != nil {
			return err
		}
		if !strings.Contains(body, "\n"+family+"{") {
			return fmt.Errorf("/metrics has no %s", family)
		}
		if gone != "" && strings.Contains(body, gone) {
			return fmt.Errorf("/metrics still has %s", gone)
		}
		return nil
	})
}

// resumed is how a watch that resumes at a point begins: nil when entries
// follow that continue it.
func resumed(t *testing.T, c *service, at *bucketv1.ResumePoint) error {
	t.Helper()
	var next *bucketv1.Entry
	err := watchUntil(t, c, &bucketv1.WatchBucketsRequest{Start: &bucketv1.WatchBucketsRequest_Resume{Resume: at}}, func(m *bucketv1.WatchBucketsResponse) bool {
		next = m.GetEntry()
		return next != nil
	})
	if err == nil && (next.GetRevision() != at.GetRevision()+1 || bytes.Equal(next.GetChain(), at.GetChain())) {
		err = errors.New("the entry after the resume point does not follow it")
	}
	return err
}
