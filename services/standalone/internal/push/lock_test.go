package push

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/services/standalone/internal/deliver"
)

func open(t *testing.T, path string) *CursorFile {
	t.Helper()
	f, _, err := OpenCursor(path, "http://a/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // some are closed already
	return f
}

// A cursor has one process, whatever the name by which it is opened.
func TestACursorIsLockedByWhatItIs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cursor.json")
	f := open(t, path)
	if err := f.Save(&Cursor{StoreID: "s"}); err != nil {
		t.Fatal(err)
	}
	folder, file := filepath.Join(dir, "folder"), filepath.Join(dir, "link.json")
	if err := errors.Join(os.Symlink(dir, folder), os.Symlink("cursor.json", file), os.Symlink("nothing", filepath.Join(dir, "dangling"))); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{path, dir + "/./cursor.json", file, filepath.Join(folder, "cursor.json"), filepath.Join(folder, "link.json")} {
		if _, _, err := OpenCursor(other, "http://a/"); err == nil || !strings.Contains(err.Error(), "in use by another weir push") {
			t.Errorf("%s is opened too: %v", other, err)
		}
	}
	if _, _, err := OpenCursor(filepath.Join(dir, "dangling"), "http://a/"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a link to nothing: %v", err)
	}
	hard := filepath.Join(dir, "hard.json")
	if err := os.Link(path, hard); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenCursor(hard, "http://a/"); err == nil || !strings.Contains(err.Error(), "2 names") {
		t.Errorf("a second name: %v", err)
	}
	if err := errors.Join(os.Remove(hard), f.Close()); err != nil {
		t.Fatal(err)
	}
	// A link stays one when the cursor is written.
	l := open(t, file)
	if err := l.Save(&Cursor{StoreID: "s", Position: bucket.Position{Revision: 1, Chain: bucket.Chain{1}}}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(file); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info, err)
	}
}

// A report has one process, and is no file of the cursor.
func TestAReportIsLocked(t *testing.T) {
	dir := t.TempDir()
	cursor, other := open(t, filepath.Join(dir, "c.json")), open(t, filepath.Join(dir, "d.json"))
	if err := cursor.Save(&Cursor{StoreID: "s"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(dir, filepath.Join(dir, "folder")), os.Symlink("c.json", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"c.json", "./c.json", "c.json.lock", "c.json.tmp", "folder/c.json", "folder/c.json.lock", "link"} {
		if _, err := OpenReport(dir+"/"+name, cursor); err == nil || !strings.Contains(err.Error(), "another file") {
			t.Errorf("report %s: %v", name, err)
		}
	}
	r, err := OpenReport(filepath.Join(dir, "r"), cursor)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReport(filepath.Join(dir, "folder", "r"), other); err == nil || !strings.Contains(err.Error(), "in use by another weir push") {
		t.Errorf("a second process: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = OpenReport(filepath.Join(dir, "r"), other); err != nil {
		t.Errorf("after it was closed: %v", err)
	} else if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// The place in the history is kept, in a form that older releases refuse.
func TestCursorWithHistory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cursor.json")
	f := open(t, path)
	at := bucket.TimeOf(feedtest.T0)
	want := &Cursor{
		StoreID: "s", Position: bucket.Position{Revision: 7, Chain: bucket.Chain{1, 2}}, Until: feedtest.T0,
		History: &History{Since: at.Add(-3 * day), Through: at.Add(day), Day: midnight(at), Token: "abc"},
	}
	if err := f.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := f.read()
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	last := *want
	last.History = &History{Since: at, Through: at.Add(day), Day: midnight(at).Add(2 * day)}
	if err := f.Save(&last); err != nil {
		t.Fatal(err)
	}
	if _, err := f.read(); err != nil {
		t.Errorf("at the last day: %v", err)
	}
	if err := f.Save(want); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), `"weir-push-cursor-2"`) {
		t.Errorf("%s, %v", text, err)
	}
	for old, replaced := range map[string]string{
		"cursor-2":               "cursor-1",
		`"revision": 7`:          `"revision": 0`,
		strings.Repeat("00", 14): "00",
		`T00:00:00Z"`:            `T00:00:01Z"`,
	} {
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, replaced)), 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := f.read(); err == nil {
			t.Errorf("with %s it is %+v", replaced, c)
		}
	}
}

// A certificate that cannot be verified is not a destination that does not answer.
func TestFailuresAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		p, stop := g.start()
		for _, tc := range []struct {
			err  error
			want string
		}{
			{&deliver.BusyError{Err: fmt.Errorf("post: %w", &tls.CertificateVerificationError{Err: errors.New("signed by unknown authority")})}, "certificate cannot be verified: signed by unknown authority"},
			{&deliver.BusyError{Err: errors.New("connection refused")}, "does not answer"},
			{&deliver.BusyError{Status: 503, Err: errors.New("x")}, "answers with 503"},
		} {
			settled(time.Second)
			p.failed(tc.err, time.Second)
			if err := p.Ready(); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v: readiness is %v", tc.err, err)
			}
		}
		stop()
	})
}
