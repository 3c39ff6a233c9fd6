package pgtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

// A server that is frozen answers nobody, and goes on when it is thawed.
func TestFrozen(t *testing.T) {
	testkit.InAll(t)
	s := Start(t)
	dsn := s.DSN()
	s.Freeze()
	answered := make(chan error, 1)
	go func() {
		_, err := runPsql(s.psql, dsn, "SELECT 1")
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("a frozen server answered: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	s.Thaw()
	if err := <-answered; err != nil {
		t.Errorf("after the thaw: %v", err)
	}
}

// A server whose connections are all taken refuses others, until they are released.
func TestOccupied(t *testing.T) {
	testkit.InAll(t)
	s := Start(t, "max_connections=10")
	dsn := s.DSN()
	release := s.Occupy()
	defer release()
	testkit.Eventually(t, func() error {
		_, err := runPsql(s.psql, dsn, "SELECT 1")
		if err == nil {
			return errors.New("there is a connection left")
		}
		if !strings.Contains(err.Error(), "too many clients") && !strings.Contains(err.Error(), "remaining connection slots") {
			t.Fatalf("got %v, want that there are too many clients", err)
		}
		return nil
	})
	release()
	testkit.Eventually(t, func() error {
		_, err := runPsql(s.psql, dsn, "SELECT 1")
		return err
	})
}

// TestPowerCut: what was synced is there when the power is back, and what was
// not is gone.
func TestPowerCut(t *testing.T) {
	testkit.InAll(t)
	disk, err := NewPoweredDisk(t, 32<<20)
	if errors.Is(err, ErrNoMount) {
		t.Skipf("needs a file system of its own, which this machine may not mount: %v", err)
	}
	write := func(name string, sync bool) *os.File {
		t.Helper()
		f, err := os.Create(filepath.Join(disk.Path(), name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("content"); err != nil {
			t.Fatal(err)
		}
		if sync {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		return f
	}
	kept := write("kept", true)
	lost := write("lost", false)
	if _, err := kept.WriteString(" and more"); err != nil {
		t.Fatal(err)
	}
	disk.Cut()
	if _, err := lost.WriteString("x"); err == nil {
		t.Error("a disk without power took a write")
	}
	kept.Close()
	lost.Close()
	disk.Restore()
	if got, err := os.ReadFile(filepath.Join(disk.Path(), "kept")); err != nil || string(got) != "content" {
		t.Errorf("what was synced is %q, %v", got, err)
	}
	if got, err := os.ReadFile(filepath.Join(disk.Path(), "lost")); err == nil && len(got) > 0 {
		t.Errorf("what was not synced is %q", got)
	}
}
