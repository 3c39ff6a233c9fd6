package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
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

	"github.com/weir-metrics/weir/internal/testkit"
)

// readyTimeout is generous: a machine that builds and tests at once may leave a
// server without a processor for seconds.
const readyTimeout = 60 * time.Second

// Server is a Postgres of one test's own, on a loopback port that it keeps over
// restarts. Its methods are for one goroutine at a time; clients of the
// database may do what they like meanwhile.
type Server struct {
	*target
	t        testing.TB // for failures; nil in the shared server
	dir      string     // everything of this server; owned by the user it runs as
	port     int
	programs binaries
	as       *syscall.Credential // nil: this process's own user
	settings []string
	process  *os.Process // nil while stopped
	janitor  *testkit.Janitor
}

// Start makes a server with its own data folder and starts it. Settings are
// lines of postgresql.conf such as "max_connections=20"; they come last and so
// win. When the test ends the server is stopped and removed; if the test
// failed, the end of the server's log is in the test's.
//
// Commits survive [Server.Kill], which a crash of Postgres is, but not a crash
// of the machine: fsync is off.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	bin, err := find()
	if err != nil {
		t.Fatal(err)
	}
	if !bin.server() {
		t.Skipf("this test stops and kills its Postgres, which it must not do to the server of %s, and no server is installed here", urlVariable)
	}
	s, err := newServer(bin, settings)
	if err != nil {
		t.Fatal(err)
	}
	return s.startFor(t)
}

// StartMajor is [Start] with a server of one major version, such as 18,
// whichever is used otherwise. Where there is none the test is skipped.
func StartMajor(t testing.TB, version int, settings ...string) *Server {
	t.Helper()
	bin, err := findMajor(version)
	if err != nil {
		testkit.Missing(t, err.Error())
	}
	s, err := newServer(bin, settings)
	if errors.Is(err, fs.ErrPermission) {
		// The checkout, and what tools/postgres.sh put into it, is in a folder of
		// root's own, and a server does not run as root.
		t.Skipf("Postgres %d may not be run by another user: %v", version, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.startFor(t)
}

// startFor starts the server for as long as a test.
func (s *Server) startFor(t testing.TB) *Server {
	t.Helper()
	s.t = t
	t.Cleanup(s.remove)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// DSN returns the URL of a database that is created empty for the caller. It
// goes with the server.
func (s *Server) DSN() string {
	s.t.Helper()
	name := databaseName("test")
	if err := s.create(name, "template0"); err != nil {
		s.t.Fatal(err)
	}
	return s.url(name)
}

// Copy returns the URL of a copy of a database of the server, to which nobody
// may be connected meanwhile. It goes with the server.
func (s *Server) Copy(dsn string) string {
	s.t.Helper()
	name := databaseName("test")
	if err := s.create(name, databaseOf(dsn)); err != nil {
		s.t.Fatal(err)
	}
	return s.url(name)
}

// Addr is the host:port at which the server listens, also while it is stopped;
// for a proxy in front of it.
func (s *Server) Addr() string { return s.base.Host }

// Authenticate replaces the rules of pg_hba.conf, which let everybody in, by
// others, such as "host all all 127.0.0.1/32 scram-sha-256". They count for new
// connections. Through its Unix socket the server goes on trusting everybody:
// see [Server.Local].
func (s *Server) Authenticate(rules ...string) {
	s.t.Helper()
	s.WriteFile("data/pg_hba.conf", []byte("local all all trust\n"+strings.Join(rules, "\n")+"\n"))
	Exec(s.t, s.Local(s.url("")), "SELECT pg_reload_conf()")
}

// Local turns the URL of a database into one for [Exec], as the superuser
// through the server's Unix socket, whatever [Server.Authenticate] asks of
// others.
func (s *Server) Local(dsn string) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s", s.dir, s.port, databaseOf(dsn))
}

// databaseOf is the database in a URL of ours.
func databaseOf(dsn string) string {
	dsn, _, _ = strings.Cut(dsn, "?")
	return dsn[strings.LastIndex(dsn, "/")+1:]
}

// WriteFile writes a file that the server can read and nobody else, under its
// folder, and returns the path: a certificate, a key.
func (s *Server) WriteFile(name string, content []byte) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if s.as != nil {
		if err := os.Chown(path, int(s.as.Uid), int(s.as.Gid)); err != nil {
			s.t.Fatal(err)
		}
	}
	return path
}

// Start starts a stopped or killed server and returns when it accepts
// connections, after crash recovery if there is something to recover.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

// Stop shuts the server down in order and waits for it; clients are cut off
// (Postgres's fast mode). Stopping a stopped server does nothing.
func (s *Server) Stop() {
	s.t.Helper()
	if err := s.signal(syscall.SIGINT); err != nil {
		s.t.Fatal(err)
	}
}

// Kill ends the server with SIGKILL, as an out-of-memory killer would, and
// waits until the process is gone.
func (s *Server) Kill() {
	s.t.Helper()
	if err := s.signal(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

// Restart stops the server in order and starts it again on the same port.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.Start()
}

// Log returns the server's log so far.
func (s *Server) Log() string {
	content, err := os.ReadFile(s.logFile())
	if err != nil {
		return err.Error()
	}
	return string(content)
}

func (s *Server) data() string    { return filepath.Join(s.dir, "data") }
func (s *Server) logFile() string { return filepath.Join(s.dir, "log") }

// janitorScript ends a server whose test binary has gone. Immediate mode is
// enough for data that is removed with it; the wait keeps rm from racing with
// processes that still write.
const janitorScript = `
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
	kill -QUIT "$pid" 2>/dev/null
	for i in 1 2 3 4 5 6 7 8 9 10; do [ -e "$1/data/postmaster.pid" ] || break; sleep 0.2; done
	kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$1"
exit 0`

// newServer makes the data folder of a server and does not start it.
func newServer(bin binaries, settings []string) (*Server, error) {
	dir, err := os.MkdirTemp("", "weir-pg-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for Postgres: %w", err)
	}
	s := &Server{dir: dir, programs: bin, settings: settings}
	if s.janitor, err = testkit.StartJanitor(janitorScript, dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := s.initialize(); err != nil {
		return nil, errors.Join(err, s.janitor.Finish())
	}
	return s, nil
}

func (s *Server) initialize() error {
	// Postgres refuses to run as root.
	if os.Geteuid() == 0 {
		as, err := unprivileged()
		if err != nil {
			return err
		}
		if err := os.Chown(s.dir, int(as.Uid), int(as.Gid)); err != nil {
			return fmt.Errorf("give the data folder away: %w", err)
		}
		s.as = as
	}
	cmd := exec.Command(s.programs.initdb, "-D", s.data(), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C", "--no-instructions")
	cmd.Dir = s.dir // the user it runs as may not be allowed to look at ours
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	// Postgres takes no port 0, so ask the kernel for one that is free now.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("find a port for Postgres: %w", err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	s.target = &target{psql: s.programs.psql, base: url.URL{
		Scheme:   "postgres",
		User:     url.User("postgres"),
		Host:     l.Addr().String(),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}}
	// Not through the port, whose rules a test may change.
	s.admin = s.Local(s.url(""))
	return l.Close()
}

// start starts the process and waits until it accepts connections. It tries
// again when the process ends at once for a reason that passes: after a kill,
// the backends of the old process need a moment to see that they are orphans,
// and the new one refuses to share their memory.
func (s *Server) start() error {
	if s.process != nil {
		return nil
	}
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open Postgres's log: %w", err)
	}
	defer log.Close()
	deadline := time.Now().Add(readyTimeout)
	for {
		if err := s.spawn(log); err != nil {
			return err
		}
		err := s.waitReady(deadline)
		if err == nil {
			return nil
		}
		passing := strings.Contains(lastLines(s.logFile(), 20), "shared memory block") // other processes of the dead server write after it
		if !errors.Is(err, errEnded) || !passing || time.Now().After(deadline) {
			return fmt.Errorf("start Postgres: %w\n%s", err, lastLines(s.logFile(), 15))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *Server) spawn(log *os.File) error {
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port), "-k", s.dir, "-h", "127.0.0.1"}
	for _, setting := range append([]string{
		"fsync=off",            // the data is thrown away
		"full_page_writes=off", // as above
		"max_connections=200",  // parallel tests with a pool each
	}, s.settings...) {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(s.programs.postgres, args...)
	cmd.Dir = s.dir
	// A file, not a pipe: a pipe to this process would fill when it is killed,
	// and go test waits for everyone who holds its own output.
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setsid: true} // Ctrl-C is the janitor's affair
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start Postgres: %w", err)
	}
	s.process = cmd.Process
	return nil
}

