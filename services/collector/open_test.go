package collector_test

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/cli"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector"
)

// migrate runs "collector migrate" as the binary does and returns its exit code
// and what it said.
func migrate(t *testing.T, environ []string, args ...string) (code int, said string) {
	var out bytes.Buffer
	p := cli.Program{Name: "collector", Commands: collector.Commands(), Environ: environ, Stdout: &out, Stderr: &out}
	code = p.Main(t.Context(), append([]string{"migrate"}, args...))
	return code, out.String()
}

// TestRolesAndRotation is the way of docs/operations.md: an owner migrates, a
// role that owns nothing collects, and its password is changed under it.
func TestRolesAndRotation(t *testing.T) {
	server := pgtest.Start(t)
	dsn := server.DSN()
	admin := server.Local(dsn)
	pgtest.Exec(t, admin, `CREATE ROLE weir_owner LOGIN PASSWORD 'own'; GRANT CREATE ON SCHEMA public TO weir_owner; CREATE ROLE weir_writer LOGIN PASSWORD 'first'`)
	server.Authenticate("host all all 127.0.0.1/32 scram-sha-256")
	as := func(role, password string) string {
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword(role, password)
		return u.String()
	}
	file := filepath.Join(t.TempDir(), "database-url")
	testkit.WriteFile(t, file, []byte(as("weir_writer", "first")+"\n"))
	environ := []string{"WEIR_DATABASE_URL_FILE=" + file}
	owner := []string{"WEIR_DATABASE_URL=" + as("weir_owner", "own")}

	if code, said := migrate(t, environ); code != cli.ExitError || !strings.Contains(said, "the role that owns the tables") {
		t.Errorf("migrate as the writer: exit code %d, %s", code, said)
	}
	if code, said := migrate(t, owner); code != cli.ExitOK {
		t.Fatalf("migrate: exit code %d, %s", code, said)
	}
	if code, said := migrate(t, []string{"WEIR_SQLITE_FILE=" + filepath.Join(t.TempDir(), "weir.db")}, "--grant-writer=weir_writer"); code != cli.ExitError || !strings.Contains(said, "WEIR_DATABASE_URL must be set") {
		t.Errorf("grant on SQLite: exit code %d, %s", code, said)
	}
	config, err := load(environ...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := collector.New(t.Context(), config, collector.Deps{}); err == nil || !strings.Contains(err.Error(), "collector migrate --grant-writer") {
		t.Errorf("start without rights: %v", err)
	}
	if code, said := migrate(t, owner, "--grant-writer=weir_writer"); code != cli.ExitOK {
		t.Fatalf("migrate with a grant: exit code %d, %s", code, said)
	}

	log, said := testkit.RecordingLogger(t)
	start(t, log, environ...)
	leads := func(n int) {
		t.Helper()
		testkit.Eventually(t, func() error {
			if got := said.Count("msg=leading"); got < n {
				return fmt.Errorf("led %d times, want %d", got, n)
			}
			return nil
		})
	}
	leads(1)
	pgtest.Exec(t, admin, `ALTER ROLE weir_writer PASSWORD 'second'`)
	testkit.WriteFile(t, file+".new", []byte(as("weir_writer", "second")))
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, func() error {
		if said.Count("secret=WEIR_DATABASE_URL_FILE") == 0 {
			return fmt.Errorf("the new connection string was not noticed")
		}
		return nil
	})
	before := pgtest.Exec(t, admin, `SELECT expires_at FROM log`)
	pgtest.Exec(t, admin, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'weir_writer'`)
	testkit.Eventually(t, func() error {
		if got := pgtest.Exec(t, admin, `SELECT expires_at > '`+before+`', expires_at > now() FROM log`); got != "t|t" {
			return fmt.Errorf("the lease was not renewed: %s", got)
		}
		return nil
	})
	for _, secret := range []string{"'first'", ":first@", ":second@"} {
		if strings.Contains(said.String(), secret) {
			t.Errorf("the log shows %q", secret)
		}
	}
}
