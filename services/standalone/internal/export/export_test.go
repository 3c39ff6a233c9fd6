package export

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/bucket"
	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/feedtest"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone/internal/history"
)

func TestParseLabels(t *testing.T) {
	got, err := ParseLabels([]string{"job=weir", "instance=a=b:1"})
	if diff := cmp.Diff([]Label{{"instance", "a=b:1"}, {"job", "weir"}}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range [][]string{{"job"}, {"job="}, {"1x=a"}, {"__name__=a"}, {"a-b=c"}, {"job=a", "job=b"}} {
		if got, err := ParseLabels(bad); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}

func TestCheckLabels(t *testing.T) {
	groups := []history.Group{{Families: map[string][]string{"x_by_status": {"status"}}}}
	both := []Label{{"instance", "i"}, {"job", "weir"}}
	if err := checkLabels(both, groups); err != nil {
		t.Error(err)
	}
	for _, tc := range []struct {
		labels []Label
		want   string
	}{
		{both[1:], "label instance is required"},
		{both[:1], "label job is required"},
		{append([]Label{{"zone", "a"}}, both...), "label zone belongs to the data"},
		{append([]Label{{"status", "a"}}, both...), "label status is one of family x_by_status"},
	} {
		if err := checkLabels(tc.labels, groups); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, want %q", tc.labels, err, tc.want)
		}
	}
}

// Clean removes what the manifest names and nothing else, also in a data folder; a file
// that was changed, and the manifest with it, stays.
func TestClean(t *testing.T) {
	base := t.TempDir()
	folder, staging := filepath.Join(base, "export"), filepath.Join(base, "data", ".weir-import-0123abcd")
	for _, dir := range []string{folder, filepath.Join(folder, "parts.tmp"), filepath.Join(staging, "x"), filepath.Join(base, "data", ".weir-import-fedcba98")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string) { testkit.WriteFile(t, filepath.Join(folder, name), []byte(name)) }
	sum := sha256.Sum256([]byte("a.om"))
	m := &Manifest{Format: format, Labels: []Label{}, Others: []string{"blocks.json"}, Staging: []string{staging}, Files: []File{
		{Name: "a.om", Done: true, Samples: 1, Bytes: 4, SHA256: hex.EncodeToString(sum[:])}, {Name: "b.om", Done: true, Samples: 1, Bytes: 4, SHA256: hex.EncodeToString(sum[:])}, {Name: "c.om"},
	}}
	if err := m.Save(folder); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a.om", "b.om", "c.om.tmp", "blocks.json", "mine.txt", "parts.tmp/x", "part.tmp"} {
		write(name)
	}
	link := filepath.Join(base, "link")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	if c, err := Clean(link+"/", false); err == nil || !strings.Contains(err.Error(), "is a symbolic link") {
		t.Errorf("through a symbolic link: removed %+v, %v", c, err)
	}
	dry, err := Clean(folder, true)
	if err != nil || len(dry.Removed) != 5 || len(dry.Kept) != 1 {
		t.Fatalf("would remove %v and keep %v: %v", dry.Removed, dry.Kept, err)
	}
	c, err := Clean(folder, false)
	if err != nil || len(c.Kept) != 1 || !strings.Contains(c.Kept[0], "b.om has changed since it was exported") {
		t.Errorf("kept %v: %v", c.Kept, err)
	}
	if diff := cmp.Diff(dry.Removed, c.Removed); diff != "" {
		t.Errorf("removed something else than it said (-said +removed):\n%s", diff)
	}
	left := func() (names []string) {
		for _, dir := range []string{folder, filepath.Join(base, "data")} {
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				names = append(names, e.Name())
			}
		}
		return names
	}
	if diff := cmp.Diff([]string{"b.om", "manifest.json", "mine.txt", "parts.tmp", ".weir-import-fedcba98"}, left()); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
	testkit.WriteFile(t, filepath.Join(folder, "b.om"), []byte("a.om"))
	if err := os.Mkdir(staging, 0o755); err != nil { // by a copy of the export
		t.Fatal(err)
	}
	release, err := Hold(filepath.Dir(staging))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Clean(folder, false); err == nil || !strings.Contains(err.Error(), "folder "+filepath.Dir(staging)+" is in use") {
		t.Errorf("clean while an import works in the data folder: %v", err)
	}
	release()
	if _, err := Clean(folder, false); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"mine.txt", "parts.tmp", ".weir-import-fedcba98"}, left()); diff != "" {
		t.Errorf("left at the end (-want +got):\n%s", diff)
	}
	alone := filepath.Join(base, "alone")
	if err := os.Mkdir(alone, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := (&Manifest{Format: format}).Save(alone); err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		c, err := Clean(alone, dry)
		if diff := cmp.Diff([]string{filepath.Join(alone, ManifestName), alone}, c.Removed); diff != "" || err != nil {
			t.Errorf("of a folder with nothing else (dry: %t), %v (-want +got):\n%s", dry, err, diff)
		}
	}
	if _, err := os.Stat(alone); !os.IsNotExist(err) {
		t.Errorf("the empty folder is left: %v", err)
	}
}

