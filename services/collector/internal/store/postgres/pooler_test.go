package postgres_test

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

// TestExamThroughPgBouncer: the whole exam, every statement on whichever
// session PgBouncer picks.
func TestExamThroughPgBouncer(t *testing.T) {
	storetest.Run(t, throughPgBouncer(newPgBouncer(t, transactions, migrated.DSN(t)), true, migrated.DSN))
}

// TestExamThroughSessions: the whole exam once more, through a PgBouncer that
// nobody configured.
func TestExamThroughSessions(t *testing.T) {
	testkit.InAll(t)
	storetest.Run(t, throughPgBouncer(newPgBouncer(t, sessions, migrated.DSN(t)), false, migrated.DSN))
}

// What a connection sets is in force behind a pooler in session mode, and the
// pooler's next client does not have it.
func TestSessionsEndWithTheirClient(t *testing.T) {
	direct := migrated.DSN(t)
	dsn := newPgBouncer(t, sessions, direct)(direct)
	s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, Settings: store.Settings{SampleTimestamp: "end"}})
	if err != nil {
		t.Fatal(err)
	}
	var during string
	if _, err := s.Snapshot(t.Context(), store.SnapshotQuery{}, func(store.Entry) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := postgres.Reading(t.Context(), s, `SELECT current_setting('idle_in_transaction_session_timeout')`, &during); err != nil || during != "1min" {
		t.Errorf("a reader's idle_in_transaction_session_timeout is %q, %v", during, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, func() error {
		if got := pgtest.Exec(t, dsn, `SELECT current_setting('statement_timeout') || ' ' || current_setting('idle_in_transaction_session_timeout')`); got != "0 0" {
			return fmt.Errorf("another client of the pooler has time-outs %q", got)
		}
		return nil
	})
}

// Through a pooler in transaction mode that nobody told us of, what is set would be
// other clients' too: it is refused, before anything is set.
func TestATransactionPoolerIsNoticed(t *testing.T) {
	direct := migrated.DSN(t)
	dsn := newPgBouncer(t, transactions, direct)(direct)
	_, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, Settings: store.Settings{SampleTimestamp: "end"}})
	if !errors.Is(err, postgres.ErrTransactionPooler) || !postgres.Misconfigured(err) {
		t.Errorf("opened without TransactionPooling: %v", err)
	}
	if got := pgtest.Exec(t, dsn, `SELECT current_setting('statement_timeout')`); got != "0" {
		t.Errorf("the pooler's session has statement_timeout %s", got)
	}
}

// Behind a pooler in transaction mode a snapshot has its time-out all the same, for
// as long as its transaction.
func TestASnapshotThroughTransactions(t *testing.T) {
	defer postgres.SetStalled("200ms")()
	direct := migrated.DSN(t)
	dsn := newPgBouncer(t, transactions, direct)(direct)
	s, err := postgres.Open(t.Context(), postgres.Options{DSN: dsn, TransactionPooling: true, Settings: store.Settings{SampleTimestamp: "end"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	lease, err := s.Acquire(t.Context(), "a", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	batch := store.Batch{CommittedAt: time.Now(), Entries: []store.NewEntry{{Kind: bucket.KindDatasetVersion, Key: bucket.Key{Dataset: "d"}, Payload: []byte("x")}}}
	if _, err := s.Append(t.Context(), lease.Term, lease.Head.Position, batch); err != nil {
		t.Fatal(err)
	}
	_, err = s.Snapshot(t.Context(), store.SnapshotQuery{}, func(store.Entry) error {
		testkit.Eventually(t, func() error { // its reader stays away
			if got := pgtest.Exec(t, direct, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'`); got != "0" {
				return fmt.Errorf("%s transactions are open", got)
			}
			return nil
		})
		return nil
	})
	if !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("a snapshot whose reader stalled ended with %v", err)
	}
	if got := pgtest.Exec(t, dsn, `SELECT current_setting('idle_in_transaction_session_timeout')`); got != "0" {
		t.Errorf("the pooler's session has kept idle_in_transaction_session_timeout %s", got)
	}
}

// throughPgBouncer is the driver on databases that create makes.
func throughPgBouncer(pooled func(dsn string) string, shared bool, create func(testing.TB) string) storetest.Driver {
	return storetest.Driver{
		Shared: true,
		Create: func(t *testing.T) storetest.Opener {
			dsn := pooled(create(t))
			return func(settings store.Settings) (store.Store, error) {
				return opened(postgres.Open(t.Context(), postgres.Options{DSN: dsn, TransactionPooling: shared, Settings: settings}))
			}
		},
	}
}

func TestMigrateThroughPgBouncer(t *testing.T) {
	direct := pgtest.DSN(t)
	dsn := newPgBouncer(t, transactions, direct)(direct)
	for range 2 {
		migrate(t, dsn)
	}
}

// Configurations of PgBouncer. Without ignore_startup_parameters it is as strict
// as it comes; in session mode everything about sessions is its default.
const (
	sessions     = ""
	transactions = `pool_mode = transaction
default_pool_size = 12
server_reset_query_always = 1
`
)

// newPgBouncer starts PgBouncer with a configuration. It connects to dsn's server
// as dsn's user, with its password and TLS if dsn has them. The result turns the
// address of a database into one through it. It listens on a Unix socket, so
// that no port can be taken.
func newPgBouncer(t *testing.T, configuration, dsn string) func(dsn string) string {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		testkit.Missing(t, "PgBouncer is not installed (Debian: pgbouncer); tests through a pooler need it")
	}
	server, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pgb") // short: the path of a socket is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	name, tls := server.User.Username(), "disable"
	login := "user=" + name
	if password, ok := server.User.Password(); ok {
		login += " password=" + password
	}
	if server.Query().Has("sslrootcert") {
		tls = "require"
	}
	config := fmt.Sprintf(`[databases]
* = host=%s port=%s %s
[pgbouncer]
auth_type = any
listen_port = 6432
unix_socket_dir = %s
server_idle_timeout = 2
server_tls_sslmode = %s
%s`, server.Hostname(), server.Port(), login, dir, tls, configuration)
	file := filepath.Join(dir, "pgbouncer.ini")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, file)
	cmd.Stdout, cmd.Stderr = log, log
	if os.Getuid() == 0 { // which PgBouncer refuses to run as
		nobody, err := user.Lookup("nobody")
		if err != nil {
			t.Skip("PgBouncer does not run as root, and this machine has no user nobody")
		}
		uid, _ := strconv.Atoi(nobody.Uid)
		gid, _ := strconv.Atoi(nobody.Gid)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("unix", filepath.Join(dir, ".s.PGSQL.6432")); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("PgBouncer does not listen; it said:\n%s", said)
		}
	}
	return func(dsn string) string {
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("host=%s port=6432 user=%s dbname=%s sslmode=disable", dir, name, strings.TrimPrefix(u.Path, "/"))
	}
}

// What PgBouncer says of a database or a role that the server does not know has its
// own code: waiting does not help.
func TestWhatAPoolerSaysOfAMistake(t *testing.T) {
	t.Parallel()
	for message, want := range map[string]bool{
		`database "nope" does not exist`: true, "no such database: nope": true, `password authentication failed for user "weir"`: true,
		"server conn crashed?": false, "the database system is starting up": false, "client_login_timeout (server down)": false,
	} {
		if got := postgres.Misconfigured(fmt.Errorf("connect: %w", &pgconn.PgError{Code: "08P01", Message: message})); got != want {
			t.Errorf("%s: a mistake: %t, want %t", message, got, want)
		}
	}
}
