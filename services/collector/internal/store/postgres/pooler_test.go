package postgres_test

import (
	"fmt"
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

	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/postgres"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

// TestExamThroughPgBouncer: the whole exam, every statement on whichever
// session PgBouncer picks.
func TestExamThroughPgBouncer(t *testing.T) {
	storetest.Run(t, throughPgBouncer(newPgBouncer(t, migrated.DSN(t)), migrated.DSN))
}

// throughPgBouncer is the driver on databases that create makes.
func throughPgBouncer(pooled func(dsn string) string, create func(testing.TB) string) storetest.Driver {
	return storetest.Driver{
		Shared: true,
		Create: func(t *testing.T) storetest.Opener {
			dsn := pooled(create(t))
			return func(settings store.Settings) (store.Store, error) {
				return opened(postgres.Open(t.Context(), postgres.Options{DSN: dsn, TransactionPooling: true, Settings: settings}))
			}
		},
	}
}

func TestMigrateThroughPgBouncer(t *testing.T) {
	direct := pgtest.DSN(t)
	dsn := newPgBouncer(t, direct)(direct)
	for range 2 {
		if err := postgres.Migrate(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
	}
}

// newPgBouncer starts PgBouncer in transaction mode, as strict as it comes: it
// knows no start-up parameter that it was not told of. It connects to dsn's server
// as dsn's user, with its password and TLS if dsn has them. The result turns the
// address of a database into one through it. It listens on a Unix socket, so
// that no port can be taken.
func newPgBouncer(t *testing.T, dsn string) func(dsn string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("the exam a second time, through PgBouncer, is left out of short runs")
	}
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		testkit.Missing(t, "PgBouncer is not installed (Debian: pgbouncer); the exam through a transaction pooler needs it")
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
pool_mode = transaction
auth_type = any
listen_port = 6432
unix_socket_dir = %s
default_pool_size = 12
server_idle_timeout = 2
server_reset_query_always = 1
server_tls_sslmode = %s
`, server.Hostname(), server.Port(), login, dir, tls)
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
		if _, err := os.Stat(filepath.Join(dir, ".s.PGSQL.6432")); err == nil {
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