// A manifest that names something outside its folder is refused.
func TestManifestNamesOnlyItsOwn(t *testing.T) {
	for _, m := range []*Manifest{
		{Files: []File{{Name: "../x"}}},
		{Files: []File{{Name: ""}}},
		{Others: []string{"/etc/passwd"}},
		{Others: []string{".."}},
		{Staging: []string{"/var/lib/prometheus"}},
		{Staging: []string{".weir-import-0123abcd"}},
		{Staging: []string{"/var/lib/prometheus/.weir-import"}},
	} {
		folder := t.TempDir()
		m.Format = format
		if err := m.Save(folder); err != nil {
			t.Fatal(err)
		}
		if _, err := Clean(folder, false); err == nil || !strings.Contains(err.Error(), "names ") {
			t.Errorf("%+v: %v", m, err)
		}
	}
}

// An export is continued in its own folder, and in no other.
func TestOpen(t *testing.T) {
	folder := t.TempDir()
	m := Manifest{Format: format, Start: 86400, End: 172800, Labels: []Label{{"job", "weir"}}, Files: []File{{Name: "a.om", Start: 86400, End: 172800}}}
	first := m
	if err := first.open(folder); err != nil {
		t.Fatal(err)
	}
	first.Files[0].Done, first.Others = true, []string{"blocks.json"}
	if err := first.Save(folder); err != nil {
		t.Fatal(err)
	}
	again := Manifest{Format: format, Start: 86400, End: 172800, Labels: []Label{{"job", "weir"}}, Files: []File{{Name: "a.om", Start: 86400, End: 172800}}}
	if err := again.open(folder); err != nil || !again.Files[0].Done {
		t.Errorf("an export that is continued: %v, %+v", err, again)
	}
	other := again
	other.Labels = []Label{{"job", "other"}}
	if err := other.open(folder); err == nil || !strings.Contains(err.Error(), "has another export") {
		t.Errorf("another export in the folder: %v", err)
	}
	full := t.TempDir()
	testkit.WriteFile(t, filepath.Join(full, "letter.txt"), nil)
	if err := m.open(full); err == nil || !strings.Contains(err.Error(), "has letter.txt, and no manifest") {
		t.Errorf("a folder that is not empty: %v", err)
	}
}

// Files end at midnight UTC, and are shorter the more zones they have: promtool reads a file
// once for each of its days.
func TestFiles(t *testing.T) {
	at := func(text string) bucket.Time {
		when, err := time.Parse("20060102T15", text)
		if err != nil {
			t.Fatal(err)
		}
		return bucket.TimeOf(when)
	}
	for _, tc := range []struct {
		zones int
		want  []string
	}{
		{0, []string{"20261101T06 20261201T00", "20261201T00 20261203T12"}},
		{10, []string{"20261101T06 20261201T00", "20261201T00 20261203T12"}},
		{15, []string{"20261101T06 20261121T00", "20261121T00 20261203T12"}},
	} {
		var got []string
		for _, f := range files(bucket.Window{Start: at("20261101T06"), End: at("20261203T12")}, tc.zones) {
			got = append(got, f.Start.Std().Format("20060102T15")+" "+f.End.Std().Format("20060102T15"))
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%d zones (-want +got):\n%s", tc.zones, diff)
		}
	}
	if n := len(files(bucket.Window{Start: at("20261101T06"), End: at("20261203T12")}, 5000)); n != 33 {
		t.Errorf("%d files of 5000 zones, want one a day", n)
	}
}

// One command at a time works in a folder. The error names the folder.
func TestHold(t *testing.T) {
	folder := t.TempDir()
	if err := (&Manifest{Format: format}).Save(folder); err != nil {
		t.Fatal(err)
	}
	release, err := Hold(folder)
	if err != nil {
		t.Fatal(err)
	}
	want := "folder " + folder + " is in use: another weir backfill export, import or clean"
	for _, dry := range []bool{true, false} {
		if _, err := Clean(folder, dry); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("clean (dry: %t) of a folder in use: %v", dry, err)
		}
	}
	release()
	if _, err := Clean(folder, false); err != nil {
		t.Errorf("clean of a folder that is free again: %v", err)
	}
	if _, err := Hold(folder); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is gone: %v", err)
	}
}

