package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// member is a child process with a supervisor: whenever it ends, it is started
// again, as Kubernetes or systemd would do.
type member struct {
	t    testing.TB
	part part
	log  *testkit.Logs
	done chan struct{} // closed when the supervisor has ended

	mu      sync.Mutex
	process *os.Process
	wanted  bool
	since   time.Time // when it was last asked to stop; zero while it is not
	back    time.Time // not started again before
	starts  int
	wrong   []string // ways to end that it must not have
	frozen  []span
}

type span struct{ from, to time.Time }

// startMember starts a child and its supervisor, which end with the test.
func startMember(t testing.TB, p part) *member {
	t.Helper()
	m := &member{t: t, part: p, log: new(testkit.Logs), done: make(chan struct{}), wanted: true}
	go m.supervise()
	t.Cleanup(m.end)
	return m
}

func (m *member) supervise() {
	defer close(m.done)
	for {
		m.mu.Lock()
		wanted, wait := m.wanted, time.Until(m.back)
		m.mu.Unlock()
		switch {
		case !wanted:
			return
		case wait > 0:
			time.Sleep(min(wait, 50*time.Millisecond))
			continue
		}
		cmd, err := m.launch()
		if err != nil {
			m.accuse("cannot be started: %v", err)
			return
		}
		_ = cmd.Wait() // the state says how it ended
		m.buried(cmd.ProcessState)
	}
}

func (m *member) launch() (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	environment, err := m.part.environment()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Dir, cmd.Env = m.part.Folder, append(os.Environ(), environment)
	cmd.Stdout, cmd.Stderr = m.log, m.log
	cmd.SysProcAttr = orphans()
	m.mu.Lock()
	defer m.mu.Unlock()
	started := make(chan error)
	spawner() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	m.process, m.since = cmd.Process, time.Time{}
	m.starts++
	return cmd, nil
}

// buried judges how the process ended.
func (m *member) buried(state *os.ProcessState) {
	status := state.Sys().(syscall.WaitStatus)
	m.mu.Lock()
	m.process = nil
	asked := !m.since.IsZero()
	m.back = later(m.back, time.Now().Add(200*time.Millisecond))
	m.mu.Unlock()
	switch {
	case status.Signaled() && status.Signal() == syscall.SIGKILL: // ours, or the kernel's, whose memory killer is welcome too
	case status.Exited() && status.ExitStatus() == exitStart: // its supervisor tries again
	case status.Exited() && status.ExitStatus() == exitContent && asked:
	default:
		m.accuse("ended by itself or in disorder (asked to stop: %t): %s", asked, state)
	}
}

func (m *member) accuse(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong = append(m.wrong, m.part.Name+" "+fmt.Sprintf(format, args...))
}

// signal sends a signal to the process, if there is one.
func (m *member) signal(s os.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process == nil {
		return
	}
	if s == syscall.SIGTERM {
		m.since = time.Now()
	}
	if err := m.process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.wrong = append(m.wrong, fmt.Sprintf("%s: send %s: %v", m.part.Name, s, err))
	}
}

// stay keeps the supervisor from starting the process for a while.
func (m *member) stay(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.back = later(m.back, time.Now().Add(d))
}

func (m *member) kill(away time.Duration) { m.stay(away); m.signal(syscall.SIGKILL) }

// restart asks the process to stop. One that does not within 20 s is killed,
// and accused.
func (m *member) restart(away time.Duration) {
	m.stay(away)
	m.signal(syscall.SIGTERM)
	m.mu.Lock()
	asked := m.since
	m.mu.Unlock()
	time.AfterFunc(20*time.Second, func() {
		m.mu.Lock()
		late := m.process != nil && !asked.IsZero() && m.since.Equal(asked)
		m.mu.Unlock()
		if late {
			m.accuse("did not stop within 20 s of SIGTERM")
			m.signal(syscall.SIGKILL)
		}
	})
}

func (m *member) freeze() {
	m.signal(syscall.SIGSTOP)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.frozen = append(m.frozen, span{from: time.Now()})
}

func (m *member) thaw() {
	m.signal(syscall.SIGCONT)
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.frozen); n > 0 && m.frozen[n-1].to.IsZero() {
		m.frozen[n-1].to = time.Now()
	}
}

// end stops process and supervisor.
func (m *member) end() {
	m.mu.Lock()
	m.wanted = false
	m.mu.Unlock()
	m.signal(syscall.SIGKILL)
	for {
		select {
		case <-m.done:
			return
		case <-time.After(time.Second): // it was just being started
			m.signal(syscall.SIGKILL)
		}
	}
}

// complaints are what the process must not have done.
func (m *member) complaints() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.wrong
	for line := range strings.Lines(m.log.String()) {
		if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") || strings.Contains(line, "WARNING: DATA RACE") {
			out = append(out, m.part.Name+" wrote: "+strings.TrimSpace(line))
		}
	}
	return out
}
