package sqlite

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file that a command cannot open, since it is another user's, is explained. What is
// beside the file has the same permissions; here nobody can open it.
func TestOpenBesideOfAnotherUser(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.db")
	if err := Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	for _, beside := range []string{"-wal", "-shm"} {
		if err := os.RemoveAll(path + beside); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := OpenBeside(t.Context(), path, nil); err != nil {
		t.Fatal(err)
	} else if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+"-wal", 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := OpenBeside(t.Context(), path, nil)
	if err == nil {
		t.Fatal(s.Close(), "it was opened")
	}
	if !strings.Contains(err.Error(), "run the command as the user of the collector") {
		t.Error(err)
	}
}
