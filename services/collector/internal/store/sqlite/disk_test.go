//go:build unix

package sqlite_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/pgtest"
	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

// TestDurable: whatever may write waits for the disk, as package sqlite says
// why. TestPowerLoss shows it where it can; this is everywhere.
func TestDurable(t *testing.T) {
	s := open(t, newFile(t))
	for pragma, want := range map[string]string{
		"synchronous":  "2", // FULL
		"journal_mode": "wal",
		"query_only":   "0",
	} {
		for i, got := range s.WriterPragma(t, pragma) {
			if got != want {
				t.Errorf("%s of connection %d that writes is %s, want %s", pragma, i, got, want)
			}
		}
	}
	for i, got := range s.ReaderPragma(t, "query_only") {
		if got != "1" {
			t.Errorf("connection %d, made for reading, may write, and nobody told it to wait for the disk", i)
		}
	}
}

// TestPowerLoss takes the power from the disk of a process that appends without
// a pause. When it is back, everything that was vouched for is there: what was
// not synced is lost here, unlike in the copies of TestPowerCut.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	disk, err := pgtest.NewPoweredDisk(t, 64<<20)
	if errors.Is(err, pgtest.ErrNoMount) {
		t.Skipf("needs a file system of its own, which this machine may not mount: %v", err)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(disk.Path(), "weir.db")
	migrate(t, path)
	disk.Cut() // what Migrate made is whole too
	disk.Restore()
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	var have int64
	for range 4 {
		w := startWriter(t, path)
		w.await(t, have+1+r.Int64N(150)) // before and after a fold of the log into the file
		time.Sleep(time.Duration(r.IntN(3000)) * time.Microsecond)
		// Between two of its calls to the system: an fsync that is under way may
		// be told that all is well by an ext4 whose power is gone.
		stop(t, w.cmd.Process)
		disk.Cut()
		w.kill()
		disk.Restore()
		have = checkCopy(t, path)
		if least := w.acknowledged.Load(); have < least {
			t.Errorf("seed %d: %d entries are left, %d were acknowledged", seed, have, least)
		}
		have++ // checkCopy's own
	}
}

// TestFullDisk: an append for which there is no room fails as a whole and says
// why; reading goes on, and so does appending when there is room. It is so with
// the limit that SQLite itself has, and with a file system that is full.
func TestFullDisk(t *testing.T) {
	t.Run("limit", func(t *testing.T) {
		path := newFile(t)
		s := open(t, path)
		testFullDisk(t, path, s, func() { s.Fill(t, 100) }, func() { s.Fill(t, 0) })
	})
	t.Run("file system", func(t *testing.T) {
		disk, err := pgtest.NewDisk(t, 4<<20)
		if errors.Is(err, pgtest.ErrNoMount) {
			t.Skipf("needs a file system of its own, which this machine may not mount: %v", err)
		}
		path := filepath.Join(disk.Path(), "weir.db")
		migrate(t, path)
		testFullDisk(t, path, open(t, path), disk.Fill, disk.Free)
	})
}

func testFullDisk(t *testing.T, path string, s *sqlite.Store, fill, free func()) {
	t.Helper()
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
	for ; ; n++ {
		if n == 3 { // so that there is something to read
			fill()
		}
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
		if !errors.Is(err, store.ErrNoSpace) || !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "full") || !strings.Contains(err.Error(), path) {
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
	free()
	if at, err = s.Append(t.Context(), lease.Term, at, large()); err != nil || at.Revision != bucket.Revision(n+1) {
		t.Errorf("append when there is room again: %v, %v", at, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	again, err := sqlite.Open(t.Context(), sqlite.Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
