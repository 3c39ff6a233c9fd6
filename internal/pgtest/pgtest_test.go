package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// Each test has a database of its own.
func TestDatabasesAreApart(t *testing.T) {
	testkit.InAll(t)
	testkit.NoLeaks(t)
	a, b := DSN(t), DSN(t)
	Exec(t, a, "CREATE TABLE buckets (id int); INSERT INTO buckets VALUES (1), (2)")
	if got := Exec(t, a, "SELECT count(*) FROM buckets"); got != "2" {
		t.Errorf("got %q, want 2", got)
	}
	if got := Exec(t, b, "SELECT count(*) FROM pg_tables WHERE tablename = 'buckets'"); got != "0" {
		t.Errorf("one test's table is in another's database: %q", got)
	}
	if got := Exec(t, a, "SELECT current_setting('lc_collate'), getdatabaseencoding()"); got != "C|UTF8" {
		t.Errorf("collation and encoding are %q, want C|UTF8", got)
	}
}

// A test's database goes with the test.
func TestDatabaseIsDropped(t *testing.T) {
	testkit.InAll(t)
	var dsn string
	t.Run("inner", func(t *testing.T) { dsn = DSN(t) })
	name := dsn[strings.LastIndex(dsn, "/")+1 : strings.Index(dsn, "?")]
	if got := Exec(t, DSN(t), "SELECT count(*) FROM pg_database WHERE datname = '"+name+"'"); got != "0" {
		t.Errorf("database %s is still there after its test", name)
	}
}

var prepared int

var withTable = NewTemplate(func(dsn string) error {
	prepared++
	bin, err := find()
	if err != nil {
		return err
	}
	_, err = runPsql(bin.psql, dsn, "CREATE TABLE log (head bigint)")
	return err
})

// A template is prepared once, and its copies share no rows.
func TestTemplate(t *testing.T) {
	testkit.InAll(t)
	a, b := withTable.DSN(t), withTable.DSN(t)
	Exec(t, a, "INSERT INTO log VALUES (7)")
	if got := Exec(t, b, "SELECT count(*) FROM log"); got != "0" {
		t.Errorf("copies share rows: %s", got)
	}
	if prepared != 1 {
		t.Errorf("prepared %d times, want once", prepared)
	}
	failing := NewTemplate(func(string) error { return errors.New("migration 3 is broken") })
	if _, err := failing.make(sharedServer(t)); err == nil {
		t.Error("the error of prepare is lost")
	}
}

// A server that was killed or stopped begins again with its data, on its port.
func TestServerKeepsDataAndPort(t *testing.T) {
	testkit.InAll(t)
	s := Start(t, "max_connections=17")
	dsn, addr := s.DSN(), s.Addr()
	Exec(t, dsn, "CREATE TABLE log (head bigint); INSERT INTO log VALUES (1)")
	if got := Exec(t, dsn, "SHOW max_connections"); got != "17" {
		t.Errorf("max_connections is %s, want the test's setting", got)
	}

	s.Restart()
	Exec(t, dsn, "INSERT INTO log VALUES (2)")

	s.Kill()
	if _, err := runPsql(s.psql, dsn, "SELECT 1"); err == nil {
		t.Fatal("a killed server answers")
	}
	s.Start()
	if got := Exec(t, dsn, "SELECT count(*) FROM log"); got != "2" {
		t.Errorf("%s rows after a kill, want both that were committed", got)
	}
	if s.Addr() != addr {
		t.Errorf("address moved from %s to %s", addr, s.Addr())
	}
	if !strings.Contains(s.Log(), "was not properly shut down") {
		t.Errorf("the kill was no crash to Postgres; its log:\n%s", s.Log())
	}
	s.Stop()
	s.Stop()
	if _, err := runPsql(s.psql, dsn, "SELECT 1"); err == nil {
		t.Error("a stopped server answers")
	}
}

// TestNothingStaysBehind kills a test binary that has both kinds of server and
// expects their processes and folders to go.
func TestNothingStaysBehind(t *testing.T) {
	testkit.InAll(t)
	if out := os.Getenv("PGTEST_STAY"); out != "" {
		s := Start(t)
		DSN(t)
		testkit.WriteFile(t, out, fmt.Appendf(nil, "%d %s", s.process.Pid, s.dir))
		select {}
	}
	out := t.TempDir() + "/out"
	child := exec.Command(os.Args[0], "-test.run=^TestNothingStaysBehind$")
	child.Env = append(os.Environ(), "PGTEST_STAY="+out)
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var pid, dir string
	testkit.Eventually(t, readyTimeout, func() error {
		content, err := os.ReadFile(out)
		pid, dir, _ = strings.Cut(string(content), " ")
		return err
	})
	if _, err := strconv.Atoi(pid); err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // says "signal: killed"
	testkit.Eventually(t, 30*time.Second, func() error {
		if _, err := os.Stat(dir); err == nil {
			return fmt.Errorf("folder %s is still there", dir)
		}
		state, err := exec.Command("ps", "-o", "stat=", "-p", pid).Output()
		if err == nil && !strings.HasPrefix(string(state), "Z") { // a zombie is its parent's affair
			return fmt.Errorf("process %s still runs: %s", pid, state)
		}
		return nil
	})
}

// A server that is not ours is used by its address, which no error shows.
func TestForeignServer(t *testing.T) {
	testkit.InAll(t)
	s := Start(t)
	target, err := foreignTarget(s.programs, s.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	if err := target.create("guest", "template0"); err != nil {
		t.Error(err)
	}
	if _, err := foreignTarget(s.programs, "host=127.0.0.1 password=hunter2"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got error %v, want one that does not repeat the value", err)
	}
}

func TestMajor(t *testing.T) {
	for dir, want := range map[string]int{
		"/usr/lib/postgresql/15/bin":          15,
		"/usr/pgsql-9.6/bin":                  9,
		"/opt/homebrew/opt/postgresql@17/bin": 17,
		"/usr/bin":                            0,
	} {
		if got := major(dir); got != want {
			t.Errorf("major(%s) = %d, want %d", dir, got, want)
		}
	}
}

// TestAuthenticate: a server that asks for passwords asks everybody but its own
// test.
func TestAuthenticate(t *testing.T) {
	testkit.InAll(t)
	s := Start(t)
	dsn := s.DSN()
	s.Authenticate("host all all 127.0.0.1/32 scram-sha-256")
	Exec(t, s.Local(dsn), "CREATE ROLE guest LOGIN PASSWORD 'right'; CREATE TABLE t ()")
	for user, ok := range map[string]bool{"postgres@": false, "guest:wrong@": false, "guest:right@": true} {
		_, err := runPsql(s.psql, strings.Replace(dsn, "postgres@", user, 1), "SELECT FROM t LIMIT 0")
		if ok && (err == nil || !strings.Contains(err.Error(), "permission denied for table t")) || !ok && err == nil {
			t.Errorf("as %s: %v", user, err)
		}
	}
}

// A server of another major version can be had.
func TestStartMajor(t *testing.T) {
	testkit.InAll(t)
	s := StartMajor(t, 18)
	if got := Exec(t, s.DSN(), "SHOW server_version_num"); !strings.HasPrefix(got, "18") {
		t.Errorf("server_version_num is %s, want 18", got)
	}
}
