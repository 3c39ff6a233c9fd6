package sqlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weir-metrics/weir/services/collector/internal/store"
	"github.com/weir-metrics/weir/services/collector/internal/store/sqlite"
)

// What is written to a file that somebody has removed is lost with the process, so
// it is refused until the file is where it was.
func TestAFileThatWasReplacedIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.db")
	if err := sqlite.Migrate(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Settings: store.Settings{SampleTimestamp: "end"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	acquire := func() error {
		_, err := s.Acquire(t.Context(), "test", 15*time.Second)
		return err
	}
	aside := path + ".aside"
	for what, change := range map[string]func() error{
		"removed":  func() error { return os.Rename(path, aside) },
		"replaced": func() error { return errors.Join(os.Rename(path, aside), os.WriteFile(path, nil, 0o600)) },
	} {
		if err := acquire(); err != nil {
			t.Fatalf("before it is %s: %v", what, err)
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := acquire(); !errors.Is(err, store.ErrReplaced) || !store.NeedsRepair(err) || store.Reason(err) != "replaced" {
			t.Errorf("%s: %v; want an error that an operator mends", what, err)
		}
		if err := os.Rename(aside, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := acquire(); err != nil {
		t.Errorf("after it was put back: %v", err)
	}
}