var errEnded = errors.New("the process ended")

// waitReady reads the state that the server keeps in the eighth line of its
// pid file, as pg_ctl does, so that readiness costs no connection.
func (s *Server) waitReady(deadline time.Time) error {
	err := testkit.Poll(time.Until(deadline), func() error {
		if s.ended() {
			return nil // no use in waiting; told apart below
		}
		content, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		lines := strings.Split(string(content), "\n")
		// The first line tells the file from one that a killed server left.
		if len(lines) < 8 || lines[0] != strconv.Itoa(s.process.Pid) || strings.TrimSpace(lines[7]) != "ready" {
			return errors.New("not ready")
		}
		return nil
	})
	if s.process == nil {
		return errEnded
	}
	return err
}

// ended reports whether the process is gone, and buries it if so. It asks
// instead of keeping a goroutine in Wait, since the shared server outlives
// every test and a leak check must not find it.
func (s *Server) ended() bool {
	if s.process == nil {
		return true
	}
	var status syscall.WaitStatus
	pid, err := syscall.Wait4(s.process.Pid, &status, syscall.WNOHANG, nil)
	if pid == 0 && err == nil || errors.Is(err, syscall.EINTR) {
		return false
	}
	_ = s.process.Release()
	s.process = nil
	return true
}

func (s *Server) signal(sig syscall.Signal) error {
	if s.process == nil {
		return nil
	}
	if err := s.process.Signal(sig); err != nil {
		return fmt.Errorf("send %v to Postgres: %w", sig, err)
	}
	return testkit.Poll(readyTimeout, func() error {
		if !s.ended() {
			return fmt.Errorf("the server still runs after %v", sig)
		}
		return nil
	})
}

// remove ends the server at the end of its test. Its data goes too, so it need
// not shut down in order.
func (s *Server) remove() {
	if s.t.Failed() {
		s.t.Logf("the end of Postgres's log:\n%s", lastLines(s.logFile(), 30))
	}
	if err := s.signal(syscall.SIGQUIT); err != nil {
		s.t.Error(err)
	}
	if err := s.janitor.Finish(); err != nil {
		s.t.Error(err)
	}
}

// unprivileged is the user that Postgres runs as when this process is root.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("user id of %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("group id of %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("tests run as root, which Postgres refuses to, and this machine has no user postgres or nobody")
}

func lastLines(path string, n int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
