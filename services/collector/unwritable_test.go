package collector_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/weir-metrics/weir/internal/cfsim"
	"github.com/weir-metrics/weir/internal/cfsim/cfsimtest"
	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
	"github.com/weir-metrics/weir/services/collector/collectortest"
)

// speed of the calendar in these tests: a minute between two attempts is two
// seconds.
const speed = 30

// held lets no query through to Cloudflare until it is opened, and no list either if all is
// set.
type held struct {
	next http.RoundTripper
	all  bool
	open chan struct{}
	once sync.Once
}

func (h *held) release() { h.once.Do(func() { close(h.open) }) }

// RoundTrip implements [http.RoundTripper].
func (h *held) RoundTrip(r *http.Request) (*http.Response, error) {
	if !h.all && !strings.HasSuffix(r.URL.Path, "/graphql") {
		return h.next.RoundTrip(r)
	}
	select {
	case <-h.open:
		return h.next.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// member is one collector of several on a database.
type member struct {
	t    *testing.T
	logs *testkit.Logs
	data string // address
	ops  string
	stop func()
}

// world is a simulated Cloudflare that is held back at first.
type world struct {
	clock clock.Clock
	gate  *held
	open  func(context.Context) (collector.Store, error) // nil: the configured database
}

func newWorld(t *testing.T, account string) *world {
	t.Helper()
	clk := clock.Chasing(time.Now().Add(-12*time.Hour), speed)
	conf := cfsim.Demo(clk, 1)
	conf.Accounts[1].Name = account
	w := &world{clock: clk, gate: &held{next: cfsimtest.Transport(cfsimtest.New(t, conf)), all: true, open: make(chan struct{})}}
	t.Cleanup(w.gate.release)
	return w
}

func (w *world) join(t *testing.T, environ ...string) *member {
	t.Helper()
	config, err := load(append([]string{"WEIR_DRAIN=100ms"}, environ...)...)
	if err != nil {
		t.Fatal(err)
	}
	config.Token = cli.NewSecret(cfsim.DemoToken)
	return run(t, config, collector.Deps{Clock: w.clock, BudgetClock: w.clock, Transport: w.gate, OpenStore: w.open})
}

// run runs a collector until the test ends.
func run(t *testing.T, config collector.Config, deps collector.Deps) *member {
	t.Helper()
	log, logs := testkit.RecordingLogger(t)
	data, ops := testkit.Listen(t), testkit.Listen(t)
	deps.Logger, deps.GRPC, deps.Ops = log, data, ops
	c, err := collector.New(t.Context(), config, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	m := &member{t: t, logs: logs, data: data.Addr().String(), ops: "http://" + ops.Addr().String()}
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(m.stop)
	return m
}

func (m *member) get(path string) (int, string) {
	m.t.Helper()
	r, err := http.Get(m.ops + path)
	if err != nil {
		m.t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.StatusCode, string(body)
}

// shows reports whether the page of metrics has a line.
func (m *member) shows(line string) bool {
	_, page := m.get("/metrics")
	return strings.Contains(page, "\n"+line+"\n")
}

func (m *member) serving() healthv1.HealthCheckResponse_ServingStatus {
	m.t.Helper()
	conn, err := grpc.NewClient("dns:///"+m.data, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		m.t.Fatal(err)
	}
	defer conn.Close()
	r, err := healthv1.NewHealthClient(conn).Check(m.t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		m.t.Fatal(err)
	}
	return r.GetStatus()
}

// leads waits until the member leads.
func (m *member) leads() {
	m.t.Helper()
	testkit.Eventually(m.t, func() error {
		if !m.shows("weir_collector_leader 1") {
			return errors.New("it does not lead")
		}
		return nil
	})
}

// suffers waits until every signal tells of a store that cannot be written.
func (m *member) suffers(reason string) {
	m.t.Helper()
	testkit.Eventually(m.t, func() error {
		code, body := m.get("/-/ready")
		switch {
		case code != http.StatusServiceUnavailable || !strings.Contains(body, "cannot be written") || !strings.Contains(body, "remedy: "):
			return fmt.Errorf("readiness is %d, %s", code, body)
		case !m.shows("weir_collector_store_writable 0"):
			return errors.New("weir_collector_store_writable is not 0")
		case !m.shows(`weir_collector_problems{code="STORE_NOT_WRITABLE"} 1`):
			return errors.New("there is no lasting problem")
		case m.serving() != healthv1.HealthCheckResponse_NOT_SERVING:
			return errors.New("the health service says that it serves")
		}
		return nil
	})
	if n := m.logs.Count("level=WARN msg=\"the store cannot be written\""); n != 1 {
		m.t.Errorf("%d warnings, want 1", n)
	}
	if m.logs.Count("reason="+reason) == 0 {
		m.t.Errorf("no line has the reason %s", reason)
	}
	if n := m.logs.Count("level=ERROR msg=\"the store cannot be written"); n != 1 {
		m.t.Errorf("%d errors, want 1", n)
	}
}

// mended waits until no signal tells of it, and buckets are stored.
func (m *member) mended(admin string) {
	m.t.Helper()
	testkit.Within(m.t, 3*time.Minute, func() error {
		if n := pgtest.Exec(m.t, admin, `SELECT count(*) > 100 FROM bucket`); n != "t" {
			return errors.New("there are not 100 buckets yet")
		}
		code, body := m.get("/-/ready")
		switch {
		case code != http.StatusOK:
			return fmt.Errorf("readiness is %d, %s", code, body)
		case !m.shows("weir_collector_store_writable 1"), !m.shows(`weir_collector_problems{code="STORE_NOT_WRITABLE"} 0`):
			return errors.New("the metrics tell of trouble still")
		}
		return nil
	})
}

// TestUnwritableStore: whatever keeps a database from being written, until
// somebody mends it, is told by log, metrics, readiness and health of the process
// that found it out; the leader keeps the lease where the database lets it, the
// standby does not take over to fail alike, and when it is mended everything is
// stored without a restart.
func TestUnwritableStore(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	pgtest.Exec(t, server.Local(server.DSN()), `CREATE ROLE weir_writer LOGIN`)
	for name, c := range map[string]struct {
		reason      string
		harm, mend  string // SQL
		leaderless  bool   // nobody can take the lease
		metric      string // of appends
		disconnects bool   // sessions that exist are not concerned
	}{
		"read-only": {
			reason: "read_only", leaderless: true, disconnects: true,
			harm: `ALTER DATABASE %s SET default_transaction_read_only = on`, mend: `ALTER DATABASE %s RESET default_transaction_read_only`,
		},
		"lost right": {
			reason: "denied", metric: "denied",
			harm: `REVOKE INSERT ON bucket, record FROM weir_writer`, mend: `GRANT INSERT ON bucket, record TO weir_writer`,
		},
		"lost right to permits": {
			reason: "denied",
			harm:   `REVOKE INSERT ON permit FROM weir_writer`, mend: `GRANT INSERT ON permit TO weir_writer`,
		},
		"missing table": {
			reason: "schema", metric: "schema",
			harm: `ALTER TABLE record RENAME TO record_gone`, mend: `ALTER TABLE record_gone RENAME TO record`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := server.DSN()
			admin := server.Local(dsn)
			database := pgtest.Exec(t, admin, `SELECT current_database()`)
			if code, said := migrate(t, []string{"WEIR_DATABASE_URL=" + dsn}, "--grant-writer=weir_writer"); code != 0 {
				t.Fatal(said)
			}
			act := func(sql string) {
				if strings.Contains(sql, "%s") {
					sql = fmt.Sprintf(sql, database)
				}
				pgtest.Exec(t, admin, `SET default_transaction_read_only = off; `+sql)
				if c.disconnects {
					pgtest.Exec(t, admin, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'weir_writer' AND datname = current_database()`)
				}
			}
			w := newWorld(t, "Example Labs")
			w.gate.all = false // the token is accepted, so that collectors are ready before
			url := "WEIR_DATABASE_URL=" + strings.Replace(dsn, "postgres@", "weir_writer@", 1)
			leader := w.join(t, url, "WEIR_COLLECTOR_NAME=first")
			leader.leads()
			standby := w.join(t, url, "WEIR_COLLECTOR_NAME=second")
			testkit.Eventually(t, func() error {
				if pgtest.Exec(t, admin, `SELECT count(*) > 0 FROM event`) != "t" {
					return errors.New("no dataset is stored yet")
				}
				return nil
			})
			leader.readiness(http.StatusOK, "is ready")
			standby.readiness(http.StatusOK, "is ready")
			before := pgtest.Exec(t, admin, `SELECT term, holder FROM log`)

			act(c.harm)
			w.gate.release()
			leader.suffers(c.reason)
			if c.metric != "" && leader.shows(fmt.Sprintf("weir_collector_append_failures_total{reason=%q} 0", c.metric)) {
				t.Error("no append is counted as failed")
			}
			if c.leaderless {
				standby.suffers(c.reason)
			} else {
				if now := pgtest.Exec(t, admin, `SELECT term, holder FROM log`); now != before {
					t.Errorf("the lease was given away: %s before, %s now", before, now)
				}
				if code, body := standby.get("/-/ready"); code != http.StatusOK || standby.logs.Count("msg=leading") > 0 {
					t.Errorf("the standby took over, or is not ready: %d, %s", code, body)
				}
			}
			if n := leader.logs.Count("level=INFO msg=\"no longer leading\"") + standby.logs.Count("level=INFO msg=\"no longer leading\""); n > 0 {
				t.Errorf("%d terms ended at INFO", n)
			}

			act(c.mend)
			leader.mended(admin)
			if !c.leaderless {
				if now := pgtest.Exec(t, admin, `SELECT term, holder FROM log`); now != before {
					t.Errorf("the lease was given away: %s before, %s now", before, now)
				}
			}
			standby.mended(admin)
		})
	}
}

// TestFullDisk: the same for a disk without space.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	server, disk, err := pgtest.StartOnDisk(t, 256<<20, "shared_buffers=16MB", "wal_recycle=off", "min_wal_size=32MB")
	if errors.Is(err, pgtest.ErrNoMount) {
		t.Skip(err)
	}
	dsn := server.DSN()
	admin := server.Local(dsn)
	w := newWorld(t, "Example Labs")
	m := w.join(t, "WEIR_DATABASE_URL="+dsn, "WEIR_MIGRATE=true")
	m.leads()
	disk.Fill()
	w.gate.release()
	testkit.Eventually(t, func() error {
		server.Revive()
		if code, body := m.get("/-/ready"); code == http.StatusOK {
			return errors.New(body)
		}
		if !m.shows("weir_collector_store_writable 0") {
			return errors.New("weir_collector_store_writable is not 0")
		}
		return nil
	})
	disk.Free()
	server.Revive()
	m.mended(admin)
}

// TestEncoding: a new store in a database that is not UTF8 is refused, by migrate
// and at start, with the commands that mend it.
func TestEncoding(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		t.Run(encoding, func(t *testing.T) {
			dsn := server.DSN()
			admin := server.Local(dsn)
			name := strings.ToLower(encoding)
			pgtest.Exec(t, admin, fmt.Sprintf(`CREATE DATABASE %s TEMPLATE template0 ENCODING '%s' LOCALE 'C'`, name, encoding))
			wrong := "WEIR_DATABASE_URL=" + dsn[:strings.LastIndex(dsn, "/")+1] + name + "?sslmode=disable"
			refused := func(what, said string) {
				t.Helper()
				for _, want := range []string{"has encoding " + encoding, "it must be UTF8", `CREATE DATABASE "` + name + `_utf8" TEMPLATE template0 ENCODING 'UTF8'`, "pg_dump", "WEIR_DATABASE_URL"} {
					if !strings.Contains(said, want) {
						t.Errorf("%s does not say %q: %s", what, want, said)
					}
				}
			}
			code, said := migrate(t, []string{wrong})
			refused("migrate", said)
			if code == 0 {
				t.Error("migrate succeeds")
			}
			// A schema that got there in another way.
			if code, said := migrate(t, []string{"WEIR_DATABASE_URL=" + dsn}); code != 0 {
				t.Fatal(said)
			}
			pgtest.Exec(t, admin, `UPDATE pg_database SET encoding = pg_char_to_encoding('`+encoding+`') WHERE datname = current_database()`)
			name = pgtest.Exec(t, admin, `SELECT current_database()`)
			config, err := load("WEIR_DATABASE_URL=" + dsn)
			if err != nil {
				t.Fatal(err)
			}
			_, err = collector.New(t.Context(), config, collector.Deps{Logger: testkit.Logger(t)})
			refused("start", fmt.Sprint(err))
			code, said = migrate(t, []string{"WEIR_DATABASE_URL=" + dsn})
			refused("migrate of what is migrated", said)
			if code == 0 {
				t.Error("migrate of what is migrated succeeds")
			}
		})
	}
}

// TestAValueThatTheEncodingCannotHold costs itself: everything else is stored, and
// it too when the database can hold it.
func TestAValueThatTheEncodingCannotHold(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		t.Run(encoding, func(t *testing.T) {
			t.Parallel()
			dsn := server.DSN()
			admin := server.Local(dsn)
			w := newWorld(t, "Кошка\u2028") // the separator is written as an escape, which ASCII has no character for
			url := []string{"WEIR_DATABASE_URL=" + dsn, "WEIR_MIGRATE=true"}
			m := w.join(t, url...)
			m.leads()
			testkit.Eventually(t, func() error {
				if pgtest.Exec(t, admin, `SELECT count(*) > 0 FROM event`) != "t" {
					return errors.New("no dataset is stored yet")
				}
				return nil
			})
			// A store that is in use in such a database, as earlier releases let it be.
			encode := func(encoding string) {
				pgtest.Exec(t, admin, `UPDATE pg_database SET encoding = pg_char_to_encoding('`+encoding+`') WHERE datname = current_database()`)
				pgtest.Exec(t, admin, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'weir-collector' AND datname = current_database()`)
			}
			m.stop()
			encode(encoding)
			m = w.join(t, url...) // starts
			m.leads()
			if !m.shows(`weir_collector_problems{code="STORE_NOT_WRITABLE"} 1`) {
				t.Error("that the encoding is wrong is no lasting problem")
			}
			w.gate.release()
			testkit.Eventually(t, func() error {
				if pgtest.Exec(t, admin, `SELECT count(*) > 100 FROM bucket`) != "t" {
					return errors.New("there are not 100 buckets yet")
				}
				if !m.shows(`weir_collector_problems{code="INVALID_VALUE"} 4`) {
					return errors.New("the four zones of the account are no lasting problem")
				}
				return nil
			})
			if n := pgtest.Exec(t, admin, `SELECT count(*) FROM record WHERE kind = 'scope'`); n != "4" {
				t.Errorf("%s zones are on record, want the 4 of the other account", n)
			}
			if m.shows(`weir_collector_append_failures_total{reason="encoding"} 0`) || !m.shows("weir_collector_store_writable 1") {
				t.Error("no append is counted as failed, or the whole store as not writable")
			}
			if code, body := m.get("/-/ready"); code != http.StatusOK {
				t.Errorf("it is not ready for one value: %s", body)
			}
			encode("UTF8")
			testkit.Eventually(t, func() error {
				if n := pgtest.Exec(t, admin, `SELECT count(*) FROM record WHERE kind = 'scope'`); n != "8" {
					return fmt.Errorf("%s zones are on record, want 8", n)
				}
				if !m.shows(`weir_collector_problems{code="INVALID_VALUE"} 0`) {
					return errors.New("the problem lasts")
				}
				return nil
			})
		})
	}
}

// TestOneNameForTwo: of two collectors that were given one name one leads, the
// other stands by and says what is wrong.
func TestOneNameForTwo(t *testing.T) {
	t.Parallel()
	dsn := pgtest.DSN(t)
	w := newWorld(t, "Example Labs")
	environ := []string{"WEIR_DATABASE_URL=" + dsn, "WEIR_MIGRATE=true", "WEIR_COLLECTOR_NAME=twin"}
	first := w.join(t, environ...)
	first.leads()
	second := w.join(t, environ...)
	testkit.Eventually(t, func() error {
		if !second.shows(`weir_collector_problems{code="LEASE_CONTESTED"} 1`) {
			return errors.New("nobody tells of it")
		}
		return nil
	})
	if n := first.logs.Count("no longer leading") + second.logs.Count("msg=leading"); n != 0 {
		t.Errorf("they deposed each other, %d times", n)
	}
	if n := second.logs.Count("level=ERROR"); n != 1 {
		t.Errorf("%d errors, want 1", n)
	}
	if holder := pgtest.Exec(t, dsn, `SELECT holder FROM lease_view`); !strings.HasPrefix(holder, "twin~") {
		t.Errorf("the holder is %s, which does not show its name", holder)
	}
	first.stop()
	second.leads()
	testkit.Eventually(t, func() error {
		if !second.shows(`weir_collector_problems{code="LEASE_CONTESTED"} 0`) {
			return errors.New("the problem lasts")
		}
		return nil
	})
}

// damaged is a gate behind which records cannot be read while it is shut.
type damaged struct{ shut atomic.Bool }

func (d *damaged) Before(ctx context.Context, op collectortest.Op) (context.Context, error) {
	if d.shut.Load() && op.Name == "Records" {
		return ctx, collectortest.ErrCorrupt
	}
	return ctx, nil
}

func (*damaged) After(context.Context, collectortest.Op) error { return nil }

// TestADamagedStore: a leader that cannot go on from what is stored says so, is
// not ready, and does not try every three seconds for ever.
func TestADamagedStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "Example Labs")
	real, err := collector.OpenTemporary(t.Context(), collector.Config{SampleTimestamp: "end"}, collector.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	shared, gate := collectortest.Share(real, clock.System()), &damaged{}
	gate.shut.Store(true)
	w.open = func(context.Context) (collector.Store, error) { return shared.Guard(gate), nil }
	m := w.join(t)
	t.Cleanup(func() { m.stop(); _ = real.Close() })
	testkit.Eventually(t, func() error {
		code, body := m.get("/-/ready")
		switch {
		case code != http.StatusServiceUnavailable || !strings.Contains(body, "cannot be read"):
			return fmt.Errorf("readiness is %d, %s", code, body)
		case !m.shows(`weir_collector_problems{code="STORE_UNREADABLE"} 1`):
			return errors.New("there is no lasting problem")
		case m.logs.Count("no longer leading") < 3:
			return errors.New("it has not tried three times")
		}
		return nil
	})
	if told, info := m.logs.Count("level=ERROR msg=\"no longer leading\""), m.logs.Count("level=INFO msg=\"no longer leading\""); told != 1 || info != 0 {
		t.Errorf("told %d times at ERROR, %d at INFO; want 1 and 0", told, info)
	}
	gate.shut.Store(false)
	w.gate.release()
	m.leads()
	testkit.Eventually(t, func() error {
		if code, body := m.get("/-/ready"); code != http.StatusOK {
			return fmt.Errorf("readiness is %d, %s", code, body)
		}
		return nil
	})
}
