package collector_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/wire"
	bucketv1 "github.com/weir-metrics/weir/proto/gen/weir/bucket/v1"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/totals"
)

// After a restore counters begin at zero by a command that leaves an audit event, on both
// databases, and not while a collector leads (G10, G11).
func TestCountersRestart(t *testing.T) {
	t.Parallel()
	for name, environ := range map[string][]string{
		"SQLite":   {"WEIR_SQLITE_FILE=" + filepath.Join(t.TempDir(), "weir.db")},
		"Postgres": {"WEIR_DATABASE_URL=" + pgtest.DSN(t), "WEIR_MIGRATE=true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			restart := func(args ...string) (int, string) {
				var out bytes.Buffer
				p := cli.Program{Name: "collector", Commands: collector.Commands(), Environ: environ, Stdout: &out, Stderr: &out}
				code := p.Main(t.Context(), append([]string{"counters", "restart"}, args...))
				return code, out.String()
			}
			open := func() collector.Store {
				config, err := load(environ...)
				if err != nil {
					t.Fatal(err)
				}
				s, err := collector.OpenStore(t.Context(), config, collector.Deps{})
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			if err := open().Close(); err != nil { // a store that exists
				t.Fatal(err)
			}
			if code, said := restart("--requester", "ada"); code != cli.ExitUsage || !strings.Contains(said, "--reason") {
				t.Errorf("without a reason: exit code %d, %s", code, said)
			}
			for range 2 {
				if code, said := restart("--requester", "ada", "--reason", "restored the dump of Sunday"); code != cli.ExitOK {
					t.Fatalf("exit code %d, %s", code, said)
				}
			}
			s := open()
			stored, err := totals.Read(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			events, err := s.AuditEvents(t.Context(), 0, 10)
			if err != nil || len(events) != 2 {
				t.Fatalf("%d audit events, %v", len(events), err)
			}
			event, err := wire.AuditEvent(events[0].Payload)
			if err != nil || event.GetAction() != bucketv1.AuditEvent_ACTION_COUNTERS_RESTARTED || event.GetActor() != "ada" ||
				event.GetAfter() != "epoch "+stored.Epoch.ID || !strings.HasPrefix(event.GetBefore(), "epoch ") {
				t.Errorf("the event is %v (%v); the epoch is %s", event, err, stored.Epoch.ID)
			}
			if stored.Epoch.After != events[1].Revision || stored.Position.Revision != events[1].Revision {
				t.Errorf("%+v at %+v, want one after revision %d", stored.Epoch, stored.Position, events[1].Revision)
			}
			// Not under a leader.
			if name == "Postgres" { // a SQLite file that is open is refused by its lock
				if _, err := s.Acquire(t.Context(), store.Holder("collector-0", "x"), time.Minute); err != nil {
					t.Fatal(err)
				}
				if code, said := restart("--requester", "ada", "--reason", "again"); code != cli.ExitError || !strings.Contains(said, "stop all collectors of the store first") {
					t.Errorf("under a leader: exit code %d, %s", code, said)
				}
			} else if code, said := restart("--requester", "ada", "--reason", "again"); code != cli.ExitError || !strings.Contains(said, "in use") {
				t.Errorf("beside a process that has the file: exit code %d, %s", code, said)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}
