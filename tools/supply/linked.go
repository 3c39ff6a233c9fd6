package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// ours is the prefix of this project's own modules.
const ours = "github.com/weir-metrics/weir"

// module is one that is linked into a binary.
type module struct {
	path, version string
	// folders are those of its linked packages and all above them up to the
	// module's root: a folder may have a licence of its own.
	folders []string
	// in are the binaries.
	in []string
}

// standardLibrary stands for the packages that come with Go.
const standardLibrary = "std"

// platform is what a binary runs on.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "-" + p.arch }

// platforms are those that releases have binaries for.
var platforms = []platform{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}}

// linked lists what the named binaries are built from on platforms, as the linker takes
// it and not as go.mod, which has more.
func linked(on []platform, names ...string) ([]module, error) {
	found := map[string]*module{}
	for _, p := range on {
		for _, b := range binaries {
			if !slices.Contains(names, b.name) {
				continue
			}
			cmd := exec.Command("go", "list", "-deps", "-json=Dir,Standard,Module", b.main)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return nil, fmt.Errorf("list the packages of %s for %s: %w", b.name, p, err)
			}
			if err := collect(found, b.name, bytes.NewReader(out)); err != nil {
				return nil, err
			}
		}
	}
	all := make([]module, 0, len(found))
	for _, path := range slices.Sorted(maps.Keys(found)) {
		all = append(all, *found[path])
	}
	return all, nil
}

// collect adds the packages that go list has printed for a binary.
func collect(found map[string]*module, binary string, list io.Reader) error {
	for packages := json.NewDecoder(list); ; {
		var p struct {
			Dir      string
			Standard bool
			Module   *struct{ Path, Version, Dir string }
		}
		if err := packages.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read the packages of %s: %w", binary, err)
		}
		path, version, root := standardLibrary, runtime.Version(), runtime.GOROOT()
		switch {
		case p.Standard:
			p.Dir = root // of one licence, all of it
		case p.Module == nil:
			return fmt.Errorf("%s belongs to no module", p.Dir)
		default:
			path, version, root = p.Module.Path, p.Module.Version, p.Module.Dir
		}
		if path == ours || strings.HasPrefix(path, ours+"/") {
			continue
		}
		m := found[path]
		if m == nil {
			m = &module{path: path, version: version}
			found[path] = m
		}
		if !slices.Contains(m.in, binary) {
			m.in = append(m.in, binary)
		}
		for dir := p.Dir; ; dir = filepath.Dir(dir) {
			if !slices.Contains(m.folders, dir) {
				m.folders = append(m.folders, dir)
			}
			if dir == root || len(dir) <= len(root) {
				break
			}
		}
	}
}
