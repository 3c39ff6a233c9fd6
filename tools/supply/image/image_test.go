package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weir-metrics/weir/tools/supply/release"
)

const dockerfile = `# why
FROM scratch AS weir
LABEL org.opencontainers.image.title="weir \"weir\""
COPY weir /weir
COPY --chown=65532:65533 data /data
USER 65532:65533
WORKDIR /data
VOLUME /data
EXPOSE 9810 9811
ENTRYPOINT ["/weir"]
CMD ["run"]
`

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ line, refused string }{
		{"RUN echo", "RUN is not expected"},
		{"ENV A=b", "ENV is not expected"},
		{"CMD run", "needs a shell"},
		{"COPY --from=x /y /y", "nothing comes from another image"},
		{"COPY --chmod=777 y /y", "modes are those of the context"},
		{"COPY y z", "whole path"},
		{"COPY y /z/", "whole path"},
		{"COPY y x /z", "one file"},
		{"LABEL a=b", `name="value"`},
		{`LABEL a="b" c="d"`, "value of a label"},
		{"FROM alpine:3 AS x", "alpine:3"},
		{"FROM scratch", "no name"},
	} {
		if _, err := Parse(dockerfile + c.line + "\n"); err == nil || !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, want %q", c.line, err, c.refused)
		}
	}
	if _, err := Parse("USER 1\n"); err == nil {
		t.Error("an instruction before FROM passes")
	}
}

var source = release.Source{Version: "1.2.3", Revision: "abc", Time: time.Date(2026, 12, 1, 10, 0, 0, 0, time.FixedZone("x", 3600))}

// contexts are folders with the files of dockerfile, made anew.
func contexts(t *testing.T) (all []Context) {
	t.Helper()
	for _, arch := range []string{"amd64", "arm64"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "weir"), []byte("weir for "+arch), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		all = append(all, Context{"linux", arch, dir})
	}
	return all
}

// An archive is read again by the same library's checks of digests, sizes and media
// types, and has what the Dockerfile says.
func TestArchiveHasWhatTheDockerfileSays(t *testing.T) {
	stages, err := Parse(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	write := func() (path string) {
		index, err := Build(stages[0], source, contexts(t))
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(t.TempDir(), "weir.tar")
		if err := Write(path, index, "weir/weir", "1.2.3"); err != nil {
			t.Fatal(err)
		}
		if rest, err := os.ReadDir(filepath.Dir(path)); err != nil || len(rest) != 1 {
			t.Errorf("beside the archive there are %v, %v", rest, err)
		}
		return path
	}
	path := write()
	one, two := content(t, path), content(t, write())
	if !bytes.Equal(one, two) {
		t.Error("equal files have different archives")
	}

	index, err := Read(path, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.MediaType != types.OCIImageIndex || len(manifest.Manifests) != 2 {
		t.Fatalf("index %+v", manifest)
	}
	labels := map[string]string{
		"org.opencontainers.image.title": `weir "weir"`, "org.opencontainers.image.version": "1.2.3",
		"org.opencontainers.image.revision": "abc", "org.opencontainers.image.created": "2026-12-01T09:00:00Z",
	}
	if !maps.Equal(manifest.Annotations, labels) {
		t.Errorf("annotations %q, want %q", manifest.Annotations, labels)
	}
	for i, arch := range []string{"amd64", "arm64"} {
		if p := manifest.Manifests[i].Platform; p == nil || p.String() != "linux/"+arch {
			t.Errorf("platform %v, want linux/%s", p, arch)
		}
		one, err := index.Image(manifest.Manifests[i].Digest)
		if err != nil {
			t.Fatal(err)
		}
		file, err := one.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		c := file.Config
		if file.OS != "linux" || file.Architecture != arch || !file.Created.Equal(source.Time) || c.User != "65532:65533" || c.WorkingDir != "/data" ||
			!slices.Equal(c.Entrypoint, []string{"/weir"}) || !slices.Equal(c.Cmd, []string{"run"}) || !maps.Equal(c.Labels, labels) ||
			len(c.ExposedPorts) != 2 || len(c.Volumes) != 1 || len(file.History) != 2 || len(file.RootFS.DiffIDs) != 2 {
			t.Errorf("configuration %+v", file)
		}
		if _, ok := c.ExposedPorts["9811/tcp"]; !ok {
			t.Errorf("ports %v", c.ExposedPorts)
		}
		binary, text := first(t, one, 0)
		if binary.Name != "weir" || binary.Mode != 0o755 || binary.Uid != 0 || !binary.ModTime.Equal(source.Time) || text != "weir for "+arch {
			t.Errorf("%+v with %q", binary, text)
		}
		data, _ := first(t, one, 1)
		if data.Name != "data/" || data.Typeflag != tar.TypeDir || data.Uid != 65532 || data.Gid != 65533 || data.Mode != 0o755 {
			t.Errorf("%+v", data)
		}
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// first is the only file of a layer.
func first(t *testing.T, image v1.Image, i int) (*tar.Header, string) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	stream, err := layers[i].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(stream)
	header, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("the layer has more than %s: %v", header.Name, err)
	}
	return header, string(text)
}

func TestReadRefusesWhatIsBroken(t *testing.T) {
	stages, err := Parse(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	index, err := Build(stages[0], source, contexts(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "weir.tar")
	if err := Write(path, index, "weir/weir", "1.2.3"); err != nil {
		t.Fatal(err)
	}
	whole := content(t, path)
	for name, broken := range map[string][]byte{
		"cut off":       whole[:len(whole)/2],
		"another title": bytes.ReplaceAll(whole, []byte("weir/weir"), []byte("weir/Weir")), // of the outermost file: no digest
		"another label": bytes.ReplaceAll(whole, []byte(`"linux"`), []byte(`"Linux"`)),
	} {
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Read(path, t.TempDir())
		if name == "another title" {
			if err != nil {
				t.Errorf("a name that no digest covers is refused: %v", err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: an archive that is broken passes", name)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	stages, err := Parse(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	full := contexts(t)
	if err := os.WriteFile(filepath.Join(full[1].Dir, "data", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(stages[0], source, full); err == nil || !strings.Contains(err.Error(), "linux/arm64") || !strings.Contains(err.Error(), "has 1 files") {
		t.Errorf("a folder with files: %v", err)
	}
	named := stages[0]
	named.Files = []File{{From: "weir", To: "/weir", Owner: "weir:weir"}}
	if _, err := Build(named, source, contexts(t)); err == nil || !strings.Contains(err.Error(), "two numbers") {
		t.Errorf("an owner by name: %v", err)
	}
	missing := stages[0]
	missing.Files = []File{{From: "other", To: "/other"}}
	if _, err := Build(missing, source, contexts(t)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
