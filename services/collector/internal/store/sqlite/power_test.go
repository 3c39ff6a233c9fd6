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
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

// TestPowerCut copies the files of a store at random moments of a process that
// appends without a pause, and folds the write-ahead log into the file now and
// then. Each copy is a store: whole, with everything that was vouched for by
// then, without the shared memory too, and with rubbish where a write had been
// under way.
func TestPowerCut(t *testing.T) {
	t.Parallel()
	path := newFile(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	writer := exec.Command(self)
	writer.Env = append(os.Environ(), writerVariable+"="+path)
	out, err := writer.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged atomic.Int64
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				acknowledged.Store(n)
			}
		}
	}()
	defer writer.Wait()       // it says "signal: killed"
	defer func() { <-read }() // the pipe must be read before Wait
	defer writer.Process.Kill()

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	var after int64
	for range 12 {
		after = acknowledged.Load() + 1 + r.Int64N(60) // several folds of the log into the file in all
		testkit.Eventually(t, time.Minute, func() error {
			if n := acknowledged.Load(); n < after {
				return fmt.Errorf("%d appends, waiting for %d", n, after)
			}
			return nil
		})
		time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond) // another moment of an append each time
		least := acknowledged.Load()
		stop(t, writer.Process)
		copies := map[string]string{}
		for _, what := range []string{"as it is", "without shared memory", "with a torn end"} {
			copies[what] = copyFiles(t, path, what != "as it is")
		}
		if err := writer.Process.Signal(syscall.SIGCONT); err != nil {
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

// TestFullDisk: an append for which there is no room fails as a whole and says
// why; reading goes on, and so does appending when there is room.
func TestFullDisk(t *testing.T) {
	path := newFile(t)
	s := open(t, path)
	lease, err := s.Acquire(t.Context(), "test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	at, n := lease.Head.Position, 0
	large := func() store.Batch {
		b := batch(n)
		b.Entries[0].Payload = []byte(strings.Repeat(fmt.Sprintf("payload %d ", n), 5000))
		b.Records = []store.Record{{Kind: "gap", Key: "newest", Value: fmt.Appendf(nil, "%d", n)}}
		return b
	}
	s.Fill(t, 100)
	for ; ; n++ {
		if n == 100 {
			t.Fatal("the disk is not full")
		}
		head, appendErr := s.Append(t.Context(), lease.Term, at, large())
		if err = appendErr; err != nil {
			break
		}
		at = head
	}
	for range 2 { // again is no different
		if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "full") || !strings.Contains(err.Error(), path) {
			t.Errorf("append to a full disk: %v", err)
		}
		head, headErr := s.Head(t.Context())
		if headErr != nil || head.Position != at {
			t.Errorf("the head is %v, %v; want %v", head.Position, headErr, at)
		}
		entries, readErr := s.ReadLog(t.Context(), 0, 1000)
		if readErr != nil || len(entries) != n {
			t.Errorf("%d entries, %v; want %d", len(entries), readErr, n)
		}
		records, readErr := s.Records(t.Context(), "gap")
		if readErr != nil || len(records) != 1 || string(records[0].Value) != fmt.Sprint(n-1) {
			t.Errorf("records %s, %v; want those of append %d", records, readErr, n-1)
		}
		_, err = s.Append(t.Context(), lease.Term, at, large())
	}
	s.Fill(t, 0)
	if at, err = s.Append(t.Context(), lease.Term, at, large()); err != nil || at.Revision != bucket.Revision(n+1) {
		t.Errorf("append when there is room again: %v, %v", at, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := sqlite.Open(t.Context(), sqlite.Options{Path: path}); err != nil {
		t.Error(err)
	}
}
