package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker in released builds.
var version string

// Build says what this binary was built from.
type Build struct {
	// Version is the release, or "devel".
	Version string
	// Revision is the commit, "-dirty" after it if the tree was changed, or
	// "unknown".
	Revision string
	// Go is the version of the toolchain.
	Go string
}

// BuildInfo returns what this binary was built from.
func BuildInfo() Build {
	b := Build{Version: version, Revision: "unknown", Go: runtime.Version()}
	if b.Version == "" {
		b.Version = "devel"
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	dirty := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty {
		b.Revision += "-dirty"
	}
	return b
}

// String is one line for people.
func (b Build) String() string {
	return fmt.Sprintf("%s (revision %s, %s, %s/%s)", b.Version, b.Revision, b.Go, runtime.GOOS, runtime.GOARCH)
}
