//go:build unix

package sqlite_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/testkit"
)

// TestPowerCut copies the files of a store at random moments of a process that
// appends without a pause, and folds the write-ahead log into the file now and
// then. Each copy is a store: whole, with everything that was vouched for by
// then, without the shared memory too, and with rubbish where a write had been
// under way.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	writer := startWriter(t, path)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var after int64
	for range 12 {
		after = writer.acknowledged.Load() + 1 + r.Int64N(60) // several folds of the log into the file in all
		writer.await(t, after)
		time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond) // another moment of an append each time
		least := writer.acknowledged.Load()
		stop(t, writer.cmd.Process)
		copies := map[string]string{}
		for _, what := range []string{"as it is", "without shared memory", "with a torn end"} {
			copies[what] = copyFiles(t, path, what != "as it is")
		}
		if err := writer.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		tear(t, copies["with a torn end"]+"-wal", r)
		for what, file := range copies {
			if n := checkCopy(t, file); n < least {
				t.Errorf("seed %d: a copy %s has %d entries, %d were acknowledged", seed, what, n, least)
			}
		}
	}
}

// writing is a process that appends without a pause.
type writing struct {
	cmd          *exec.Cmd
	acknowledged atomic.Int64 // the newest revision that the store has vouched for
	read         chan struct{}
}

// startWriter starts such a process, which is killed when the test ends.
func startWriter(t *testing.T, path string) *writing {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &writing{cmd: exec.Command(self), read: make(chan struct{})}
	w.cmd.Env = append(os.Environ(), writerVariable+"="+path)
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(w.read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				w.acknowledged.Store(n)
			}
		}
	}()
	t.Cleanup(w.kill)
	return w
}

// await waits until the store has vouched for a revision.
func (w *writing) await(t *testing.T, revision int64) {
	t.Helper()
	testkit.Eventually(t, func() error {
		select {
		case <-w.read:
			t.Fatal("the writer has ended")
		default:
		}
		if n := w.acknowledged.Load(); n < revision {
			return fmt.Errorf("%d appends, waiting for %d", n, revision)
		}
		return nil
	})
}

// kill ends the process, if it has not ended by itself.
func (w *writing) kill() {
	w.cmd.Process.Kill()
	<-w.read     // the pipe must be read before Wait
	w.cmd.Wait() // it says "signal: killed"
}

// stop stops a process and waits until it stands still.
func stop(t *testing.T, p *os.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.Pid, &status, syscall.WUNTRACED, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || !status.Stopped() {
			t.Fatalf("stop the writer: %v, status %v", err, status)
		}
		return
	}
}

func copyFiles(t *testing.T, path string, cut bool) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "weir.db")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if cut && suffix == "-shm" {
			continue
		}
		content, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		testkit.WriteFile(t, to+suffix, content)
	}
	return to
}

// tear puts rubbish behind the last commit of a write-ahead log, as a write that
// was under way may leave it. A frame is a header of 24 bytes, whose second word
// is above zero when it commits and whose third and fourth are the log's salt,
// and a page; see SQLite's file format.
func tear(t *testing.T, wal string, r *rand.Rand) {
	t.Helper()
	content, err := os.ReadFile(wal)
	if err != nil {
		t.Fatal(err)
	}
	const header, frame = 32, 24
	if len(content) < header {
		return
	}
	size := int(binary.BigEndian.Uint32(content[8:]))
	end := header
	for at := header; at+frame+size <= len(content) && string(content[at+8:at+16]) == string(content[16:24]); at += frame + size {
		if binary.BigEndian.Uint32(content[at+4:]) > 0 {
			end = at + frame + size
		}
	}
	rubbish := make([]byte, r.IntN(3*(frame+size)))
	for i := range rubbish {
		rubbish[i] = byte(r.Uint32())
	}
	if len(rubbish) >= 16 { // looks like the frame that was begun
		copy(rubbish[8:], content[16:24])
	}
	testkit.WriteFile(t, wal, append(content[:end:end], rubbish...))
}

// checkCopy opens a copy, checks that it is a gapless prefix of what the writer
// writes, appends one more, and returns how many entries it had.
func checkCopy(t *testing.T, path string) int64 {
	t.Helper()
	s := open(t, path)
	defer s.Close()
	entries, err := s.ReadLog(t.Context(), 0, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	var at bucket.Position
	for i, e := range entries {
		want := bucket.Position{Revision: at.Revision + 1, Chain: at.Chain.Next(e.Kind, e.CommittedAt, e.Payload)}
		if e.Position != want || string(e.Payload) != string(batch(i).Entries[0].Payload) {
			t.Fatalf("entry %d is at %v with %s, want %v", i, e.Position, e.Payload, want)
		}
		at = e.Position
	}
	lease, err := s.Acquire(t.Context(), "writer", time.Hour)
	if err != nil || lease.Head.Position != at {
		t.Fatalf("the head is %v, %v; the log ends at %v", lease.Head.Position, err, at)
	}
	if _, err := s.Append(t.Context(), lease.Term, at, batch(len(entries))); err != nil {
		t.Errorf("append to a copy: %v", err)
	}
	return int64(len(entries))
}
