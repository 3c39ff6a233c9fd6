package image

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/weir-metrics/weir/tools/supply/release"
)

// labels are those of a single build.
func labels(from release.Source) map[string]string {
	return map[string]string{
		"org.opencontainers.image.version":  from.Version,
		"org.opencontainers.image.revision": from.Revision,
		// Of the commit, so that who builds it again gets the same bytes.
		"org.opencontainers.image.created": from.Time.UTC().Format(time.RFC3339),
	}
}

// Context is the folder with the files of a stage for a platform, as docker build's.
type Context struct{ OS, Architecture, Dir string }

// Build makes the image of a stage for each platform and the index of them. Labels are
// annotations too, which registries show without fetching an image.
func Build(s Stage, from release.Source, contexts []Context) (v1.ImageIndex, error) {
	all := maps.Clone(s.Labels)
	maps.Copy(all, labels(from))
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, c := range contexts {
		image, err := build(s, all, from.Time, c)
		if err != nil {
			return nil, fmt.Errorf("image %s for %s/%s: %w", s.Name, c.OS, c.Architecture, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: c.OS, Architecture: c.Architecture}},
		})
	}
	return mutate.Annotations(index, all).(v1.ImageIndex), nil
}

func build(s Stage, labels map[string]string, created time.Time, c Context) (v1.Image, error) {
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	config := v1.Config{
		User: s.User, WorkingDir: s.Dir, Entrypoint: s.Entrypoint, Cmd: s.Cmd, Labels: labels,
		ExposedPorts: map[string]struct{}{}, Volumes: map[string]struct{}{},
	}
	for _, p := range s.Ports {
		config.ExposedPorts[p+"/tcp"] = struct{}{}
	}
	for _, v := range s.Volumes {
		config.Volumes[v] = struct{}{}
	}
	image, err := mutate.ConfigFile(image, &v1.ConfigFile{
		OS: c.OS, Architecture: c.Architecture, Created: v1.Time{Time: created.UTC()}, Config: config,
		RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	for _, f := range s.Files {
		content, err := pack(filepath.Join(c.Dir, f.From), f, created)
		if err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(content)), nil
		}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
		if err != nil {
			return nil, err
		}
		image, err = mutate.Append(image, mutate.Addendum{
			Layer:     layer,
			MediaType: types.OCILayer,
			History:   v1.History{Created: v1.Time{Time: created.UTC()}, CreatedBy: fmt.Sprintf("COPY %s %s", f.From, f.To)},
		})
		if err != nil {
			return nil, err
		}
	}
	return mutate.Annotations(image, labels).(v1.Image), nil
}

// pack is a layer of one file or one empty folder.
func pack(from string, f File, modified time.Time) ([]byte, error) {
	uid, gid, err := owner(f.Owner)
	if err != nil {
		return nil, err
	}
	header := tar.Header{Name: strings.TrimPrefix(f.To, "/"), ModTime: modified.UTC(), Uid: uid, Gid: gid, Format: tar.FormatPAX, Mode: 0o755}
	info, err := os.Stat(from)
	if err != nil {
		return nil, err
	}
	var content []byte
	if info.IsDir() {
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		inside, err := os.ReadDir(from)
		if err != nil {
			return nil, err
		}
		if len(inside) > 0 {
			return nil, fmt.Errorf("the folder %s has %d files, and none belongs into an image", from, len(inside))
		}
	} else {
		header.Typeflag = tar.TypeReg
		if content, err = os.ReadFile(from); err != nil {
			return nil, err
		}
		header.Size = int64(len(content))
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&header); err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return layer.Bytes(), nil
}

func owner(text string) (uid, gid int, err error) {
	if text == "" {
		return 0, 0, nil
	}
	user, group, both := strings.Cut(text, ":")
	uid, err = strconv.Atoi(user)
	if err == nil && both {
		gid, err = strconv.Atoi(group)
	}
	if err != nil || !both {
		return 0, 0, fmt.Errorf("owner %q: two numbers are wanted, since an image from nothing knows no names", text)
	}
	return uid, gid, nil
}