// A part that lost bytes after it was written makes no file.
func TestJoinChecksParts(t *testing.T) {
	w := &partsWriter{folder: t.TempDir(), open: map[string]*part{}}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	for _, name := range []string{"a", "b"} {
		p, err := w.of(&bucket.Family{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		n, err := p.w.WriteString(name + " 1 1\n")
		if err != nil {
			t.Fatal(err)
		}
		p.bytes += int64(n)
	}
	if entries, err := os.ReadDir(w.folder); err != nil || len(entries) > 0 {
		t.Errorf("parts have names: %v, %v", entries, err)
	}
	var out strings.Builder
	if n, err := w.join(&out); err != nil || n != int64(out.Len()) || !strings.Contains(out.String(), "a 1 1\n") || !strings.Contains(out.String(), "b 1 1\n") {
		t.Errorf("joined %d bytes %q, %v", n, &out, err)
	}
	if err := w.open["b"].file.Truncate(3); err != nil {
		t.Fatal(err)
	}
	if _, err := w.join(io.Discard); err == nil || !strings.Contains(err.Error(), "the part of b has 3 bytes; 6 were written") {
		t.Errorf("a part that was cut: %v", err)
	}
}

// Stored buckets that cannot be read are told by the export, by its repetition, and by the
// manifest. What the files have is what the store has otherwise, and no second export works
// in the folder.
func TestRun(t *testing.T) {
	scripted := feedtest.NewScripted("01hzzzzzzzzzzzzzzzzzzzzzzz")
	conn := scripted.Serve(t)
	entries := []feedtest.Entry{{Definition: feedtest.Definition("http_5m", 1)}}
	for n := range 4 {
		e := feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(1), n)}
		if n == 2 {
			e = e.Spoil([]byte("what is this?"))
		}
		entries = append(entries, e)
	}
	scripted.Append(feedtest.T0.Add(time.Hour), entries...)
	store, err := history.Open(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	first := feedtest.Bucket("http_5m", feedtest.Zone(1), 0).Window().Start
	o := Options{
		Selection: history.Selection{Range: bucket.Window{Start: first, End: first.Add(time.Hour)}},
		Folder:    filepath.Join(t.TempDir(), "export"), Labels: []Label{{"instance", "i"}, {"job", "weir"}}, Clock: clock.NewManual(feedtest.T0.Add(24 * time.Hour)),
	}
	for i := range 2 {
		r, err := Run(t.Context(), store, o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Unreadable != 1 || r.Kept != i || r.Samples == 0 {
			t.Errorf("run %d: %d buckets are unreadable, %d files kept, %d samples; want 1, %d and some", i+1, r.Unreadable, r.Kept, r.Samples, i)
		}
	}
	m, err := Load(o.Folder)
	if err != nil || len(m.Files) != 1 || m.Files[0].Unreadable != 1 {
		t.Errorf("the manifest has %+v, %v", m, err)
	}
	if err := m.Files[0].Check(o.Folder); err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(o.Folder)
	if err != nil || len(left) != 2 {
		t.Errorf("the folder has %v, %v; want the file and the manifest", left, err)
	}
	release, err := Hold(o.Folder)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := Run(t.Context(), store, o); err == nil || !strings.Contains(err.Error(), "folder "+o.Folder+" is in use") {
		t.Errorf("a second export in the folder: %v", err)
	}
}

// An export of a range that the store did not have is not finished: the same command, run again
// when the store has it, writes it.
func TestRunAgainWhenTheStoreHasMore(t *testing.T) {
	scripted := feedtest.NewScripted("01hzzzzzzzzzzzzzzzzzzzzzzz")
	conn := scripted.Serve(t)
	here := feedtest.Bucket("http_5m", feedtest.Zone(1), 0)
	scripted.Append(feedtest.T0.Add(time.Hour), feedtest.Entry{Definition: feedtest.Definition("http_5m", 1)}, feedtest.Entry{Bucket: here})
	store, err := history.Open(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	first := here.Window().End
	o := Options{
		Selection: history.Selection{Range: bucket.Window{Start: first, End: first.Add(time.Hour)}},
		Folder:    filepath.Join(t.TempDir(), "export"), Labels: []Label{{"instance", "i"}, {"job", "weir"}}, Clock: clock.NewManual(feedtest.T0.Add(24 * time.Hour)),
	}
	if _, err := Run(t.Context(), store, o); !errors.Is(err, ErrEmpty) {
		t.Fatalf("of a range that the store does not have: %v", err)
	}
	scripted.Append(feedtest.T0.Add(2*time.Hour), feedtest.Entry{Bucket: feedtest.Bucket("http_5m", feedtest.Zone(1), 1)})
	r, err := Run(t.Context(), store, o)
	if err != nil || r.Samples == 0 || r.Kept != 0 {
		t.Fatalf("when the store has it: %+v, %v", r, err)
	}
	if err := r.Files[0].Check(o.Folder); err != nil {
		t.Error(err)
	}
}
