// Package promtest gives a test a real Prometheus and a real promtool, of the
// version that tools/prometheus.mod pins, and VictoriaMetrics, which scrapes and
// answers as Prometheus does; of both what Debian has, which is years older; the
// oldest Prometheus that Weir supports, and the one before it; Mimir and Thanos, which
// take remote write; and an OpenTelemetry collector, which takes OTLP.
// What an exposition means is decided by the database that ingests it, so tests
// ask that database.
//
// The first use on a machine builds the programs, which takes minutes (see
// [Build]; make test does it before the tests begin, whose time limit it would
// use up).
package promtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// readyTimeout is generous for the sake of busy machines; a Prometheus with an
// empty database is ready in a fraction of a second.
const readyTimeout = 90 * time.Second

var (
	buildOnce         = sync.OnceValues(func() (Tools, error) { return Build(os.Stderr) })
	buildOldestOnce   = sync.OnceValues(func() (Tools, error) { return BuildOldest(os.Stderr) })
	buildTooOldOnce   = sync.OnceValues(func() (Tools, error) { return BuildTooOld(os.Stderr) })
	buildVictoriaOnce = sync.OnceValues(func() (Victoria, error) { return BuildVictoria(os.Stderr) })
)

// Find returns the programs for a test, built if necessary.
func Find(t testing.TB) Tools {
	t.Helper()
	tools, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return tools
}

// Oldest returns the oldest Prometheus that Weir supports, built if necessary.
func Oldest(t testing.TB) Tools {
	t.Helper()
	tools, err := buildOldestOnce()
	if err != nil {
		t.Fatal(err)
	}
	return tools
}

// TooOld returns the one before the oldest that Weir supports, without promtool, built if
// necessary.
func TooOld(t testing.TB) Tools {
	t.Helper()
	tools, err := buildTooOldOnce()
	if err != nil {
		t.Fatal(err)
	}
	return tools
}

// FindVictoria returns VictoriaMetrics for a test, built if necessary.
func FindVictoria(t testing.TB) Victoria {
	t.Helper()
	victoria, err := buildVictoriaOnce()
	if err != nil {
		t.Fatal(err)
	}
	return victoria
}

// Server is a Prometheus, or a VictoriaMetrics, of one test's own, on a loopback
// port and with a data folder that it keeps over restarts. Not for concurrent use.
type Server struct {
	t        testing.TB
	name     string // Prometheus, VictoriaMetrics, …
	program  string
	command  []string // arguments before the flags
	dir      string
	addr     string
	prefix   string       // of the path of Prometheus's API
	ready    string       // path that answers when it is ready
	probe    func() error // asks whether it is ready; nil: the path does
	write    string       // URL that takes remote write; empty: Prometheus's
	header   http.Header  // of each request
	flags    []string
	cmd      *exec.Cmd // nil while stopped
	exited   chan struct{}
	janitor  *testkit.Janitor
	client   *http.Client
	logStart int // length of the log when the present process began
}

// Start starts the pinned Prometheus with a configuration, the text of
// prometheus.yml, and returns when it is ready. Flags are given as --name=value
// and replace the defaults set here. It ends, and its data goes, with the test;
// if the test failed, the end of its log is in the test's.
func Start(t testing.TB, config string, flags ...string) *Server {
	t.Helper()
	return Find(t).Start(t, config, flags...)
}

// Start does the same with these programs.
func (tools Tools) Start(t testing.TB, config string, flags ...string) *Server {
	t.Helper()
	s := &Server{t: t, name: "Prometheus", program: tools.Prometheus}
	s.launch(config, flags, func() []string {
		return []string{
			"--storage.tsdb.path=" + s.DataDir(),
			"--web.listen-address=" + s.addr,
			"--web.enable-lifecycle",
			"--web.enable-admin-api",
			"--config.file=" + s.configFile(),
		}
	})
	return s
}

// Start starts VictoriaMetrics in the same way, with scrape jobs in the form of
// prometheus.yml. Its flags are given as -name=value.
func (v Victoria) Start(t testing.TB, config string, flags ...string) *Server {
	t.Helper()
	s := &Server{t: t, name: "VictoriaMetrics", program: v.Path}
	s.launch(config, flags, func() []string {
		return []string{"-storageDataPath=" + s.DataDir(), "-httpListenAddr=" + s.addr, "-promscrape.config=" + s.configFile()}
	})
	return s
}

func (s *Server) launch(config string, flags []string, defaults func() []string) {
	s.t.Helper()
	var err error
	if s.dir, err = os.MkdirTemp("", "weir-prometheus-"); err != nil {
		s.t.Fatal(err)
	}
	if s.ready == "" {
		s.ready = "/-/ready"
	}
	s.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
	s.janitor, err = testkit.StartJanitor(`pid=$(cat "$1/pid" 2>/dev/null) && kill -KILL "$pid" 2>/dev/null; rm -rf "$1"; exit 0`, s.dir)
	if err != nil {
		s.t.Fatal(errors.Join(err, os.RemoveAll(s.dir)))
	}
	s.t.Cleanup(s.remove)
	s.writeConfig(config)
	// Somebody else may take the address between its being found and used.
	for range 3 {
		s.addr = freeAddr(s.t)
		s.flags = withDefaults(flags, defaults())
		err = s.start()
		if err == nil || !strings.Contains(s.Log(), "address already in use") {
			break
		}
	}
	if err != nil {
		s.t.Fatalf("start %s: %v\n%s", s.name, err, s.lastLog(20))
	}
}

// URL is the base of Prometheus's web server, without a slash at its end. Of Mimir it has
// the prefix of Prometheus's API.
func (s *Server) URL() string { return "http://" + s.addr + s.prefix }

