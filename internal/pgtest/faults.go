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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
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

// Disk is the file system of a server that [StartOnDisk] started.
type Disk struct {
	t    testing.TB
	path string
}

// ErrNoMount says that a file system of a test's own cannot be mounted here:
// that takes Linux and root.
var ErrNoMount = errors.New("mounting a file system takes Linux and root")

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
	d := &Disk{t: t, path: filepath.Join(s.dir, "disk")}
	// Cleanups run from the last to the first: the server goes before its disk.
	mounted, err := d.mount(s, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.remove)
	if !mounted {
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
		return s, nil, ErrNoMount
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s, d, nil
}

// mount puts the data folder of a server that was not started yet on a file
// system of its own; false where that is not allowed.
func (d *Disk) mount(s *Server, size int64) (bool, error) {
	if err := os.Mkdir(d.path, 0o755); err != nil {
		return false, err
	}
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+strconv.FormatInt(size, 10), "weir-pgtest", d.path).Run(); err != nil {
		return false, nil //nolint:nilerr // not allowed, or no such program: there is no disk then
	}
	// Whatever happens to this process, the mount must not stay.
	janitor, err := testkit.StartJanitor(`for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do umount "$1" 2>/dev/null && break; sleep 0.2; done
umount -l "$1" 2>/dev/null; rm -rf "$2"; exit 0`, d.path, s.dir)
	if err != nil {
		return false, errors.Join(err, exec.Command("umount", "-l", d.path).Run())
	}
	d.t.Cleanup(func() {
		if err := janitor.Finish(); err != nil {
			d.t.Error(err)
		}
	})
	moved := filepath.Join(d.path, "data")
	if out, err := exec.Command("cp", "-a", s.data(), moved).CombinedOutput(); err != nil {
		return false, fmt.Errorf("put Postgres's data on its disk: %w: %s", err, out)
	}
	if err := os.RemoveAll(s.data()); err != nil {
		return false, err
	}
	return true, os.Symlink(moved, s.data())
}

func (d *Disk) ballast() string { return filepath.Join(d.path, "ballast") }

// Fill leaves no page free on the disk.
func (d *Disk) Fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	// Down to a page, which is what a file system gives away. No further: a
	// Postgres in trouble frees a file now and then, and to fill that byte by
	// byte takes minutes.
	for size := 1 << 20; size >= os.Getpagesize(); {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

// Free takes away what Fill put there.
func (d *Disk) Free() {
	d.t.Helper()
	if err := os.Remove(d.ballast()); err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
}
