package testkit

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// update is registered as -update in every test binary that imports testkit.
var update = flag.Bool("update", false, "write golden files instead of comparing with them")

// Golden compares got with the file at path, relative to the folder of the
// package under test, and fails the test with a diff if they differ. With
// -update it writes the file and its folders instead.
func Golden(t testing.TB, path string, got []byte) {
	t.Helper()
	if err := golden(path, got, *update); err != nil {
		t.Error(err)
	}
}

func golden(path string, got []byte, write bool) error {
	if write {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("update golden file: %w", err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			return fmt.Errorf("update golden file: %w", err)
		}
		return nil
	}
	want, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("golden file %s does not exist: look at the output, then run go test -update\n%s", path, got)
	}
	if err != nil {
		return fmt.Errorf("read golden file: %w", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		return fmt.Errorf("%s is not what the code produces; if the change is meant, run go test -update (-file +now):\n%s", path, diff)
	}
	return nil
}
