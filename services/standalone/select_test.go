package standalone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-metrics/weir/internal/bucket"
)

// A time that the API does not have is refused by the name of its flag, and the range of
// stored samples ends at the present.
func TestSelectionTimes(t *testing.T) {
	now := time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)
	past, future := now.AddDate(0, 0, -1), now.AddDate(0, 0, 1)
	for _, c := range []struct {
		name string
		sel  selection
		want string // of the error
	}{
		{"a day", selection{start: past, end: now}, ""},
		{"until a later time", selection{start: past, end: future}, ""},
		{"until the end of time", selection{start: past, end: lastSecond}, ""},
		{"until 1970", selection{end: time.Unix(0, 0)}, "--end"},
		{"from before 1970", selection{start: time.Unix(-1, 0), end: now}, "--start"},
		{"after the year 9999", selection{start: past, end: lastSecond.Add(time.Second)}, "--end"},
		{"from the future", selection{start: future, end: lastSecond}, "--start"},
	} {
		switch err := c.sel.past(now); {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)):
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		case err == nil && c.sel.history(now, false).Range != (bucket.Window{Start: bucket.TimeOf(past), End: bucket.TimeOf(now)}):
			t.Errorf("%s: the range is %v", c.name, c.sel.history(now, false).Range)
		}
	}
}

// A file is replaced when the new one is whole, and not before.
func TestReplacement(t *testing.T) {
	folder := t.TempDir()
	path, link := filepath.Join(folder, "findings"), filepath.Join(folder, "link")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	write := func(name string, commit bool, want string) {
		t.Helper()
		f, err := replace(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("new"); err != nil {
			t.Fatal(err)
		}
		if commit {
			if err := f.commit(); err != nil {
				t.Fatal(err)
			}
		}
		f.discard()
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("the file has %q, %v; want %q", got, err, want)
		}
	}
	write(path, false, "old")
	write(link, true, "new")
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	write(os.DevNull, true, "new")
	if left, err := os.ReadDir(folder); err != nil || len(left) != 2 {
		t.Errorf("in the folder: %v, %v", left, err)
	}
}
