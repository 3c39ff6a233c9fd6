package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
)

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
	testkit.Eventually(t, func() error {
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
	testkit.Eventually(t, func() error {
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

// A server of another major version can be had.
func TestStartMajor(t *testing.T) {
	testkit.InAll(t)
	s := StartMajor(t, 18)
	if got := Exec(t, s.DSN(), "SHOW server_version_num"); !strings.HasPrefix(got, "18") {
		t.Errorf("server_version_num is %s, want 18", got)
	}
}
