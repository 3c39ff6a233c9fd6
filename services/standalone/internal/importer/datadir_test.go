package importer

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/weir-metrics/weir/internal/testkit"
	"github.com/weir-metrics/weir/services/standalone/internal/promapi"
)

// The data folder of another server is refused, by its name, by its blocks, or by its time.
// What cannot be told is a note.
func TestCheckServer(t *testing.T) {
	dir, other := newDataDir(t), newDataDir(t)
	own := filepath.Base(dir)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	const block = "01M8Q0JPRRF6W7KE8D7EHC5HRK" // in both folders
	for _, tc := range []struct {
		name, path, blocks string
		head               int64
		want, note         string
	}{
		{name: "its own", path: dir, blocks: block, head: 1795360000000},
		{name: "its own, by another name", path: link, head: 1795360000000},
		{name: "its own, relative", path: own, head: 1795360000000},
		{name: "in a container", path: "/no/such/folder", blocks: "01M8Q0MTHJNC6X31S3FTYP497B," + block},
		{name: "another", path: other, blocks: block, want: "is " + other + ", and --data-dir is " + dir},
		{name: "another in a container", path: "/no/such/folder", blocks: "01M8Q0MTHJNC6X31S3FTYP497B", want: "has 1 blocks, such as 01M8Q0MTHJNC6X31S3FTYP497B, and --data-dir " + dir + " has none of them"},
		{name: "another on another machine, of the same name", path: dir, blocks: "01M8Q0MTHJNC6X31S3FTYP497B", want: "has none of them"},
		{name: "another, by its time", path: "/no/such/folder", head: 1795340000000, want: "has samples until 2026-11-22T12:19:59Z, and the newest sample of Prometheus"},
		{name: "a block that ends after now, in its own range of blocks", path: "/no/such/folder", head: 1795349400000, note: "is not known"},
		{name: "in a container of an old Prometheus", path: "/no/such/folder", head: 1795360000000, note: `or calls it "/no/such/folder", as in a container`},
		{name: "of a server that tells nothing", note: "is not known"},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			data := ""
			switch r.URL.Path {
			case "/api/v1/status/flags":
				if tc.path != "" {
					data = fmt.Sprintf(`{"storage.tsdb.path":%q}`, tc.path)
				}
			case "/api/v1/status/runtimeinfo":
				data = fmt.Sprintf(`{"CWD":%q}`, filepath.Dir(dir))
			case "/api/v1/status/tsdb/blocks":
				if tc.blocks != "" {
					data = `{"blocks":[{"ulid":"` + strings.ReplaceAll(tc.blocks, ",", `"},{"ulid":"`) + `"}]}`
				}
			case "/api/v1/status/tsdb":
				if tc.head != 0 {
					data = fmt.Sprintf(`{"headStats":{"minTime":1795330000000,"maxTime":%d}}`, tc.head)
				}
			}
			if data == "" {
				http.NotFound(w, r)
				return
			}
			fmt.Fprintf(w, `{"status":"success","data":%s}`, data)
		}))
		prom, err := promapi.New(promapi.Config{URL: server.URL})
		if err != nil {
			t.Fatal(err)
		}
		note, err := checkServer(t.Context(), prom, dir)
		var h *Hazard
		if tc.want == "" && err != nil || tc.want != "" && (!errors.As(err, &h) || h.Code != "DATA_FOLDER" || !strings.Contains(h.Text, tc.want)) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
		if (note == "") != (tc.note == "") || !strings.Contains(note, tc.note) {
			t.Errorf("%s: the note is %q, want %q", tc.name, note, tc.note)
		}
		prom.Close()
		server.Close()
	}
}

// Blocks that Prometheus makes of samples out of order end in the future, while the samples in
// order of that time are in memory: they do not say where its memory begins, nor whose they are.
func TestBlocksOfSamplesOutOfOrder(t *testing.T) {
	dir := t.TempDir()
	write := func(ulid, compaction string, end int64) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, ulid), 0o755); err != nil {
			t.Fatal(err)
		}
		testkit.WriteFile(t, filepath.Join(dir, ulid, "meta.json"), fmt.Appendf(nil, `{"ulid":%q,"maxTime":%d,"compaction":{"level":1%s}}`, ulid, end, compaction))
	}
	for i, hint := range []string{"from-out-of-order", "from-stale-series", "from-selected-series"} {
		write(fmt.Sprintf("01M8SDYDMVG8Q9GV8EKWF3FSK%d", i), `,"hints":[`+strconv.Quote(hint)+`]`, 1795360000000)
	}
	if end, found, err := newest(dir); found || err != nil {
		t.Errorf("of blocks out of order alone the end is %d, %v", end, err)
	}
	write("01M8SDYEAX8BAER9B9Z3JRKQ6C", "", 1795341600000)
	if end, found, err := newest(dir); !found || end != 1795341600000 || err != nil {
		t.Errorf("the end is %d, found: %t, %v", end, found, err)
	}
}