// WriteURL takes remote write.
func (s *Server) WriteURL() string {
	if s.write != "" {
		return s.write
	}
	return s.URL() + "/api/v1/write"
}

// Header are the headers that requests need: of Mimir, the one with the tenant.
func (s *Server) Header() http.Header { return s.header }

// DataDir is the folder of its time series database, for promtool tsdb.
func (s *Server) DataDir() string { return filepath.Join(s.dir, "data") }

// Start starts a stopped Prometheus again, on the same data and port, and
// returns when it is ready: the write-ahead log replayed, the configuration
// loaded.
func (s *Server) Start() {
	s.t.Helper()
	if s.cmd != nil {
		s.t.Fatalf("start %s: it runs", s.name)
	}
	if err := s.start(); err != nil {
		s.t.Fatalf("start %s: %v\n%s", s.name, err, s.lastLog(20))
	}
}

func (s *Server) start() error {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	s.logStart = len(s.readLog())
	cmd := exec.Command(s.program, slices.Concat(s.command, s.flags)...)
	cmd.Dir = s.dir
	// A file, since go test waits for everyone who holds its own output.
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C is the janitor's affair
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd, s.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}(s.exited)
	testkit.WriteFile(s.t, filepath.Join(s.dir, "pid"), fmt.Append(nil, cmd.Process.Pid))

	ended := false
	err = testkit.Poll(readyTimeout, func() error {
		select {
		case <-s.exited:
			ended = true
			return nil
		default:
			if s.probe != nil {
				return s.probe()
			}
			_, err := s.fetch("http://" + s.addr + s.ready)
			return err
		}
	})
	if ended {
		s.cmd = nil
		err = errors.New("it ended at once")
	}
	return err
}

// Stop ends Prometheus in order (SIGTERM) and waits for it.
func (s *Server) Stop() { s.t.Helper(); s.end(syscall.SIGTERM) }

// Kill ends Prometheus with SIGKILL and waits for it.
func (s *Server) Kill() { s.t.Helper(); s.end(syscall.SIGKILL) }

// Restart stops Prometheus and starts it again on the same data and port, with these flags
// instead of those of the same names.
func (s *Server) Restart(flags ...string) {
	s.t.Helper()
	s.Stop()
	s.flags = withDefaults(flags, s.flags)
	s.Start()
}

// Reload gives Prometheus a new configuration without a restart. The test fails
// if Prometheus refuses it.
func (s *Server) Reload(config string) {
	s.t.Helper()
	s.writeConfig(config)
	resp, err := s.client.Post(s.URL()+"/-/reload", "", nil)
	if err != nil {
		s.t.Fatalf("reload %s: %v", s.name, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		s.t.Fatalf("reload %s: %s: %s", s.name, resp.Status, bytes.TrimSpace(body))
	}
}

// Log returns what the present process, or the last one, has logged so far.
func (s *Server) Log() string { return s.readLog()[s.logStart:] }

func (s *Server) configFile() string { return filepath.Join(s.dir, "prometheus.yml") }
func (s *Server) logFile() string    { return filepath.Join(s.dir, "log") }

func (s *Server) writeConfig(config string) {
	s.t.Helper()
	testkit.WriteFile(s.t, s.configFile(), []byte(config))
}

func (s *Server) end(sig syscall.Signal) {
	s.t.Helper()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Fatalf("send %v to %s: %v", sig, s.name, err)
	}
	select {
	case <-s.exited:
		s.cmd = nil
		s.client.CloseIdleConnections()
	case <-time.After(readyTimeout):
		s.t.Fatalf("%s still runs %v after %v\n%s", s.name, readyTimeout, sig, s.lastLog(20))
	}
}

func (s *Server) remove() {
	if s.t.Failed() {
		s.t.Logf("the end of %s's log:\n%s", s.name, s.lastLog(30))
	}
	s.end(syscall.SIGKILL) // its data goes with it
	if err := s.janitor.Finish(); err != nil {
		s.t.Error(err)
	}
}

func (s *Server) readLog() string {
	content, err := os.ReadFile(s.logFile())
	if err != nil {
		return ""
	}
	return string(content)
}

func (s *Server) lastLog(n int) string {
	lines := strings.Split(strings.TrimSuffix(s.readLog(), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Promtool runs the pinned promtool and returns what it wrote. A non-zero exit is
// an error that holds the standard error output too; whether it is a failure is
// the test's to say.
func Promtool(t testing.TB, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return PromtoolIn(t, nil, args...)
}

// PromtoolIn is [Promtool] with a standard input, as promtool check metrics
// wants it.
func PromtoolIn(t testing.TB, stdin io.Reader, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return Find(t).promtool(stdin, args)
}

// Run is [Promtool] with the promtool of these programs.
func (tools Tools) Run(args ...string) (stdout, stderr string, err error) {
	return tools.promtool(nil, args)
}

func (tools Tools) promtool(stdin io.Reader, args []string) (stdout, stderr string, err error) {
	cmd := exec.Command(tools.Promtool, args...)
	cmd.Stdin = stdin
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("promtool %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.String(), errs.String(), err
}

// freeAddr returns a loopback address that was free a moment ago: Prometheus
// does not tell the port that it got for port 0.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// withDefaults returns flags and those defaults whose flag is not among them:
// Prometheus refuses a flag that is given twice.
func withDefaults(flags, defaults []string) []string {
	all := append([]string(nil), flags...)
	for _, def := range defaults {
		name, _, _ := strings.Cut(def, "=")
		given := false
		for _, flag := range flags {
			other, _, _ := strings.Cut(flag, "=")
			given = given || other == name || other == "--no-"+strings.TrimPrefix(name, "--")
		}
		if !given {
			all = append(all, def)
		}
	}
	return all
}
