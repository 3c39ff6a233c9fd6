package main

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-metrics/weir/tools/supply/image"
)

// checkTools sees to it that every developer tool has a file of its own with an
// exact version, and that its checksums are kept.
func checkTools(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.mod"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no tools are pinned in %s: %w", dir, errors.Join(err, os.ErrNotExist))
	}
	var wrong []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		sums, err := os.ReadFile(strings.TrimSuffix(file, ".mod") + ".sum")
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: its checksums are not kept: %w", file, err))
		}
		if err := checkTool(string(text), string(sums)); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", file, err))
		}
	}
	return errors.Join(wrong...)
}

var (
	toolLine = regexp.MustCompile(`(?m)^(?:tool )?\s*([a-z0-9.-]+\.[a-z]+/[^\s]+)$`)
	required = regexp.MustCompile(`(?m)^\s*(?:require )?([a-z0-9.-]+\.[a-z]+/[^\s]+) (v[^\s]+)`)
	exact    = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?(\+incompatible)?$`)
)

// checkTool looks at the module file of a tool: each tool comes from a module
// that it requires, all from one family, at an exact version with a checksum.
func checkTool(text, sums string) error {
	versions := map[string]string{}
	for _, m := range required.FindAllStringSubmatch(text, -1) {
		versions[m[1]] = m[2]
		if !exact.MatchString(m[2]) {
			return fmt.Errorf("%s is at %s; an exact version is wanted", m[1], m[2])
		}
	}
	var from []string
	for _, m := range toolLine.FindAllStringSubmatch(text, -1) {
		owner := ""
		for path := range versions {
			if (m[1] == path || strings.HasPrefix(m[1], path+"/")) && len(path) > len(owner) {
				owner = path
			}
		}
		if owner == "" {
			return fmt.Errorf("no required module has the tool %s", m[1])
		}
		if !strings.Contains(sums, owner+" "+versions[owner]+" h1:") {
			return fmt.Errorf("%s %s has no checksum", owner, versions[owner])
		}
		host := strings.Join(strings.Split(owner, "/")[:2], "/") // google.golang.org/protobuf and /grpc/cmd/… stand together
		if first, _, _ := strings.Cut(host, "/"); !slices.Contains(from, first) {
			from = append(from, first)
		}
	}
	if len(from) > 1 {
		return fmt.Errorf("it holds tools of %s; each gets a file of its own, so that they cannot move one another's dependencies", strings.Join(from, " and "))
	}
	return nil
}

// checkStatic sees to it that the binaries need nothing of the machine that they
// run on: no loader, no library.
func checkStatic(dir string) error {
	var wrong []error
	for _, b := range binaries {
		file, err := elf.Open(filepath.Join(dir, b.name))
		if err != nil {
			return fmt.Errorf("%s (make build makes it, for Linux): %w", b.name, err)
		}
		for _, p := range file.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				wrong = append(wrong, fmt.Errorf("%s is not static: it has a segment %s", b.name, p.Type))
			}
		}
		_ = file.Close() // it was only read
	}
	return errors.Join(wrong...)
}

// imageLabels say of every image what it is, where it comes from and what may be done
// with it. Builds add version, revision and created.
var imageLabels = []string{
	"org.opencontainers.image.title", "org.opencontainers.image.description",
	"org.opencontainers.image.source",
}

const licenceLabel = "org.opencontainers.image.licenses"

var dockerfile = filepath.Join("deploy", "Dockerfile")

// checkDockerfile sees to it that an image is a binary and nothing else, that it has
// labels, and that it does not run as root.
func checkDockerfile() error {
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		return err
	}
	own, err := ownLicence(".")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := checkStages(string(text), own); err != nil {
		return fmt.Errorf("%s: %w", dockerfile, err)
	}
	return nil
}

// ownLicence is the identifier of the project's own licence. The error is [os.ErrNotExist] while
// it has none.
func ownLicence(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "LICENSE"))
	if err != nil {
		return "", err
	}
	ids, err := identify(text)
	if err != nil {
		return "", fmt.Errorf("LICENSE: %w", err)
	}
	return strings.Join(ids, " AND "), nil
}

// checkStages checks the images of a Dockerfile. Licence is what their label must say; without
// one they have no such label.
func checkStages(text, licence string) error {
	stages, err := image.Parse(text)
	if err != nil {
		return err
	}
	var wrong []error
	for _, s := range stages {
		uid, _, _ := strings.Cut(s.User, ":")
		if n, err := strconv.Atoi(uid); err != nil || n == 0 {
			wrong = append(wrong, fmt.Errorf("%s runs as user %q; a number other than 0 is wanted, which Kubernetes can check", s.Name, s.User))
		}
		for _, l := range imageLabels {
			if s.Labels[l] == "" {
				wrong = append(wrong, fmt.Errorf("%s has no label %s", s.Name, l))
			}
		}
		if l := s.Labels[licenceLabel]; l != licence {
			wrong = append(wrong, fmt.Errorf("%s: the label %s is %q, and LICENSE is %s", s.Name, licenceLabel, l, cmp.Or(licence, "missing")))
		}
	}
	for _, b := range binaries {
		if !slices.ContainsFunc(stages, func(s image.Stage) bool { return s.Name == b.name }) {
			wrong = append(wrong, fmt.Errorf("there is no image of %s", b.name))
		}
	}
	return errors.Join(wrong...)
}
