package smallfile

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/testkit"
)

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	testkit.WriteFile(t, path, []byte(content))
	return path
}

func TestRead(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		{"plain", "a\n", "a\n"},
		{"empty", "", ""},
		{"byte-order mark", "\ufeffa\r\n", "a\r\n"},
		{"at the limit", strings.Repeat("a", int(Secret)), strings.Repeat("a", int(Secret))},
	} {
		if got, err := Read(file(t, test.content), Secret); err != nil || string(got) != test.want {
			t.Errorf("%s: %.20q, error %v", test.name, got, err)
		}
	}
	if _, err := Read(t.TempDir(), YAML); err == nil {
		t.Error("a folder was read")
	}
	if got, err := Read(os.DevNull, YAML); err != nil || len(got) > 0 {
		t.Errorf("%s: %q, error %v", os.DevNull, got, err)
	}
}

// What is too large is refused before it is in memory, whether its size is known
// or not: a sparse file of a terabyte, a device without end, a pipe.
func TestTooLarge(t *testing.T) {
	sparse := file(t, "")
	if err := os.Truncate(sparse, 1<<40); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	much := bytes.Repeat([]byte("a"), 10<<20)
	written := make(chan struct{})
	go func() {
		defer close(written)
		w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for the reader
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = w.Write(much) // ends when the reader is gone
		_ = w.Close()
	}()
	for _, path := range []string{file(t, strings.Repeat("a", int(YAML)+1)), sparse, "/dev/zero", pipe} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Read(path, YAML)
		for path == pipe && err == nil { // opened before its writer
			_, err = Read(path, YAML)
		}
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), path+" is larger than the limit of 256 KiB") {
			t.Errorf("%s: error %v; it must name file and limit", path, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
			t.Errorf("%s took %d bytes of memory to refuse", path, took)
		}
	}
	<-written
}

// A pipe that nobody writes to must not hold up the start for ever.
func TestAPipeThatNobodyWritesTo(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		content, err := Read(pipe, Secret)
		if len(content) > 0 {
			t.Errorf("read %q of nothing", content)
		}
		ended <- err
	}()
	select {
	case <-ended: // empty, which is for the caller to judge
	case <-time.After(2 * patience):
		t.Fatal("still waiting")
	}
}
