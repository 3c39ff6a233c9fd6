package importer

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weir-metrics/weir/internal/clock"
	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone/internal/export"
)

// exported is a folder with an export of one file.
func exported(t *testing.T) (folder, file string) {
	t.Helper()
	folder, file = t.TempDir(), "weir-a.om"
	text := []byte("# TYPE x gauge\n" + `x{zone="a",instance="i",job="weir"} 1 1795341599.999` + "\n# EOF\n")
	testkit.WriteFile(t, filepath.Join(folder, file), text)
	sum := sha256.Sum256(text)
	m := &export.Manifest{Format: "weir-export-1", Labels: []export.Label{}, Files: []export.File{{
		Name: file, Done: true, Samples: 1, Bytes: int64(len(text)), SHA256: hex.EncodeToString(sum[:]), First: 1795341599999, Last: 1795341599999,
	}}}
	if err := m.Save(folder); err != nil {
		t.Fatal(err)
	}
	return folder, file
}

// newDataDir is a data folder with a block that ends long after the sample of an export.
func newDataDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	block(t, filepath.Join(dir, "01M8Q0JPRRF6W7KE8D7EHC5HRK"), 1795350000000)
	return dir
}

func block(t *testing.T, path string, end int64) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	testkit.WriteFile(t, filepath.Join(path, "meta.json"), fmt.Appendf(nil, `{"ulid":%q,"maxTime":%d}`, filepath.Base(path), end))
}

const made = "01M8Q0MN7CA3P45R29W8XMDVNZ"

// fakePromtool makes one block of any file.
func fakePromtool(t *testing.T) string { return promtoolOf(t, "3.15.0") }

func promtoolOf(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "promtool")
	testkit.WriteFile(t, path, []byte(`#!/bin/sh
if [ "$1" = --version ]; then echo 'promtool, version `+version+`'; exit; fi
for target; do :; done
mkdir "$target/`+made+`" && echo '{"ulid":"`+made+`","maxTime":1795341600000}' >"$target/`+made+`/meta.json"
`))
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t *testing.T, folder, dataDir, tool string) (*BlockResult, error) {
	t.Helper()
	return Blocks(t.Context(), nil, nil, BlockOptions{Folder: folder, DataDir: dataDir, Promtool: tool, Clock: clock.NewManual(time.Unix(1795400000, 0))})
}

// What an import says it has loaded is in the data folder, whatever other imports and their
// clean do there.
func TestBlocksAreWhatWasLoaded(t *testing.T) {
	tool := fakePromtool(t)
	folder, file := exported(t)
	other, _ := exported(t)
	dataDir := newDataDir(t)

	// Another import is at work in the same data folder, or on the same export.
	for _, held := range []string{dataDir, folder} {
		release, err := export.Hold(held)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := load(t, folder, dataDir, tool); err == nil || !strings.Contains(err.Error(), "folder "+held+" is in use") {
			t.Errorf("beside another import: %+v, %v", r, err)
		}
		release()
	}

	// An import was killed after its blocks were made; another export was loaded and cleaned.
	m, err := export.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	staging, err := m.StagingIn(dataDir, folder)
	if err != nil {
		t.Fatal(err)
	}
	block(t, filepath.Join(staging, file, "01M8Q0MTHJNC6X31S3FTYP497B"), 1795341600000)
	j := &journal{DataDir: dataDir, Files: map[string][]string{file: {"01M8Q0MTHJNC6X31S3FTYP497B"}}, Moved: map[string]bool{}, Loaded: map[string]bool{}}
	m.Staging, m.Others = []string{staging}, []string{journalName}
	if err := m.Save(folder); err != nil {
		t.Fatal(err)
	}
	if err := j.save(folder); err != nil {
		t.Fatal(err)
	}
	if r, err := load(t, other, dataDir, tool); err != nil || !cmp.Equal(r.Blocks, []string{made}) {
		t.Fatalf("the other import: %+v, %v", r, err)
	}
	if _, err := export.Clean(other, false); err != nil {
		t.Fatal(err)
	}
	r, err := load(t, folder, dataDir, tool)
	if err != nil || !cmp.Equal(r.Blocks, []string{"01M8Q0MTHJNC6X31S3FTYP497B"}) {
		t.Fatalf("continued: %+v, %v", r, err)
	}
	var names []string
	entries, err := os.ReadDir(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{"01M8Q0JPRRF6W7KE8D7EHC5HRK", made, "01M8Q0MTHJNC6X31S3FTYP497B"}, names); diff != "" {
		t.Errorf("the data folder (-want +got):\n%s", diff)
	}

	// A block that was made is nowhere: it was not loaded, unless it was moved before.
	for _, tc := range []struct {
		name         string
		there, moved bool
		want         string
	}{
		{"gone", false, false, "block " + made + " was made before, and is neither in "},
		{"moved, and not in the journal", true, false, ""},
		{"moved and compacted", false, true, ""},
	} {
		dataDir := newDataDir(t)
		folder, file := exported(t)
		j := &journal{DataDir: dataDir, Files: map[string][]string{file: {made}}, Moved: map[string]bool{made: tc.moved}, Loaded: map[string]bool{}}
		if err := j.save(folder); err != nil {
			t.Fatal(err)
		}
		if tc.there {
			block(t, filepath.Join(dataDir, made), 1795341600000)
		}
		r, err := load(t, folder, dataDir, tool)
		if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %+v, %v, want %q", tc.name, r, err, tc.want)
		}
	}
}

func TestPromtoolIsNewEnough(t *testing.T) {
	for version, want := range map[string]bool{"1.99.0": false, "2.9.2": false, "2.38.0": false, "2.39.0": true, "2.100.0": true, "3.0.0": true, "10.1.0": true} {
		if _, err := findPromtool(t.Context(), promtoolOf(t, version)); (err == nil) != want {
			t.Errorf("version %s: %v", version, err)
		}
	}
}
