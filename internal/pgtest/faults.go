package pgtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Freeze stops every process of the server with SIGSTOP: connections stay open
// and say nothing, as when the machine behind them hangs. Freezing a stopped
// server does nothing.
func (s *Server) Freeze() {
	s.t.Helper()
	if s.ended() {
		return
	}
	// The postmaster first, so that it starts no further process; then those
	// that it has started.
	if err := s.process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatalf("freeze Postgres: %v", err)
	}
	s.signalChildren(syscall.SIGSTOP)
}

// Thaw lets a frozen server go on.
func (s *Server) Thaw() {
	s.t.Helper()
	if s.ended() {
		return
	}
	s.signalChildren(syscall.SIGCONT)
	if err := s.process.Signal(syscall.SIGCONT); err != nil {
		s.t.Fatalf("thaw Postgres: %v", err)
	}
}

// Revive starts the server again if it has ended by itself, as it does when its
// disk is full, and reports whether that was so.
func (s *Server) Revive() bool {
	s.t.Helper()
	if !s.ended() {
		return false
	}
	s.Start()
	return true
}

// signalChildren sends a signal to the server's processes but the first. Each
// of them is its own process group, so there is none to signal.
func (s *Server) signalChildren(sig syscall.Signal) {
	s.t.Helper()
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		s.t.Fatalf("list Postgres's processes: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		var pid, parent int
		if _, err := fmt.Sscan(line, &pid, &parent); err != nil || parent != s.process.Pid {
			continue
		}
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.t.Fatalf("send %v to a process of Postgres: %v", sig, err)
		}
	}
}

// Occupy takes every connection that the server has left, and each that becomes
// free, until it is told to let go. Clients that are connected already keep
// what they have. Release waits until all are given back.
func (s *Server) Occupy() (release func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var held []net.Conn
		defer func() {
			for _, c := range held {
				_ = c.Close() // it was only there to be in the way
			}
		}()
		for {
			c, err := s.takeSlot()
			if err == nil {
				held = append(held, c)
				continue
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond): // full, or away
			}
		}
	}()
	return sync.OnceFunc(func() { close(stop); <-done })
}

// takeSlot opens a session and leaves it idle. The driver's module is not this
// one, and this much of the protocol is two messages.
func (s *Server) takeSlot() (_ net.Conn, err error) {
	c, err := net.DialTimeout("tcp", s.Addr(), time.Second)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = c.Close() // err says more
		}
	}()
	if err := c.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	const startup = "\x00\x03\x00\x00user\x00postgres\x00database\x00postgres\x00\x00" // protocol 3.0
	message := binary.BigEndian.AppendUint32(nil, uint32(4+len(startup)))
	if _, err := c.Write(append(message, startup...)); err != nil {
		return nil, err
	}
	var kind [1]byte
	if _, err := io.ReadFull(c, kind[:]); err != nil {
		return nil, err
	}
	if kind[0] != 'R' { // AuthenticationOk; the server trusts everybody
		return nil, errors.New("the server has no connection left")
	}
	return c, c.SetDeadline(time.Time{})
}

// StartOnDisk is [Start] with everything that the server writes, its log apart,
// on a file system of so many bytes (64 MiB at least), which [Disk.Fill] fills.
// The error is ErrNoMount where none can be mounted.
func StartOnDisk(t testing.TB, size int64, settings ...string) (*Server, *Disk, error) {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil, nil, ErrNoMount
	}
	bin, err := find()
	if err != nil {
		t.Fatal(err)
	}
	if !bin.server() {
		return nil, nil, ErrNoMount
	}
	s, err := newServer(bin, settings)
	if err != nil {
		t.Fatal(err)
	}
	s.t = t
	// Cleanups run from the last to the first: the server goes before its disk.
	d, mountErr := newDisk(t, s.dir, size)
	if mountErr == nil {
		if err := s.moveTo(d); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(s.remove)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s, d, mountErr
}

// moveTo puts the data folder of a server that was not started yet on a disk.
func (s *Server) moveTo(d *Disk) error {
	moved := filepath.Join(d.path, "data")
	if out, err := exec.Command("cp", "-a", s.data(), moved).CombinedOutput(); err != nil {
		return fmt.Errorf("put Postgres's data on its disk: %w: %s", err, out)
	}
	if err := os.RemoveAll(s.data()); err != nil {
		return err
	}
	return os.Symlink(moved, s.data())
}
