package sqlite_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

// Whatever name a file is opened by, it is one file, and one process has it.
func TestOneProcessByWhateverName(t *testing.T) {
	path := newFile(t)
	s := open(t, path)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]func(string, string) error{"hard": os.Link, "symbolic": os.Symlink} {
		other := filepath.Join(t.TempDir(), name+".db")
		if err := link(path, other); err != nil {
			t.Fatal(err)
		}
		if _, err := sqlite.Open(t.Context(), sqlite.Options{Path: other}); !errors.Is(err, sqlite.ErrInUse) || !strings.Contains(err.Error(), "another path") {
			t.Errorf("%s link, the same process: %v; want that it is in use", name, err)
		}
		if err := sqlite.Migrate(t.Context(), other); !errors.Is(err, sqlite.ErrInUse) {
			t.Errorf("%s link, migrate: %v; want that it is in use", name, err)
		}
		// SQLite and operators' tools close descriptors of the file, too.
		if _, err := os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // one that gets in writes for ever
		child := exec.CommandContext(ctx, self)
		child.Env = append(os.Environ(), writerVariable+"="+other)
		if out, err := child.CombinedOutput(); err == nil || !strings.Contains(string(out), sqlite.ErrInUse.Error()+" by another process under another path") {
			t.Errorf("%s link, another process: %v, %s; want that it is in use", name, err, out[:min(len(out), 1000)])
		}
		cancel()
		if err := os.Remove(other); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "moved.db")
	if err := os.Rename(path, other); err != nil {
		t.Fatal(err)
	}
	open(t, other)
}

// What is stored is its owner's business, whatever the umask says.
func TestFilesAreTheOwnersOnly(t *testing.T) {
	before := syscall.Umask(0)
	t.Cleanup(func() { syscall.Umask(before) })
	path := filepath.Join(t.TempDir(), "weir.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	open(t, path)
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		info, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("weir.db%s has mode %o, want 600", suffix, got)
		}
	}
}

// A child that is forked has all files of the process open until it executes its program.
// A store that is closed at that moment is free nevertheless.
func TestCloseReleasesWhatAForkHasOpen(t *testing.T) {
	path := newFile(t)
	s := open(t, path)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var copies []int
	for _, e := range fds {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || !strings.HasPrefix(target, path) {
			continue
		}
		c, err := syscall.Dup(fd)
		if err != nil {
			t.Fatal(err)
		}
		copies = append(copies, c)
	}
	defer func() {
		for _, c := range copies {
			if err := syscall.Close(c); err != nil {
				t.Error(err)
			}
		}
	}()
	if len(copies) < 2 {
		t.Fatalf("the process has %d files at %s open, want the lock and the database", len(copies), path)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := sqlite.Open(t.Context(), sqlite.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}
