// Command supply makes what is shipped, and answers what is in it and where it comes from:
// licences of everything that is linked, bills of materials, images, releases, and whether
// tools, binaries and images are what the project promises of them.
//
//	supply licences      writes docs/licences.md
//	supply sbom DIR VERSION
//	                     writes one CycloneDX file for each binary in bin/ to DIR
//	supply check         refuses licences that are unknown or oblige too much, an
//	                     old docs/licences.md, tools that are not pinned, binaries
//	                     that are not static, images that are more than a binary,
//	                     files that disagree about the version
//	supply release DIR TAG
//	                     writes the release that is tagged so to DIR, an empty folder
//	supply images DOCKERFILE CONTEXT REPOSITORY VERSION REVISION DIR
//	                     writes the images of a Dockerfile to DIR as a release
//	                     does, for this machine alone, from the files in CONTEXT;
//	                     they are called REPOSITORY/STAGE:VERSION
//	supply inspect DIR VERSION REVISION
//	                     checks the binaries and images of a release and prints
//	                     what they say of themselves
//	supply proxy DIR TAG writes the modules that others import to DIR, as a module
//	                     proxy serves them
//
// It runs in the root of the repository; sbom and check read bin/, so make build comes
// first. It asks no network.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/weir-metrics/weir/tools/supply/release"
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

func names() []string {
	var all []string
	for _, b := range binaries {
		all = append(all, b.name)
	}
	return all
}

func run(args []string) error {
	word := ""
	if len(args) > 0 {
		word, args = args[0], args[1:]
	}
	switch {
	case word == "licences" && len(args) == 0:
		page, err := licencePage()
		if err != nil {
			return err
		}
		return os.WriteFile(licenceFile, page, 0o644)
	case word == "sbom" && len(args) == 2:
		return writeBills(args[0], args[1])
	case word == "check" && len(args) == 0:
		_, versions := release.Next(".")
		return errors.Join(checkLicences(), checkTools("tools"), checkStatic("bin"), checkDockerfile(), versions)
	case word == "release" && len(args) == 2:
		return makeRelease(args[0], args[1])
	case word == "images" && len(args) == 6:
		return makeImages(args[0], args[1], args[2], args[3], args[4], args[5])
	case word == "inspect" && len(args) == 3:
		return inspect(os.Stdout, args[0], args[1], args[2])
	case word == "proxy" && len(args) == 2:
		source, err := release.Tagged(".", args[1])
		if err != nil {
			return err
		}
		return release.Publish(args[0], ".", source)
	}
	return errors.New("usage: supply licences | sbom DIR VERSION | check | release DIR TAG | images DOCKERFILE CONTEXT REPOSITORY VERSION REVISION DIR | inspect DIR VERSION REVISION | proxy DIR TAG")
}
