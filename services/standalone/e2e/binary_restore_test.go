package e2e

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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

// A store comes back from an older backup, by the commands of docs/operations.md, and goes on
// with other entries under revisions that were used before. An exposer that followed the
// lost history notices, says so, and ends with the new one alone; nobody can resume
// behind the point where the two part (G4).
func TestBinaryFollowsARestoredStore(t *testing.T) {
	t.Parallel()
	for _, driver := range []struct {
		name string
		open func(t *testing.T) *drill
	}{
		{"SQLite", fileDrill},
		{"Postgres", databaseDrill},
	} {
		t.Run(driver.name, func(t *testing.T) {
			t.Parallel()
			sim := simulate(t, nil)
			d := driver.open(t)
			c := sim.startCollector(t, d.settings...)
			x := startExposerBinary(t, nil, c)
			sim.showsTruth(t, c, x)
			epoch := epochOf(t, x, "")
			d.backup()
			c.stop()

			// What will be lost: one more dataset.
			c.again("WEIR_DATASETS=methods_5m")
			c.ready()
			common := oldest(t, c)
			headAfter(t, c, "methods_5m")
			lost := newestOf(t, c, "methods_5m")
			shows(t, x, "cloudflare_zone_requests_by_method", "")
			c.stop()
			restored := d.restore()

			// What comes instead: two others, so that the old head is passed.
			c.again(append(restored, "WEIR_DATASETS=hosts_5m,colos_5m")...)
			c.ready()
			testkit.Eventually(t, func() error {
				head := headAfter(t, c, "hosts_5m", "colos_5m")
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
			after := drillCommands(t, "After a restore", 1)[0]
			out := d.run(strings.NewReplacer("127.0.0.1:9821", c.ops, "127.0.0.1:9811", x.ops).Replace(after))
			if !regexp.MustCompile(`(?m)^weir_exposer_stream_disconnects_total\{reason="(HISTORY_CHANGED|FUTURE_REVISION)"\} [1-9]`).MatchString(out) {
				t.Errorf("the last check after a restore prints no change of history:\n%s", out)
			}
			fresh := startExposerBinary(t, nil, c)
			fresh.ready()
			sameBytes(t, x.data, fresh.data)
			// Counters begin at zero, for the exposer that followed and for a new one (G10).
			if followed, begun := epochOf(t, x, epoch), epochOf(t, fresh, epoch); followed != begun {
				t.Errorf("counters are of epoch %s, and of %s in an exposer that was just started", followed, begun)
			}

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

// drill is the restore drill of docs/operations.md for one store.
type drill struct {
	t        *testing.T
	dir      string   // where its commands run
	env      []string // of its commands
	settings []string // of a collector on the store
	// backup runs while the collector does, restore while none does; it returns what
	// changes in the collector's settings.
	backup  func()
	restore func() []string
}

// drillCommands are the blocks of commands under a heading of docs/operations.md.
func drillCommands(t *testing.T, heading string, want int) (blocks []string) {
	t.Helper()
	_, text, _ := strings.Cut(string(testkit.RepoFile(t, "docs/operations.md")), "\n#### "+heading+"\n")
	text, _, _ = strings.Cut(text, "\n##")
	for _, m := range regexp.MustCompile("(?ms)^ *```sh [^\n]*\n(.*?)^ *```$").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) != want {
		t.Fatalf("docs/operations.md has %d blocks of commands under %q, want %d", len(blocks), heading, want)
	}
	return blocks
}

// run runs commands as they are, and returns what they print.
func (d *drill) run(commands string) string {
	d.t.Helper()
	cmd := exec.Command("sh", "-euc", commands)
	cmd.Dir, cmd.Env = d.dir, d.env
	out, err := cmd.CombinedOutput()
	d.t.Logf("%s%s", commands, out)
	if err != nil {
		d.t.Fatalf("%s: %v", commands, err)
	}
	return string(out)
}

// checks fails unless the output of a check is as the document says.
func (d *drill) checks(commands, want string) {
	d.t.Helper()
	if out := d.run(commands); !regexp.MustCompile(want).MatchString(out) {
		d.t.Errorf("the check of the backup prints\n%s, want %s", out, want)
	}
}

// begins runs the commands that begin counters again.
func (d *drill) begins(commands string) {
	d.t.Helper()
	if out := d.run(commands); !strings.Contains(out, "Counters begin at zero: epoch ") {
		d.t.Errorf("no epoch begins:\n%s", out)
	}
}

// has skips a test that needs a program which this machine has not.
func has(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		testkit.Missing(t, fmt.Sprintf("no %[1]s on this machine (Debian: apt-get install %[1]s)", program))
	}
}

func newDrill(t *testing.T, env ...string) *drill {
	t.Helper()
	has(t, "curl")
	bin := t.TempDir()
	if err := os.Symlink(program(t, "collector"), filepath.Join(bin, "collector")); err != nil {
		t.Fatal(err)
	}
	path := bin + ":" + os.Getenv("PATH")
	// Debian has not all of Postgres's programs in PATH.
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin"); len(found) > 0 { // the pattern is well-formed
		path += ":" + found[len(found)-1]
	}
	return &drill{t: t, dir: t.TempDir(), env: append([]string{"PATH=" + path}, env...)}
}

func fileDrill(t *testing.T) *drill {
	t.Helper()
	has(t, "sqlite3")
	d, commands := newDrill(t), drillCommands(t, "Restore SQLite", 3)
	d.settings = []string{"WEIR_SQLITE_FILE=" + filepath.Join(d.dir, "weir.db")}
	d.backup = func() {
		t.Helper()
		d.run(commands[0])
		d.checks(commands[1], `^ok\n[1-9][0-9]*\n$`)
	}
	again := drillCommands(t, "Begin the counters again", 2)[1]
	d.restore = func() []string { t.Helper(); d.run(commands[2]); d.begins(again); return nil }
	return d
}

func databaseDrill(t *testing.T) *drill {
	t.Helper()
	server := pgtest.Start(t)
	first, err := url.Parse(server.DSN())
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, first.String(), "CREATE DATABASE weir TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
	named := func(name string) string {
		u := *first
		u.Path = "/" + name
		return withPassword(t, u.String())
	}
	d := newDrill(t, "PGHOST="+first.Hostname(), "PGPORT="+first.Port(), "PGUSER="+first.User.Username())
	commands := drillCommands(t, "Restore Postgres", 4)
	d.settings = []string{"WEIR_DATABASE_URL=" + named("weir"), "WEIR_MIGRATE=true"}
	d.backup = func() { t.Helper(); d.run(commands[0]) }
	d.restore = func() []string {
		t.Helper()
		d.run(commands[1])
		d.checks(commands[2], `(?s)head.*\n +[1-9][0-9]* \|.*damaged.*\n +0\n`)
		testkit.WriteFile(t, filepath.Join(d.dir, "restored.url"), []byte(named("weir_restored")))
		d.run(commands[3])
		d.begins(drillCommands(t, "Begin the counters again", 2)[0])
		return []string{"WEIR_DATABASE_URL=" + named("weir_restored"), "WEIR_MIGRATE=false"}
	}
	return d
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
	testkit.Eventually(t, func() error {
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
	testkit.Eventually(t, func() error {
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
