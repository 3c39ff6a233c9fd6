// Command supply answers what is in the binaries and where it comes from: the
// licences of everything that is linked, bills of materials, and whether tools,
// binaries and images are what the project promises of them.
//
//	supply licences      writes docs/licences.md
//	supply sbom DIR VERSION
//	                     writes one CycloneDX file for each binary in bin/ to DIR
//	supply check         refuses licences that are unknown or oblige too much, an
//	                     old docs/licences.md, tools that are not pinned, binaries
//	                     that are not static, images that are more than a binary
//
// It runs in the root of the repository and reads bin/, so make build comes
// first. It asks no network.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// binaries are what is shipped, and the packages that they are built from.
var binaries = []struct{ name, main string }{
	{"collector", "./services/collector/cmd/collector"},
	{"exposer", "./services/exposer/cmd/exposer"},
	{"weir", "./services/standalone/cmd/weir"},
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "supply:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "licences":
		page, err := licencePage()
		if err != nil {
			return err
		}
		return os.WriteFile(licenceFile, page, 0o644)
	case len(args) == 3 && args[0] == "sbom":
		return writeBills(args[1], args[2])
	case len(args) == 1 && args[0] == "check":
		return errors.Join(checkLicences(), checkTools("tools"), checkStatic("bin"), checkDockerfile(filepath.Join("deploy", "Dockerfile")))
	}
	return errors.New("usage: supply licences | sbom DIR VERSION | check")
}
