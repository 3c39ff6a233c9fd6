package sqlite_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
	"github.com/weir-metrics/weir/services/collector/internal/store/storetest"
)

// writerVariable makes this test binary the process that TestKilled kills.
const writerVariable = "WEIR_TEST_SQLITE_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerVariable); path != "" {
		if err := writeForEver(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeForEver appends and prints each revision once the store has vouched for it.
func writeForEver(path string) error {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, sqlite.Options{Path: path, Settings: storetest.Settings})
	if err != nil {
		return err
	}
	lease, err := s.Acquire(ctx, "writer", time.Hour)
	if err != nil {
		return err
	}
	for at := lease.Head.Position; ; {
		if at, err = s.Append(ctx, lease.Term, at, batch(int(at.Revision))); err != nil {
			return err
		}
		fmt.Println(at.Revision)
	}
}

// TestKilled kills a process in the middle of its appends. Everything that it
// was told is stored is there, the chain is whole, and the file is free for the
// next process at once.
func TestKilled(t *testing.T) {
	path := newFile(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for round := range 3 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), writerVariable+"="+path)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
			if n == 10*(round+1) {
				cmd.Process.Kill() // and read what it had still said
			}
		}
		cmd.Wait()
		if said.Len() > 0 {
			t.Fatalf("the writer said: %s", said.String())
		}

		s := open(t, path)
		entries, err := s.ReadLog(t.Context(), 0, 1_000_000)
		if err != nil {
			t.Fatal(err)
		}
		// One more may have been committed when the word of it was not yet out.
		if n := len(entries); n != acknowledged && n != acknowledged+1 {
			t.Fatalf("%d entries are stored, %d were acknowledged", n, acknowledged)
		}
		var at bucket.Position
		for i, e := range entries {
			want := bucket.Position{Revision: at.Revision + 1, Chain: at.Chain.Next(e.Kind, e.CommittedAt, e.Payload)}
			if e.Position != want || string(e.Payload) != string(batch(i).Entries[0].Payload) {
				t.Fatalf("entry %d is at %v with %s, want %v", i, e.Position, e.Payload, want)
			}
			at = e.Position
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
