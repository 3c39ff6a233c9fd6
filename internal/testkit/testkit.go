// Package testkit holds the few things that tests of several modules need and
// that the testing package does not give: golden files, a logger that writes to
// the test, a goroutine leak check, polling with a deadline, certificates, and
// a janitor for child processes.
//
// It is for tests only; nothing that ships imports it.
package testkit

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Missing skips a test that needs a program which this machine lacks. Where
// TEST_COMPLETE is set, as by CI, the test fails: there everything is
// installed, and a skip would hide that it was not.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("TEST_COMPLETE") != "" {
		t.Fatalf("missing, and TEST_COMPLETE is set: %s", what)
	}
	t.Skip(what)
}

// Root returns the repository's root folder: the nearest folder above the
// working directory that has the workspace file. Tests run in the folder of
// their package, so it works in each of them.
func Root() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		_, err := os.Stat(filepath.Join(dir, "go.work"))
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("find the repository: %w", err)
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("find the repository: no go.work in %s or above it", start)
		}
	}
}

// RepoFile is the content of a file of the repository, by its path from the root.
func RepoFile(t testing.TB, path string) []byte {
	t.Helper()
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Listen opens a TCP listener on a free loopback port and closes it with the
// test. Hand the listener itself to the server under test: a port number that
// was free a moment ago may not be free any more.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("open a loopback listener: %v", err)
	}
	// The server usually closes it first; a second close is harmless.
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// addresses counts those that this process has given out.
var addresses atomic.Uint32

// Address returns a loopback address that nobody has now, for a program that cannot be given a
// listener or that returns on its port. The port is below those that systems give to connections
// and to who listens on port 0, so that none of these takes it in between.
func Address(t testing.TB) string {
	t.Helper()
	const lowest, ports = 12000, 20000
	for range ports {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+(37*os.Getpid()+int(addresses.Add(1)))%ports))
		if err != nil {
			continue // somebody has it
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("no loopback port is free")
	return ""
}

// Patience is how long a test waits for what happens outside this process. It
// is not what the product promises: a machine that is busy with other tests may
// stand still for many seconds, and a test that passes never waits for it.
const Patience = 2 * time.Minute

// Eventually calls check until it returns nil and fails the test with check's
// last error if that takes longer than [Patience]. It is for what happens
// outside this process; inside it, wait on a channel or use testing/synctest.
func Eventually(t testing.TB, check func() error) {
	t.Helper()
	Within(t, Patience, check)
}

// Within is [Eventually] with a time of its own, for what takes longer.
func Within(t testing.TB, timeout time.Duration, check func() error) {
	t.Helper()
	if err := Poll(timeout, check); err != nil {
		t.Fatal(err)
	}
}

// Poll is [Eventually] for code that has no test at hand: it returns nil as
// soon as check does, and otherwise, after timeout, an error that wraps check's
// last one. check runs at least once, and once more after the timeout.
func Poll(timeout time.Duration, check func() error) error {
	const (
		shortest = 2 * time.Millisecond
		longest  = 100 * time.Millisecond // a busy machine must not be kept busy by asking
	)
	deadline := time.Now().Add(timeout)
	for pause := shortest; ; pause = min(2*pause, longest) {
		err := check()
		if err == nil {
			return nil
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("not within %v: %w", timeout, err)
		}
		time.Sleep(min(pause, left))
	}
}

// NoLeaks fails the test if, when it has ended and every cleanup registered
// after this call has run, goroutines are left that did not exist at this call.
// Call it first in the test. Not for parallel tests: their neighbours'
// goroutines would count.
func NoLeaks(t testing.TB) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		t.Helper()
		if t.Failed() {
			return // a test that broke off leaves things behind; its own message is the one to read
		}
		goleak.VerifyNone(t, before)
	})
}
